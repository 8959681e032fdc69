use super::*;

const DOCUMENT: &str = r##"
openapi: 3.1.0
info: {title: Orders, version: "1.0"}
security: [{login: [orders.read]}]
components:
  securitySchemes:
    login: {type: oauth2, flows: {}}
    key: {type: apiKey, in: header, name: X-Key}
  parameters:
    id: {name: id, in: path, required: true, schema: {type: string}}
  pathItems:
    open: {get: {security: [{login: []}, {key: []}]}}
paths:
  /orders/{id}:
    parameters: [{$ref: "#/components/parameters/id"}]
    get: {operationId: getOrder, responses: {200: {description: Found}}}
    delete: {security: [{login: [orders.write]}, {login: [admin]}]}
  /v1.0/health:
    get: {security: []}
  /open:
    $ref: "#/components/pathItems/open"
"##;

#[test]
fn a_document_gives_methods_operations_and_who_may_call() {
    let found = describe(DOCUMENT.to_owned()).unwrap().resources;
    let expected = json!([
        {"methods": ["GET"], "path": "/open", "authentication": ["api_key", "oauth2"]},
        {"methods": ["DELETE"], "path": "/orders/{id}", "authentication": ["oauth2"],
         "scopes": ["orders.write", "admin"]},
        {"methods": ["GET"], "path": "/orders/{id}", "operation": "getOrder",
         "authentication": ["oauth2"], "scopes": ["orders.read"]},
        {"methods": ["GET"], "path": "/v1.0/health", "authentication": ["none"]},
    ]);
    let sorted = |value: &Value| {
        let mut list: Vec<String> =
            value.as_array().unwrap().iter().map(Value::to_string).collect();
        list.sort();
        list
    };
    assert_eq!(sorted(&found), sorted(&expected));
}

