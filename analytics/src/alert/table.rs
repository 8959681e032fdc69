//! Alerts as a table of queries, each as it is now.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;
use ingest::log::{Batch, EventLog, LogTime, Partition, Record};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::detect::Alert;
use crate::run::ALERTS_TOPIC;
use crate::topics::{self, Keeper};

/// How many alerts are kept in memory; the last that changed.
const ALERTS_MAX: usize = 100_000;

/// The table, read from the topic of alerts; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct AlertTable(Arc<Mutex<Alerts>>);

#[derive(Debug, Default)]
struct Alerts {
    /// By the offset of the record that changed it last.
    by_change: BTreeMap<u64, (LogTime, Alert)>,
    /// The offset for each id.
    changes: HashMap<String, u64>,
    next: Option<u64>,
}

impl AlertTable {
    /// The columns: what an alert says, with its evidence as a JSON object.
    pub fn schema() -> SchemaRef {
        let time = || DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let columns = [
            ("id", DataType::Utf8, false),
            ("state", DataType::Utf8, false),
            ("severity", DataType::Utf8, false),
            ("detection", DataType::Utf8, false),
            ("title", DataType::Utf8, false),
            ("owner", DataType::Utf8, false),
            ("replay_id", DataType::Utf8, true),
            ("subject_kind", DataType::Utf8, false),
            ("subject", DataType::Utf8, false),
            ("begins", time(), false),
            ("until", time(), false),
            ("findings", DataType::Int64, false),
            ("revision", DataType::Int64, false),
            ("message", DataType::Utf8, false),
            ("evidence", DataType::Utf8, false),
            ("query", DataType::Utf8, false),
            ("changed", time(), false),
        ];
        let fields = columns.map(|(name, of, is_nullable)| Field::new(name, of, is_nullable));
        Arc::new(Schema::new(fields.to_vec()))
    }

    /// The table, with the alerts that there are now.
    pub fn provider(&self) -> Arc<dyn TableProvider> {
        let rows = rows(self.0.lock().by_change.values());
        let table = MemTable::try_new(Self::schema(), vec![vec![rows]]);
        Arc::new(table.expect("the rows were made by the schema"))
    }

    /// Follows the topic until it is told to stop.
    pub async fn follow(self, log: Arc<dyn EventLog>, stop: watch::Receiver<bool>) {
        topics::follow(self, log, stop).await;
    }
}

impl Keeper for AlertTable {
    const WHAT: &str = "alerts";

    fn partitions(&self) -> Vec<(Partition, Option<u64>)> {
        vec![(Partition::new(ALERTS_TOPIC, 0), self.0.lock().next)]
    }

    fn take(&self, batch: &Batch) {
        let mut alerts = self.0.lock();
        batch.records.iter().for_each(|record| alerts.take(record));
        alerts.next = Some(batch.next);
    }
}

impl Alerts {
    fn take(&mut self, record: &Record) {
        let Some(value) = &record.value else { return };
        let alert: Alert = match serde_json::from_slice(value) {
            Ok(alert) => alert,
            Err(error) => {
                tracing::error!(offset = record.offset, %error, "a record is no alert");
                return;
            }
        };
        if let Some(before) = self.changes.insert(alert.id.clone(), record.offset) {
            self.by_change.remove(&before);
        }
        self.by_change.insert(record.offset, (record.time, alert));
        if self.by_change.len() > ALERTS_MAX
            && let Some((_, (_, oldest))) = self.by_change.pop_first()
        {
            self.changes.remove(&oldest.id);
        }
    }
}

