use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Digest, EntityKey, Fault, Name};
use crate::log::NewRecord;

/// What the applier said to a proposal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// The change set's id.
    pub id: Name,
    /// The change set's digest, which tells it from another of the same id. `None`:
    /// the applier could not read it, and the id is still free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// The offset of the proposal that this answers.
    pub proposal: u64,
    /// Accepted or refused.
    pub outcome: Outcome,
}

/// Accepted or refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Every change was made.
    Accepted {
        /// The registry's revision after it: the first snapshot that shows it.
        revision: u64,
        /// What was written, in the order of the changes.
        written: Vec<Written>,
    },
    /// Nothing was changed.
    Refused {
        /// Why, the first 100 reasons.
        reasons: Vec<Refusal>,
    },
}

/// What became of an entity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// The entity.
    pub entity: EntityKey,
    /// Its new version; `None`: it was removed.
    pub version: Option<u64>,
}

/// Why a change set was refused. Never shows a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The entity; `None`: the set as such.
    pub entity: Option<EntityKey>,
    /// What is wrong, where, and how to mend it.
    #[serde(flatten)]
    pub fault: Fault,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.entity {
            Some(entity) => write!(f, "{entity}: {}", self.fault),
            None => write!(f, "change set: {}", self.fault),
        }
    }
}

impl Verdict {
    /// Whether every change was made.
    pub fn is_accepted(&self) -> bool {
        matches!(self.outcome, Outcome::Accepted { .. })
    }

    pub(super) fn encode(&self) -> NewRecord {
        let value = serde_json::to_vec(self).expect("names are strings");
        NewRecord::keyed(self.id.as_str().to_owned(), value)
    }
}
