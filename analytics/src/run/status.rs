use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;

/// How the queries of this node fare; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Status(Arc<Mutex<BTreeMap<String, QueryStatus>>>);

/// How a query fares.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct QueryStatus {
    /// Whether it runs.
    pub state: QueryState,
    /// Why it does not, if it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Rows that came too late for their windows, since the query is what it is.
    pub late: u64,
    /// How much memory its partial aggregates take, in bytes.
    pub state_bytes: usize,
    /// Until when windows of live traffic have given their answer, by event time (RFC
    /// 3339); absent before the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed_until: Option<String>,
    /// Replays that give no answer, since too much was open.
    pub given_up: usize,
    /// Rows of answers that this node has committed since its start.
    pub answered: u64,
}

/// Whether a query runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum QueryState {
    /// It does, on this node, and would go on from a checkpoint on another.
    Running,
    /// It is taken up on this node, and has committed nothing yet.
    Starting,
    /// It failed, and is taken up again.
    Failed,
    /// Not on this node; perhaps on another.
    #[default]
    Elsewhere,
}

impl Status {
    /// What it is now, by name.
    pub fn now(&self) -> BTreeMap<String, QueryStatus> {
        self.0.lock().clone()
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
