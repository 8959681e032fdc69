//! What is done in the background: allocating ahead, retention, compaction,
//! moving what lives long out of the way, checkpoints, removing what is dead.
//!
//! A segment is removed when no partition holds anything in it. Retention and
//! trims empty segments from the front. What stays behind (the last record of a
//! compacted key, a message that waits long) is copied forward into the active
//! segment, with its offset and time, and its extents then point there. A crash
//! before the next checkpoint forgets the copies and keeps the originals.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::checkpoint::{Checkpoint, Covered};
use super::disk::{Disk, file_error};
use super::index::Extent;
use super::journal::create_segment;
use super::request::{Answer, Request};
use super::section::{PartitionKey, put_moved_record};
use super::segment::{file_name, index_name};
use super::state::Stored;
use super::view::{Sealed, Shared};
use crate::log::{Cleanup, Error, LogTime, Partition, Record, Result};

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

/// Copies are written in batches of about this size.
const MOVE_BYTES: usize = 512 * 1024;
const READ_BYTES: usize = 1024 * 1024;

/// A file whose space is given up when there is none left for a checkpoint.
const RESERVE: &str = "reserve";
/// The reserve is this part of a segment.
const RESERVE_FRACTION: u64 = 16;

/// The background work, one pass at a time.
pub(super) struct Maintenance<S> {
    shared: Arc<Shared>,
    thresholds: Thresholds,
    clock: fn() -> LogTime,
    /// Has the committer carry out a request.
    submit: S,
    covered: Covered,
}

/// What a pass has copied: which extents go, and which come in their place.
#[derive(Debug, Default)]
struct Moves {
    old: Vec<(PartitionKey, u64)>,
    new: Vec<(PartitionKey, u64, Extent)>,
}

impl<S: FnMut(Request) -> Result<Answer>> Maintenance<S> {
    pub(super) fn new(
        shared: Arc<Shared>,
        thresholds: Thresholds,
        clock: fn() -> LogTime,
        submit: S,
        covered: Covered,
    ) -> Self {
        Self { shared, thresholds, clock, submit, covered }
    }

    /// Does what there is to do. What could not be done is tried again by the
    /// next pass.
    ///
    /// # Errors
    /// The first failure.
    pub(super) fn run(&mut self) -> Result<()> {
        // Space is freed first, so that a full disk can recover.
        self.retain()?;
        self.checkpoint()?;
        self.allocate()?;
        let moved = self.move_forward();
        self.checkpoint()?;
        self.close_segments();
        moved
    }

