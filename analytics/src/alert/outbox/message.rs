use std::fmt;

use ingest::log::{NewRecord, Partition};
use serde::{Deserialize, Serialize};

use crate::query::Severity;

/// The topic of the outbox: compacted, one record for each message.
pub const OUTBOX_TOPIC: &str = "weir.outbox";

/// Who is told, and by what.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Target {
    /// An address.
    Email(String),
    /// The name of a webhook.
    Webhook(String),
}

/// What is told of an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum What {
    /// That it has opened.
    Opened,
    /// That it has become worse than who is told was told before.
    Raised(Severity),
    /// That nobody has acknowledged it; which step of the escalation, from 1.
    Escalated(u32),
    /// That it is over.
    Resolved,
}

/// An alert that a message is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Told {
    /// The alert's id.
    pub(crate) alert: String,
    /// What is told of it.
    pub(crate) what: What,
    /// How bad it was when that was planned.
    pub(crate) severity: Severity,
}

/// Something that somebody is to be told, or was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Message {
    /// The same each time it is sent; what a Message-ID is made of.
    pub(crate) name: String,
    /// Who is told.
    pub(crate) to: Target,
    /// Of what: one alert, or those that were gathered.
    pub(crate) of: Vec<Told>,
    /// Whether alerts are gathered in it.
    #[serde(default)]
    pub(crate) is_digest: bool,
    /// Its place in the order of all messages.
    pub(crate) number: u64,
    /// From when on it is to be sent, in ms since 1970.
    pub(crate) due_ms: i64,
    /// Of which of its alerts it says that they are over, by id; settled before the first
    /// attempt, so that each says the same.
    #[serde(default)]
    pub(crate) over: Option<Vec<String>>,
    /// How far it is.
    pub(crate) state: State,
}

/// How far a message is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// It is to be sent.
    Waiting,
    /// It was taken.
    Sent,
    /// It was given up.
    Failed {
        /// Why.
        why: String,
    },
}

impl Message {
    /// The key of its record: what is told, and who is.
    pub(crate) fn key(&self) -> String {
        format!("{}/{}", self.name, self.to)
    }

    pub(crate) fn is_waiting(&self) -> bool {
        self.state == State::Waiting
    }

    /// Its record.
    pub(crate) fn record(&self) -> (Partition, NewRecord) {
        let value = serde_json::to_vec(self).expect("a message is JSON");
        (Partition::new(OUTBOX_TOPIC, 0), NewRecord::keyed(self.key(), value))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Email(address) => f.write_str(address),
            Self::Webhook(name) => write!(f, "webhook:{name}"),
        }
    }
}

impl What {
    /// The name of a message that says this of one alert.
    pub(crate) fn name(self, alert: &str) -> String {
        match self {
            Self::Opened => alert.to_owned(),
            Self::Raised(severity) => format!("{alert}.raised-{}", severity.word()),
            Self::Escalated(step) => format!("{alert}.escalated-{step}"),
            Self::Resolved => format!("{alert}.resolved"),
        }
    }
}
