//! What is in the topic of a queue's dead letters, and what of it is settled.

use std::collections::{BTreeMap, HashSet};

use ingest::log::{Error, EventLog, Partition, Record, Scan};

use super::{REASON, SETTLES};
use crate::deliver::stored::Message;
use crate::deliver::topics::Topics;

/// A record of the topic.
enum Entry {
    Letter(Message),
    Settles(u64),
}

/// What of a topic is settled.
pub(super) struct Settled {
    /// Partitions and offsets of letters.
    letters: HashSet<(u32, u64)>,
    /// Where the partitions ended when that was read.
    ends: BTreeMap<Partition, u64>,
}

impl Settled {
    pub(super) async fn read(log: &dyn EventLog, topics: &Topics) -> Result<Self, Error> {
        let partitions = (0..topics.partitions.get()).map(|index| topics.dead(index));
        let mut scan = Scan::open(log, partitions).await?;
        let ends = scan.ends();
        let mut letters = HashSet::new();
        while let Some(batch) = scan.next().await? {
            for record in &batch.records {
                if let Entry::Settles(offset) = entry(record) {
                    letters.insert((batch.partition.index, offset));
                }
            }
        }
        Ok(Self { letters, ends })
    }

    /// Where a partition ended.
    pub(super) fn end(&self, partition: &Partition) -> u64 {
        self.ends.get(partition).copied().unwrap_or(0)
    }
}

/// The letters that nobody has decided of, oldest first in each partition.
pub(super) struct OpenLetters<'a> {
    scan: Scan<'a>,
    settled: &'a Settled,
    partition: u32,
    records: std::vec::IntoIter<Record>,
}

impl<'a> OpenLetters<'a> {
    pub(super) async fn of(log: &'a dyn EventLog, settled: &'a Settled) -> Result<Self, Error> {
        let scan = Scan::up_to(log, &settled.ends).await?;
        Ok(Self { scan, settled, partition: 0, records: Vec::new().into_iter() })
    }

    /// The next one, with its partition; `None` after the last.
    pub(super) async fn next(&mut self) -> Result<Option<(u32, Message)>, Error> {
        loop {
            for record in self.records.by_ref() {
                let place = (self.partition, record.offset);
                match entry(&record) {
                    Entry::Letter(message) if !self.settled.letters.contains(&place) => {
                        return Ok(Some((self.partition, message)));
                    }
                    _ => {}
                }
            }
            let Some(batch) = self.scan.next().await? else { return Ok(None) };
            self.partition = batch.partition.index;
            self.records = batch.records.into_iter();
        }
    }
}

/// A letter says why it is one, whatever else its message says.
fn entry(record: &Record) -> Entry {
    let settles = record.headers.get(SETTLES).and_then(|text| std::str::from_utf8(text).ok());
    match settles.and_then(|text| text.parse().ok()) {
        Some(offset) if record.headers.get(REASON).is_none() => Entry::Settles(offset),
        _ => Entry::Letter(Message::of(record)),
    }
}
