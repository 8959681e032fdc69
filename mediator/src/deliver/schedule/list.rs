//! What waits for its time, and what people decide of it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ingest::event::Timestamp;
use ingest::log::{Error, EventLog, Headers, NewRecord, Partition, Record, Scan};

use super::calendar::{Calendar, Said};
use super::{DECIDED_BY, GIVEN_UP, ORDERING_KEY, read};
use crate::deliver::message::DUE_TIME;
use crate::deliver::stored::Message;
use crate::deliver::topics::Topics;

/// A message that waits for its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scheduled {
    /// Its id.
    pub id: String,
    /// The partition of the queue.
    pub partition: u32,
    /// The place of its record in the partition of what is scheduled.
    pub offset: u64,
    /// The ordering key; what of it is no UTF-8 is replaced.
    pub key: Option<String>,
    /// When it goes into the queue.
    pub due: Timestamp,
    /// When it was accepted.
    pub accepted: Timestamp,
    /// The size of the body.
    pub body_bytes: usize,
}

/// All of a queue, the soonest first. Reads the whole topic.
pub(in crate::deliver) async fn all(
    log: &dyn EventLog,
    topics: &Topics,
) -> Result<Vec<Scheduled>, Error> {
    let mut waits = HashMap::new();
    let mut calendars = BTreeMap::<u32, Calendar>::new();
    let mut scan = Scan::open(log, partitions(topics)).await?;
    while let Some(batch) = scan.next().await? {
        let index = batch.partition.index;
        let calendar = calendars.entry(index).or_default();
        for record in &batch.records {
            let Some((id, said)) = read(record) else { continue };
            calendar.take(id, (record.offset, 0), said);
            let due = match said {
                Said::Waits(due) | Said::Decided(due) => due,
                Said::Gone => {
                    waits.remove(&(index, id.to_owned()));
                    continue;
                }
            };
            if calendar.has((due, record.offset)) {
                waits.insert((index, id.to_owned()), scheduled(index, id, due, record));
            }
        }
    }
    let mut all: Vec<Scheduled> = waits.into_values().collect();
    all.sort_unstable_by_key(|of| (of.due, of.partition, of.offset));
    Ok(all)
}

fn scheduled(partition: u32, id: &str, due: Timestamp, record: &Record) -> Scheduled {
    let key = record.headers.get(ORDERING_KEY);
    Scheduled {
        id: id.to_owned(),
        partition,
        offset: record.offset,
        key: key.map(|key| String::from_utf8_lossy(key).into_owned()),
        due,
        accepted: Message::of(record).accepted(),
        body_bytes: record.value.as_ref().map_or(0, bytes::Bytes::len),
    }
}

/// Writes that messages are due at once, as dead letters if they are given up. Of one that has
/// left meanwhile that decides nothing.
pub(in crate::deliver) async fn decide(
    log: &dyn EventLog,
    topics: &Topics,
    chosen: &[Scheduled],
    now: Timestamp,
    (by, is_given_up): (&str, bool),
) -> Result<(), Error> {
    let mut spans = BTreeMap::<Partition, (u64, u64)>::new();
    let mut places = BTreeSet::new();
    for of in chosen {
        let span = spans.entry(topics.scheduled(of.partition)).or_insert((of.offset, 0));
        *span = (span.0.min(of.offset), span.1.max(of.offset + 1));
        places.insert((of.partition, of.offset));
    }
    let mut scan = Scan::within(log, spans).await?;
    while let Some(batch) = scan.next().await? {
        let index = batch.partition.index;
        let of = batch.records.iter().filter(|record| places.contains(&(index, record.offset)));
        let decided =
            of.map(|record| (batch.partition.clone(), decided(record, now, by, is_given_up)));
        log.append(decided.collect()).await?;
    }
    Ok(())
}

fn decided(record: &Record, now: Timestamp, by: &str, is_given_up: bool) -> NewRecord {
    let due = now.to_string();
    let own = [DUE_TIME, DECIDED_BY, GIVEN_UP];
    let kept = record.headers.iter().filter(|(name, _)| !own.contains(name));
    let set = [(DUE_TIME, due.as_bytes()), (DECIDED_BY, by.as_bytes())].into_iter();
    let given_up = is_given_up.then_some((GIVEN_UP, &b"true"[..]));
    let headers = Headers::new(kept.chain(set).chain(given_up));
    NewRecord { key: record.key.clone(), value: record.value.clone(), headers }
}

fn partitions(topics: &Topics) -> impl Iterator<Item = Partition> {
    (0..topics.partitions.get()).map(|index| topics.scheduled(index))
}
