//! What is done in the background: retention, checkpoints, allocating ahead,
//! removing what is dead; compaction and moving are in `cleaner.rs`.
//!
//! A segment is removed when no partition holds anything in it. Retention and
//! trims empty segments from the front; what stays behind (the last record of a
//! compacted key, a message that waits long) is moved by the cleaner.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use super::checkpoint::{Checkpoint, Covered};
use super::clock_jumps::ClockJumps;
use super::disk::{Disk, file_error};
use super::journal::{RESERVE, RESERVE_FRACTION, create_segment};
use super::mark::Mark;
use super::request::{Answer, Request};
use super::section::PartitionKey;
use super::segment::{file_name, index_name};
use super::state::Stored;
use super::view::{Sealed, Shared};
use crate::log::{Cleanup, Error, LogTime, Partition, Result};

/// When the cleaner finds it worth its while.
#[derive(Debug, Clone)]
pub(super) struct Thresholds {
    pub(super) segment_bytes: u64,
    /// A compacted partition is compacted when this much is new in it, and at
    /// least half of it is.
    pub(super) compact_bytes_min: u64,
    /// So many small segments, left behind by restarts, are made into one.
    pub(super) small_segments_max: usize,
    /// So many full segments stay open.
    pub(super) open_segments_max: usize,
}

/// The background work, one pass at a time.
pub(super) struct Maintenance<S> {
    pub(super) shared: Arc<Shared>,
    pub(super) thresholds: Thresholds,
    pub(super) clock: fn() -> LogTime,
    /// Has the committer carry out a request.
    pub(super) submit: S,
    covered: Covered,
    marked: Mark,
    jumps: ClockJumps,
    /// Extents that cannot be read; trying again each second would copy what is
    /// before the damage again each second.
    pub(super) set_aside: HashSet<(PartitionKey, u64)>,
}

impl<S: FnMut(Request) -> Result<Answer>> Maintenance<S> {
    pub(super) fn new(
        shared: Arc<Shared>,
        thresholds: Thresholds,
        clock: fn() -> LogTime,
        submit: S,
        covered: Covered,
    ) -> Self {
        let (marked, jumps, set_aside) = Default::default();
        Self { shared, thresholds, clock, submit, covered, marked, jumps, set_aside }
    }

    /// Does what there is to do. What could not be done is tried again by the
    /// next pass.
    ///
    /// # Errors
    /// The first failure.
    pub(super) fn run(&mut self) -> Result<()> {
        // One that fails does not keep the others from being done. Space is freed
        // first, so that a full disk can recover.
        let retained = self.retain();
        let covered = self.checkpoint();
        let moved = self.move_forward();
        let covered_again = self.checkpoint();
        let allocated = self.allocate();
        let confirmed = (self.submit)(Request::Confirm).map(drop);
        let marked = self.mark();
        self.close_segments();
        let done = retained.and(covered).and(moved).and(covered_again).and(allocated);
        done.and(confirmed).and(marked)
    }

    /// Writes down how far the journal is.
    fn mark(&mut self) -> Result<()> {
        let durable = self.shared.view.read().durable;
        if durable != self.marked {
            durable.write(&*self.shared.disk)?;
            self.marked = durable;
        }
        Ok(())
    }

    /// Takes the space of the next segment, and that of the next checkpoint.
    fn allocate(&self) -> Result<()> {
        let reserve = self.thresholds.segment_bytes / RESERVE_FRACTION;
        let has = self.shared.disk.open(RESERVE).and_then(|file| file.bytes());
        if has.ok() != Some(reserve) {
            self.shared.disk.create(RESERVE, reserve).map_err(|e| self.io("create", RESERVE, e))?;
        }
        let mut spare = self.shared.spare.lock();
        let newest = self.shared.view.read().segments.last_key_value().map(|(number, _)| *number);
        let next = newest.unwrap_or(0) + 1;
        if spare.as_ref().is_none_or(|(number, _)| *number != next) {
            *spare = None;
            let file = create_segment(&self.shared, next, self.thresholds.segment_bytes)?;
            *spare = Some((next, file));
        }
        Ok(())
    }

    /// Trims what is too old or too much.
    fn retain(&mut self) -> Result<()> {
        let now = (self.clock)();
        let clock_is_trusted = self.jumps.is_trusted(now, Instant::now());
        let mut due = Vec::new();
        let mut failed = Ok(());
        let partitions = self.partitions(|cleanup| match cleanup {
            Cleanup::Retain { age: None, bytes: None } | Cleanup::Compact { .. } => None,
            Cleanup::Retain { age, bytes } => Some((*age, *bytes)),
        });
        for (partition, key, (age, bytes)) in partitions {
            let mut before = 0;
            if let Some(age) = age.filter(|_| clock_is_trusted) {
                let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
                match self.shared.offset_at(key, LogTime(now.0.saturating_sub(age))) {
                    Ok(offset) => before = offset,
                    Err(error) => failed = failed.and(Err(error)),
                }
            }
            if let Some(bytes) = bytes {
                before = before.max(self.first_within(key, bytes));
            }
            if before > self.shared.view.read().state.ends(key).first {
                due.push((partition, before));
            }
        }
        for (partition, before) in due {
            (self.submit)(Request::Trim { partition, before })?;
        }
        failed
    }

