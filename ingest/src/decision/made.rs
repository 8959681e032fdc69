use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Subject, TOPIC};
use crate::event::Timestamp;
use crate::log::{NewRecord, Partition, Record};
use crate::registry::kind::Quota;

/// The longest that a decision is in force, from its last finding or from when it was made.
pub const LASTS_MAX: Duration = Duration::from_hours(30 * 24);
/// How many that people made may be in force at once.
pub const MADE_MAX: usize = 10_000;
/// How a subject may be slowed: requests, and the time in ms in which it may make them.
const SLOW: (std::ops::RangeInclusive<u64>, std::ops::RangeInclusive<u64>) =
    (1..=1_000_000, 1_000..=3_600_000);

/// A decision, as who made it said last. Fields that a later Weir adds are passed over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// 32 hexadecimal digits; of a detection's, the id of the alert that it is made by.
    pub id: String,
    /// Against whom.
    pub subject: Subject,
    /// What becomes of their requests.
    pub action: Action,
    /// Whether it does, or is only told of.
    pub mode: Mode,
    /// By whose word.
    pub maker: Maker,
    /// When it was made, or prolonged last, by the clock of the node that did.
    pub at: Timestamp,
    /// When it ends by itself.
    pub until: Timestamp,
}

/// What becomes of the requests of a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// They are refused.
    Block,
    /// They are refused beyond so many, at each gateway: 1 to 1,000,000 in a second to an hour.
    Slow(Quota),
}

/// Whether a decision counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Nothing is refused; events say what would have been.
    #[default]
    DryRun,
    /// It counts.
    Enforce,
}

/// By whose word.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Maker {
    /// A detection, by its name.
    Detection(String),
    /// Somebody.
    Person {
        /// Who.
        by: String,
        /// Why; may be empty.
        note: String,
    },
}

/// That a decision was taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lift {
    /// Who did.
    pub by: String,
    /// Why; may be empty.
    pub note: String,
    /// When.
    pub at: Timestamp,
}

/// What has become of a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Requests are refused by it.
    InForce,
    /// Events say what would be refused.
    DryRun,
    /// Somebody took it back.
    Lifted,
    /// Its time is over.
    Ended,
}

impl Action {
    /// As `decision_action` of events.
    pub const fn text(&self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::Slow(_) => "slow",
        }
    }

    /// # Errors
    /// What is out of range.
    pub fn check(&self) -> Result<(), String> {
        let Self::Slow(Quota { max, window_ms }) = self else { return Ok(()) };
        let (requests, window) = SLOW;
        if !requests.contains(max) {
            return Err(format!("max: {max} is out of range; use 1 to 1,000,000 requests"));
        }
        if !window.contains(window_ms) {
            return Err(format!("window_ms: {window_ms} is out of range; use a second to an hour"));
        }
        Ok(())
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Block => f.write_str("blocked"),
            Self::Slow(Quota { max, window_ms }) => {
                let seconds = Duration::from_millis(*window_ms).as_secs_f64();
                write!(f, "slowed to {max} requests in {seconds} s")
            }
        }
    }
}

impl Maker {
    /// The detection, if it is one.
    pub fn detection(&self) -> Option<&str> {
        match self {
            Self::Detection(name) => Some(name),
            Self::Person { .. } => None,
        }
    }
}

impl State {
    /// As a column and a screen have it.
    pub const fn text(self) -> &'static str {
        match self {
            Self::InForce => "in_force",
            Self::DryRun => "dry_run",
            Self::Lifted => "lifted",
            Self::Ended => "ended",
        }
    }
}

impl Decision {
    /// What has become of it at a time; `enforced` says whether the safeguards let decisions of
    /// detections count.
    pub fn state(&self, lift: Option<&Lift>, now: Timestamp, enforced: bool) -> State {
        if lift.is_some() {
            State::Lifted
        } else if self.until <= now {
            State::Ended
        } else if self.counts(enforced) {
            State::InForce
        } else {
            State::DryRun
        }
    }

    /// Whether it counts as long as it is in force, and is not in dry run; `enforced` is as in
    /// [`Self::state`].
    pub fn counts(&self, enforced: bool) -> bool {
        self.mode == Mode::Enforce && (enforced || self.maker.detection().is_none())
    }
}

/// What a record of the topic says.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Said {
    Made(String, Option<Box<Decision>>),
    Lifted(String, Option<Lift>),
}

impl Said {
    /// # Errors
    /// Why it is no record of a decision.
    pub(super) fn read(record: &Record) -> Result<Self, String> {
        let key = record.key.as_deref().and_then(|key| std::str::from_utf8(key).ok());
        let value = record.value.as_deref();
        let told = |error: serde_json::Error| error.to_string();
        match key.and_then(|key| key.split_once('/')) {
            Some(("made", id)) => {
                let made: Option<Box<Decision>> =
                    value.map(serde_json::from_slice).transpose().map_err(told)?;
                Ok(Self::Made(id.to_owned(), made))
            }
            Some(("lifted", id)) => {
                let lift = value.map(serde_json::from_slice).transpose().map_err(told)?;
                Ok(Self::Lifted(id.to_owned(), lift))
            }
            _ => Err(format!("{key:?} is no key of a decision")),
        }
    }
}

/// The record by which a decision is made, or prolonged.
pub fn made(decision: &Decision) -> (Partition, NewRecord) {
    let value = serde_json::to_vec(decision).expect("a decision is JSON");
    (partition(), NewRecord::keyed(format!("made/{}", decision.id), value))
}

/// The record by which one is taken back.
pub fn lifted(id: &str, lift: &Lift) -> (Partition, NewRecord) {
    let value = serde_json::to_vec(lift).expect("a lift is JSON");
    (partition(), NewRecord::keyed(format!("lifted/{id}"), value))
}

/// The records by which one that ended long ago is forgotten.
pub fn gone(id: &str) -> [(Partition, NewRecord); 2] {
    ["made", "lifted"].map(|what| (partition(), NewRecord::tombstone(format!("{what}/{id}"))))
}

pub(super) fn partition() -> Partition {
    Partition::new(TOPIC, 0)
}
