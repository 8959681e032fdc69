//! Queries that people let rest: the last word on each, in a topic of its own.

use std::collections::BTreeMap;
use std::sync::Arc;

use ingest::event::Timestamp;
use ingest::log::{Batch, Error, EventLog, Keeper, NewRecord, Partition, Record, Scan, keep};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// Says which queries rest, by name: compacted.
pub const PAUSES_TOPIC: &str = "weir.query-pauses";

/// That a query rests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pause {
    /// Who says so.
    pub by: String,
    /// Why; may be empty.
    #[serde(default)]
    pub note: String,
    /// From when on.
    #[serde(with = "crate::time")]
    pub at: Timestamp,
    /// How far the registry was read where it was said: who has read less does not know of a
    /// query that it may be of.
    #[serde(default)]
    pub revision: u64,
}

impl Pause {
    /// The record by which a query rests.
    pub(super) fn record(&self, query: &str) -> (Partition, NewRecord) {
        let value = serde_json::to_vec(self).expect("a pause is JSON");
        (partition(), NewRecord::keyed(query.to_owned(), value))
    }
}

/// The record by which a query rests no more.
pub(super) fn ended(query: &str) -> (Partition, NewRecord) {
    (partition(), NewRecord::tombstone(query.to_owned()))
}

fn partition() -> Partition {
    Partition::new(PAUSES_TOPIC, 0)
}

/// Which queries rest, read from their topic; cheap to clone.
#[derive(Debug, Clone)]
pub struct Pauses {
    now: Arc<Mutex<Now>>,
    changes: Arc<watch::Sender<()>>,
}

#[derive(Debug, Default)]
struct Now {
    by_query: BTreeMap<String, Pause>,
    next: Option<u64>,
}

impl Pauses {
    /// As the topic, which is there, says now.
    ///
    /// # Errors
    /// Of the log.
    pub async fn open(log: &dyn EventLog) -> Result<Self, Error> {
        let pauses = Self { now: Arc::default(), changes: Arc::new(watch::Sender::new(())) };
        let mut scan = Scan::open(log, [partition()]).await?;
        // What is there twice says the same twice.
        pauses.now.lock().next = scan.ends().get(&partition()).copied();
        while let Some(batch) = scan.next().await? {
            let mut now = pauses.now.lock();
            batch.records.iter().for_each(|record| now.take(record));
        }
        Ok(pauses)
    }

    /// Follows the topic until it is told to stop.
    pub async fn follow(self, log: Arc<dyn EventLog>, stop: watch::Receiver<bool>) {
        keep(self, log, stop).await;
    }

    /// If a query rests.
    pub fn of(&self, query: &str) -> Option<Pause> {
        self.now.lock().by_query.get(query).cloned()
    }

    /// All that rest, and how far the registry was read where that was said.
    pub(super) fn queries(&self) -> Vec<(String, u64)> {
        let now = self.now.lock();
        now.by_query.iter().map(|(query, of)| (query.clone(), of.revision)).collect()
    }

    /// Tells when it has changed.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Whether what was written at an offset is known.
    pub(super) fn has(&self, offset: u64) -> bool {
        self.now.lock().next.is_some_and(|next| next > offset)
    }
}

impl Keeper for Pauses {
    const WHAT: &str = "which queries rest";

    fn partitions(&self) -> Vec<(Partition, Option<u64>)> {
        vec![(partition(), self.now.lock().next)]
    }

    fn take(&self, batch: &Batch) {
        {
            let mut now = self.now.lock();
            batch.records.iter().for_each(|record| now.take(record));
            now.next = Some(batch.next);
        }
        self.changes.send_replace(());
    }
}

impl Now {
    fn take(&mut self, record: &Record) {
        let query = record.key.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
        match record.value.as_deref().map(serde_json::from_slice::<Pause>) {
            Some(Ok(pause)) => {
                self.by_query.insert(query.into_owned(), pause);
            }
            Some(Err(error)) => {
                tracing::error!(offset = record.offset, %error, "a record says of no query that it rests");
            }
            None => {
                self.by_query.remove(&*query);
            }
        }
    }
}
