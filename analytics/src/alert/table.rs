//! Alerts and silences as tables of queries, each as it is now.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;
use ingest::log::{Batch, EventLog, Keeper, LogTime, Partition, Record, keep};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::act::{ACTS_TOPIC, Acknowledgement, Act, Silence};
use crate::detect::{Alert, State};
use crate::run::ALERTS_TOPIC;

/// How many alerts are kept in memory; the last that changed.
const ALERTS_MAX: usize = 100_000;

/// The tables, read from the topics of alerts and of what people say of them; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct AlertTable(Arc<Mutex<Alerts>>);

/// An alert, when it changed last, and what people say of it.
type Row<'a> = (LogTime, &'a Alert, Option<&'a Acknowledgement>);

#[derive(Debug, Default)]
struct Alerts {
    /// By the offset of the record that changed it last.
    by_change: BTreeMap<u64, (LogTime, Alert)>,
    /// The offset for each id.
    changes: HashMap<String, u64>,
    next: Option<u64>,
    /// By the id of the alert, which may have been dropped.
    acknowledged: HashMap<String, Acknowledgement>,
    silences: BTreeMap<String, Silence>,
    next_act: Option<u64>,
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
            ("acknowledged", time(), true),
            ("acknowledged_by", DataType::Utf8, true),
            ("note", DataType::Utf8, true),
            ("decision", DataType::Utf8, true),
        ];
        let fields = columns.map(|(name, of, is_nullable)| Field::new(name, of, is_nullable));
        Arc::new(Schema::new(fields.to_vec()))
    }

    /// How many alerts of a detection are open.
    pub(crate) fn open_of(&self, detection: &str) -> usize {
        let alerts = self.0.lock();
        let of = alerts.by_change.values().map(|(_, alert)| alert);
        of.filter(|alert| alert.detection == detection && alert.state == State::Open).count()
    }

    /// The columns of silences.
    pub fn schema_of_silences() -> SchemaRef {
        let time = || DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let columns = [
            ("id", DataType::Utf8, false),
            ("detection", DataType::Utf8, true),
            ("subject", DataType::Utf8, true),
            ("begins", time(), false),
            ("until", time(), false),
            ("set_by", DataType::Utf8, false),
            ("note", DataType::Utf8, false),
        ];
        let fields = columns.map(|(name, of, is_nullable)| Field::new(name, of, is_nullable));
        Arc::new(Schema::new(fields.to_vec()))
    }

    /// The table, with the alerts that there are now.
    pub fn provider(&self) -> Arc<dyn TableProvider> {
        table(Self::schema(), self.0.lock().rows())
    }

    /// The table of silences that have not ended, or did so within a day.
    pub fn silences(&self) -> Arc<dyn TableProvider> {
        table(Self::schema_of_silences(), self.0.lock().silences())
    }

    /// An alert as it is now, and who acknowledged it.
    pub(super) fn alert(&self, id: &str) -> Option<(Alert, Option<Acknowledgement>)> {
        let alerts = self.0.lock();
        let (_, alert) = &alerts.by_change[alerts.changes.get(id)?];
        Some((alert.clone(), alerts.acknowledged.get(id).cloned()))
    }

    /// A silence that was not taken back.
    pub(super) fn silence(&self, id: &str) -> Option<Silence> {
        self.0.lock().silences.get(id).cloned()
    }

    /// How many silences there are.
    pub(super) fn count_of_silences(&self) -> usize {
        self.0.lock().silences.len()
    }

    /// Whether an act is known that stands at an offset.
    pub(super) fn has_act(&self, offset: u64) -> bool {
        self.0.lock().next_act.is_some_and(|next| next > offset)
    }

    /// Follows the topics until it is told to stop.
    pub async fn follow(self, log: Arc<dyn EventLog>, stop: watch::Receiver<bool>) {
        keep(self, log, stop).await;
    }
}

impl Keeper for AlertTable {
    const WHAT: &str = "alerts";

    fn partitions(&self) -> Vec<(Partition, Option<u64>)> {
        let alerts = self.0.lock();
        vec![
            (Partition::new(ALERTS_TOPIC, 0), alerts.next),
            (Partition::new(ACTS_TOPIC, 0), alerts.next_act),
        ]
    }

