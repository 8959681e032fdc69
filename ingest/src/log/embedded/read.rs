//! Reading records by offset and by time.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;

use super::disk::DiskFile;
use super::frame;
use super::index::Run;
use super::section::{PartitionKey, Section, records, sections};
use super::segment::{Segment, file_name, index_name};
use super::view::{Shared, payload_of};
use crate::log::{Error, LogTime, Partition, Record, Result};

/// Frames that lie closer together than this are read at once.
const GAP_BYTES_MAX: u64 = 4 * 1024;
/// A frame as large as this is kept for the next reader: it is likely to hold
/// several partitions' records, and the readers of each want it soon.
const KEPT_FRAME_BYTES_MIN: u32 = 32 * 1024;
/// So much is kept.
const KEPT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// So much memory is kept to read into.
const SPARE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// As much is read at once.
const CHUNK_BYTES_MAX: u64 = 1024 * 1024;

/// Records that follow each other, and where to go on.
#[derive(Debug)]
pub(super) struct Found {
    /// None if compaction left nothing before `next`.
    pub(super) records: Vec<Record>,
    pub(super) next: u64,
}

/// Offsets of a partition that one segment holds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    pub(super) partition: PartitionKey,
    pub(super) first: u64,
    /// Inclusive.
    pub(super) last: u64,
    /// Whether each of them has to be there; compaction leaves gaps.
    pub(super) dense: bool,
}

impl Shared {
    /// Reads from `from` on, about `bytes`; `None` at the end.
    pub(super) fn read(
        &self,
        partition: &Partition,
        key: PartitionKey,
        from: u64,
        bytes: usize,
    ) -> Result<Option<Found>> {
        loop {
            let (segment, part) = {
                let view = self.view.read();
                let bounds = view.state.bounds(key);
                if from < bounds.first || from > bounds.end {
                    let partition = partition.clone();
                    return Err(Error::OutOfRange { partition, offset: from, bounds });
                }
                if from == bounds.end {
                    return Ok(None);
                }
                let Some((first, extent)) = view.extents.find(key, from) else {
                    return Ok(Some(Found { records: Vec::new(), next: bounds.end }));
                };
                let segment = view.segments.get(&extent.segment).expect("an extent has a segment");
                let last = extent.last.min(bounds.end - 1);
                let (first, dense) = (first.max(from), !extent.compacted);
                (segment.clone(), Part { partition: key, first, last, dense })
            };
            let found = self.read_segment(&segment, part, bytes);
            if found.is_err() && !self.view.read().segments.contains_key(&segment.number) {
                // The cleaner has moved the records meanwhile; look again.
                continue;
            }
            let records = found?;
            // What compaction left out of the extent's end is passed over with it.
            let next = records.last().map_or(part.last, |record| record.offset) + 1;
            return Ok(Some(Found { records, next }));
        }
    }

