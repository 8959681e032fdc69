use std::collections::BTreeMap;
use std::sync::Arc;

use ingest::event::Timestamp;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::Pause;

/// How the queries of this node fare; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Status(Arc<Mutex<BTreeMap<String, QueryStatus>>>);

/// How a query fares.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueryStatus {
    /// Whether it runs.
    pub state: QueryState,
    /// Why it does not, if it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Who lets it rest, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<Pause>,
    /// Rows that it took in since this node took it up, late ones among them.
    pub rows: u64,
    /// Rows that came too late for their windows, since the query is what it is.
    pub late: u64,
    /// How much memory its partial aggregates and the rows that it holds take, in bytes.
    pub state_bytes: usize,
    /// Until when windows of live traffic have given their answer, by event time (RFC
    /// 3339); absent before the first.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::time::option")]
    pub closed_until: Option<Timestamp>,
    /// What every live source has passed, by event time: rows to come are later by more than
    /// no lateness. Absent before the first.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::time::option")]
    pub watermark: Option<Timestamp>,
    /// Records of the log that it has not taken in, with those of the lake that were not read.
    pub behind: u64,
    /// When its last checkpoint was committed; absent before the first of this node.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::time::option")]
    pub committed: Option<Timestamp>,
    /// Replays that give no answer, since too much was open.
    pub given_up: usize,
    /// Rows of answers that this node has committed since its start.
    pub answered: u64,
}

/// Whether a query runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QueryState {
    /// It does, on this node, and would go on from a checkpoint on another.
    Running,
    /// It is taken up on this node, and has committed nothing yet.
    Starting,
    /// It failed, and is taken up again.
    Failed,
    /// Somebody lets it rest.
    Paused,
    /// Not on this node; perhaps on another.
    #[default]
    Elsewhere,
}

impl Status {
    /// What it is now, by name.
    pub fn now(&self) -> BTreeMap<String, QueryStatus> {
        self.0.lock().clone()
    }

    /// The state of each, in the order of their names.
    pub(super) fn states(&self) -> Vec<QueryState> {
        self.0.lock().values().map(|status| status.state).collect()
    }

    pub(super) fn change(&self, name: &str, change: impl FnOnce(&mut QueryStatus)) {
        if let Some(status) = self.0.lock().get_mut(name) {
            change(status);
        }
    }

    /// Forgets all but some.
    pub(super) fn retain(&self, is_there: impl Fn(&String) -> bool) {
        self.0.lock().retain(|name, _| is_there(name));
    }

    pub(super) fn put(&self, name: &str, status: QueryStatus) {
        self.0.lock().insert(name.to_owned(), status);
    }

    /// None goes on for now, and why.
    pub(super) fn fail(&self, why: &str) {
        for status in self.0.lock().values_mut() {
            status.state = QueryState::Failed;
            status.error = Some(why.to_owned());
        }
    }

    /// None runs on this node.
    pub(super) fn elsewhere(&self) {
        for status in self.0.lock().values_mut() {
            status.state = QueryState::Elsewhere;
            status.error = None;
        }
    }
}
