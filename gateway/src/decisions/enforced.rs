use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

// Nothing here is chosen by callers: names are those that somebody decided of.
use foldhash::HashMap;
use ingest::decision::{Action, Decision, Decisions, Mode, Safeguards, State, Subject};
use ingest::event::{Event, Timestamp};
use ingest::http::Code;
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

/// How far a clock may have been ahead as decisions were compiled.
const CLOCK_AHEAD: Duration = Duration::from_hours(24);

/// A decision, as a request needs it.
#[derive(Debug)]
struct Entry {
    decision: Decision,
    id: Arc<str>,
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
            // Each request looks at the time: a clock that was ahead for a while loses nobody.
            if lift.is_some() || decision.until.after(CLOCK_AHEAD) <= now {
                continue;
            }
            let is_in_force = decision.counts(are_enforced);
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
        let id = decision.id.as_str().into();
        self.entries.push(Entry { decision, id, limit, is_in_force });
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether a request of somebody goes on, at a time in ms since 1970; notes on its event what
    /// stops it, or would.
    pub(crate) fn judge(
        &self,
        who: Who<'_>,
        now_ms: u64,
        event: &mut Event,
    ) -> Result<(), Stopped> {
        let mut stopped: Option<Stopped> = None;
        for entry in self.against(who, now_ms) {
            let Some(stops) = entry.stops(now_ms) else { continue };
            if !entry.is_in_force {
                if event.decision_id.is_none() {
                    entry.note(event);
                }
            } else if stopped.as_ref().is_none_or(|of| of.rank() < stops.rank()) {
                entry.note(event);
                stopped = Some(stops);
            }
        }
        match stopped {
            Some(stopped) => {
                if stopped.code == Code::Throttled {
                    event.throttle_level = Some(Level::Decision.text().into());
                }
                Err(stopped)
            }
            None => Ok(()),
        }
    }

    fn against(&self, who: Who<'_>, now_ms: u64) -> impl Iterator<Item = &Entry> {
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

/// That a request goes no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stopped {
    /// [`Code::Blocked`], or [`Code::Throttled`].
    pub(crate) code: Code,
    /// After how many seconds another one may.
    pub(crate) wait_s: u64,
}

impl Stopped {
    /// Of several the one that blocks counts, and that for the longest.
    fn rank(&self) -> (bool, u64) {
        (self.code == Code::Blocked, self.wait_s)
    }
}

impl Entry {
    fn ends_ms(&self) -> u64 {
        u64::try_from(self.decision.until.as_micros() / 1_000).unwrap_or(0)
    }

    /// Whether it stops a request, or would; of a slowed subject it is counted by that.
    fn stops(&self, now_ms: u64) -> Option<Stopped> {
        let (code, wait_ms) = match &self.limit {
            None => (Code::Blocked, self.ends_ms() - now_ms),
            Some(limit) => {
                let taken = limit.take(now_ms);
                if taken.allowed {
                    return None;
                }
                (Code::Throttled, taken.reset_ms)
            }
        };
        Some(Stopped { code, wait_s: wait_ms.div_ceil(1_000).max(1) })
    }

    /// Notes on the event of a request that this stopped it, or would have.
    fn note(&self, event: &mut Event) {
        let state = if self.is_in_force { State::InForce } else { State::DryRun };
        event.decision_id = Some(self.id.clone().into());
        event.decision_action = Some(self.decision.action.text().into());
        event.decision_state = Some(state.text().into());
        event.decision_subject_kind = Some(self.decision.subject.kind().text().into());
        event.decision_expires_time = Some(self.decision.until);
    }
}
