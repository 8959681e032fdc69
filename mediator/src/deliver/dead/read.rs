//! What is in a partition of dead letters, and what of it is settled.

use std::collections::BTreeSet;
use std::time::Duration;

use ingest::log::{Error, EventLog, Partition, ReadLimit, Reader, Record};

use super::SETTLES;
use crate::deliver::stored::Message;

/// How long a read waits at what may be the end: a mark of a transaction may be the
/// last, which no reader sees.
const END_WAIT: Duration = Duration::from_millis(500);

/// A record of the topic.
enum Entry {
    Letter(Message),
    Settles(u64),
}

/// What of a partition is settled.
#[derive(Clone)]
pub(super) struct Settled {
    offsets: BTreeSet<u64>,
    /// Where the partition ended when that was read.
    pub(super) end: u64,
}

impl Settled {
    pub(super) async fn read(log: &dyn EventLog, partition: &Partition) -> Result<Self, Error> {
        let end = log.bounds(partition).await?.end;
        let mut reading = Reading::open(log, partition, end).await?;
        let mut offsets = BTreeSet::new();
        while let Some(record) = reading.next().await? {
            if let Entry::Settles(offset) = entry(&record) {
                offsets.insert(offset);
            }
        }
        Ok(Self { offsets, end })
    }
}

/// The records of a partition of now.
struct Reading {
    reader: Box<dyn Reader>,
    records: std::vec::IntoIter<Record>,
    next: u64,
    end: u64,
}

impl Reading {
    async fn open(log: &dyn EventLog, partition: &Partition, end: u64) -> Result<Self, Error> {
        let next = log.bounds(partition).await?.first;
        let reader = log.reader(vec![(partition.clone(), next)]).await?;
        Ok(Self { reader, records: Vec::new().into_iter(), next, end })
    }

    async fn next(&mut self) -> Result<Option<Record>, Error> {
        let limit = ReadLimit { wait: END_WAIT, ..ReadLimit::default() };
        loop {
            if let Some(record) = self.records.next() {
                return Ok((record.offset < self.end).then_some(record));
            }
            if self.next >= self.end {
                return Ok(None);
            }
            let Some(batch) = self.reader.next(limit).await? else { return Ok(None) };
            self.next = batch.next;
            self.records = batch.records.into_iter();
        }
    }
}

/// The letters of a partition that nobody has decided of.
pub(super) struct OpenLetters {
    reading: Reading,
    settled: Settled,
}

impl OpenLetters {
    /// The offset up to which all was read.
    pub(super) fn read_to(&self) -> u64 {
        self.reading.next.min(self.reading.end)
    }

    pub(super) async fn of(
        log: &dyn EventLog,
        partition: &Partition,
        settled: Settled,
    ) -> Result<Self, Error> {
        let reading = Reading::open(log, partition, settled.end).await?;
        Ok(Self { reading, settled })
    }

    pub(super) async fn next(&mut self) -> Result<Option<Message>, Error> {
        while let Some(record) = self.reading.next().await? {
            match entry(&record) {
                Entry::Letter(message) if !self.settled.offsets.contains(&record.offset) => {
                    return Ok(Some(message));
                }
                _ => {}
            }
        }
        Ok(None)
    }
}

fn entry(record: &Record) -> Entry {
    let settles = record.headers.get(SETTLES).and_then(|text| std::str::from_utf8(text).ok());
    match settles.and_then(|text| text.parse().ok()) {
        Some(offset) => Entry::Settles(offset),
        None => Entry::Letter(Message::of(record)),
    }
}
