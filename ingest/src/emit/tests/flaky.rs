//! A log that fails before it writes, while it does, and after.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;

use crate::log::embedded::EmbeddedLog;
use crate::log::{
    Appended, Bounds, Error, EventLog, LogTime, Member, NewRecord, Partition, Reader, Result,
    TopicSpec, Writer,
};

/// Of ten appends about so many fail, and all of more records than it takes.
#[derive(Debug)]
pub(super) struct FlakyLog {
    log: Arc<EmbeddedLog>,
    random: Mutex<fastrand::Rng>,
    failures_of_ten: u32,
    records_max: usize,
}

impl FlakyLog {
    pub(super) fn new(log: Arc<EmbeddedLog>, seed: u64, failures_of_ten: u32) -> Self {
        let random = Mutex::new(fastrand::Rng::with_seed(seed));
        Self { log, random, failures_of_ten, records_max: usize::MAX }
    }

    /// One that refuses more records than that, without saying that it is the size.
    pub(super) fn taking(log: Arc<EmbeddedLog>, records_max: usize) -> Self {
        Self { records_max, ..log.into() }
    }

    /// How many of `records` are written, and how the call fails.
    fn fault(&self, records: usize) -> Option<(usize, Error)> {
        if records > self.records_max {
            return Some((0, Error::Fenced("a batch".to_owned())));
        }
        let mut random = self.random.lock();
        if random.u32(..10) >= self.failures_of_ten {
            return None;
        }
        let timed_out = Error::TimedOut(Duration::from_secs(1));
        Some(match random.u32(..4) {
            0 => (0, Error::Full { place: "nowhere".to_owned() }),
            1 => (0, timed_out),
            2 => (random.usize(..=records), timed_out),
            _ => (records, timed_out),
        })
    }

    /// Paused time stands still while a blocking task runs, but would run on while
    /// a task waits for the log's own thread.
    async fn append_paused(&self, records: Vec<(Partition, NewRecord)>) -> Result<Vec<Appended>> {
        let (log, runtime) = (self.log.clone(), tokio::runtime::Handle::current());
        let append = move || runtime.block_on(log.append(records));
        tokio::task::spawn_blocking(append).await.unwrap()
    }
}

impl From<Arc<EmbeddedLog>> for FlakyLog {
    /// One that never fails.
    fn from(log: Arc<EmbeddedLog>) -> Self {
        Self::new(log, 0, 0)
    }
}

#[async_trait]
impl EventLog for FlakyLog {
    async fn append(&self, mut records: Vec<(Partition, NewRecord)>) -> Result<Vec<Appended>> {
        let Some((written, error)) = self.fault(records.len()) else {
            return self.append_paused(records).await;
        };
        records.truncate(written);
        if !records.is_empty() {
            self.append_paused(records).await?;
        }
        Err(error)
    }

    async fn create_topic(&self, spec: &TopicSpec) -> Result<()> {
        self.log.create_topic(spec).await
    }

    async fn topic(&self, name: &str) -> Result<TopicSpec> {
        self.log.topic(name).await
    }

    async fn bounds(&self, partition: &Partition) -> Result<Bounds> {
        self.log.bounds(partition).await
    }

    async fn offset_at(&self, partition: &Partition, time: LogTime) -> Result<u64> {
        self.log.offset_at(partition, time).await
    }

    async fn reader(&self, from: Vec<(Partition, u64)>) -> Result<Box<dyn Reader>> {
        self.log.reader(from).await
    }

    async fn trim(&self, partition: &Partition, before: u64) -> Result<()> {
        self.log.trim(partition, before).await
    }

    async fn committed(&self, group: &str, partition: &Partition) -> Result<Option<u64>> {
        self.log.committed(group, partition).await
    }

    async fn commit(&self, group: &str, offsets: &[(Partition, u64)]) -> Result<()> {
        self.log.commit(group, offsets).await
    }

    async fn writer(&self, id: &str) -> Result<Box<dyn Writer>> {
        self.log.writer(id).await
    }

    async fn join(&self, group: &str, topics: &[&str]) -> Result<Box<dyn Member>> {
        self.log.join(group, topics).await
    }
}
