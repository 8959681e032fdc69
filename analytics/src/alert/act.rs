//! What people say of alerts: that somebody takes care of one, and of which nobody is to be
//! told for a while.

use ingest::event::Timestamp;
use ingest::log::{NewRecord, Partition};
use serde::{Deserialize, Serialize};

use super::route::is_like;
use crate::detect::Alert;

/// The topic of what people say of alerts: compacted, the last word on each.
pub const ACTS_TOPIC: &str = "weir.alert-acts";

/// Somebody takes care of an alert: it is escalated no further.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Acknowledgement {
    /// Who.
    pub by: String,
    /// What they say of it; may be empty.
    #[serde(default)]
    pub note: String,
    /// When.
    #[serde(with = "crate::time")]
    pub at: Timestamp,
}

/// Alerts of which nobody is told for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Silence {
    /// 32 hexadecimal digits.
    pub id: String,
    /// Of which detections, by name; a star stands for any letters, `\*` for itself. Of all, if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detection: Option<String>,
    /// Of which subjects; with stars. Of all, if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// From when on.
    #[serde(with = "crate::time")]
    pub from: Timestamp,
    /// Until when.
    #[serde(with = "crate::time")]
    pub until: Timestamp,
    /// Who says so.
    pub by: String,
    /// Why; may be empty.
    #[serde(default)]
    pub note: String,
}

impl Silence {
    /// Whether it holds for an alert at a time, in ms since 1970.
    pub(super) fn holds(&self, alert: &Alert, at_ms: i64) -> bool {
        let like = |pattern: &Option<String>, name: &str| {
            pattern.as_ref().is_none_or(|pattern| is_like(name, pattern))
        };
        let at_us = at_ms.saturating_mul(1_000);
        (self.from.as_micros()..self.until.as_micros()).contains(&at_us)
            && like(&self.detection, &alert.detection)
            && like(&self.subject, &alert.subject)
    }
}

/// The last word on something; absent if it was taken back.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Act {
    Acknowledged(String, Option<Acknowledgement>),
    Silenced(String, Option<Silence>),
}

impl Act {
    /// Its record.
    pub(super) fn record(&self) -> (Partition, NewRecord) {
        let (key, value) = match self {
            Self::Acknowledged(id, act) => {
                (format!("alert/{id}"), act.as_ref().map(serde_json::to_vec))
            }
            Self::Silenced(id, act) => {
                (format!("silence/{id}"), act.as_ref().map(serde_json::to_vec))
            }
        };
        let record = match value {
            Some(value) => NewRecord::keyed(key, value.expect("an act is JSON")),
            None => NewRecord::tombstone(key),
        };
        (Partition::new(ACTS_TOPIC, 0), record)
    }

    /// Reads a record.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn read(key: Option<&[u8]>, value: Option<&[u8]>) -> Result<Self, String> {
        let key = key.and_then(|key| std::str::from_utf8(key).ok()).unwrap_or_default();
        let told = |error: serde_json::Error| error.to_string();
        match key.split_once('/') {
            Some(("alert", id)) => {
                let act = value.map(serde_json::from_slice).transpose().map_err(told)?;
                Ok(Self::Acknowledged(id.to_owned(), act))
            }
            Some(("silence", id)) => {
                let act = value.map(serde_json::from_slice).transpose().map_err(told)?;
                Ok(Self::Silenced(id.to_owned(), act))
            }
            _ => Err(format!("{key:?} is no key of an act")),
        }
    }
}
