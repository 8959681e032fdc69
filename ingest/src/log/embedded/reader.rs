//! Readers of the embedded log.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::time::{Instant, timeout_at};

use super::Inner;
use super::section::PartitionKey;
use crate::log::{Batch, Error, Partition, ReadLimit, Reader, Result};

/// Runs what touches files off the runtime's threads.
pub(super) async fn blocking<T: Send + 'static>(
    read: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(read).await.map_err(|_| Error::Closed)?
}

/// Places in partitions, to go on reading from.
#[derive(Debug, Default)]
pub(super) struct Cursors {
    cursors: Vec<Cursor>,
    /// Whose turn it is.
    turn: usize,
}

#[derive(Debug)]
struct Cursor {
    partition: Partition,
    key: PartitionKey,
    next: u64,
    /// Keeps its place, and is not read.
    is_paused: bool,
}

impl Cursors {
    pub(super) fn insert(&mut self, partition: Partition, key: PartitionKey, next: u64) {
        self.cursors.push(Cursor { partition, key, next, is_paused: false });
    }

    /// Stops reading the partitions, or goes on; those that are not here are passed over.
    pub(super) fn set_paused(&mut self, partitions: &[Partition], is_paused: bool) {
        for cursor in &mut self.cursors {
            if partitions.contains(&cursor.partition) {
                cursor.is_paused = is_paused;
            }
        }
    }

    /// Whether all of the partition before an offset was read.
    fn have_reached(&self, partition: &Partition, end: u64) -> bool {
        let mut of = self.cursors.iter().filter(|cursor| cursor.partition == *partition);
        of.any(|cursor| cursor.next >= end)
    }

    pub(super) fn remove(&mut self, partition: &Partition) {
        self.cursors.retain(|cursor| cursor.partition != *partition);
    }

    /// Removes all; answers which they were.
    pub(super) fn take_all(&mut self) -> Vec<Partition> {
        self.cursors.drain(..).map(|cursor| cursor.partition).collect()
    }

    /// What is there to read now, of the partition whose turn it is.
    pub(super) async fn read(&mut self, log: &Inner, bytes: usize) -> Result<Option<Batch>> {
        for step in 0..self.cursors.len() {
            let at = (self.turn + step) % self.cursors.len();
            // Until something is read, or nothing is left: compaction may have
            // left nothing where the cursor is.
            loop {
                let cursor = &self.cursors[at];
                let has_more = log.shared.view.read().state.ends(cursor.key).end != cursor.next;
                if cursor.is_paused || !has_more {
                    break;
                }
                let (partition, key, from) = (cursor.partition.clone(), cursor.key, cursor.next);
                let (shared, of) = (log.shared.clone(), partition.clone());
                let found = match blocking(move || shared.read(&of, key, from, bytes)).await {
                    Ok(found) => found,
                    Err(error) => {
                        // The others get their turn.
                        self.turn = at + 1;
                        return Err(error);
                    }
                };
                let Some(found) = found else { break };
                self.cursors[at].next = found.next;
                if !found.records.is_empty() {
                    self.turn = at + 1;
                    let (records, next) = (found.records, found.next);
                    return Ok(Some(Batch { partition, records, next }));
                }
            }
        }
        Ok(None)
    }
}

pub(super) struct EmbeddedReader {
    log: Arc<Inner>,
    cursors: Cursors,
}

impl EmbeddedReader {
    pub(super) fn new(log: Arc<Inner>, from: Vec<(Partition, u64)>) -> Result<Self> {
        let mut cursors = Cursors::default();
        for (partition, next) in from {
            let key = log.shared.view.read().state.key(&partition)?;
            cursors.insert(partition, key, next);
        }
        Ok(Self { log, cursors })
    }
}

#[async_trait]
impl Reader for EmbeddedReader {
    async fn next(&mut self, limit: ReadLimit) -> Result<Option<Batch>> {
        let deadline = Instant::now() + limit.wait;
        let mut published = self.log.shared.published.subscribe();
        loop {
            published.mark_unchanged();
            if let Some(batch) = self.cursors.read(&self.log, limit.bytes).await? {
                return Ok(Some(batch));
            }
            // With nothing more to come, what is durable can still be read.
            self.log.shared.check_writable()?;
            if timeout_at(deadline, published.changed()).await.is_err() {
                return Ok(None);
            }
        }
    }

    fn has_reached(&self, partition: &Partition, end: u64) -> bool {
        self.cursors.have_reached(partition, end)
    }
}

impl fmt::Debug for EmbeddedReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedReader").field("cursors", &self.cursors).finish_non_exhaustive()
    }
}