    /// The first offset of the newest extents that together have at least `bytes`.
    fn first_within(&self, key: PartitionKey, bytes: u64) -> u64 {
        let view = self.shared.view.read();
        let extents: Vec<_> = view.extents.of(key).collect();
        let mut wanted = bytes;
        for (_, extent) in extents.iter().rev() {
            if wanted == 0 {
                return extent.last + 1;
            }
            wanted = wanted.saturating_sub(extent.bytes);
        }
        0
    }

    pub(super) fn partitions<T>(
        &self,
        select: impl Fn(&Cleanup) -> Option<T>,
    ) -> Vec<(Partition, PartitionKey, T)> {
        let view = self.shared.view.read();
        let all = view.state.partitions();
        all.filter_map(|(partition, key, spec)| Some((partition, key, select(&spec.cleanup)?)))
            .collect()
    }

    /// Writes the indexes of full segments, then a checkpoint, then removes the
    /// segments that it no longer names.
    fn checkpoint(&mut self) -> Result<()> {
        let sealed = std::mem::take(&mut *self.shared.sealed.lock());
        let mut result = self.checkpoint_with(&sealed);
        if matches!(result, Err(Error::Full { .. })) && self.shared.disk.remove(RESERVE).is_ok() {
            // A checkpoint is what frees space, so some is kept for it.
            result = self.checkpoint_with(&sealed);
        }
        if result.is_err() {
            self.shared.sealed.lock().splice(0..0, sealed);
        }
        result
    }

    fn checkpoint_with(&mut self, sealed: &[Sealed]) -> Result<()> {
        for Sealed { segment, .. } in sealed {
            let loaded = segment.loaded().expect("a segment is open until its index is written");
            let index = loaded.index.read().encode(segment.number);
            let name = index_name(segment.number);
            self.shared.disk.replace(&name, &index).map_err(|e| self.io("write", &name, e))?;
        }
        let covered = match sealed.last() {
            Some(Sealed { segment, next_sequence, state, .. }) => Covered {
                last_segment: segment.number,
                next_sequence: *next_sequence,
                state: state.clone(),
            },
            None => self.covered.clone(),
        };
        let last_segment = covered.last_segment;
        let (checkpoint, dead) = {
            let view = self.shared.view.read();
            let live = view.live_bytes();
            let (kept, dead): (BTreeMap<u64, u64>, BTreeMap<u64, u64>) = view
                .segment_bytes
                .range(..=last_segment)
                .map(|(number, bytes)| (*number, *bytes))
                .partition(|(number, _)| live.contains_key(number));
            let extents = view.extents.iter().filter(|(_, _, e)| e.segment <= last_segment);
            let checkpoint = Checkpoint {
                last_segment,
                next_sequence: covered.next_sequence,
                segments: kept.into_iter().collect(),
                extents: extents.collect(),
                state: Stored::from(&covered.state),
            };
            (checkpoint, dead)
        };
        if sealed.is_empty() && dead.is_empty() {
            return Ok(());
        }
        checkpoint.write(&*self.shared.disk)?;
        self.covered = covered;
        let mut view = self.shared.view.write();
        for number in dead.keys() {
            view.segments.remove(number);
            view.segment_bytes.remove(number);
        }
        drop(view);
        for number in dead.keys() {
            remove(&*self.shared.disk, &file_name(*number))?;
            remove(&*self.shared.disk, &index_name(*number))?;
        }
        Ok(())
    }

    fn io(&self, action: &'static str, name: &str, source: std::io::Error) -> Error {
        file_error(&*self.shared.disk, action, name, source)
    }

    /// Closes the full segments that were used longest ago.
    fn close_segments(&self) {
        // Out of the view first: a segment that is being opened keeps us waiting.
        let covered: Vec<_> = {
            let view = self.shared.view.read();
            view.segments.range(..=self.covered.last_segment).map(|(_, s)| s.clone()).collect()
        };
        let mut open: Vec<_> = covered.iter().filter(|s| s.loaded().is_some()).collect();
        sort_by_last_use(&mut open, |segment| segment.used());
        open.iter().skip(self.thresholds.open_segments_max).for_each(|segment| segment.close());
    }
}

/// Sorts what was used last to the front. Each is asked once: readers go on using them
/// meanwhile, and sorting panics where an order changes while it is sought.
fn sort_by_last_use<T>(items: &mut [T], used: impl Fn(&T) -> u64) {
    items.sort_by_cached_key(|item| std::cmp::Reverse(used(item)));
}

fn remove(disk: &dyn Disk, name: &str) -> Result<()> {
    match disk.remove(name) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::Io { action: "remove", file: name.to_owned(), source })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn what_is_used_while_it_is_sorted_is_no_panic() {
        let mut items: Vec<u64> = (0..1_000).collect();
        sort_by_last_use(&mut items, |item| item % 500);
        assert_eq!((items[0] % 500, items[999] % 500), (499, 0));
        let random = RefCell::new(fastrand::Rng::with_seed(7));
        for _ in 0..100 {
            // Another answer each time, as of a segment that is being read.
            sort_by_last_use(&mut items, |_| random.borrow_mut().u64(..));
        }
        items.sort_unstable();
        assert!(items.iter().copied().eq(0..1_000));
    }
}
