//! A log that fails at random, before or after it has written, and that is read
//! in sips, so that others run between any two records.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;

use crate::log::{
    Appended, Batch, Bounds, Error, EventLog, LogTime, Member, NewRecord, Partition, ReadLimit,
    Reader, Record, Result, TopicSpec, Transaction, Writer,
};

/// The log, and how often of 100 times a write fails.
#[derive(Debug, Clone)]
pub(super) struct FlakyLog {
    pub(super) log: Arc<dyn EventLog>,
    faults: Arc<Mutex<Faults>>,
}

#[derive(Debug)]
struct Faults {
    random: fastrand::Rng,
    percent: u8,
    stall: Stall,
    is_out_of_reach: bool,
}

/// Gives nothing for `reads` reads, after each reader has given `after` records.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Stall {
    pub(super) after: usize,
    pub(super) reads: usize,
}

impl FlakyLog {
    pub(super) fn new(log: Arc<dyn EventLog>, seed: u64, percent: u8) -> Self {
        let random = fastrand::Rng::with_seed(seed);
        let faults = Faults { random, percent, stall: Stall::default(), is_out_of_reach: false };
        Self { log, faults: Arc::new(Mutex::new(faults)) }
    }

    pub(super) fn stalling(log: Arc<dyn EventLog>, stall: Stall) -> Self {
        let flaky = Self::new(log, 0, 0);
        flaky.stall(stall);
        flaky
    }

    pub(super) fn stall(&self, stall: Stall) {
        self.faults.lock().stall = stall;
    }

    /// Whether it no longer tells its bounds.
    pub(super) fn set_out_of_reach(&self, is_out_of_reach: bool) {
        self.faults.lock().is_out_of_reach = is_out_of_reach;
    }

    fn fails(&self) -> bool {
        let mut faults = self.faults.lock();
        faults.random.u8(0..100) < faults.percent
    }

    /// Fails half of the faults before the write, half after it.
    async fn write<T>(&self, write: impl Future<Output = Result<T>>) -> Result<T> {
        let lost = Error::TimedOut(Duration::from_millis(1));
        if self.fails() {
            return Err(lost);
        }
        let written = write.await?;
        if self.fails() { Err(lost) } else { Ok(written) }
    }
}

#[async_trait]
impl EventLog for FlakyLog {
    async fn create_topic(&self, spec: &TopicSpec) -> Result<()> {
        self.log.create_topic(spec).await
    }

    async fn topic(&self, name: &str) -> Result<TopicSpec> {
        self.log.topic(name).await
    }

    async fn bounds(&self, partition: &Partition) -> Result<Bounds> {
        if self.faults.lock().is_out_of_reach {
            return Err(Error::TimedOut(Duration::from_millis(1)));
        }
        self.log.bounds(partition).await
    }

    async fn offset_at(&self, partition: &Partition, time: LogTime) -> Result<u64> {
        self.log.offset_at(partition, time).await
    }

    async fn append(&self, records: Vec<(Partition, NewRecord)>) -> Result<Vec<Appended>> {
        self.write(self.log.append(records)).await
    }

    async fn reader(&self, from: Vec<(Partition, u64)>) -> Result<Box<dyn Reader>> {
        let reader = self.log.reader(from).await?;
        let faults = self.faults.clone();
        Ok(Box::new(Sips { reader, rest: VecDeque::new(), given: 0, faults }))
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
        let writer = self.log.writer(id).await?;
        Ok(Box::new(FlakyWriter { log: self.clone(), writer }))
    }

    async fn join(&self, group: &str, topics: &[&str]) -> Result<Box<dyn Member>> {
        self.log.join(group, topics).await
    }
}

/// Reads one record at a time, also of those that came in one piece.
#[derive(Debug)]
struct Sips {
    reader: Box<dyn Reader>,
    rest: VecDeque<Batch>,
    given: usize,
    faults: Arc<Mutex<Faults>>,
}

impl Sips {
    fn stalls(&self) -> bool {
        let stall = &mut self.faults.lock().stall;
        let stalls = self.given >= stall.after && stall.reads > 0;
        stall.reads -= usize::from(stalls);
        stalls
    }
}

#[async_trait]
impl Reader for Sips {
    async fn next(&mut self, limit: ReadLimit) -> Result<Option<Batch>> {
        tokio::task::yield_now().await;
        if self.stalls() {
            tokio::time::sleep(limit.wait).await;
            return Ok(None);
        }
        if self.rest.is_empty() {
            let Some(batch) = self.reader.next(limit).await? else { return Ok(None) };
            let Batch { partition, records, next: end } = batch;
            let sip = |record: Record| {
                let (partition, next) = (partition.clone(), record.offset + 1);
                Batch { partition, records: vec![record], next }
            };
            self.rest.extend(records.into_iter().map(sip));
            if let Some(last) = self.rest.back_mut() {
                last.next = end;
            }
        }
        self.given += 1;
        Ok(self.rest.pop_front())
    }

    fn has_reached(&self, partition: &Partition, end: u64) -> bool {
        self.rest.is_empty() && self.reader.has_reached(partition, end)
    }

    fn need_values_alone(&mut self) {
        self.reader.need_values_alone();
    }
}

#[derive(Debug)]
struct FlakyWriter {
    log: FlakyLog,
    writer: Box<dyn Writer>,
}

#[async_trait]
impl Writer for FlakyWriter {
    async fn commit(&mut self, transaction: Transaction) -> Result<Vec<Appended>> {
        self.log.write(self.writer.commit(transaction)).await
    }
}