    /// Reads about `bytes` of a part of a partition that is in one segment.
    pub(super) fn read_segment(
        &self,
        segment: &Segment,
        part: Part,
        bytes: usize,
    ) -> Result<Vec<Record>> {
        let Part { partition: key, first, last, dense } = part;
        let loaded = self.load(segment)?;
        let runs = loaded.index.read().select(key, first, last, bytes);
        let mut out = Vec::new();
        let mut next = first;
        for chunk in chunks(&runs) {
            let large = chunk[0].frame_bytes >= KEPT_FRAME_BYTES_MIN;
            let kept = large.then(|| self.frames.get(segment.number, chunk[0].position)).flatten();
            let is_verified = kept.is_some();
            let buffer = match kept {
                Some(frame) => frame,
                None => {
                    let bytes = bytes_of(chunk);
                    let spare = match large {
                        true => self.frames.spare(bytes),
                        false => BytesMut::zeroed(bytes),
                    };
                    read_chunk(segment, &*loaded.file, chunk, spare)?
                }
            };
            for run in chunk {
                let start = (run.position - chunk[0].position) as usize;
                let frame = buffer.slice(start..start + run.frame_bytes as usize);
                let damaged = |detail: &'static str| Error::Damaged {
                    file: file_name(segment.number),
                    position: u64::from(run.position),
                    detail: detail.to_owned(),
                };
                let is_intact = |header: frame::Header| header.is_intact(&frame);
                if !is_verified && !frame::Header::read(&frame).is_some_and(is_intact) {
                    return Err(damaged("a frame's checksum does not hold"));
                }
                if large && !is_verified {
                    self.frames.keep(segment.number, run.position, frame.clone());
                }
                take_records(&frame, key, last, &mut next, &mut out).map_err(damaged)?;
            }
        }
        let is_without_gaps = || {
            let begins = out.first().is_some_and(|record| record.offset == first);
            begins && out.windows(2).all(|pair| pair[0].offset + 1 == pair[1].offset)
        };
        if dense && !is_without_gaps() {
            return Err(Error::Damaged {
                file: index_name(segment.number),
                position: 0,
                detail: format!("it does not lead to all records from {first} to {last}"),
            });
        }
        Ok(out)
    }

    /// The offset of the first record at `time` or later, or the end.
    pub(super) fn offset_at(&self, key: PartitionKey, time: LogTime) -> Result<u64> {
        loop {
            let (segment, first, last, end) = {
                let view = self.view.read();
                let bounds = view.state.bounds(key);
                let extent = view.extents.of(key).find(|(_, e)| e.time >= time.0);
                let Some((first, extent)) = extent else {
                    return Ok(bounds.end);
                };
                let segment = view.segments.get(&extent.segment).expect("an extent has a segment");
                (segment.clone(), first.max(bounds.first), extent.last, bounds.end)
            };
            let search = || -> Result<u64> {
                let loaded = self.load(&segment)?;
                let run = loaded.index.read().first_at(key, first, last, time);
                let Some(run) = run else { return Ok(end) };
                let from = run.first.max(first);
                let part = Part { partition: key, first: from, last: run.last, dense: false };
                let records = self.read_segment(&segment, part, usize::MAX)?;
                Ok(records.iter().find(|record| record.time >= time).map_or(end, |r| r.offset))
            };
            match search() {
                Err(_) if !self.view.read().segments.contains_key(&segment.number) => {}
                result => return result,
            }
        }
    }
}

/// Takes a partition's records out of a frame, from `next` to `last`, inclusive.
fn take_records(
    frame: &Bytes,
    partition: PartitionKey,
    last: u64,
    next: &mut u64,
    out: &mut Vec<Record>,
) -> Result<(), &'static str> {
    let payload = payload_of(frame).map_err(|_| "a frame is cut off")?;
    for section in sections(payload) {
        let section = section.map_err(|_| "a section is cut off")?;
        let (Section::Records { partition: of, .. } | Section::Moved { partition: of, .. }) =
            section
        else {
            continue;
        };
        if of != partition {
            continue;
        }
        for record in records(&section, frame) {
            let record = record.map_err(|_| "a record is cut off")?;
            // A frame may hold a partition's records in two sections.
            if (*next..=last).contains(&record.offset) {
                *next = record.offset + 1;
                out.push(record);
            }
        }
    }
    Ok(())
}

/// The large frames that were read last, their checksums known to hold, and the memory of
/// those before them.
#[derive(Debug, Default)]
pub(super) struct FrameCache(Mutex<Frames>);

#[derive(Debug, Default)]
struct Frames {
    kept: VecDeque<(u64, u32, Bytes)>,
    kept_bytes: usize,
    /// Those that are not kept any more. What nobody else holds of them is to read into:
    /// fresh memory has to be cleared by the kernel first, which takes longer than to read
    /// the frame.
    spare: VecDeque<Bytes>,
    spare_bytes: usize,
}

impl FrameCache {
    fn get(&self, segment: u64, position: u32) -> Option<Bytes> {
        let frames = self.0.lock();
        let found = frames.kept.iter().rev().find(|(s, p, _)| (*s, *p) == (segment, position));
        found.map(|(.., frame)| frame.clone())
    }

