//! What is decided, kept up to date for the owners of a node.

use std::sync::Arc;
use std::time::Duration;

use ingest::log::{Error, EventLog, ReadLimit, Scan};
use tokio::sync::watch;

use super::state::{All, CONTROL, prepare, take};

/// The pause after a failure of the log.
const AGAIN_AFTER: Duration = Duration::from_millis(500);
/// How long a read waits, until everything that was there is read.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What is decided of all queues; none before it is read.
pub(in crate::deliver) type Controls = watch::Receiver<Option<Arc<All>>>;

/// Reads what is decided now.
pub(super) async fn read(log: &dyn EventLog) -> Result<All, Error> {
    let mut all = All::default();
    let mut scan = Scan::open(log, [CONTROL.clone()]).await?;
    let end = scan.ends().remove(&*CONTROL).unwrap_or(0);
    while let Some(batch) = scan.next().await? {
        for record in &batch.records {
            take(&mut all, record);
        }
    }
    all.next = all.next.max(end);
    Ok(all)
}

/// What is decided by now at least: what is known, or what is read anew if that may be
/// behind.
pub(in crate::deliver) async fn read_through(
    log: &dyn EventLog,
    known: &Controls,
) -> Result<Arc<All>, Error> {
    let known = known.borrow().clone();
    let end = log.bounds(&CONTROL).await?.end;
    match known.filter(|all| all.next >= end) {
        Some(all) => Ok(all),
        None => Ok(Arc::new(read(log).await?)),
    }
}

/// Follows what is decided, until nobody listens. While the log cannot be read, what was
/// decided last stays.
pub(in crate::deliver) async fn follow(
    log: Arc<dyn EventLog>,
    told: watch::Sender<Option<Arc<All>>>,
) {
    while !told.is_closed() {
        if let Err(error) = read_on(&*log, &told).await {
            tracing::warn!(%error, "what is decided of queues cannot be read; it is read again");
        }
        tokio::time::sleep(AGAIN_AFTER).await;
    }
}

/// Ends by a failure, or when nobody listens.
async fn read_on(log: &dyn EventLog, told: &watch::Sender<Option<Arc<All>>>) -> Result<(), Error> {
    prepare(log).await?;
    let bounds = log.bounds(&CONTROL).await?;
    let mut reader = log.reader(vec![(CONTROL.clone(), bounds.first)]).await?;
    let (mut all, mut is_whole) = (All { next: bounds.first, ..All::default() }, false);
    while !told.is_closed() {
        let wait = if is_whole { ReadLimit::default().wait } else { LOOK_EVERY };
        let batch = reader.next(ReadLimit { wait, ..ReadLimit::default() }).await?;
        let is_new = batch.is_some();
        for record in batch.iter().flat_map(|batch| &batch.records) {
            if !take(&mut all, record) {
                tracing::error!(offset = record.offset, "a record decides nothing");
            }
        }
        let was_whole = is_whole;
        is_whole |= all.next >= bounds.end || reader.has_reached(&CONTROL, bounds.end);
        if is_whole && (is_new || !was_whole) {
            told.send_replace(Some(Arc::new(all.clone())));
        }
    }
    Ok(())
}
