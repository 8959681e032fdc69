//! Reading records by offset and by time.

use bytes::Bytes;

use super::disk::DiskFile;
use super::frame;
use super::index::Run;
use super::section::{PartitionKey, Section, records, sections};
use super::segment::{Segment, file_name, index_name};
use super::view::{Shared, payload_of};
use crate::log::{Error, LogTime, Partition, Record, Result};

/// Frames that lie closer together than this are read at once.
const GAP_BYTES_MAX: u64 = 64 * 1024;
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
            let buffer = read_chunk(segment, &*loaded.file, chunk)?;
            for run in chunk {
                let start = (run.position - chunk[0].position) as usize;
                let frame = buffer.slice(start..start + run.frame_bytes as usize);
                let damaged = |detail: &str| Error::Damaged {
                    file: file_name(segment.number),
                    position: u64::from(run.position),
                    detail: detail.to_owned(),
                };
                if !frame::Header::read(&frame).is_some_and(|header| header.is_intact(&frame)) {
                    return Err(damaged("a frame's checksum does not hold"));
                }
                let payload = payload_of(&frame).map_err(|e| damaged(&e.0))?;
                for section in sections(payload) {
                    let section = section.map_err(|_| damaged("a section is cut off"))?;
                    let (Section::Records { partition, .. } | Section::Moved { partition, .. }) =
                        section
                    else {
                        continue;
                    };
                    if partition != key {
                        continue;
                    }
                    for record in records(&section, &frame) {
                        let record = record.map_err(|_| damaged("a record is cut off"))?;
                        // A frame may hold a partition's records in two sections.
                        if (next..=last).contains(&record.offset) {
                            next = record.offset + 1;
                            out.push(record);
                        }
                    }
                }
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
            if !near || !forward || end_of(run) - u64::from(first.position) > CHUNK_BYTES_MAX {
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

fn read_chunk(segment: &Segment, file: &dyn DiskFile, chunk: &[Run]) -> Result<Bytes> {
    let start = u64::from(chunk[0].position);
    let end = chunk.iter().map(end_of).max().unwrap_or(start);
    let mut buffer = vec![0; usize::try_from(end - start).expect("a chunk is small")];
    file.read_exact_at(&mut buffer, start).map_err(|source| Error::Io {
        action: "read",
        file: file_name(segment.number),
        source,
    })?;
    Ok(Bytes::from(buffer))
}
