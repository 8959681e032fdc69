use std::time::Duration;

use tokio::time::Instant;

use super::Error;
use super::replica::Replica;
use crate::log::{EventLog, Partition, ReadLimit, Reader, Record};

/// How often to look whether the end is reached.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long loading tries to get to the end.
const DEADLINE: Duration = Duration::from_secs(30);

/// What was read of the entities, and the reader that goes on from there.
pub(super) struct Loaded {
    pub(super) replica: Replica,
    pub(super) reader: Box<dyn Reader>,
    /// The offset after the last record that was read.
    pub(super) next: u64,
    /// The end when it was read. What is between is not for readers.
    pub(super) end: u64,
}

/// Reads the entities from their start to their end.
///
/// What is there may still not be whole: see [`Replica::whole`].
///
/// # Errors
/// [`Error::Unread`] if the end is not reached in time.
pub(super) async fn load(log: &dyn EventLog, partition: &Partition) -> Result<Loaded, Error> {
    let failed = || Error::log("load");
    let deadline = Instant::now() + DEADLINE;
    let bounds = log.bounds(partition).await.map_err(failed())?;
    let from = vec![(partition.clone(), bounds.first)];
    let reader = log.reader(from).await.map_err(failed())?;
    let replica = Replica::default();
    let mut loaded = Loaded { replica, reader, next: bounds.first, end: bounds.end };
    let limit = ReadLimit { wait: LOOK_EVERY, ..ReadLimit::default() };
    while loaded.next < loaded.end && !loaded.reader.has_reached(partition, loaded.end) {
        if let Some(batch) = loaded.reader.next(limit).await.map_err(failed())? {
            for record in &batch.records {
                loaded.replica.take(record);
            }
            loaded.next = batch.next;
        } else if Instant::now() >= deadline {
            return Err(Error::unread(partition, loaded.next, loaded.end));
        }
    }
    loaded.replica.hash().await;
    Ok(loaded)
}

/// Reads on from `next` until the record at `last` was read.
///
/// # Errors
/// [`Error::Unread`] if nothing comes for `patience` before.
pub(super) async fn read_through(
    reader: &mut dyn Reader,
    partition: &Partition,
    (mut next, last): (u64, u64),
    patience: Duration,
    mut take: impl FnMut(&Record) + Send,
) -> Result<(), Error> {
    while next <= last {
        let limit = ReadLimit { wait: patience, ..ReadLimit::default() };
        let batch = reader.next(limit).await.map_err(Error::log("read what is there"))?;
        let Some(batch) = batch else { return Err(Error::unread(partition, next, last + 1)) };
        batch.records.iter().for_each(&mut take);
        next = batch.next;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::log::embedded::EmbeddedLog;
    use crate::registry::flaky::{FlakyLog, Stall};
    use crate::registry::{Applier, Topics, View, tests};

    /// A log that holds two change sets, and that stalls.
    async fn stalling(stall: Stall) -> (Arc<dyn EventLog>, Topics) {
        let log: Arc<dyn EventLog> = Arc::new(EmbeddedLog::in_memory());
        let topics = Topics::default();
        let mut applier = Applier::open(&log, topics.clone()).await.unwrap();
        for set in ["s1", "s2"] {
            let change = format!(r#"+ tier/{set} {{"burst_requests_max": 5}}"#);
            let set = tests::set_called(set, &change);
            log.append(vec![(topics.proposals.clone(), set.encode())]).await.unwrap();
            applier.step(LOOK_EVERY).await.unwrap();
        }
        assert_eq!(applier.now().revision(), 2);
        (Arc::new(FlakyLog::stalling(log, stall)), topics)
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_log_is_not_an_empty_registry() {
        // The records: opened, tier, end, tier, end.
        for after in 0..5 {
            let (log, topics) = stalling(Stall { after, reads: 2 }).await;
            let found = load(&*log, &topics.entities)
                .await
                .map(|mut loaded| loaded.replica.whole().map(super::super::Snapshot::revision));
            assert_eq!(found.unwrap(), Ok(2), "after {after}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_log_that_gives_nothing_does_not_open_a_view() {
        for after in 0..5 {
            let (log, topics) = stalling(Stall { after, reads: usize::MAX }).await;
            let opened = View::open(log, topics).await;
            assert!(matches!(opened, Err(Error::Unread { .. })), "after {after}: {opened:?}");
        }
    }
}