    fn take(&self, batch: &Batch) {
        let mut alerts = self.0.lock();
        if &*batch.partition.topic == ACTS_TOPIC {
            batch.records.iter().for_each(|record| alerts.take_act(record));
            alerts.next_act = Some(batch.next);
        } else {
            batch.records.iter().for_each(|record| alerts.take(record));
            alerts.next = Some(batch.next);
        }
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
            self.acknowledged.remove(&oldest.id);
        }
    }

    fn take_act(&mut self, record: &Record) {
        match Act::read(record.key.as_deref(), record.value.as_deref()) {
            Ok(Act::Acknowledged(id, Some(act))) => drop(self.acknowledged.insert(id, act)),
            Ok(Act::Acknowledged(id, None)) => drop(self.acknowledged.remove(&id)),
            Ok(Act::Silenced(id, Some(act))) => drop(self.silences.insert(id, act)),
            Ok(Act::Silenced(id, None)) => drop(self.silences.remove(&id)),
            Err(error) => tracing::error!(offset = record.offset, error, "a record is no act"),
        }
    }

    fn rows(&self) -> RecordBatch {
        let alerts: Vec<Row<'_>> = self
            .by_change
            .values()
            .map(|(changed, alert)| (*changed, alert, self.acknowledged.get(&alert.id)))
            .collect();
        let texts = |of: &dyn Fn(&Alert) -> String| -> ArrayRef {
            Arc::new(StringArray::from_iter_values(alerts.iter().map(|(_, alert, _)| of(alert))))
        };
        let maybe = |of: &dyn Fn(&Row<'_>) -> Option<String>| -> ArrayRef {
            Arc::new(alerts.iter().map(of).collect::<StringArray>())
        };
        let numbers = |of: &dyn Fn(&Alert) -> u64| -> ArrayRef {
            let numbers = alerts.iter().map(|(_, alert, _)| of(alert));
            let numbers = numbers.map(|number| i64::try_from(number).unwrap_or(i64::MAX));
            Arc::new(Int64Array::from_iter_values(numbers))
        };
        let times = |of: &dyn Fn(&Row<'_>) -> Option<i64>| times(alerts.iter().map(of));
        let columns = vec![
            texts(&|alert| alert.id.clone()),
            texts(&|alert| text_of(&alert.state)),
            texts(&|alert| text_of(&alert.severity)),
            texts(&|alert| alert.detection.clone()),
            texts(&|alert| alert.title.clone()),
            texts(&|alert| alert.owner.clone()),
            maybe(&|(_, alert, _)| alert.replay_id.clone()),
            texts(&|alert| alert.subject_kind.clone()),
            texts(&|alert| alert.subject.clone()),
            times(&|(_, alert, _)| Some(alert.from.as_micros())),
            times(&|(_, alert, _)| Some(alert.until.as_micros())),
            numbers(&|alert| alert.findings),
            numbers(&|alert| alert.revision),
            texts(&|alert| alert.message.clone()),
            texts(&evidence_of),
            texts(&|alert| alert.query.clone()),
            times(&|(changed, ..)| Some(changed.0.saturating_mul(1_000))),
            times(&|(.., act)| act.map(|act| act.at.as_micros())),
            maybe(&|(.., act)| act.map(|act| act.by.clone())),
            maybe(&|(.., act)| act.map(|act| act.note.clone())),
            maybe(&|(_, alert, _)| {
                let decision = alert.decision.as_ref()?;
                Some(decision.sentence(|at| at.to_string()))
            }),
        ];
        RecordBatch::try_new(AlertTable::schema(), columns)
            .expect("a column for each of the schema")
    }

    fn silences(&self) -> RecordBatch {
        let all = || self.silences.values();
        let texts = |of: &dyn Fn(&Silence) -> Option<&String>| -> ArrayRef {
            Arc::new(all().map(of).collect::<StringArray>())
        };
        let columns = vec![
            texts(&|silence| Some(&silence.id)),
            texts(&|silence| silence.detection.as_ref()),
            texts(&|silence| silence.subject.as_ref()),
            times(all().map(|silence| Some(silence.from.as_micros()))),
            times(all().map(|silence| Some(silence.until.as_micros()))),
            texts(&|silence| Some(&silence.by)),
            texts(&|silence| Some(&silence.note)),
        ];
        RecordBatch::try_new(AlertTable::schema_of_silences(), columns)
            .expect("a column for each of the schema")
    }
}

fn table(schema: SchemaRef, rows: RecordBatch) -> Arc<dyn TableProvider> {
    let table = MemTable::try_new(schema, vec![vec![rows]]);
    Arc::new(table.expect("the rows were made by the schema"))
}

/// Times in microseconds since 1970.
fn times(of: impl Iterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(of.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
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
        for topic in [ALERTS_TOPIC, ACTS_TOPIC] {
            log.create_topic(&TopicSpec::compacted(topic, 1)).await.unwrap();
        }
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
        let rows = table.0.lock().rows();
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
