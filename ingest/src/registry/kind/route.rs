use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Kind, KindSpec, Method, Name, Reference};
use crate::registry::Faults;

/// A route of the mediator: what happens to a message, step by step.
///
/// What a step holds is the mediator's to read, and to check before a route is
/// accepted ([`crate::registry::DeepCheck`]); here are its bounds and what it
/// refers to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Where its messages come from.
    pub from: From,
    /// What is done, in order: 1 to 200 steps.
    pub steps: Vec<Step>,
    /// How long a run may take in all, 1 to 600,000 ms.
    #[serde(default = "timeout_ms")]
    pub timeout_ms: u64,
    /// Where it is written; set when it is read from a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
}

/// Where the messages of a route come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum From {
    /// Requests to the mediator.
    Http(FromHttp),
}

/// Requests that a route answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FromHttp {
    /// By these methods, 1 to 7.
    pub methods: Vec<Method>,
    /// On this path of the mediator, a template as `/orders/{id}`.
    pub path: String,
    /// The largest body, 0 to 64 MiB; a body is held in memory whole.
    #[serde(default = "body_bytes_max")]
    pub body_bytes_max: u64,
}

/// A step: at most an `id`, and one key that says what it does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// What it is called in events and faults; its number, from 1, if it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Name>,
    /// What it does, under the name of the kind of step.
    #[serde(flatten)]
    pub does: Map<String, Value>,
}

/// Where a route is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// The file, from the directory of the configuration on.
    pub file: String,
    /// The line of each step, from 1, by its place, as `steps[0]`.
    pub lines: BTreeMap<String, u32>,
}

/// The keys of a step's body that name another entity.
const REFERENCES: [(&str, Kind); 2] = [("queue", Kind::Queue), ("upstream", Kind::Upstream)];

fn timeout_ms() -> u64 {
    60_000
}

fn body_bytes_max() -> u64 {
    1024 * 1024
}

impl KindSpec for Route {
    fn validate(&self, faults: &mut Faults) {
        let From::Http(http) = &self.from;
        faults.count("from.http.methods", http.methods.len(), 1, 7);
        faults.text("from.http.path", &http.path, 512);
        if !http.path.starts_with('/') || http.path.contains(['?', '#', ' ', '*']) {
            faults.add("from.http.path", "is not a path", "give it as /orders/{id}");
        }
        faults.range("from.http.body_bytes_max", http.body_bytes_max, 0, 64 * 1024 * 1024);
        faults.range("timeout_ms", self.timeout_ms, 1, 600_000);
        faults.count("steps", self.steps.len(), 1, 200);
        let mut ids = std::collections::BTreeSet::new();
        for (i, step) in self.steps.iter().enumerate().take(200) {
            let at = format!("steps[{i}]");
            if step.does.len() != 1 {
                let mend = "give one key that says what it does, and an id if you like";
                faults.add(at.as_str(), format!("says {} things to do", step.does.len()), mend);
            }
            if let Some(id) = &step.id
                && !ids.insert(id)
            {
                let mend = "give each step an id of its own";
                faults.add(format!("{at}.id"), format!("`{id}` is another step's too"), mend);
            }
        }
    }

    fn references(&self) -> Vec<Reference> {
        let mut references = Vec::new();
        for (i, step) in self.steps.iter().enumerate() {
            for (does, body) in &step.does {
                for (field, kind) in REFERENCES {
                    let name = body.get(field).and_then(Value::as_str).map(Name::new);
                    if let Some(Ok(name)) = name {
                        let path = format!("steps[{i}].{does}.{field}");
                        references.push(Reference::new(path, kind, &name));
                    }
                }
            }
        }
        references
    }
}
