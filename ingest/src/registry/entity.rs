use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::kind::Reference;
use super::{Digest, EntityKey, Fault, Json, Kind, Name, Spec};
use crate::log::NewRecord;

/// The key of the record that ends a change set. No entity's key begins so.
pub(super) const END_KEY: &[u8] = b".end";

/// The key of the record that an applier writes when it opens. What comes after
/// is its own; so when it has read that far, it knows everything before.
pub(super) const OPENED_KEY: &[u8] = b".opened";

/// A configured thing, as it is after the change set that last wrote it.
#[derive(Debug, Clone, PartialEq)]
pub struct Entity {
    /// Its kind and name.
    pub key: EntityKey,
    /// Grows by one with every change.
    pub version: u64,
    /// What it is, ready to use.
    pub spec: Spec,
    /// What it is, as it was written.
    pub json: Json,
    /// The entities that it needs.
    pub references: Vec<Reference>,
    /// The digest of `json`.
    pub digest: Digest,
}

/// The value of an entity's record.
#[derive(Serialize, Deserialize)]
struct Stored {
    version: u64,
    spec: Json,
}

impl Entity {
    /// Reads a spec, and says everything that is wrong with it.
    pub(super) fn new(key: EntityKey, version: u64, json: Json) -> Result<Self, Vec<Fault>> {
        let (spec, references) = key.kind.read(&json)?;
        let digest = Digest::of(&Value::Object(json.0.clone()));
        Ok(Self { key, version, spec, json, references, digest })
    }

    pub(super) fn encode(&self) -> NewRecord {
        let stored = Stored { version: self.version, spec: self.json.clone() };
        let value = serde_json::to_vec(&stored).expect("names are strings");
        NewRecord::keyed(self.key.to_string(), value)
    }

    /// Reads a record's value; an error never shows what is in it.
    pub(super) fn decode(key: EntityKey, value: &[u8]) -> Result<Self, String> {
        let stored: Stored = serde_json::from_slice(value)
            .map_err(|error| format!("cannot be read at column {}", error.column()))?;
        Self::new(key, stored.version, stored.spec).map_err(|faults| faults[0].to_string())
    }
}

/// The last record of a change set: what came before it is whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct End {
    /// How many change sets were accepted up to here.
    pub(super) revision: u64,
    /// The change set's id.
    pub(super) id: Name,
    /// The hash of everything, after the change set.
    pub(super) config_hash: Digest,
    /// Per kind the highest version that a removed entity had.
    pub(super) floors: BTreeMap<Kind, u64>,
    /// Whether the history has all up to here.
    #[serde(default)]
    pub(super) history: bool,
}

impl End {
    pub(super) fn encode(&self) -> NewRecord {
        NewRecord::keyed(END_KEY, serde_json::to_vec(self).expect("kinds are strings"))
    }
}
