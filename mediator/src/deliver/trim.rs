//! What has ended is removed from the log, in steps.

use std::sync::Arc;
use std::time::Duration;

use ingest::log::{LogTime, Partition};
use ingest::registry::kind::Queue;

use super::worker::{Parts, Shared};

/// Removes what has ended from a partition's topics.
#[derive(Debug)]
pub(super) struct Trimmer {
    shared: Arc<Shared>,
    messages: Partition,
    /// Below that it was tried.
    tried: u64,
}

impl Trimmer {
    /// Of a partition whose messages have ended below an offset.
    pub(super) fn new(shared: Arc<Shared>, partition: u32, committed: u64) -> Self {
        let messages = shared.topics.messages(partition);
        Self { shared, messages, tried: committed }
    }

    /// Removes what is below the committed offset, if that is `step` more than the last time,
    /// and older than the queue's history.
    pub(super) fn messages(&mut self, committed: u64, step: u64) {
        if committed < self.tried.saturating_add(step.max(1)) {
            return;
        }
        self.tried = committed;
        // One that was removed keeps all.
        let snapshot = self.shared.parts.view.snapshot();
        if let Some(queue) = snapshot.get::<Queue>(&self.shared.queue) {
            let history = Duration::from_millis(queue.history_ms);
            self.remove(self.messages.clone(), committed, history);
        }
    }

    /// Removes what is parked below an offset.
    pub(super) fn parked(&self, partition: Partition, before: u64) {
        self.remove(partition, before, Duration::ZERO);
    }

    /// Removes what is below an offset, and older than that.
    fn remove(&self, partition: Partition, before: u64, history: Duration) {
        let Parts { log, clock, .. } = self.shared.parts.clone();
        tokio::spawn(async move {
            let trimmed = async {
                let mut before = before;
                if !history.is_zero() {
                    let kept = clock.now().as_micros() / 1_000 - history.as_millis() as i64;
                    before = before.min(log.offset_at(&partition, LogTime(kept)).await?);
                }
                log.trim(&partition, before).await
            };
            // The next step removes what this one could not.
            if let Err(error) = trimmed.await {
                tracing::debug!(%partition, %error, "could not trim a queue");
            }
        });
    }
}
