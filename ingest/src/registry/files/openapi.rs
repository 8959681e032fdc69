//! The resources of an API, read from its OpenAPI document (3.0, 3.1 or Swagger
//! 2.0, as YAML or JSON): paths, methods, operation ids, and who may call.
//!
//! Of `security` the document's own rule holds: one of the alternatives will do.
//! An alternative that asks for a bearer token adds its scope; none, or an empty
//! one, lets everybody in. What a resource cannot say is an error, never left out:
//! two scopes at once, or two schemes at once.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::locate::locate_segments;
use crate::registry::Fault;

/// The methods of a path item (OpenAPI 3.1, section 4.8.9).
const METHODS: [&str; 7] = ["get", "head", "post", "put", "patch", "delete", "options"];
/// The other keys of a path item.
const OTHER: [&str; 4] = ["summary", "description", "servers", "parameters"];

/// What is wrong, and at which line and column of the document.
pub(super) type Located = ((usize, usize), Fault);

/// What a document gives.
#[derive(Debug)]
pub(super) struct Described {
    /// The `resources` of an API's spec.
    pub(super) resources: Value,
    /// Of each resource, the keys that lead to its operation.
    operations: Vec<[String; 3]>,
    text: String,
}

impl Described {
    /// A fault of the API's spec as one of the document, if it is of a resource.
    pub(super) fn located(&self, fault: &Fault) -> Option<Located> {
        let (index, _) = fault.path.strip_prefix("spec.resources[")?.split_once(']')?;
        let operation = self.operations.get(index.parse::<usize>().ok()?)?;
        let at = place_of(&self.text, operation);
        Some((at, Fault { path: operation.join("."), ..fault.clone() }))
    }
}

/// Reads a document.
pub(super) fn describe(text: String) -> Result<Described, Vec<Located>> {
    let document = serde_norway::Deserializer::from_str(&text);
    let parsed = serde_norway::Value::deserialize(document)
        .map_err(|error| {
            let at = error.location().map_or((1, 1), |l| (l.line(), l.column()));
            let message = error.to_string();
            let what = message.split(" at line ").next().unwrap_or_default().to_owned();
            vec![(at, Fault::new("", what, "mend the YAML or JSON"))]
        })
        .and_then(|value| {
            let fault = || Fault::new("", "has keys that are no text", "write keys as text");
            serde_json::to_value(value).map_err(|_| vec![((1, 1), fault())])
        })?;
    let mut reading = Reading { root: &parsed, faults: Vec::new(), operations: Vec::new() };
    let resources = reading.document();
    if reading.faults.is_empty() {
        let operations = reading.operations;
        return Ok(Described { resources, operations, text });
    }
    let locate = |(path, fault): (Vec<String>, Fault)| {
        (place_of(&text, &path), Fault { path: path.join("."), ..fault })
    };
    Err(reading.faults.into_iter().map(locate).collect())
}

fn place_of(text: &str, path: &[String]) -> (usize, usize) {
    let segments: Vec<&str> = path.iter().map(String::as_str).collect();
    locate_segments(serde_norway::Deserializer::from_str(text), &segments)
}

struct Reading<'a> {
    root: &'a Value,
    faults: Vec<(Vec<String>, Fault)>,
    operations: Vec<[String; 3]>,
}

impl<'a> Reading<'a> {
    fn fail(&mut self, path: &[&str], what: impl Into<String>, mend: impl Into<String>) {
        let path = path.iter().map(|&segment| segment.to_owned()).collect();
        self.faults.push((path, Fault::new("", what, mend)));
    }

    fn document(&mut self) -> Value {
        let root = self.root;
        let version = |key: &str| root.get(key).and_then(Value::as_str).unwrap_or_default();
        let is_known = version("openapi").starts_with("3.0.")
            || version("openapi").starts_with("3.1.")
            || version("swagger") == "2.0";
        if !is_known {
            let key = if root.get("swagger").is_some() { "swagger" } else { "openapi" };
            let mend = "give a document of OpenAPI 3.0 or 3.1, or Swagger 2.0, its version as text";
            self.fail(&[key], "is not a known version", mend);
            return Value::Null;
        }
        let Some(paths) = root.get("paths").and_then(Value::as_object) else {
            self.fail(&["paths"], "is missing, or not a mapping", "give the paths of the API");
            return Value::Null;
        };
        let mut resources = Vec::new();
        for (path, item) in paths.iter().filter(|(path, _)| !path.starts_with("x-")) {
            match item.as_object() {
                Some(item) => self.path_item(path, item, &mut resources),
                None => self.fail(&["paths", path], "is not a mapping", "give it its methods"),
            }
        }
        if resources.is_empty() && self.faults.is_empty() {
            self.fail(&["paths"], "holds no operation", "give at least one path and method");
        }
        Value::Array(resources)
    }

    fn path_item(&mut self, path: &str, item: &'a Map<String, Value>, into: &mut Vec<Value>) {
        for (key, operation) in item {
            let at = ["paths", path, key.as_str()];
            if OTHER.contains(&key.as_str()) || key.starts_with("x-") {
                continue;
            }
            if !METHODS.contains(&key.as_str()) {
                let mend = format!("known are {}", METHODS.join(", "));
                self.fail(&at, "is no method that can be published", mend);
                continue;
            }
            let Some(operation) = operation.as_object() else {
                self.fail(&at, "is not a mapping", "describe the operation");
                continue;
            };
            let mut resource = json!({ "methods": [key.to_uppercase()], "path": path });
            if let Some(id) = operation.get("operationId") {
                resource["operation"] = id.clone();
            }
            let (security, mut at) = match operation.get("security") {
                Some(security) => (Some(security), at.to_vec()),
                None => (self.root.get("security"), Vec::new()),
            };
            at.push("security");
            if let Some(security) = security {
                self.security(&at, security, &mut resource);
            }
            into.push(resource);
            self.operations.push(["paths", path, key].map(str::to_owned));
        }
    }

