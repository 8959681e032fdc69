//! How the queries fare, as the log has it: their owner tells, and each node has it as a table.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;
use ingest::event::Timestamp;
use ingest::log::{Batch, EventLog, Keeper, NewRecord, Partition, Record, keep};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::library::{Listed, Origin};
use super::{QUERIES_TOPIC, QueryState, QueryStatus};

/// How often the owner tells, though nothing has changed.
pub(super) const TELL_EVERY: Duration = Duration::from_secs(5);
/// After how long without a word nobody knows how a query fares.
const SILENT_US: i64 = 20_000_000;

/// What is told of a query.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Told {
    pub(super) name: String,
    /// Where it is from.
    #[serde(default)]
    pub(super) origin: Origin,
    pub(super) title: String,
    pub(super) owner: String,
    pub(super) is_detection: bool,
    pub(super) memory_mib: usize,
    /// Who runs it.
    pub(super) producer: String,
    /// When it was told, by the clock of who runs it.
    #[serde(with = "crate::time")]
    pub(super) at: Timestamp,
    #[serde(flatten)]
    pub(super) status: QueryStatus,
}

impl Told {
    pub(super) fn new(of: &Listed, producer: &str, at: Timestamp, status: QueryStatus) -> Self {
        let file = &of.file;
        Self {
            name: file.name.clone(),
            origin: of.origin,
            title: file.header.title.clone(),
            owner: file.header.owner.clone(),
            is_detection: file.is_detection(),
            memory_mib: file.header.memory_mib,
            producer: producer.to_owned(),
            at,
            status,
        }
    }

    pub(super) fn record(&self) -> (Partition, NewRecord) {
        let value = serde_json::to_vec(self).expect("what is told is JSON");
        (partition(), NewRecord::keyed(self.name.clone(), value))
    }
}

/// A record that says that a query is gone.
pub(super) fn gone(name: &str) -> (Partition, NewRecord) {
    (partition(), NewRecord::tombstone(name.to_owned()))
}

fn partition() -> Partition {
    Partition::new(QUERIES_TOPIC, 0)
}

/// The queries as a table, read from their topic; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct QueryTable(Arc<Mutex<Queries>>);

#[derive(Debug, Default)]
struct Queries {
    by_name: BTreeMap<String, Told>,
    next: Option<u64>,
}

impl QueryTable {
    /// The columns: which query it is, and how it fares.
    pub fn schema() -> SchemaRef {
        let text = |name: &str, is_nullable| Field::new(name, DataType::Utf8, is_nullable);
        let number = |name: &str| Field::new(name, DataType::Int64, false);
        let time = |name: &str, is_nullable| {
            let of = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
            Field::new(name, of, is_nullable)
        };
        Arc::new(Schema::new(vec![
            text("name", false),
            text("kind", false),
            text("state", false),
            text("error", true),
            text("title", false),
            text("owner", false),
            text("origin", false),
            text("runs_on", false),
            number("rows_in"),
            number("rows_late"),
            number("rows_out"),
            number("rows_behind"),
            number("state_bytes"),
            number("memory_bytes"),
            number("replays_given_up"),
            time("watermark", true),
            time("closed_until", true),
            time("committed", true),
            text("paused_by", true),
            text("paused_note", true),
            time("paused", true),
            time("told", false),
        ]))
    }

    /// The table as it is now. Of a query of which nobody has said anything for 20 s, the
    /// state is `silent`, whatever it was.
    pub fn provider(&self) -> Arc<dyn TableProvider> {
        let now = jiff::Timestamp::now().as_microsecond();
        let rows = rows(&self.0.lock().by_name, now);
        let table = MemTable::try_new(Self::schema(), vec![vec![rows]]);
        Arc::new(table.expect("the rows were made by the schema"))
    }

    /// Of which queries something was told.
    pub(super) fn names(&self) -> Vec<String> {
        self.0.lock().by_name.keys().cloned().collect()
    }

    /// How much a query holds, in bytes; nothing of one of which nothing was told.
    pub(super) fn state_bytes(&self, query: &str) -> u64 {
        self.0.lock().by_name.get(query).map_or(0, |told| told.status.state_bytes as u64)
    }

    /// Follows the topic until it is told to stop.
    pub async fn follow(self, log: Arc<dyn EventLog>, stop: watch::Receiver<bool>) {
        keep(self, log, stop).await;
    }
}

impl Keeper for QueryTable {
    const WHAT: &str = "how the queries fare";

    fn partitions(&self) -> Vec<(Partition, Option<u64>)> {
        vec![(partition(), self.0.lock().next)]
    }

