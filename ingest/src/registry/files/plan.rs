use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;
use serde_json::Value;

use super::Wanted;
use crate::registry::judge::judge;
use crate::registry::kind::{Key, KeyState, OfKind as _};
use crate::registry::{
    Change, ChangeSet, Entity, EntityKey, Json, Kind, Name, Refusal, Snapshot, no_deep_check,
};

/// What becomes of an entity that no file speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// It stays.
    Keep,
    /// It is removed, but a signing key only if it is retired: keys do not live in files.
    Remove,
}

/// The way from what is to what is wanted.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    /// One for each entity that is or is wanted, by kind and name.
    pub steps: Vec<Step>,
    /// The specs that are to be written; never shown.
    #[serde(skip)]
    specs: BTreeMap<EntityKey, Json>,
}

/// What becomes of one entity.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Step {
    /// It is not there.
    Create {
        /// The entity.
        entity: EntityKey,
    },
    /// It is there, and other.
    Change {
        /// The entity.
        entity: EntityKey,
        /// The version that it has.
        version: u64,
        /// What is other, by path.
        fields: Vec<FieldChange>,
    },
    /// It is there, and no file speaks of it.
    Remove {
        /// The entity.
        entity: EntityKey,
        /// The version that it has.
        version: u64,
    },
    /// It is as wanted, or kept.
    Unchanged {
        /// The entity.
        entity: EntityKey,
    },
}

/// A field that is other. Of a secret both values are `"[hidden]"`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FieldChange {
    /// Where in the spec.
    pub path: String,
    /// What it is; absent if it is not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Value>,
    /// What it is to be; absent if it goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Value>,
}

/// Compares what is wanted with what is.
pub fn plan(wanted: &Wanted, snapshot: &Snapshot, missing: Missing) -> Plan {
    let mut steps = Vec::new();
    let mut specs = BTreeMap::new();
    let present = snapshot.entities().map(|entity| &entity.key);
    let keys: BTreeSet<&EntityKey> = wanted.entities.keys().chain(present).collect();
    for key in keys {
        let (entity, now) = (key.clone(), snapshot.entity(key));
        let wanted = wanted.entities.get(key).map(|(json, _)| with_secrets(key.kind, json, now));
        let step = match (&wanted, now) {
            (Some(_), None) => Step::Create { entity },
            (Some(json), Some(now)) if *json != now.json => {
                let fields = differences(key.kind, &now.json, json);
                Step::Change { entity, version: now.version, fields }
            }
            (None, Some(now)) if missing == Missing::Remove && may_go(now) => {
                Step::Remove { entity, version: now.version }
            }
            _ => Step::Unchanged { entity },
        };
        if let (Step::Create { .. } | Step::Change { .. }, Some(json)) = (&step, wanted) {
            specs.insert(key.clone(), json);
        }
        steps.push(step);
    }
    Plan { steps, specs }
}

/// A spec with the secrets that it leaves out, as they are now.
fn with_secrets(kind: Kind, json: &Json, now: Option<&Entity>) -> Json {
    let mut json = json.clone();
    for name in kind.secrets() {
        if let Some(secret) = now.and_then(|now| now.json.0.get(*name)) {
            json.0.entry(*name).or_insert_with(|| secret.clone());
        }
    }
    json
}

/// Whether an entity that no file speaks of may be removed.
fn may_go(now: &Entity) -> bool {
    Key::of(&now.spec).is_none_or(|key| key.state == KeyState::Retired)
}

impl Plan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.steps.iter().all(|step| matches!(step, Step::Unchanged { .. }))
    }

    /// The change set of this plan, on the versions that it was made for.
    pub fn change_set(&self, id: Name, author: String, message: String) -> ChangeSet {
        let put = |entity: &EntityKey, expected| {
            let EntityKey { kind, name } = entity.clone();
            let spec = self.specs.get(entity).cloned().unwrap_or_default();
            Change::Put { kind, name, expected, spec }
        };
        let change = |step: &Step| match step {
            Step::Create { entity } => Some(put(entity, None)),
            Step::Change { entity, version, .. } => Some(put(entity, Some(*version))),
            Step::Remove { entity, version } => {
                let EntityKey { kind, name } = entity.clone();
                Some(Change::Remove { kind, name, expected: *version })
            }
            Step::Unchanged { .. } => None,
        };
        ChangeSet { id, author, message, changes: self.steps.iter().filter_map(change).collect() }
    }

    /// What the applier would refuse, if nothing changed until then.
    pub fn refusals(&self, snapshot: &Snapshot) -> Vec<Refusal> {
        if self.is_empty() {
            return Vec::new();
        }
        let id = Name::new("plan").expect("letters are a name");
        let set = self.change_set(id, "plan".to_owned(), "plan".to_owned());
        // The deep check was made when the files were read.
        judge(snapshot, &set, no_deep_check).err().unwrap_or_default()
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut counts = [0; 4];
        for step in &self.steps {
            match step {
                Step::Create { entity } => {
                    counts[0] += 1;
                    writeln!(f, "+ {entity}")?;
                }
                Step::Change { entity, version, fields } => {
                    counts[1] += 1;
                    writeln!(f, "~ {entity} (version {version})")?;
                    fields.iter().try_for_each(|field| writeln!(f, "    {field}"))?;
                }
                Step::Remove { entity, version } => {
                    counts[2] += 1;
                    writeln!(f, "- {entity} (version {version})")?;
                }
                Step::Unchanged { .. } => counts[3] += 1,
            }
        }
        let [create, change, remove, unchanged] = counts;
        write!(
            f,
            "{create} to create, {change} to change, {remove} to remove, {unchanged} unchanged"
        )
    }
}

impl fmt::Display for FieldChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |value: &Option<Value>| {
            value.as_ref().map_or_else(|| "(none)".to_owned(), Value::to_string)
        };
        write!(f, "{}: {} -> {}", self.path, show(&self.from), show(&self.to))
    }
}

fn differences(kind: Kind, from: &Json, to: &Json) -> Vec<FieldChange> {
    let mut found = Vec::new();
    let names: BTreeSet<&String> = from.0.keys().chain(to.0.keys()).collect();
    for name in names {
        let (from, to) = (from.0.get(name), to.0.get(name));
        if !kind.secrets().contains(&name.as_str()) {
            compare(name, from, to, &mut found);
        } else if from != to {
            let hide = |value: Option<&Value>| value.map(|_| Value::from("[hidden]"));
            found.push(FieldChange { path: name.clone(), from: hide(from), to: hide(to) });
        }
    }
    found
}

/// Adds the leaves in which two values differ.
fn compare(path: &str, from: Option<&Value>, to: Option<&Value>, found: &mut Vec<FieldChange>) {
    match (from, to) {
        (from, to) if from == to => {}
        (Some(Value::Object(from)), Some(Value::Object(to))) => {
            let names: BTreeSet<&String> = from.keys().chain(to.keys()).collect();
            for name in names {
                compare(&format!("{path}.{name}"), from.get(name), to.get(name), found);
            }
        }
        (Some(Value::Array(from)), Some(Value::Array(to))) => {
            for i in 0..from.len().max(to.len()) {
                compare(&format!("{path}[{i}]"), from.get(i), to.get(i), found);
            }
        }
        (from, to) => {
            let (from, to) = (from.cloned(), to.cloned());
            found.push(FieldChange { path: path.to_owned(), from, to });
        }
    }
}
