//! What an emitter counts.

use std::sync::atomic::{AtomicU64, Ordering};

/// What an emitter has done since it was opened, and what it holds now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Metrics {
    /// Events that were written to the spool, heartbeats and the like included.
    pub emitted: u64,
    /// Events of this and earlier boots that the log acknowledged.
    pub drained: u64,
    /// Events that were refused, because the spool was full.
    pub refused: u64,
    /// Events that were dropped, because the spool was full.
    pub dropped: u64,
    /// Events that were in the spool and are lost: damaged, or refused by the log.
    pub lost: u64,
    /// Bytes of unfinished writes that were cut at the opening.
    pub cut_bytes: u64,
    /// Appends that failed and were repeated.
    pub append_failures: u64,
    /// Reads of the spool and stores of its position that failed; the drainer went on.
    pub spool_failures: u64,
    /// Syncs that failed: a power cut may then lose more than the stated interval.
    pub sync_failures: u64,
    /// Bytes that the spool takes on disk.
    pub spooled_bytes: u64,
    /// Bytes of the spool that the log has not acknowledged.
    pub lag_bytes: u64,
}

/// A number that threads count up and down.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(super) fn sub(&self, less: u64) {
        self.0.fetch_sub(less, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// What was counted; counts from nothing again.
    pub(super) fn take(&self) -> u64 {
        self.0.swap(0, Ordering::Relaxed)
    }
}

/// The counters behind [`Metrics`].
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) emitted: Counter,
    pub(super) drained: Counter,
    pub(super) refused: Counter,
    pub(super) dropped: Counter,
    /// Dropped, and no loss event has told of it.
    pub(super) dropped_untold: Counter,
    pub(super) lost: Counter,
    pub(super) cut_bytes: Counter,
    pub(super) append_failures: Counter,
    pub(super) spool_failures: Counter,
    pub(super) sync_failures: Counter,
    pub(super) spooled_bytes: Counter,
    pub(super) lag_bytes: Counter,
    /// What the log has acknowledged of the spool.
    pub(super) acknowledged_bytes: Counter,
}

impl Counters {
    pub(super) fn snapshot(&self) -> Metrics {
        Metrics {
            emitted: self.emitted.get(),
            drained: self.drained.get(),
            refused: self.refused.get(),
            dropped: self.dropped.get(),
            lost: self.lost.get(),
            cut_bytes: self.cut_bytes.get(),
            append_failures: self.append_failures.get(),
            spool_failures: self.spool_failures.get(),
            sync_failures: self.sync_failures.get(),
            spooled_bytes: self.spooled_bytes.get(),
            lag_bytes: self.lag_bytes.get(),
        }
    }
}