#[test]
fn swagger_2_is_read_too() {
    let text = r#"{"swagger": "2.0", "info": {"title": "A", "version": "1"},
            "paths": {"/a": {"get": {"security": [{"k": []}],
            "responses": {"200": {"description": "Found"}}}}},
            "securityDefinitions": {"k": {"type": "basic"}}}"#;
    let expected = json!([{"methods": ["GET"], "path": "/a", "authentication": ["basic"]}]);
    assert_eq!(describe(text.to_owned()).unwrap().resources, expected);
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    let check = |from: &str, to: &str, expected: &[&str]| {
        assert!(DOCUMENT.contains(from), "{from}");
        let found: Vec<String> = describe(DOCUMENT.replacen(from, to, 1))
            .expect_err(to)
            .into_iter()
            .map(|((line, column), fault)| format!("{line}:{column}: {fault}"))
            .collect();
        assert_eq!(found, expected, "{to}");
    };
    check(
        "3.1.0",
        "4.0.0",
        &[
            "2:1: openapi: is not a known version; give a document of OpenAPI 3.0 or 3.1, or Swagger 2.0, its version as text",
        ],
    );
    check("  /open:", " /open:", &["20:2: did not find expected key; mend the YAML or JSON"]);
    check(
        "paths:",
        "path:",
        &[
            "2:1: the key `paths` is missing; add `paths`",
            "13:1: path: unknown key; did you mean `paths`? known are openapi, info, jsonSchemaDialect, servers, paths, webhooks, components, security, tags, externalDocs",
        ],
    );
    check(
        "info: {title: Orders, version: \"1.0\"}\n",
        "",
        &["2:1: the key `info` is missing; add `info`"],
    );
    check(
        "version: \"1.0\"",
        "version: 1.0",
        &["3:23: info.version: is not text; write it in quotes"],
    );
    check(
        "3.1.0",
        "3.0.4",
        &[
            "11:3: components.pathItems: unknown key; known are schemas, responses, parameters, examples, requestBodies, headers, securitySchemes, links, callbacks",
            "17:5: paths./orders/{id}.delete: the key `responses` is missing; add `responses`",
            "19:5: paths./v1.0/health.get: the key `responses` is missing; add `responses`",
        ],
    );
    // Paths and operations.
    check(
        "/v1.0/health",
        "v1.0/health",
        &["18:3: paths.v1.0/health: is not a path; let it begin with /"],
    );
    check(
        "get: {security: []}",
        "get: []",
        &["19:5: paths./v1.0/health.get: is not a mapping; give keys and their values"],
    );
    check(
        "get: {security: []}",
        "trace: {}",
        &[
            "19:5: paths./v1.0/health.trace: is no method that can be published; known are get, head, post, put, patch, delete, options",
        ],
    );
    check(
        "get: {security: []}",
        "gett: {}",
        &[
            "19:5: paths./v1.0/health.gett: unknown key; did you mean `get`? known are $ref, summary, description, get, head, post, put, patch, delete, options, trace, servers, parameters",
        ],
    );
    check(
        "{security: []}",
        "{secruity: []}",
        &[
            "19:11: paths./v1.0/health.get.secruity: unknown key; did you mean `security`? known are tags, summary, description, externalDocs, operationId, parameters, requestBody, responses, callbacks, deprecated, security, servers",
        ],
    );
    check(
        "{security: []}",
        "{operationId: getOrder}",
        &[
            "19:11: paths./v1.0/health.get.operationId: is also the id of paths./orders/{id}.get; give each operation an id of its own",
        ],
    );
    check(
        "{security: []}",
        "{responses: {}}",
        &["19:11: paths./v1.0/health.get.responses: holds no response; describe at least one"],
    );
    check(
        "200: {description",
        "2000: {description",
        &[
            "16:46: paths./orders/{id}.get.responses.2000: is not a status; use 100 to 599, 2XX or default",
        ],
    );
    check(
        "200: {description",
        "200: {desc",
        &[
            "16:46: paths./orders/{id}.get.responses.200: the key `description` is missing; add `description`",
            "16:52: paths./orders/{id}.get.responses.200.desc: unknown key; known are description, headers, content, links",
        ],
    );
    // Parameters.
    check(
        "/orders/{id}",
        "/orders/{ID}",
        &[
            "15:18: paths./orders/{ID}.parameters.0: `id` is not in the path; write {id} into the path, or leave it out",
            "16:5: paths./orders/{ID}.get: does not describe ID of its path; add parameters as {name: ID, in: path, required: true}",
            "17:5: paths./orders/{ID}.delete: does not describe ID of its path; add parameters as {name: ID, in: path, required: true}",
        ],
    );
    check(
        "required: true",
        "required: false",
        &[
            "15:18: paths./orders/{id}.parameters.0: `id` is of the path, and not required; add `required: true`",
        ],
    );
    check(
        "in: path",
        "in: pth",
        &[
            "10:20: components.parameters.id.in: unknown value; did you mean `path`? known are query, header, path, cookie",
            "16:5: paths./orders/{id}.get: does not describe id of its path; add parameters as {name: id, in: path, required: true}",
            "17:5: paths./orders/{id}.delete: does not describe id of its path; add parameters as {name: id, in: path, required: true}",
        ],
    );
    check(
        "parameters: [{$ref: \"#/components/parameters/id\"}]",
        "parameters: []",
        &[
            "16:5: paths./orders/{id}.get: does not describe id of its path; add parameters as {name: id, in: path, required: true}",
            "17:5: paths./orders/{id}.delete: does not describe id of its path; add parameters as {name: id, in: path, required: true}",
        ],
    );
    // References and schemas.
    check(
        "#/components/parameters/id",
        "#/components/parameters/di",
        &[
            "15:19: paths./orders/{id}.parameters.0.$ref: leads to nothing; name what is in this document",
        ],
    );
    check(
        "#/components/pathItems/open",
        "#/components/pathItems/shut",
        &["21:5: paths./open.$ref: leads to no path item; name one of this document"],
    );
    check(
        "#/components/pathItems/open",
        "other.yaml#/open",
        &[
            "21:5: paths./open.$ref: is in another document, which is not read; write the path's methods into this one",
        ],
    );
    check(
        "{type: string}",
        "{type: strin}",
        &[
            "10:55: components.parameters.id.schema.type: unknown value; did you mean `string`? known are string, number, integer, boolean, array, object, null",
        ],
    );
    check(
        "{type: string}",
        "{properties: {a: {items: {$ref: \"#/no\"}}}}",
        &[
            "10:80: components.parameters.id.schema.properties.a.items.$ref: leads to nothing; name what is in this document",
        ],
    );
    // Who may call.
    check(
        "{login: [admin]}",
        "{other: []}",
        &[
            "17:51: paths./orders/{id}.delete.security.1.other: is not defined; define it in components.securitySchemes",
        ],
    );
    check(
        "[orders.write]",
        "[a, b]",
        &[
            "17:25: paths./orders/{id}.delete.security.0: asks for several scopes at once; give each alternative one scope; one of them will do",
        ],
    );
    check(
        "[orders.write]",
        "a",
        &["17:26: paths./orders/{id}.delete.security.0.login: is not a list; give a list"],
    );
    check(
        "{login: []}, {key: []}",
        "{login: [], key: []}",
        &[
            "21:5: paths./open.get.security.0: asks for several schemes at once; give each alternative one scheme",
        ],
    );
    check(
        "type: apiKey",
        "type: magic",
        &[
            "8:11: components.securitySchemes.key.type: unknown value; known are apiKey, http, mutualTLS, oauth2, openIdConnect",
            "21:5: paths./open.get.security.1.key: is of a type that is not known; known are oauth2, openIdConnect, http, apiKey and mutualTLS",
        ],
    );
}

#[test]
fn of_many_faults_the_first_are_told() {
    let keys: String = (0..30).map(|i| format!("x{i}: 1\n")).collect();
    let told = describe(format!("{}{keys}", DOCUMENT.trim_start())).unwrap_err();
    assert_eq!(told.len(), 21);
    assert_eq!(told[20].1.what, "has 10 more faults");
}
