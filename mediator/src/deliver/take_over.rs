//! How an owner becomes the partition's only one: it fences the one before it, and only
//! then reads how far that came.

use std::time::Duration;

use ingest::log::{Error, NewRecord, ReadLimit, Transaction, Writer};
use tokio::time::Instant;

use super::owner::Owning;
use super::partition::Progress;
use super::worker::Shared;

/// The key of the record that says who owns the partition. Its offset is the epoch.
const OWNER_KEY: &[u8] = b"owner";
/// The key of the record that says how far it is.
pub(super) const PROGRESS_KEY: &[u8] = b"progress";
/// The key of the record that says which keys are parked.
pub(super) const PARKED_KEY: &[u8] = b"parked";
/// How long the record that an owner has just written may take to be read.
const PROGRESS_PATIENCE: Duration = Duration::from_secs(10);

/// What an owner begins with.
pub(super) struct TakenOver {
    /// The partition's one writer.
    pub(super) writer: Box<dyn Writer>,
    /// Grows from owner to owner.
    pub(super) epoch: u64,
    /// How far the partition is.
    pub(super) progress: Progress,
    /// The offset that the next parked message gets at least.
    pub(super) parked_end: u64,
}

/// Fences the former owner, then finds out how far it came.
pub(super) async fn take_over(with: &Owning) -> Result<TakenOver, Error> {
    let Shared { parts, topics, queue, .. } = &*with.shared;
    let log = &parts.log;
    let mut writer = log.writer(&topics.writer(with.partition)).await?;
    let partition = topics.progress(with.partition);
    let opened = NewRecord::keyed(OWNER_KEY, Vec::new());
    // What a former owner has parked is there to be read once this is.
    let parked = topics.parked(with.partition);
    let records = vec![(partition.clone(), opened.clone()), (parked, opened)];
    let appended = writer.commit(Transaction { records, offsets: Vec::new() }).await?;
    let [own, parked] = appended[..] else { return Err(Error::Closed) };
    let (own, parked_end) = (own.offset, parked.offset + 1);

    // What this owner wrote comes after everything that a former one did.
    let first = log.bounds(&partition).await?.first;
    let mut reader = log.reader(vec![(partition.clone(), first)]).await?;
    let deadline = Instant::now() + PROGRESS_PATIENCE;
    let (mut last, mut last_parked) = (None, None);
    let mut next = first;
    while next <= own {
        let batch = reader.next(ReadLimit::default()).await?;
        for record in batch.iter().flat_map(|batch| &batch.records) {
            match record.key.as_deref() {
                Some(PROGRESS_KEY) => last = Some(record.clone()),
                Some(PARKED_KEY) => last_parked = Some(record.clone()),
                _ => {}
            }
        }
        next = batch.map_or(next, |batch| batch.next);
        if next <= own && Instant::now() > deadline {
            return Err(Error::TimedOut(PROGRESS_PATIENCE));
        }
    }
    let mut progress = Progress::default();
    if let Some(value) = last.and_then(|record| record.value) {
        let parked = last_parked.and_then(|record| record.value);
        progress = Progress::decode(&value, parked.as_deref()).map_err(|error| Error::Damaged {
            file: partition.to_string(),
            position: own,
            detail: error.to_string(),
        })?;
    }
    let messages = topics.messages(with.partition);
    let committed = log.committed(topics.group(), &messages).await?.unwrap_or(0);
    progress.committed = progress.committed.max(committed).max(with.from);
    let (queue, epoch) = (queue.as_str(), own + 1);
    tracing::info!(queue, partition = with.partition, epoch, from = progress.committed, "owns");
    Ok(TakenOver { writer, epoch, progress, parked_end })
}
