//! Where records are: per segment the frames of each partition, per partition
//! the segments that hold it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::codec::{Cursor, Truncated, put_i64, put_u32, put_u64};
use super::section::PartitionKey;
use crate::log::LogTime;

/// A run of one partition's records within one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) first: u64,
    pub(super) last: u64,
    /// The time of the last record; the others' are not later.
    pub(super) time: LogTime,
    /// Where the frame begins in its segment.
    pub(super) position: u32,
    /// The frame's length, padding included.
    pub(super) frame_bytes: u32,
}

/// The runs of a segment, per partition in offset order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct SegmentIndex(BTreeMap<PartitionKey, Vec<Run>>);

impl SegmentIndex {
    /// Adds a run. Moved runs come with lower offsets than those already there.
    pub(super) fn insert(&mut self, partition: PartitionKey, run: Run) {
        let runs = self.0.entry(partition).or_default();
        let at = match runs.last() {
            Some(last) if last.first > run.first => runs.partition_point(|r| r.first < run.first),
            _ => runs.len(),
        };
        runs.insert(at, run);
    }

    /// Leaves out the runs that `keep` refuses.
    pub(super) fn retain(&mut self, keep: impl Fn(PartitionKey, &Run) -> bool) {
        for (partition, runs) in &mut self.0 {
            runs.retain(|run| keep(*partition, run));
        }
    }

    /// The runs that hold offsets from `first` to `last`, inclusive: as many as
    /// take `bytes` of frames, at least one if there is any.
    pub(super) fn select(
        &self,
        partition: PartitionKey,
        first: u64,
        last: u64,
        bytes: usize,
    ) -> Vec<Run> {
        let mut left = bytes;
        self.between(partition, first, last)
            .take_while(|run| {
                let go_on = left > 0;
                left = left.saturating_sub(run.frame_bytes as usize);
                go_on
            })
            .copied()
            .collect()
    }

    /// The first run, of those from `first` to `last`, with a record at `time`
    /// or later.
    pub(super) fn first_at(
        &self,
        partition: PartitionKey,
        first: u64,
        last: u64,
        time: LogTime,
    ) -> Option<Run> {
        self.between(partition, first, last).find(|run| run.time >= time).copied()
    }

    fn between(
        &self,
        partition: PartitionKey,
        first: u64,
        last: u64,
    ) -> impl Iterator<Item = &Run> {
        let runs = self.0.get(&partition).map_or(&[][..], Vec::as_slice);
        let start = runs.partition_point(|run| run.last < first);
        runs[start..].iter().take_while(move |run| run.first <= last)
    }

    /// The index as a file: magic, segment, then per partition its runs, then
    /// CRC-32C of all before.
    pub(super) fn encode(&self, segment: u64) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        put_u64(&mut out, segment);
        put_u32(&mut out, u32::try_from(self.0.len()).expect("partitions are bounded"));
        for (partition, runs) in &self.0 {
            put_u32(&mut out, partition.topic);
            put_u32(&mut out, partition.index);
            put_u32(&mut out, u32::try_from(runs.len()).expect("a segment is bounded"));
            for run in runs {
                put_u64(&mut out, run.first);
                put_u64(&mut out, run.last);
                put_i64(&mut out, run.time.0);
                put_u32(&mut out, run.position);
                put_u32(&mut out, run.frame_bytes);
            }
        }
        let crc = crc32c::crc32c(&out);
        put_u32(&mut out, crc);
        out
    }

    /// Reads what [`SegmentIndex::encode`] wrote; an error if it is anything else.
    pub(super) fn decode(segment: u64, bytes: &[u8]) -> Result<Self, Truncated> {
        let (content, crc) = bytes.split_last_chunk::<4>().ok_or(Truncated)?;
        if crc32c::crc32c(content) != u32::from_le_bytes(*crc) {
            return Err(Truncated);
        }
        let mut cursor = Cursor::new(content);
        if cursor.take(MAGIC.len())? != MAGIC || cursor.u64()? != segment {
            return Err(Truncated);
        }
        let mut index = Self::default();
        for _ in 0..cursor.u32()? {
            let partition = PartitionKey { topic: cursor.u32()?, index: cursor.u32()? };
            let runs = (0..cursor.u32()?).map(|_| {
                Ok(Run {
                    first: cursor.u64()?,
                    last: cursor.u64()?,
                    time: LogTime(cursor.i64()?),
                    position: cursor.u32()?,
                    frame_bytes: cursor.u32()?,
                })
            });
            let runs = runs.collect::<Result<_, _>>()?;
            index.0.insert(partition, runs);
        }
        Ok(index)
    }
}

const MAGIC: &[u8; 8] = b"WEIRIDX1";

/// A range of a partition's offsets that one segment holds. Compaction leaves
/// gaps in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Extent {
    pub(super) last: u64,
    pub(super) segment: u64,
    /// About what the records take in the segment.
    pub(super) bytes: u64,
    /// The time of the last record.
    pub(super) time: i64,
    /// Whether compaction has already looked at it.
    pub(super) compacted: bool,
}

/// The extents of all partitions, by their first offset. They do not overlap.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Extents(BTreeMap<PartitionKey, BTreeMap<u64, Extent>>);

impl Extents {
    /// Takes in records that were just appended.
    pub(super) fn append(&mut self, partition: PartitionKey, segment: u64, run: &Run, bytes: u64) {
        let extents = self.0.entry(partition).or_default();
        match extents.last_entry() {
            Some(mut newest) if newest.get().segment == segment => {
                let newest = newest.get_mut();
                newest.last = run.last;
                newest.bytes += bytes;
                newest.time = run.time.0;
            }
            _ => {
                let time = run.time.0;
                let extent = Extent { last: run.last, segment, bytes, time, compacted: false };
                extents.insert(run.first, extent);
            }
        }
    }

