//! Compaction, and moving what lives long out of the way.
//!
//! Live records are copied forward into the active segment, with their offsets and
//! times; then their extents are made to point there. A crash before the next
//! checkpoint forgets the copies and keeps the originals.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::index::Extent;
use super::maintain::Maintenance;
use super::read::Part;
use super::request::{Answer, Request};
use super::section::{PartitionKey, put_moved_record};
use super::view::Shared;
use crate::log::{Cleanup, Error, LogTime, Record, Result};

/// Copies are written in batches of about this size.
const MOVE_BYTES: usize = 512 * 1024;
const READ_BYTES: usize = 1024 * 1024;

/// What a pass has copied: which extents go, and which come in their place.
#[derive(Debug, Default)]
struct Moves {
    old: Vec<(PartitionKey, u64)>,
    new: Vec<(PartitionKey, u64, Extent)>,
}

impl<S: FnMut(Request) -> Result<Answer>> Maintenance<S> {
    /// Compacts and evacuates what is due.
    pub(super) fn move_forward(&mut self) -> Result<()> {
        let mut moves = Moves::default();
        let dead_enough = self.segments_to_evacuate();
        let compacted = self.compact(&mut moves);
        let copied = compacted.and(self.evacuate(&dead_enough, &mut moves));
        if moves.old.is_empty() {
            return copied;
        }
        // The copies are now in full segments, which the next checkpoint covers.
        (self.submit)(Request::Roll)?;
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
        copied
    }

    fn compact(&mut self, moves: &mut Moves) -> Result<()> {
        let partitions = self.partitions(|cleanup| match cleanup {
            Cleanup::Compact { tombstone_age } => Some(*tombstone_age),
            Cleanup::Retain { .. } => None,
        });
        let mut failed = Ok(());
        for (_, key, tombstone_age) in partitions {
            failed = failed.and(self.compact_partition(key, tombstone_age, moves));
        }
        failed
    }

    fn compact_partition(
        &mut self,
        key: PartitionKey,
        tombstone_age: Duration,
        moves: &mut Moves,
    ) -> Result<()> {
        let extents = self.full_extents(key);
        let total: u64 = extents.iter().map(|(_, extent)| extent.bytes).sum();
        let new: u64 = extents.iter().filter(|(_, e)| !e.compacted).map(|(_, e)| e.bytes).sum();
        if new < self.thresholds.compact_bytes_min || new * 2 < total {
            return Ok(());
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

    /// Full segments that are mostly dead, and small ones when there are many.
    fn segments_to_evacuate(&self) -> BTreeSet<u64> {
        let view = self.shared.view.read();
        let live = view.live_bytes();
        let is_small = |bytes: u64| bytes < self.thresholds.segment_bytes / 4;
        let full = view.segment_bytes.iter().filter_map(|(number, bytes)| {
            // One that is wholly dead goes without being looked at.
            Some((*number, *bytes, *live.get(number)?))
        });
        let small = full.clone().filter(|(_, bytes, _)| is_small(*bytes)).count();
        let too_many_small = small > self.thresholds.small_segments_max;
        full.filter(|(_, bytes, live)| match is_small(*bytes) {
            // Copying ends in a small segment: one alone is left, or it never ends.
            true => too_many_small,
            false => live * 2 < *bytes,
        })
        .map(|(number, ..)| number)
        .collect()
    }

    /// Copies what is left out of `segments`.
    fn evacuate(&mut self, segments: &BTreeSet<u64>, moves: &mut Moves) -> Result<()> {
        let extents: Vec<_> = {
            let view = self.shared.view.read();
            let there = view.extents.iter().filter(|(_, _, e)| segments.contains(&e.segment));
            there.filter(|(key, first, _)| !moves.old.contains(&(*key, *first))).collect()
        };
        let mut failed = Ok(());
        for (key, first, extent) in extents {
            let copied = self.copy(key, first, extent, extent.compacted, &|_: &Record| true, moves);
            failed = failed.and(copied);
        }
        failed
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
        if self.set_aside.contains(&(key, first)) {
            return Ok(());
        }
        let visited = each_record(&shared, key, first, extent, |record| {
            if is_live(record) {
                batch.push(record);
            }
            if batch.body.len() >= MOVE_BYTES { write(&mut batch) } else { Ok(()) }
        });
        if matches!(visited, Err(Error::Damaged { .. })) {
            self.set_aside.insert((key, first));
        }
        visited?;
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
        if shared.stopping.load(Ordering::Relaxed) {
            return Err(Error::Closed);
        }
        let part =
            Part { partition: key, first: from, last: extent.last, dense: !extent.compacted };
        let records = shared.read_segment(&segment, part, READ_BYTES)?;
        let Some(newest) = records.last() else { break };
        from = newest.offset + 1;
        records.iter().try_for_each(&mut visit)?;
    }
    Ok(())
}
