//! What a detection's owner keeps of its findings.

use arrow::array::{AsArray as _, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::TimestampMicrosecondType;
use arrow::error::ArrowError;
use ingest::log::{Headers, NewRecord, Partition};
use serde::{Deserialize, Serialize};

use crate::detect::{Book, Change, Detection};
use crate::query::{Order, WINDOW_END, WINDOW_START};

/// The topic of alerts: compacted, the last revision of each.
pub const ALERTS_TOPIC: &str = "weir.alerts";

/// The alerts of a detection, and from where on it gives any.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Findings {
    book: Book,
    /// Where the live timeline stood when the detection was new, in microseconds since
    /// 1970: what it finds before it is learnt from and told to nobody.
    begins_us: Option<i64>,
    /// The replays that had ended then.
    old_replays: Vec<String>,
}

impl Findings {
    /// Of a detection that is new where live traffic has come to `closed_us`.
    pub(super) fn new(closed_us: Option<i64>, old_replays: Vec<String>) -> Self {
        Self { book: Book::default(), begins_us: closed_us, old_replays }
    }

    /// Takes what was found in windows that have closed.
    pub(super) fn take(
        &mut self,
        detection: &Detection,
        replay: Option<&str>,
        rows: &RecordBatch,
    ) -> Result<Vec<Change>, ArrowError> {
        match (replay, self.begins_us) {
            (Some(replay), _) if self.old_replays.iter().any(|old| old == replay) => Ok(Vec::new()),
            (None, Some(begins)) => {
                let times = |name: &str| {
                    let times = rows.column_by_name(name).expect("the shape was checked");
                    times.as_primitive::<TimestampMicrosecondType>().values().clone()
                };
                let new: BooleanArray = match detection.order() {
                    Order::Begin { .. } => {
                        times(WINDOW_START).iter().map(|start| Some(*start >= begins)).collect()
                    }
                    Order::End => times(WINDOW_END).iter().map(|end| Some(*end > begins)).collect(),
                };
                self.book.take(detection, None, &filter_record_batch(rows, &new)?)
            }
            _ => self.book.take(detection, replay, rows),
        }
    }

    /// Resolves the live alerts that were quiet until a time.
    pub(super) fn pass(&mut self, detection: &Detection, time_us: i64) -> Vec<Change> {
        let mut changes = Vec::new();
        self.book.pass(detection, None, time_us, &mut changes);
        changes
    }

    /// Resolves all alerts: the detection is not any more what found them.
    pub(super) fn leave(mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        self.book.leave(&mut changes);
        changes
    }

    /// Resolves all alerts of a replay that has ended.
    pub(super) fn end(&mut self, replay: &str) -> Vec<Change> {
        let mut changes = Vec::new();
        self.book.end(replay, &mut changes);
        self.old_replays.retain(|old| old != replay);
        changes
    }
}

/// The record of a change: the alert as it is now.
pub(super) fn record(change: &Change) -> (Partition, NewRecord) {
    let value = serde_json::to_vec(&change.alert).expect("an alert is JSON");
    let headers = Headers::new([("content-type", &b"application/json"[..])]);
    let (key, value) = (Some(change.alert.id.clone().into()), Some(value.into()));
    (Partition::new(ALERTS_TOPIC, 0), NewRecord { key, value, headers })
}
