//! Messages that had an attempt and wait, as their owners wrote them down.

use std::collections::{BTreeMap, HashMap};

use ingest::event::Timestamp;
use ingest::log::{Error, EventLog, Partition, Record, Scan};
use ingest::registry::Name;

use super::{Overview, Pause};
use crate::deliver::parking;
use crate::deliver::partition::{Head, Progress};
use crate::deliver::schedule;
use crate::deliver::stored::Message;
use crate::deliver::take_over::{PARKED_KEY, PROGRESS_KEY};
use crate::deliver::topics::Topics;

/// A message that had an attempt and waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Its id.
    pub id: String,
    /// The partition of the queue.
    pub partition: u32,
    /// Its place there.
    pub offset: u64,
    /// The ordering key; what of it is no UTF-8 is replaced.
    pub key: Option<String>,
    /// What it waits for.
    pub state: WaitingState,
    /// How many attempts were started.
    pub attempts: u64,
    /// When it was accepted.
    pub accepted: Timestamp,
    /// The size of the body.
    pub body_bytes: usize,
}

/// What a message waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitingState {
    /// For its target's answer, or for a slot.
    UnderWay,
    /// For its next attempt, then.
    Retry(Timestamp),
    /// For somebody's decision.
    Held,
}

/// All of a queue, by partition and offset.
pub(super) async fn read(log: &dyn EventLog, topics: &Topics) -> Result<Vec<Waiting>, Error> {
    let written = written_down(log, topics).await?;
    let heads = written.iter().flat_map(|(index, of)| of.heads.iter().map(|head| (*index, head)));
    find(log, topics, &written, heads.collect()).await
}

/// The messages of some heads, by partition and offset.
async fn find(
    log: &dyn EventLog,
    topics: &Topics,
    written: &HashMap<u32, Progress>,
    heads: Vec<(u32, &Head)>,
) -> Result<Vec<Waiting>, Error> {
    let (mut in_queue, mut parked) = (Wanted::default(), Wanted::default());
    for (index, head) in heads {
        match written[&index].parked.iter().find(|of| of.next == head.offset) {
            Some(of) => {
                let end = log.bounds(&topics.parked(index)).await?.end;
                parked.add(index, topics.parked(index), (of.from, end), head.clone());
            }
            None => {
                let span = (head.offset, head.offset + 1);
                in_queue.add(index, topics.messages(index), span, head.clone());
            }
        }
    }
    let mut found = BTreeMap::new();
    let message_of = |record: &Record| Some(Message::of(record));
    in_queue.find(log, topics, message_of, &mut found).await?;
    parked.find(log, topics, parking::message_of, &mut found).await?;
    Ok(found.into_values().collect())
}

/// Messages that are looked for in one of a queue's topics.
#[derive(Default)]
struct Wanted {
    spans: BTreeMap<Partition, (u64, u64)>,
    heads: HashMap<(u32, u64), Head>,
}

impl Wanted {
    fn add(&mut self, index: u32, partition: Partition, (from, to): (u64, u64), head: Head) {
        let span = self.spans.entry(partition).or_insert((from, to));
        *span = (span.0.min(from), span.1.max(to));
        self.heads.insert((index, head.offset), head);
    }

    /// Reads until all are found, or there is no more.
    async fn find(
        mut self,
        log: &dyn EventLog,
        topics: &Topics,
        message_of: impl Fn(&Record) -> Option<Message>,
        found: &mut BTreeMap<(u32, u64), Waiting>,
    ) -> Result<(), Error> {
        let mut scan = Scan::within(log, self.spans).await?;
        while !self.heads.is_empty()
            && let Some(batch) = scan.next().await?
        {
            let index = batch.partition.index;
            for message in batch.records.iter().filter_map(&message_of) {
                let place = (index, message.offset());
                if let Some(head) = self.heads.remove(&place) {
                    found.insert(place, waiting(&topics.messages(index), &message, &head));
                }
            }
        }
        Ok(())
    }
}

/// What the owners of the partitions wrote down last.
pub(in crate::deliver) async fn written_down(
    log: &dyn EventLog,
    topics: &Topics,
) -> Result<HashMap<u32, Progress>, Error> {
    let partitions = (0..topics.partitions.get()).map(|index| topics.progress(index));
    let mut scan = Scan::open(log, partitions).await?;
    let mut last = HashMap::<_, (Option<Record>, Option<Record>)>::new();
    while let Some(batch) = scan.next().await? {
        let (progress, parked) = last.entry(batch.partition.clone()).or_default();
        for record in batch.records.into_iter().filter(|record| record.value.is_some()) {
            match record.key.as_deref() {
                Some(PROGRESS_KEY) => *progress = Some(record),
                Some(PARKED_KEY) => *parked = Some(record),
                _ => {}
            }
        }
    }
    let mut written = HashMap::new();
    for (partition, (progress, parked)) in last {
        let Some(record) = progress else { continue };
        let value = record.value.as_deref().unwrap_or_default();
        let parked = parked.as_ref().and_then(|record| record.value.as_deref());
        let progress = Progress::decode(value, parked).map_err(|error| Error::Damaged {
            file: partition.to_string(),
            position: record.offset,
            detail: error.to_string(),
        })?;
        written.insert(partition.index, progress);
    }
    Ok(written)
}

fn waiting(partition: &Partition, message: &Message, head: &Head) -> Waiting {
    Waiting {
        id: message.id(partition).into_owned(),
        partition: partition.index,
        offset: head.offset,
        key: message.key().map(|key| String::from_utf8_lossy(key).into_owned()),
        state: match head.due {
            _ if head.is_held => WaitingState::Held,
            Some(due) => WaitingState::Retry(due),
            None => WaitingState::UnderWay,
        },
        attempts: head.attempts,
        accepted: message.accepted(),
        body_bytes: message.body().len(),
    }
}

pub(super) async fn overview(
    log: &dyn EventLog,
    queue: Name,
    topics: &Topics,
    pause: Option<Pause>,
) -> Result<Overview, Error> {
    let progress = written_down(log, topics).await?;
    let mut waiting = 0;
    for index in 0..topics.partitions.get() {
        let bounds = log.bounds(&topics.messages(index)).await?;
        let of = progress.get(&index);
        let committed = of.map_or(bounds.first, |of| of.committed.max(bounds.first));
        let ahead = of.map_or(0, |of| of.completed.count());
        waiting += bounds.end.saturating_sub(committed).saturating_sub(ahead);
    }
    let parked = progress.values().flat_map(|of| &of.parked).map(|of| of.count).sum::<u64>();
    let of_heads = || progress.values().flat_map(|of| &of.heads);
    let oldest = |(index, of): (&u32, &Progress)| -> Option<(u32, Head)> {
        Some((*index, of.heads.iter().min_by_key(|head| head.offset)?.clone()))
    };
    let oldest: Vec<(u32, Head)> = progress.iter().filter_map(oldest).collect();
    let oldest = oldest.iter().map(|(index, head)| (*index, head)).collect();
    let oldest = find(log, topics, &progress, oldest).await?;
    let scheduled = schedule::all(log, topics).await?.len() as u64;
    Ok(Overview {
        queue,
        pause,
        waiting: waiting + parked + scheduled,
        scheduled,
        parked,
        retrying: of_heads().filter(|head| head.due.is_some() && !head.is_held).count() as u64,
        held: of_heads().filter(|head| head.is_held).count() as u64,
        oldest: oldest.iter().map(|of| of.accepted).min(),
    })
}