    pub(super) fn insert(&mut self, partition: PartitionKey, first: u64, extent: Extent) {
        self.0.entry(partition).or_default().insert(first, extent);
    }

    pub(super) fn remove(&mut self, partition: PartitionKey, first: u64) -> Option<Extent> {
        self.0.get_mut(&partition)?.remove(&first)
    }

    /// Drops what lies wholly below `first`.
    pub(super) fn trim(&mut self, partition: PartitionKey, first: u64) {
        if let Some(extents) = self.0.get_mut(&partition) {
            extents.retain(|_, extent| extent.last >= first);
        }
    }

    /// The lowest extent that reaches to `offset` or past it.
    pub(super) fn find(&self, partition: PartitionKey, offset: u64) -> Option<(u64, Extent)> {
        let extents = self.0.get(&partition)?;
        let before = extents.range(..=offset).next_back().filter(|(_, e)| e.last >= offset);
        before.or_else(|| extents.range(offset..).next()).map(|(first, e)| (*first, *e))
    }

    /// A partition's extents, in offset order.
    pub(super) fn of(&self, partition: PartitionKey) -> impl Iterator<Item = (u64, Extent)> {
        self.0.get(&partition).into_iter().flatten().map(|(first, extent)| (*first, *extent))
    }

    /// The ranges of offsets that a segment holds, per partition.
    pub(super) fn in_segment(&self, segment: u64) -> BTreeMap<PartitionKey, Vec<(u64, u64)>> {
        let mut ranges: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (partition, first, extent) in self.iter().filter(|(.., e)| e.segment == segment) {
            ranges.entry(partition).or_default().push((first, extent.last));
        }
        ranges
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = (PartitionKey, u64, Extent)> {
        self.0.iter().flat_map(|(partition, extents)| {
            extents.iter().map(|(first, extent)| (*partition, *first, *extent))
        })
    }

    /// About the bytes that each segment holds for somebody, when a partition
    /// begins at `first_wanted`. Segments that hold nothing are not in it.
    pub(super) fn live_bytes(
        &self,
        first_wanted: impl Fn(PartitionKey) -> u64,
    ) -> BTreeMap<u64, u64> {
        let mut live = BTreeMap::new();
        for (partition, first, extent) in self.iter() {
            let offsets = extent.last - first + 1;
            let wanted = (extent.last + 1).saturating_sub(first_wanted(partition).max(first));
            let bytes = u128::from(extent.bytes) * u128::from(wanted) / u128::from(offsets);
            *live.entry(extent.segment).or_default() += bytes as u64;
        }
        live
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const P: PartitionKey = PartitionKey { topic: 0, index: 0 };

    fn run(first: u64, last: u64) -> Run {
        let time = LogTime(first as i64 * 10);
        Run { first, last, time, position: first as u32 * 100, frame_bytes: 100 }
    }

    fn index(runs: &[(u64, u64)]) -> SegmentIndex {
        let mut index = SegmentIndex::default();
        runs.iter().for_each(|(first, last)| index.insert(P, run(*first, *last)));
        index
    }

    #[test]
    fn runs_are_found_by_offset_and_kept_in_order() {
        // 3..=4 was moved into the segment after 20..=29 had been appended to it.
        let index = index(&[(20, 24), (25, 29), (3, 4)]);
        let check = |from, to, bytes, firsts: &[u64]| {
            let found: Vec<_> = index.select(P, from, to, bytes).iter().map(|r| r.first).collect();
            assert_eq!(found, firsts, "{from}..={to} of {bytes} bytes");
        };
        check(0, 4, 1000, &[3]);
        check(4, 29, 1000, &[3, 20, 25]);
        check(22, 22, 1000, &[20]);
        check(24, 29, 100, &[20]);
        check(24, 29, 101, &[20, 25]);
        check(30, 99, 1000, &[]);
        assert_eq!(index.first_at(P, 20, 29, LogTime(201)).unwrap().first, 25);
        assert_eq!(index.first_at(P, 20, 29, LogTime(251)), None);
    }

    #[test]
    fn an_index_file_is_read_as_written_and_damage_is_noticed() {
        let index = index(&[(20, 24), (25, 29)]);
        let bytes = index.encode(8);
        assert_eq!(SegmentIndex::decode(8, &bytes), Ok(index));
        assert!(SegmentIndex::decode(9, &bytes).is_err());
        for byte in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[byte] ^= 4;
            assert!(SegmentIndex::decode(8, &flipped).is_err(), "byte {byte}");
        }
    }

    #[test]
    fn extents_grow_are_found_and_trimmed() {
        let mut extents = Extents::default();
        extents.append(P, 1, &run(0, 4), 10);
        extents.append(P, 1, &run(5, 9), 10);
        extents.append(P, 3, &run(20, 29), 10);
        let check = |extents: &Extents, offset, first: Option<u64>| {
            assert_eq!(extents.find(P, offset).map(|(first, _)| first), first, "{offset}");
        };
        check(&extents, 0, Some(0));
        check(&extents, 9, Some(0));
        check(&extents, 10, Some(20));
        check(&extents, 30, None);
        assert_eq!(extents.live_bytes(|_| 0), BTreeMap::from([(1, 20), (3, 10)]));
        assert_eq!(extents.live_bytes(|_| 5), BTreeMap::from([(1, 10), (3, 10)]));
        extents.trim(P, 9);
        check(&extents, 9, Some(0));
        extents.trim(P, 10);
        check(&extents, 9, Some(20));
    }
}
