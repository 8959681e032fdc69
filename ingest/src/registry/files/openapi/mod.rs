//! The resources of an API, read from its OpenAPI document (3.0, 3.1 or Swagger
//! 2.0, as YAML or JSON): paths, methods, operation ids, and who may call.
//!
//! Of `security` the document's own rule holds: one of the alternatives will do.
//! An alternative that asks for a bearer token adds its scope; none, or an empty
//! one, lets everybody in. What a resource cannot say is an error, never left out:
//! two scopes at once, or two schemes at once.

mod check;
mod grammar;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use self::check::{Followed, follow};
use super::locate::locate_segments;
use super::parse::{Located, parse_text};
use crate::registry::Fault;

/// The most faults that are told of one document.
const FAULTS_MAX: usize = 20;

/// The methods of a path item (OpenAPI 3.1, section 4.8.9).
const METHODS: [&str; 7] = ["get", "head", "post", "put", "patch", "delete", "options"];

/// Which OpenAPI a document is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Edition {
    /// Swagger 2.0.
    V2,
    V30,
    V31,
}

/// What is wrong, and the keys that lead there.
type Told = (Vec<String>, Fault);

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
    let parsed = parse_text(&text).and_then(|value| {
        let fault = || Fault::new("", "has keys that are no text", "write keys as text");
        serde_json::to_value(value).map_err(|_| ((1, 1), fault()))
    });
    let parsed = parsed.map_err(|located| vec![located])?;
    let mut reading = Reading::new(&parsed);
    let resources = reading.document();
    let Reading { told, operations, .. } = reading;
    if told.is_empty() {
        return Ok(Described { resources, operations, text });
    }
    let count = told.len();
    let mut located: Vec<Located> = told
        .into_iter()
        .take(FAULTS_MAX)
        .map(|(path, fault)| (place_of(&text, &path), Fault { path: path.join("."), ..fault }))
        .collect();
    located.sort_by_key(|(at, _)| *at);
    if count > FAULTS_MAX {
        let what = format!("has {} more faults", count - FAULTS_MAX);
        located.push(((1, 1), Fault::new("", what, "mend these first")));
    }
    Err(located)
}

fn place_of(text: &str, path: &[String]) -> (usize, usize) {
    let segments: Vec<&str> = path.iter().map(String::as_str).collect();
    locate_segments(serde_norway::Deserializer::from_str(text), &segments)
}

struct Reading<'a> {
    root: &'a Value,
    told: Vec<Told>,
    operations: Vec<[String; 3]>,
    /// The operation's keys by its id.
    ids: BTreeMap<&'a str, String>,
}

impl<'a> Reading<'a> {
    fn new(root: &'a Value) -> Self {
        Self { root, told: Vec::new(), operations: Vec::new(), ids: BTreeMap::new() }
    }

    /// Tells what is wrong at a place, unless something is told of it already.
    fn fail(&mut self, path: &[&str], what: impl Into<String>, mend: impl Into<String>) {
        if self.told.iter().all(|(told, _)| told != path) {
            let path = path.iter().map(|&segment| segment.to_owned()).collect();
            self.told.push((path, Fault::new("", what, mend)));
        }
    }

    fn edition(&self) -> Option<Edition> {
        let version = |key: &str| self.root.get(key).and_then(Value::as_str).unwrap_or_default();
        match version("openapi") {
            version if version.starts_with("3.0.") => Some(Edition::V30),
            version if version.starts_with("3.1.") => Some(Edition::V31),
            _ => (version("swagger") == "2.0").then_some(Edition::V2),
        }
    }

    fn document(&mut self) -> Value {
        let Some(edition) = self.edition() else {
            let key = if self.root.get("swagger").is_some() { "swagger" } else { "openapi" };
            let mend = "give a document of OpenAPI 3.0 or 3.1, or Swagger 2.0, its version as text";
            self.fail(&[key], "is not a known version", mend);
            return Value::Null;
        };
        self.told = check::check(self.root, edition);
        let mut resources = Vec::new();
        let paths = self.root.get("paths").and_then(Value::as_object);
        for (path, item) in paths.into_iter().flatten().filter(|(path, _)| path.starts_with('/')) {
            if let Some(item) = item.as_object() {
                self.path_item(path, item, &mut resources);
            }
        }
        if resources.is_empty() && self.told.is_empty() {
            self.fail(&["paths"], "holds no operation", "give at least one path and method");
        }
        Value::Array(resources)
    }