    fn keep(&self, segment: u64, position: u32, frame: Bytes) {
        let mut frames = self.0.lock();
        frames.kept_bytes += frame.len();
        frames.kept.push_back((segment, position, frame));
        while frames.kept_bytes > KEPT_BYTES_MAX {
            let Some((.., oldest)) = frames.kept.pop_front() else { break };
            frames.kept_bytes -= oldest.len();
            frames.spare_bytes += oldest.len();
            frames.spare.push_back(oldest);
        }
        while frames.spare_bytes > SPARE_BYTES_MAX {
            let Some(oldest) = frames.spare.pop_front() else { break };
            frames.spare_bytes -= oldest.len();
        }
    }

    /// Memory for so many bytes; what is in it is nobody's any more.
    fn spare(&self, bytes: usize) -> BytesMut {
        let mut frames = self.0.lock();
        let fits = |spare: &Bytes| spare.len() >= bytes && spare.is_unique();
        let at = frames.spare.iter().position(fits);
        let spare = at.and_then(|at| frames.spare.remove(at));
        frames.spare_bytes -= spare.as_ref().map_or(0, Bytes::len);
        drop(frames);
        let mut buffer = spare.and_then(|spare| spare.try_into_mut().ok()).unwrap_or_default();
        buffer.resize(bytes, 0);
        buffer
    }
}

/// Splits runs into those that are read at once. Moved runs may lie in the file
/// in another order than their offsets.
fn chunks(runs: &[Run]) -> impl Iterator<Item = &[Run]> {
    let mut rest = runs;
    std::iter::from_fn(move || {
        let first = rest.first()?;
        let mut end = end_of(first);
        let mut count = 1;
        for run in &rest[1..] {
            let start = u64::from(run.position);
            let near = start + GAP_BYTES_MAX >= end && start <= end + GAP_BYTES_MAX;
            let forward = run.position >= rest[count - 1].position;
            let is_alone = first.frame_bytes.max(run.frame_bytes) >= KEPT_FRAME_BYTES_MIN
                && run.position != first.position;
            if is_alone
                || !near
                || !forward
                || end_of(run) - u64::from(first.position) > CHUNK_BYTES_MAX
            {
                break;
            }
            end = end_of(run);
            count += 1;
        }
        let (chunk, tail) = rest.split_at(count);
        rest = tail;
        Some(chunk)
    })
}

fn end_of(run: &Run) -> u64 {
    u64::from(run.position) + u64::from(run.frame_bytes)
}

fn bytes_of(chunk: &[Run]) -> usize {
    let start = u64::from(chunk[0].position);
    let end = chunk.iter().map(end_of).max().unwrap_or(start);
    usize::try_from(end - start).expect("a chunk is small")
}

fn read_chunk(
    segment: &Segment,
    file: &dyn DiskFile,
    chunk: &[Run],
    mut buffer: BytesMut,
) -> Result<Bytes> {
    let start = u64::from(chunk[0].position);
    file.read_exact_at(&mut buffer, start).map_err(|source| Error::Io {
        action: "read",
        file: file_name(segment.number),
        source,
    })?;
    Ok(buffer.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_frames_that_nobody_holds_is_used_again() {
        let cache = FrameCache::default();
        let frame = || BytesMut::zeroed(KEPT_BYTES_MAX / 4).freeze();
        let first = frame();
        let place = first.as_ptr();
        cache.keep(1, 0, first);
        let held = frame();
        cache.keep(1, 1, held.clone());
        for position in 2..6 {
            cache.keep(1, position, frame());
        }
        assert!(cache.get(1, 0).is_none() && cache.get(1, 1).is_none());
        assert!(cache.get(1, 2).is_some() && cache.get(1, 5).is_some());
        // The first, and the one that was held once it is not any more.
        let spare = cache.spare(KEPT_BYTES_MAX / 8);
        assert_eq!((spare.as_ptr(), spare.len()), (place, KEPT_BYTES_MAX / 8));
        let held_at = held.as_ptr();
        let other = cache.spare(KEPT_BYTES_MAX / 8);
        assert!(other.as_ptr() != held_at && held.iter().all(|byte| *byte == 0));
        drop(held);
        let again = cache.spare(KEPT_BYTES_MAX / 8);
        assert_eq!(again.as_ptr(), held_at);
    }
}
