//! Rows of answers as records.

use std::time::Duration;

use arrow::array::{AsArray as _, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::TimestampMicrosecondType;
use arrow::error::ArrowError;
use arrow::json::LineDelimitedWriter;
use bytes::Bytes;
use ingest::log::{Headers, NewRecord, Partition};

use crate::query::{Correction, Plan, WINDOW_START};

/// How long the rows of a view are kept in the log.
pub(super) const KEPT: Duration = Duration::from_hours(400 * 24);
/// The header that says which version of the query gave a row: [`Plan::hash`].
pub(super) const PLAN_HEADER: &str = "weir-plan";
/// The header that says which beginning a row goes on from, as a number: where a query
/// has answered from the start of history again, the greatest counts.
pub(super) const GENERATION_HEADER: &str = "weir-generation";
/// The header of rows that correct a window, with the number of the revision: it replaces all
/// rows of the window that have a lesser one, or none.
pub(super) const REVISION_HEADER: &str = "weir-revision";
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
    records_of(plan, generation, replay, rows, None)
}

/// The same of windows that are corrected; of one that has no rows any more a record with no
/// value.
pub(super) fn corrected(
    plan: &Plan,
    generation: u64,
    replay: Option<&str>,
    correction: &Correction,
) -> Result<Vec<(Partition, NewRecord)>, ArrowError> {
    let Correction { windows, rows } = correction;
    let mut records = records_of(plan, generation, replay, rows, Some(CORRECTED))?;
    let starts = starts_of(rows);
    let headers = headers(plan, generation, replay, Some(CORRECTED));
    let empty = windows.iter().filter(|start| !starts.values().contains(start));
    records.extend(empty.map(|start| {
        let (key, headers) = (Some(key_of(*start)), headers.clone());
        (partition_of(plan), NewRecord { key, value: None, headers })
    }));
    Ok(records)
}

/// The revision of a window that is corrected: it is once.
const CORRECTED: &str = "1";

fn records_of(
    plan: &Plan,
    generation: u64,
    replay: Option<&str>,
    rows: &RecordBatch,
    revision: Option<&str>,
) -> Result<Vec<(Partition, NewRecord)>, ArrowError> {
    let mut json = Vec::new();
    let mut writer = LineDelimitedWriter::new(&mut json);
    writer.write(rows)?;
    writer.finish()?;
    let starts = starts_of(rows);
    let partition = partition_of(plan);
    let headers = headers(plan, generation, replay, revision);
    let lines = json.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let records = lines.zip(starts.values()).map(|(line, start)| {
        let (key, value) = (Some(key_of(*start)), Some(line.to_vec().into()));
        (partition.clone(), NewRecord { key, value, headers: headers.clone() })
    });
    let records: Vec<_> = records.collect();
    debug_assert_eq!(records.len(), starts.values().len(), "a line for each row");
    Ok(records)
}

fn headers(plan: &Plan, generation: u64, replay: Option<&str>, revision: Option<&str>) -> Headers {
    let generation = generation.to_string();
    let mut headers = vec![
        ("content-type", &b"application/json"[..]),
        (PLAN_HEADER, plan.hash().as_bytes()),
        (GENERATION_HEADER, generation.as_bytes()),
    ];
    headers.extend(replay.map(|replay| (REPLAY_HEADER, replay.as_bytes())));
    headers.extend(revision.map(|revision| (REVISION_HEADER, revision.as_bytes())));
    Headers::new(headers)
}

fn partition_of(plan: &Plan) -> Partition {
    Partition::new(topic_of(&plan.file().name), 0)
}

fn key_of(start_us: i64) -> Bytes {
    ingest::event::Timestamp::from_micros(start_us).to_string().into()
}

fn starts_of(rows: &RecordBatch) -> &TimestampMicrosecondArray {
    let starts = rows.column_by_name(WINDOW_START).expect("the shape was checked");
    starts.as_primitive::<TimestampMicrosecondType>()
}
