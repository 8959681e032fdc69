use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::intake::Stamped;

/// What was counted since the start.
#[derive(Debug, Default)]
pub struct Counters {
    rows: AtomicU64,
    repeated: AtomicU64,
    gaps: AtomicU64,
    unreadable: AtomicU64,
    unkept: AtomicU64,
    committed: AtomicU64,
    failures: AtomicU64,
    failing: AtomicBool,
}

/// Whether the lake follows the log, and what was counted.
#[derive(Debug, Clone)]
pub struct Status(Arc<Counters>);

/// A [`Status`] at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    /// Events that were read, each once.
    pub rows: u64,
    /// Events that came again.
    pub repeated: u64,
    /// Places where events are missing.
    pub gaps: u64,
    /// Records that are no events.
    pub unreadable: u64,
    /// Those of them that could not be kept with their bytes.
    pub unkept: u64,
    /// Events that this node has committed to the table.
    pub committed: u64,
    /// Failures of the log or the lake.
    pub failures: u64,
    /// Whether the last step failed.
    pub failing: bool,
}

impl Status {
    pub(super) fn new(counters: Arc<Counters>) -> Self {
        Self(counters)
    }

    /// What it is now.
    pub fn now(&self) -> State {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        State {
            rows: of(&self.0.rows),
            repeated: of(&self.0.repeated),
            gaps: of(&self.0.gaps),
            unreadable: of(&self.0.unreadable),
            unkept: of(&self.0.unkept),
            committed: of(&self.0.committed),
            failures: of(&self.0.failures),
            failing: self.0.failing.load(Ordering::Relaxed),
        }
    }
}

impl Counters {
    pub(super) fn count(&self, stamped: &Stamped, unkept: usize) {
        let add = |counter: &AtomicU64, of: usize| counter.fetch_add(of as u64, Ordering::Relaxed);
        add(&self.rows, stamped.rows.num_rows());
        add(&self.repeated, stamped.repeated);
        add(&self.gaps, stamped.gaps);
        add(&self.unreadable, stamped.unreadable.len());
        add(&self.unkept, unkept);
    }

    pub(super) fn committed(&self, rows: usize) {
        self.committed.fetch_add(rows as u64, Ordering::Relaxed);
    }

    pub(super) fn fails(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        self.failing.store(true, Ordering::Relaxed);
    }

    pub(super) fn goes_on(&self) {
        self.failing.store(false, Ordering::Relaxed);
    }
}
