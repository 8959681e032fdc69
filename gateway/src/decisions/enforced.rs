use std::net::IpAddr;
use std::sync::Arc;

// Nothing here is chosen by callers: names are those that somebody decided of.
use foldhash::HashMap;
use ingest::decision::{Action, Decision, Decisions, Mode, Safeguards, State, Subject};
use ingest::event::{Event, Timestamp};
use ingest::registry::kind::Tier;
use ingest::registry::{Name, Snapshot};
use ipnet::IpNet;

use crate::auth::{ByNetwork, Networks, range};
use crate::throttle::{Counters, Level, Limit};

/// The decisions of a moment, each to be found by whom it is against.
#[derive(Debug, Default)]
pub(crate) struct Enforced {
    entries: Vec<Entry>,
    addresses: ByNetwork,
    applications: HashMap<Box<str>, Vec<usize>>,
    users: HashMap<Box<str>, Vec<usize>>,
    /// Whose requests none of them refuses.
    protected: Networks,
}

/// A decision, as a request needs it.
#[derive(Debug)]
pub(crate) struct Entry {
    decision: Decision,
    id: Arc<str>,
    subject: Arc<str>,
    /// What is counted of a slowed subject; of a blocked one there is nothing.
    limit: Option<Limit>,
    /// Whether it counts.
    is_in_force: bool,
}

/// Who asks, as far as it is known.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Who<'a> {
    Address(IpAddr),
    Application(&'a str),
    User(&'a str),
}

impl Enforced {
    /// Those of the topic that are not over, as the safeguards of a snapshot let them be.
    pub(crate) fn compile(
        decisions: &Decisions,
        snapshot: &Snapshot,
        trusted: &[IpNet],
        counters: &Counters,
        now: Timestamp,
    ) -> Self {
        let safeguards = Safeguards::of(snapshot);
        let never = safeguards.networks().iter().chain(trusted).copied();
        let mut enforced = Self { protected: Networks::of(never), ..Self::default() };
        let are_enforced = safeguards.mode == Mode::Enforce;
        for (decision, lift) in decisions.all() {
            let is_in_force = match decision.state(lift.as_ref(), now, are_enforced) {
                State::InForce => true,
                State::DryRun => false,
                State::Lifted | State::Ended => continue,
            };
            let is_named = !matches!(decision.subject, Subject::Address(_));
            if is_named && safeguards.protect(&decision.subject) {
                continue;
            }
            enforced.add(decision, is_in_force, counters);
        }
        enforced
    }

    fn add(&mut self, decision: Decision, is_in_force: bool, counters: &Counters) {
        let index = self.entries.len();
        match &decision.subject {
            Subject::Address(network) => self.addresses.add(range(network.net()), index),
            Subject::Application(name) => {
                self.applications.entry(name.as_str().into()).or_default().push(index);
            }
            Subject::User(name) => {
                self.users.entry(name.as_str().into()).or_default().push(index);
            }
        }
        let limit = match decision.action {
            Action::Block => None,
            Action::Slow(quota) => {
                let policy: Name = "decision".parse().expect("it is a name");
                let tier = Tier { requests: Some(quota), bytes: None, burst_requests_max: None };
                let mut limits = counters.limits(Level::Decision, &decision.id, &policy, &tier);
                limits.pop()
            }
        };
        let (id, subject) = (decision.id.as_str().into(), decision.subject.name().into());
        self.entries.push(Entry { decision, id, subject, limit, is_in_force });
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Those against somebody, at a time in ms since 1970.
    pub(crate) fn against(&self, who: Who<'_>, now_ms: u64) -> impl Iterator<Item = &Entry> {
        let (network, named) = match who {
            Who::Address(address) => (Some(address), None),
            Who::Application(name) => (None, self.applications.get(name)),
            Who::User(name) => (None, self.users.get(name)),
        };
        let network = network.into_iter().flat_map(move |address| {
            self.addresses.of(address).filter(move |_| !self.protected.contains(address))
        });
        let found = network.chain(named.into_iter().flatten().copied());
        found.map(|index| &self.entries[index]).filter(move |entry| entry.ends_ms() > now_ms)
    }
}

impl Entry {
    fn ends_ms(&self) -> u64 {
        u64::try_from(self.decision.until.as_micros() / 1_000).unwrap_or(0)
    }

    /// Whether requests are refused by it, and not only told of.
    pub(crate) fn is_in_force(&self) -> bool {
        self.is_in_force
    }

    /// What is counted, of one that slows.
    pub(crate) fn limit(&self) -> Option<&Limit> {
        self.limit.as_ref()
    }

    /// Notes on the event of a request that this stopped it, or would have.
    pub(crate) fn note(&self, event: &mut Event) {
        let state = if self.is_in_force { State::InForce } else { State::DryRun };
        event.decision_id = Some(self.id.clone().into());
        event.decision_action = Some(self.decision.action.text().into());
        event.decision_state = Some(state.text().into());
        event.decision_subject_kind = Some(self.decision.subject.kind().text().into());
        event.decision_subject = Some(self.subject.clone().into());
        event.decision_expires_time = Some(self.decision.until);
    }
}