    fn take(&self, batch: &Batch) {
        let mut queries = self.0.lock();
        batch.records.iter().for_each(|record| queries.take(record));
        queries.next = Some(batch.next);
    }
}

impl Queries {
    fn take(&mut self, record: &Record) {
        let name = record.key.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
        match record.value.as_deref().map(serde_json::from_slice::<Told>) {
            Some(Ok(told)) => {
                self.by_name.insert(told.name.clone(), told);
            }
            Some(Err(error)) => {
                tracing::error!(offset = record.offset, %error, "a record says nothing of a query");
            }
            None => {
                self.by_name.remove(&*name);
            }
        }
    }
}

fn rows(queries: &BTreeMap<String, Told>, now_us: i64) -> RecordBatch {
    let texts = |of: &dyn Fn(&Told) -> Option<String>| -> ArrayRef {
        Arc::new(StringArray::from_iter(queries.values().map(of)))
    };
    let numbers = |of: &dyn Fn(&Told) -> u64| -> ArrayRef {
        let numbers = queries.values().map(|told| i64::try_from(of(told)).unwrap_or(i64::MAX));
        Arc::new(Int64Array::from_iter_values(numbers))
    };
    let times = |of: &dyn Fn(&Told) -> Option<Timestamp>| -> ArrayRef {
        let times = queries.values().map(|told| of(told).map(Timestamp::as_micros));
        Arc::new(TimestampMicrosecondArray::from_iter(times).with_timezone("UTC"))
    };
    let state = |told: &Told| match now_us.saturating_sub(told.at.as_micros()) > SILENT_US {
        true => "silent",
        false => match told.status.state {
            QueryState::Running => "running",
            QueryState::Starting => "starting",
            QueryState::Failed => "failed",
            QueryState::Paused => "paused",
            QueryState::Elsewhere => "silent",
        },
    };
    let columns = vec![
        texts(&|told| Some(told.name.clone())),
        texts(&|told| Some(if told.is_detection { "detection" } else { "view" }.to_owned())),
        texts(&|told| Some(state(told).to_owned())),
        texts(&|told| told.status.error.clone()),
        texts(&|told| Some(told.title.clone())),
        texts(&|told| Some(told.owner.clone())),
        texts(&|told| Some(told.origin.word().to_owned())),
        texts(&|told| Some(told.producer.clone())),
        numbers(&|told| told.status.rows),
        numbers(&|told| told.status.late),
        numbers(&|told| told.status.answered),
        numbers(&|told| told.status.behind),
        numbers(&|told| told.status.state_bytes as u64),
        numbers(&|told| told.memory_mib as u64 * 1024 * 1024),
        numbers(&|told| told.status.given_up as u64),
        times(&|told| told.status.watermark),
        times(&|told| told.status.closed_until),
        times(&|told| told.status.committed),
        texts(&|told| Some(told.status.pause.as_ref()?.by.clone())),
        texts(&|told| Some(told.status.pause.as_ref()?.note.clone())),
        times(&|told| Some(told.status.pause.as_ref()?.at)),
        times(&|told| Some(told.at)),
    ];
    RecordBatch::try_new(QueryTable::schema(), columns).expect("a column for each of the schema")
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray as _;

    use super::*;
    use crate::query::QueryFile;

    /// One that runs no more never shows that it does.
    #[test]
    fn a_query_of_which_nobody_speaks_does_not_run() {
        let text = "-- title: a\n-- owner: b\nSELECT 1";
        let file = QueryFile::parse("own", text).unwrap();
        let running = QueryStatus { state: QueryState::Running, ..QueryStatus::default() };
        let of = Listed { file, origin: Origin::Shipped, fault: None };
        let told = Told::new(&of, "node-1", Timestamp::from_micros(1_000_000), running);
        let mut queries = Queries::default();
        let record = |value: Option<Vec<u8>>| Record {
            offset: 0,
            time: ingest::log::LogTime(0),
            key: Some("own".into()),
            value: value.map(Into::into),
            headers: ingest::log::Headers::default(),
        };
        queries.take(&record(Some(serde_json::to_vec(&told).unwrap())));
        let state = |queries: &Queries, now| {
            let rows = rows(&queries.by_name, now);
            let states = rows.column_by_name("state").unwrap().as_string::<i32>().clone();
            states.iter().flatten().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(state(&queries, 21_000_000), ["running"]);
        assert_eq!(state(&queries, 21_000_001), ["silent"]);
        queries.take(&record(None));
        assert!(state(&queries, 1_000_000).is_empty());
    }
}
