//! Messages that had an attempt and wait, as their owners wrote them down.

use std::collections::{BTreeMap, HashMap};

use ingest::event::Timestamp;
use ingest::log::{Error, EventLog, Partition, Scan};
use ingest::registry::Name;

use super::{Overview, Pause};
use crate::deliver::owner::PROGRESS_KEY;
use crate::deliver::partition::{Head, Progress};
use crate::deliver::stored::Message;
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
    let heads = heads(log, topics).await?;
    let mut spans = BTreeMap::new();
    for (index, progress) in &heads {
        let offsets = progress.heads.iter().map(|head| head.offset);
        if let (Some(first), Some(last)) = (offsets.clone().min(), offsets.max()) {
            spans.insert(topics.messages(*index), (first, last + 1));
        }
    }
    let mut wanted = BTreeMap::<(u32, u64), Head>::new();
    for (index, progress) in heads {
        wanted.extend(progress.heads.into_iter().map(|head| ((index, head.offset), head)));
    }
    let mut found = BTreeMap::new();
    let mut scan = Scan::within(log, spans).await?;
    while let Some(batch) = scan.next().await? {
        for record in &batch.records {
            let place = (batch.partition.index, record.offset);
            if let Some(head) = wanted.get(&place) {
                found.insert(place, waiting(&batch.partition, &Message::of(record), head));
            }
        }
    }
    Ok(found.into_values().collect())
}

/// What the owners of the partitions wrote down last.
async fn heads(log: &dyn EventLog, topics: &Topics) -> Result<HashMap<u32, Progress>, Error> {
    let partitions = (0..topics.partitions.get()).map(|index| topics.progress(index));
    let mut scan = Scan::open(log, partitions).await?;
    let mut last = HashMap::new();
    while let Some(batch) = scan.next().await? {
        let is_progress = |record: &&ingest::log::Record| {
            record.key.as_deref() == Some(PROGRESS_KEY) && record.value.is_some()
        };
        if let Some(record) = batch.records.iter().rfind(is_progress) {
            let value = record.value.as_deref().unwrap_or_default();
            let progress = Progress::decode(value).map_err(|error| Error::Damaged {
                file: batch.partition.to_string(),
                position: record.offset,
                detail: error.to_string(),
            })?;
            last.insert(batch.partition.index, progress);
        }
    }
    Ok(last)
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
    let progress = heads(log, topics).await?;
    let mut waiting = 0;
    for index in 0..topics.partitions.get() {
        let bounds = log.bounds(&topics.messages(index)).await?;
        let of = progress.get(&index);
        let committed = of.map_or(bounds.first, |of| of.committed.max(bounds.first));
        let ahead = of.map_or(0, |of| of.completed.count());
        waiting += bounds.end.saturating_sub(committed).saturating_sub(ahead);
    }
    let of_heads = || progress.values().flat_map(|of| &of.heads);
    let mut spans = BTreeMap::new();
    for (index, of) in &progress {
        if let Some(first) = of.heads.iter().map(|head| head.offset).min() {
            spans.insert(topics.messages(*index), (first, first + 1));
        }
    }
    let (mut oldest, mut scan) = (None::<Timestamp>, Scan::within(log, spans).await?);
    while let Some(batch) = scan.next().await? {
        for record in &batch.records {
            let accepted = Message::of(record).accepted();
            oldest = Some(oldest.map_or(accepted, |oldest| oldest.min(accepted)));
        }
    }
    Ok(Overview {
        queue,
        pause,
        waiting,
        retrying: of_heads().filter(|head| head.due.is_some() && !head.is_held).count() as u64,
        held: of_heads().filter(|head| head.is_held).count() as u64,
        oldest,
    })
}
