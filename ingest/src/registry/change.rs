use serde::{Deserialize, Serialize};

use super::{Digest, EntityKey, Faults, Json, Kind, Name};
use crate::log::NewRecord;

/// The most changes of one set.
pub const CHANGES_MAX: usize = 1_000;
/// The largest set, in bytes of JSON.
pub const SET_BYTES_MAX: usize = 900_000;
/// The largest spec, in bytes of JSON.
pub const SPEC_BYTES_MAX: usize = 256 * 1024;

/// Changes that are made together or not at all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangeSet {
    /// Makes it safe to propose again: a set is judged once. Another set under
    /// the same id is refused.
    pub id: Name,
    /// Who proposes it, 1 to 256 bytes.
    pub author: String,
    /// Why, 1 to 1,024 bytes.
    pub message: String,
    /// What is to change, 1 to [`CHANGES_MAX`], each entity once.
    pub changes: Vec<Change>,
}

/// A change of one entity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum Change {
    /// Writes an entity.
    Put {
        /// Its kind.
        kind: Kind,
        /// Its name.
        name: Name,
        /// The version that it has now; `None`: it must not exist.
        #[serde(default)]
        expected: Option<u64>,
        /// What it is to be.
        spec: Json,
    },
    /// Removes an entity.
    Remove {
        /// Its kind.
        kind: Kind,
        /// Its name.
        name: Name,
        /// The version that it has now.
        expected: u64,
    },
}

impl Change {
    /// Which entity.
    pub fn key(&self) -> EntityKey {
        match self {
            Self::Put { kind, name, .. } | Self::Remove { kind, name, .. } => {
                EntityKey::new(*kind, name.clone())
            }
        }
    }

    /// The version that the entity is to have now; `None`: it must not exist.
    pub fn expected(&self) -> Option<u64> {
        match self {
            Self::Put { expected, .. } => *expected,
            Self::Remove { expected, .. } => Some(*expected),
        }
    }
}

impl ChangeSet {
    /// Adds what is wrong with the set as such.
    pub(super) fn check(&self, faults: &mut Faults) {
        faults.text("author", &self.author, 256);
        faults.text("message", &self.message, 1_024);
        faults.count("changes", self.changes.len(), 1, CHANGES_MAX);
    }

    pub(super) fn encode(&self) -> NewRecord {
        let value = serde_json::to_vec(self).expect("names are strings");
        NewRecord::keyed(self.id.as_str().to_owned(), value)
    }

    /// Tells this set from another of the same id.
    pub(super) fn digest(&self) -> Digest {
        Digest::of(&serde_json::to_value(self).expect("names are strings"))
    }
}