    /// Takes the space of the next segment, and that of the next checkpoint.
    fn allocate(&self) -> Result<()> {
        if self.shared.disk.open(RESERVE).is_err() {
            let bytes = self.thresholds.segment_bytes / RESERVE_FRACTION;
            self.shared.disk.create(RESERVE, bytes).map_err(|e| self.io("create", RESERVE, e))?;
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
        let mut due = Vec::new();
        let partitions = self.partitions(|cleanup| match cleanup {
            Cleanup::Retain { age: None, bytes: None } | Cleanup::Compact { .. } => None,
            Cleanup::Retain { age, bytes } => Some((*age, *bytes)),
        });
        for (partition, key, (age, bytes)) in partitions {
            let mut before = 0;
            if let Some(age) = age {
                let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
                before = self.shared.offset_at(key, LogTime(now.0.saturating_sub(age)))?;
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
        Ok(())
    }

    /// The first offset of the newest extents that together take up to `bytes`.
    fn first_within(&self, key: PartitionKey, bytes: u64) -> u64 {
        let view = self.shared.view.read();
        let extents: Vec<_> = view.extents.of(key).collect();
        let mut left = bytes;
        for (_, extent) in extents.iter().rev() {
            match left.checked_sub(extent.bytes) {
                Some(rest) => left = rest,
                None => return extent.last + 1,
            }
        }
        0
    }

    fn partitions<T>(
        &self,
        select: impl Fn(&Cleanup) -> Option<T>,
    ) -> Vec<(Partition, PartitionKey, T)> {
        let view = self.shared.view.read();
        let all = view.state.partitions();
        all.filter_map(|(partition, key, spec)| Some((partition, key, select(&spec.cleanup)?)))
            .collect()
    }

    /// Compacts and evacuates what is due.
    fn move_forward(&mut self) -> Result<()> {
        let mut moves = Moves::default();
        let copied = self.compact(&mut moves).and_then(|()| self.evacuate(&mut moves));
        if moves.old.is_empty() {
            return copied;
        }
        // The copies are now in full segments, which the next checkpoint covers.
        (self.submit)(Request::Roll)?;
        copied?;
        let mut view = self.shared.view.write();
        let mut touched = Vec::new();
        for (partition, first) in moves.old {
            // Trimmed meanwhile: its copies go the same way, below.
            let _trimmed = view.extents.remove(partition, first);
            touched.push(partition);
        }
        for (partition, first, extent) in moves.new {
            view.extents.insert(partition, first, extent);
        }
        touched.dedup();
        for partition in touched {
            let first = view.state.ends(partition).first;
            view.extents.trim(partition, first);
        }
        Ok(())
    }

    fn compact(&mut self, moves: &mut Moves) -> Result<()> {
        let partitions = self.partitions(|cleanup| match cleanup {
            Cleanup::Compact { tombstone_age } => Some(*tombstone_age),
            Cleanup::Retain { .. } => None,
        });
        for (_, key, tombstone_age) in partitions {
            let extents = self.full_extents(key);
            let total: u64 = extents.iter().map(|(_, extent)| extent.bytes).sum();
            let new: u64 = extents.iter().filter(|(_, e)| !e.compacted).map(|(_, e)| e.bytes).sum();
            if new < self.thresholds.compact_bytes_min || new * 2 < total {
                continue;
            }
            let keys = self.keys(key)?;
            let age = i64::try_from(tombstone_age.as_millis()).unwrap_or(i64::MAX);
            let tombstones_until = LogTime((self.clock)().0.saturating_sub(age));
            let is_live = |record: &Record| {
                let Some(seen) = record.key.as_ref().and_then(|k| keys.get(&k[..])) else {
                    return true;
                };
                let expired = record.value.is_none() && record.time < tombstones_until;
                // As long as an older value is there, it must stay buried.
                let buries_something = seen.first < record.offset;
                record.offset == seen.last && (!expired || buries_something)
            };
            for (first, extent) in extents {
                self.copy(key, first, extent, true, &is_live, moves)?;
            }
        }
        Ok(())
    }

    /// All keys of a compacted partition, and where they first and last stand.
    /// This is held in memory while the partition is compacted.
    fn keys(&self, key: PartitionKey) -> Result<HashMap<Box<[u8]>, Seen>> {
        let mut keys: HashMap<Box<[u8]>, Seen> = HashMap::new();
        let extents: Vec<_> = self.shared.view.read().extents.of(key).collect();
        for (first, extent) in extents {
            self.each_record(key, first, extent, |record| {
                let Some(key) = &record.key else {
                    return Ok(());
                };
                match keys.get_mut(&key[..]) {
                    Some(seen) => seen.last = record.offset,
                    None => {
                        let seen = Seen { first: record.offset, last: record.offset };
                        keys.insert(key[..].into(), seen);
                    }
                }
                Ok(())
            })?;
        }
        Ok(keys)
    }

    /// Copies out of segments that are mostly dead, and out of small ones when
    /// there are many.
    fn evacuate(&mut self, moves: &mut Moves) -> Result<()> {
        let (live, full) = {
            let view = self.shared.view.read();
            (view.live_bytes(), view.segment_bytes.clone())
        };
        let is_small = |bytes: u64| bytes < self.thresholds.segment_bytes / 4;
        let is_live = |number: &u64| live.contains_key(number);
        let small = full.iter().filter(|(n, bytes)| is_live(n) && is_small(**bytes)).count();
        let too_many_small = small > self.thresholds.small_segments_max;
        let due = |number: u64| {
            let bytes = full.get(&number).copied();
            let live = live.get(&number).copied().unwrap_or(0);
            bytes.is_some_and(|bytes| live * 2 < bytes || (too_many_small && is_small(bytes)))
        };
        let already: Vec<_> = moves.old.clone();
        let extents: Vec<_> = {
            let view = self.shared.view.read();
            let of_due = view.extents.iter().filter(|(_, _, extent)| due(extent.segment));
            of_due.filter(|(key, first, _)| !already.contains(&(*key, *first))).collect()
        };
        for (key, first, extent) in extents {
            self.copy(key, first, extent, extent.compacted, &|_: &Record| true, moves)?;
        }
        Ok(())
    }

    fn full_extents(&self, key: PartitionKey) -> Vec<(u64, Extent)> {
        let view = self.shared.view.read();
        let full = |segment: u64| view.segment_bytes.contains_key(&segment);
        view.extents.of(key).filter(|(_, extent)| full(extent.segment)).collect()
    }

    /// Copies the live records of an extent into the active segment.
    fn copy(
        &mut self,
        key: PartitionKey,
        first: u64,
        extent: Extent,
        compacted: bool,
        is_live: &dyn Fn(&Record) -> bool,
        moves: &mut Moves,
    ) -> Result<()> {
        let shared = self.shared.clone();
        let mut batch = Batch::default();
        let mut copies = Vec::new();
        let submit = &mut self.submit;
        let mut write = |batch: &mut Batch| -> Result<()> {
            if let Some((request, ends)) = batch.take(key) {
                let Answer::Moved(segment) = submit(request)? else {
                    unreachable!("a move is answered with its segment");
                };
                let Ends { first, last, time, bytes } = ends;
                let extent = Extent { last, segment, bytes, time: time.0, compacted };
                copies.push((key, first, extent));
            }
            Ok(())
        };
        each_record(&shared, key, first, extent, |record| {
            if is_live(record) {
                batch.push(record);
            }
            if batch.body.len() >= MOVE_BYTES { write(&mut batch) } else { Ok(()) }
        })?;
        write(&mut batch)?;
        moves.old.push((key, first));
        moves.new.extend(copies);
        Ok(())
    }

    fn each_record(
        &self,
        key: PartitionKey,
        first: u64,
        extent: Extent,
        visit: impl FnMut(&Record) -> Result<()>,
    ) -> Result<()> {
        each_record(&self.shared, key, first, extent, visit)
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
        let view = self.shared.view.read();
        let covered = view.segments.range(..=self.covered.last_segment);
        let mut open: Vec<_> =
            covered.filter(|(_, segment)| segment.loaded().is_some()).map(|(_, s)| s).collect();
        open.sort_by_key(|segment| std::cmp::Reverse(segment.used()));
        open.iter().skip(self.thresholds.open_segments_max).for_each(|segment| segment.close());
    }
}

/// Where a key stands in a partition.
struct Seen {
    first: u64,
    last: u64,
}

struct Ends {
    first: u64,
    last: u64,
    time: LogTime,
    bytes: u64,
}

/// Copies that are not written yet.
#[derive(Default)]
struct Batch {
    body: Vec<u8>,
    count: u32,
    first: u64,
    last: u64,
    time: LogTime,
}

impl Batch {
    fn push(&mut self, record: &Record) {
        if self.count == 0 {
            self.first = record.offset;
        }
        (self.last, self.time) = (record.offset, record.time);
        self.count += 1;
        put_moved_record(&mut self.body, record);
    }

    fn take(&mut self, key: PartitionKey) -> Option<(Request, Ends)> {
        if self.count == 0 {
            return None;
        }
        let Self { body, count, first, last, time } = std::mem::take(self);
        let bytes = body.len() as u64;
        let request = Request::Move { runs: vec![(key, count, body)] };
        Some((request, Ends { first, last, time, bytes }))
    }
}

/// Visits what an extent holds and the partition still wants.
fn each_record(
    shared: &Shared,
    key: PartitionKey,
    first: u64,
    extent: Extent,
    mut visit: impl FnMut(&Record) -> Result<()>,
) -> Result<()> {
    let (segment, wanted) = {
        let view = shared.view.read();
        let segment = view.segments.get(&extent.segment).cloned();
        (segment.expect("an extent has a segment"), view.state.ends(key).first)
    };
    let mut from = first.max(wanted);
    while from <= extent.last {
        let records = shared.read_segment(&segment, key, from, extent.last, READ_BYTES)?;
        let Some(newest) = records.last() else { break };
        from = newest.offset + 1;
        records.iter().try_for_each(&mut visit)?;
    }
    Ok(())
}

fn remove(disk: &dyn Disk, name: &str) -> Result<()> {
    match disk.remove(name) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::Io { action: "remove", file: name.to_owned(), source })
        }
        _ => Ok(()),
    }
}