    /// Adds to a resource who may call it.
    fn security(&mut self, at: &[&str], security: &Value, resource: &mut Value) {
        let Some(alternatives) = security.as_array() else {
            return self.fail(at, "is not a list", "give a list of security requirements");
        };
        let (mut ways, mut scopes, mut any_scope) = (Vec::new(), Vec::new(), false);
        for (i, alternative) in alternatives.iter().enumerate() {
            let index = i.to_string();
            let at = [at, &[index.as_str()]].concat();
            let schemes = alternative.as_object().map(|of| of.iter().collect::<Vec<_>>());
            match schemes.as_deref() {
                Some([]) => ways.push("none"),
                Some([(scheme, asked)]) => {
                    let Some(way) = self.way(&at, scheme) else { continue };
                    ways.push(way);
                    match asked.as_array().map(Vec::as_slice) {
                        Some([]) => any_scope |= way == "oauth2",
                        Some([scope]) => scopes.push(scope.clone()),
                        _ => self.fail(
                            &at,
                            "asks for several scopes at once",
                            "give each alternative one scope; one of them will do",
                        ),
                    }
                }
                Some(_) => self.fail(
                    &at,
                    "asks for several schemes at once",
                    "give each alternative one scheme",
                ),
                None => self.fail(&at, "is not a mapping", "name a scheme and its scopes"),
            }
        }
        if alternatives.is_empty() || ways.contains(&"none") {
            resource["authentication"] = json!(["none"]);
            return;
        }
        ways.sort_unstable();
        ways.dedup();
        resource["authentication"] = json!(ways);
        if !scopes.is_empty() && !any_scope {
            resource["scopes"] = Value::Array(scopes);
        }
    }

    /// How a caller proves itself by a scheme of the document.
    fn way(&mut self, at: &[&str], name: &str) -> Option<&'static str> {
        let schemes = self
            .root
            .pointer("/components/securitySchemes")
            .or_else(|| self.root.get("securityDefinitions"));
        let Some(scheme) = schemes.and_then(|schemes| schemes.get(name)) else {
            let mend = "define it in components.securitySchemes";
            self.fail(&[at, &[name]].concat(), "is not defined", mend);
            return None;
        };
        let text = |key: &str| scheme.get(key).and_then(Value::as_str).unwrap_or_default();
        match (text("type"), text("scheme").to_lowercase().as_str()) {
            ("oauth2" | "openIdConnect", _) | ("http", "bearer") => Some("oauth2"),
            ("apiKey", _) => Some("api_key"),
            ("basic", _) | ("http", "basic") => Some("basic"),
            ("mutualTLS", _) => Some("mtls"),
            _ => {
                let mend = "known are oauth2, openIdConnect, http, apiKey and mutualTLS";
                self.fail(&[at, &[name]].concat(), "is of a type that is not known", mend);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = r#"
openapi: 3.1.0
info: {title: Orders, version: "1.0"}
security: [{login: [orders.read]}]
components:
  securitySchemes:
    login: {type: oauth2, flows: {}}
    key: {type: apiKey, in: header, name: X-Key}
paths:
  /orders/{id}:
    parameters: []
    get: {operationId: getOrder}
    delete: {security: [{login: [orders.write]}, {login: [admin]}]}
  /v1.0/health:
    get: {security: []}
  /open:
    get: {security: [{login: []}, {key: []}]}
"#;

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
        let text = r#"{"swagger": "2.0", "paths": {"/a": {"get": {"security": [{"k": []}]}}},
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
            assert_eq!(found, expected);
        };
        check(
            "3.1.0",
            "4.0.0",
            &[
                "2:1: openapi: is not a known version; give a document of OpenAPI 3.0 or 3.1, or Swagger 2.0, its version as text",
            ],
        );
        check(
            "get: {security: []}",
            "get: []",
            &["15:5: paths./v1.0/health.get: is not a mapping; describe the operation"],
        );
        check(
            "get: {security: []}",
            "trace: {}",
            &[
                "15:5: paths./v1.0/health.trace: is no method that can be published; known are get, head, post, put, patch, delete, options",
            ],
        );
        check(
            "{login: [admin]}",
            "{other: []}",
            &[
                "13:51: paths./orders/{id}.delete.security.1.other: is not defined; define it in components.securitySchemes",
            ],
        );
        check(
            "[orders.write]",
            "[a, b]",
            &[
                "13:25: paths./orders/{id}.delete.security.0: asks for several scopes at once; give each alternative one scope; one of them will do",
            ],
        );
        check(
            "{login: []}, {key: []}",
            "{login: [], key: []}",
            &[
                "17:22: paths./open.get.security.0: asks for several schemes at once; give each alternative one scheme",
            ],
        );
        check(
            "type: apiKey",
            "type: magic",
            &[
                "17:36: paths./open.get.security.1.key: is of a type that is not known; known are oauth2, openIdConnect, http, apiKey and mutualTLS",
            ],
        );
        check(
            "paths:",
            "path:",
            &["2:1: paths: is missing, or not a mapping; give the paths of the API"],
        );
        check("  /open:", " /open:", &["16:2: did not find expected key; mend the YAML or JSON"]);
    }
}
