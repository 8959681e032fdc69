use serde::{Deserialize, Serialize};

use super::network::check_network;
use super::{Kind, KindSpec, Name, Reference};
use crate::decision::Mode;
use crate::registry::Faults;

/// What decisions of detections may not do. Of several safeguards each holds: what one
/// protects is protected, the least of their numbers counts, and one that says `dry_run` is
/// enough.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Safeguard {
    /// Whether what detections decide counts; `dry_run` if it is left out.
    pub mode: Mode,
    /// How many of their decisions may be in force at once, 1 to 10,000.
    pub decisions_max: u32,
    /// And of one detection, 1 to 10,000.
    pub decisions_of_detection_max: u32,
    /// Against whom none is made, by a person neither.
    pub never: Never,
}

/// Against whom no decision is made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Never {
    /// Networks of clients, as `192.0.2.0/24`, 0 to 1,000.
    pub addresses: Vec<String>,
    /// Applications, 0 to 1,000.
    pub applications: Vec<Name>,
    /// Users, as the subject of their tokens, 0 to 1,000 of up to 256 bytes.
    pub users: Vec<String>,
}

impl Default for Safeguard {
    fn default() -> Self {
        Self {
            mode: Mode::DryRun,
            decisions_max: 100,
            decisions_of_detection_max: 20,
            never: Never::default(),
        }
    }
}

impl KindSpec for Safeguard {
    fn validate(&self, faults: &mut Faults) {
        faults.range("decisions_max", self.decisions_max.into(), 1, 10_000);
        let of_one = self.decisions_of_detection_max.into();
        faults.range("decisions_of_detection_max", of_one, 1, 10_000);
        let Never { addresses, applications, users } = &self.never;
        faults.count("never.addresses", addresses.len(), 0, 1_000);
        faults.count("never.applications", applications.len(), 0, 1_000);
        faults.count("never.users", users.len(), 0, 1_000);
        for (i, network) in addresses.iter().enumerate() {
            check_network(faults, &format!("never.addresses[{i}]"), network);
        }
        for (i, user) in users.iter().enumerate() {
            faults.text(format!("never.users[{i}]"), user, 256);
        }
    }

    fn references(&self) -> Vec<Reference> {
        let named = self.never.applications.iter().enumerate();
        named
            .map(|(i, of)| {
                Reference::new(format!("never.applications[{i}]"), Kind::Application, of)
            })
            .collect()
    }
}