    fn path_item(&mut self, path: &str, item: &'a Map<String, Value>, into: &mut Vec<Value>) {
        let at = ["paths", path];
        let item = match item.get("$ref").and_then(Value::as_str) {
            None => item,
            Some(reference) => match follow(self.root, reference) {
                Followed::Here(Value::Object(item)) => item,
                Followed::Here(_) | Followed::Nothing => {
                    let at = [at[0], at[1], "$ref"];
                    return self.fail(&at, "leads to no path item", "name one of this document");
                }
                Followed::Elsewhere => {
                    let at = [at[0], at[1], "$ref"];
                    let mend = "write the path's methods into this one";
                    return self.fail(&at, "is in another document, which is not read", mend);
                }
            },
        };
        if item.contains_key("trace") {
            let mend = format!("known are {}", METHODS.join(", "));
            self.fail(&[at[0], at[1], "trace"], "is no method that can be published", mend);
        }
        for method in METHODS {
            let Some(operation) = item.get(method).and_then(Value::as_object) else { continue };
            let at = ["paths", path, method];
            let mut resource = json!({ "methods": [method.to_uppercase()], "path": path });
            if let Some(id) = operation.get("operationId").and_then(Value::as_str) {
                resource["operation"] = Value::from(id);
                if let Some(first) = self.ids.insert(id, at[1..].join(".")) {
                    let what = format!("is also the id of paths.{first}");
                    let at = [at[0], at[1], at[2], "operationId"];
                    self.fail(&at, what, "give each operation an id of its own");
                }
            }
            self.parameters(&at, item, operation);
            let (security, mut at) = match operation.get("security") {
                Some(security) => (Some(security), at.to_vec()),
                None => (self.root.get("security"), Vec::new()),
            };
            at.push("security");
            if let Some(security) = security {
                self.security(&at, security, &mut resource);
            }
            into.push(resource);
            self.operations.push(["paths", path, method].map(str::to_owned));
        }
    }

    /// Looks whether the parameters of a path and those that its template names are the
    /// same (OpenAPI 3.1.1, section 4.8.12).
    fn parameters(
        &mut self,
        at: &[&str; 3],
        item: &'a Map<String, Value>,
        operation: &'a Map<String, Value>,
    ) {
        let named: Vec<&str> = at[1]
            .split('{')
            .skip(1)
            .filter_map(|rest| rest.split_once('}').map(|(name, _)| name))
            .collect();
        let mut declared = Vec::new();
        let mut is_all = true;
        for (of, is_own) in [(item, false), (operation, true)] {
            let parameters = of.get("parameters").and_then(Value::as_array);
            for (i, parameter) in parameters.into_iter().flatten().enumerate() {
                let parameter = match parameter.get("$ref").and_then(Value::as_str) {
                    None => parameter,
                    Some(reference) => match follow(self.root, reference) {
                        Followed::Here(parameter) => parameter,
                        Followed::Elsewhere | Followed::Nothing => {
                            is_all = false;
                            continue;
                        }
                    },
                };
                let text = |key: &str| parameter.get(key).and_then(Value::as_str);
                let (Some("path"), Some(name)) = (text("in"), text("name")) else { continue };
                let index = i.to_string();
                let own = [at[0], at[1], at[2], "parameters", &index];
                let shared = [at[0], at[1], "parameters", &index];
                let at: &[&str] = if is_own { &own } else { &shared };
                if !named.contains(&name) {
                    let what = format!("`{name}` is not in the path");
                    self.fail(at, what, format!("write {{{name}}} into the path, or leave it out"));
                } else if parameter.get("required") != Some(&Value::Bool(true)) {
                    let what = format!("`{name}` is of the path, and not required");
                    self.fail(at, what, "add `required: true`");
                }
                declared.push(name);
            }
        }
        let is_missing = |name: &&str| is_all && !declared.contains(name);
        let missing: Vec<&str> = named.into_iter().filter(is_missing).collect();
        if let [name, ..] = missing[..] {
            let what = format!("does not describe {} of its path", missing.join(", "));
            let mend = format!("add parameters as {{name: {name}, in: path, required: true}}");
            self.fail(at, what, mend);
        }
    }

    /// Adds to a resource who may call it.
    fn security(&mut self, at: &[&str], security: &Value, resource: &mut Value) {
        let Some(alternatives) = security.as_array() else { return };
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
                        None => {}
                        Some(_) => self.fail(
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
                None => {}
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
mod tests;