fn rows<'a>(alerts: impl Iterator<Item = &'a (LogTime, Alert)>) -> RecordBatch {
    let alerts: Vec<_> = alerts.collect();
    let texts = |of: &dyn Fn(&Alert) -> String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(alerts.iter().map(|(_, alert)| of(alert))))
    };
    let numbers = |of: &dyn Fn(&Alert) -> u64| -> ArrayRef {
        let numbers = alerts.iter().map(|(_, alert)| i64::try_from(of(alert)).unwrap_or(i64::MAX));
        Arc::new(Int64Array::from_iter_values(numbers))
    };
    let times = |of: &dyn Fn(&(LogTime, Alert)) -> i64| -> ArrayRef {
        let times = TimestampMicrosecondArray::from_iter_values(alerts.iter().map(|row| of(row)));
        Arc::new(times.with_timezone("UTC"))
    };
    let replays = alerts.iter().map(|(_, alert)| alert.replay_id.as_deref());
    let columns = vec![
        texts(&|alert| alert.id.clone()),
        texts(&|alert| text_of(&alert.state)),
        texts(&|alert| text_of(&alert.severity)),
        texts(&|alert| alert.detection.clone()),
        texts(&|alert| alert.title.clone()),
        texts(&|alert| alert.owner.clone()),
        Arc::new(StringArray::from_iter(replays)),
        texts(&|alert| alert.subject_kind.clone()),
        texts(&|alert| alert.subject.clone()),
        times(&|(_, alert)| alert.from.as_micros()),
        times(&|(_, alert)| alert.until.as_micros()),
        numbers(&|alert| alert.findings),
        numbers(&|alert| alert.revision),
        texts(&|alert| alert.message.clone()),
        texts(&evidence_of),
        texts(&|alert| alert.query.clone()),
        times(&|(changed, _)| changed.0.saturating_mul(1_000)),
    ];
    RecordBatch::try_new(AlertTable::schema(), columns).expect("a column for each of the schema")
}

/// The text of a state or a severity, as its JSON has it.
fn text_of(value: &impl serde::Serialize) -> String {
    let value = serde_json::to_value(value).unwrap_or_default();
    value.as_str().unwrap_or_default().to_owned()
}

fn evidence_of(alert: &Alert) -> String {
    let columns = alert.evidence.iter().map(|of| (of.name.clone(), of.value.clone()));
    serde_json::Value::Object(columns.collect()).to_string()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use arrow::array::AsArray as _;
    use ingest::log::embedded::EmbeddedLog;
    use ingest::log::{NewRecord, TopicSpec};

    use super::*;

    fn alert(id: &str, revision: u64, state: &str) -> NewRecord {
        let value = serde_json::json!({
            "id": id, "revision": revision, "state": state, "detection": "scan", "title": "A scan",
            "severity": "high", "owner": "ops", "subject_kind": "client_address",
            "subject": "203.0.113.7", "from": "2026-01-31T10:00:00Z",
            "until": "2026-01-31T11:00:00Z", "findings": revision, "message": "it scans",
            "evidence": [{"name": "n", "value": 7}], "query": "SELECT 1",
        });
        NewRecord::keyed(id.to_owned(), value.to_string())
    }

    #[tokio::test]
    async fn each_alert_is_there_once_as_it_is_now() {
        let log: Arc<dyn EventLog> = Arc::new(EmbeddedLog::in_memory());
        log.create_topic(&TopicSpec::compacted(ALERTS_TOPIC, 1)).await.unwrap();
        let partition = Partition::new(ALERTS_TOPIC, 0);
        let records = [
            alert("a", 1, "open"),
            alert("b", 1, "open"),
            NewRecord::keyed("c", "no alert"),
            alert("a", 2, "resolved"),
        ];
        log.append(records.map(|record| (partition.clone(), record)).to_vec()).await.unwrap();
        let table = AlertTable::default();
        let (stop, stopped) = watch::channel(false);
        let following = tokio::spawn(table.clone().follow(log, stopped));
        while table.0.lock().next != Some(4) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let rows = rows(table.0.lock().by_change.values());
        let column = |name: &str| {
            let texts = rows.column_by_name(name).unwrap().as_string::<i32>();
            texts.iter().map(|text| text.unwrap_or_default().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(
            (column("id"), column("state")),
            (vec!["b".into(), "a".into()], vec!["open".into(), "resolved".into()])
        );
        assert_eq!(column("severity"), ["high", "high"]);
        assert_eq!(column("evidence")[0], r#"{"n":7}"#);
        stop.send_replace(true);
        following.await.unwrap();
    }
}
