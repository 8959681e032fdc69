use std::collections::BTreeSet;

use ipnet::IpNet;

use super::subject::plain;
use super::{Mode, Subject};
use crate::registry::kind::Safeguard;
use crate::registry::{Name, Snapshot};

/// What all safeguards of a snapshot say together: a decision has to be within each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Safeguards {
    /// Whether decisions of detections count: if there is a safeguard, and each says so.
    pub mode: Mode,
    /// How many decisions of detections may be in force, or tried, at once.
    pub decisions_max: usize,
    /// And of one detection.
    pub decisions_of_detection_max: usize,
    networks: Vec<IpNet>,
    applications: BTreeSet<String>,
    users: BTreeSet<String>,
}

impl Safeguards {
    /// Those of a snapshot.
    pub fn of(snapshot: &Snapshot) -> Self {
        let usual = Safeguard::default();
        let mut all = Self {
            mode: Mode::DryRun,
            decisions_max: usual.decisions_max as usize,
            decisions_of_detection_max: usual.decisions_of_detection_max as usize,
            networks: Vec::new(),
            applications: BTreeSet::new(),
            users: BTreeSet::new(),
        };
        for (i, (_, of)) in snapshot.all::<Safeguard>().enumerate() {
            let (max, max_of_one) = (of.decisions_max, of.decisions_of_detection_max);
            if i == 0 {
                (all.mode, all.decisions_max) = (of.mode, max as usize);
                all.decisions_of_detection_max = max_of_one as usize;
            }
            if of.mode == Mode::DryRun {
                all.mode = Mode::DryRun;
            }
            all.decisions_max = all.decisions_max.min(max as usize);
            all.decisions_of_detection_max =
                all.decisions_of_detection_max.min(max_of_one as usize);
            // The registry has found them to be networks.
            let networks = of.never.addresses.iter().filter_map(|text| text.parse().ok());
            all.networks.extend(networks.map(plain));
            all.applications.extend(of.never.applications.iter().map(Name::to_string));
            all.users.extend(of.never.users.iter().cloned());
        }
        all
    }

    /// The networks that no decision is against.
    pub fn networks(&self) -> &[IpNet] {
        &self.networks
    }

    /// Whether no decision is to be against a subject, or against a part of it.
    pub fn protect(&self, subject: &Subject) -> bool {
        match subject {
            Subject::Address(network) => {
                let net = network.net();
                self.networks.iter().any(|of| of.contains(&net) || net.contains(of))
            }
            Subject::Application(name) => self.applications.contains(name),
            Subject::User(name) => self.users.contains(name),
        }
    }
}
