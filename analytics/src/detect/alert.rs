use ingest::event::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Decided;
use crate::query::Severity;

/// An alert, as its record in `weir.alerts` has it: a JSON object under its id. Fields that a
/// later Weir adds are passed over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// The same from its first finding to its end; 32 hexadecimal digits.
    pub id: String,
    /// From 1, one more for each change.
    pub revision: u64,
    /// Whether it goes on.
    pub state: State,
    /// The detection.
    pub detection: String,
    /// What the detection shows.
    pub title: String,
    /// How bad it is.
    pub severity: Severity,
    /// Who answers for the detection.
    pub owner: String,
    /// Who is written to, in place of the node's recipients.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recipients: Vec<String>,
    /// The replay that it was found in; absent for live traffic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay_id: Option<String>,
    /// The column that names the subject.
    pub subject_kind: String,
    /// Whom it is about.
    pub subject: String,
    /// Whether it is about all for whom there is no alert of their own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub of_others: bool,
    /// When the first window began in which it was found.
    #[serde(with = "crate::time")]
    pub from: Timestamp,
    /// When the last window ended in which it was found.
    #[serde(with = "crate::time")]
    pub until: Timestamp,
    /// How many findings there were.
    pub findings: u64,
    /// What happened, in a sentence.
    pub message: String,
    /// The first finding: its columns, in their order.
    pub evidence: Vec<Column>,
    /// SQL that shows the events behind it.
    pub query: String,
    /// What was decided of the subject, of a detection that decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decided>,
}

/// A column of a finding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// A number, a text, a truth value or nothing.
    pub value: Value,
}

/// Whether an alert goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Something was found a while ago at most.
    Open,
    /// Nothing was found for the quiet time, or the replay has ended.
    Resolved,
}
