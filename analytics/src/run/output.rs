//! Rows of answers as records.

use std::time::Duration;

use arrow::array::{AsArray as _, RecordBatch};
use arrow::datatypes::TimestampMicrosecondType;
use arrow::error::ArrowError;
use arrow::json::LineDelimitedWriter;
use ingest::log::{Headers, NewRecord, Partition};

use crate::query::{Plan, WINDOW_START};

/// How long the rows of a view are kept in the log.
pub(super) const KEPT: Duration = Duration::from_hours(400 * 24);
/// The header that says which version of the query gave a row: [`Plan::hash`].
pub(super) const PLAN_HEADER: &str = "weir-plan";
/// The header that says which beginning a row goes on from, as a number: where a query
/// has answered from the start of history again, the greatest counts.
pub(super) const GENERATION_HEADER: &str = "weir-generation";
/// The header that says of which replay a row is; absent for live traffic.
pub(super) const REPLAY_HEADER: &str = "weir-replay-id";

/// The topic of a view's rows.
pub(super) fn topic_of(view: &str) -> String {
    format!("weir.views.{view}")
}

/// The rows of a view as records of its topic: the key is when the window begins, the
/// value a JSON object with the columns.
pub(super) fn records(
    plan: &Plan,
    generation: u64,
    replay: Option<&str>,
    rows: &RecordBatch,
) -> Result<Vec<(Partition, NewRecord)>, ArrowError> {
    let mut json = Vec::new();
    let mut writer = LineDelimitedWriter::new(&mut json);
    writer.write(rows)?;
    writer.finish()?;
    let starts = rows.column_by_name(WINDOW_START).expect("the shape was checked");
    let starts = starts.as_primitive::<TimestampMicrosecondType>();
    let partition = Partition::new(topic_of(&plan.file().name), 0);
    let generation = generation.to_string();
    let mut headers = vec![
        ("content-type", &b"application/json"[..]),
        (PLAN_HEADER, plan.hash().as_bytes()),
        (GENERATION_HEADER, generation.as_bytes()),
    ];
    headers.extend(replay.map(|replay| (REPLAY_HEADER, replay.as_bytes())));
    let headers = Headers::new(headers);
    let lines = json.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let records = lines.zip(starts.values()).map(|(line, start)| {
        let key = ingest::event::Timestamp::from_micros(*start).to_string();
        let (key, value) = (Some(key.into()), Some(line.to_vec().into()));
        (partition.clone(), NewRecord { key, value, headers: headers.clone() })
    });
    let records: Vec<_> = records.collect();
    debug_assert_eq!(records.len(), starts.values().len(), "a line for each row");
    Ok(records)
}
