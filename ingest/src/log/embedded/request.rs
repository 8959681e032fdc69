//! What the committer is asked to write, and what it answers.

use std::collections::HashMap;

use super::section::{PartitionKey, RECORD_OVERHEAD_BYTES, SECTION_OVERHEAD_BYTES, put_record};
use super::spare::Spares;
use crate::log::record::check_sizes;
use crate::log::{Appended, GroupOffsets, NewRecord, Partition, Result, TopicSpec};

/// One frame's worth of work.
#[derive(Debug)]
pub(super) enum Request {
    Append(Records),
    Transact {
        writer: String,
        epoch: u64,
        records: Records,
        offsets: Vec<GroupOffsets>,
    },
    Commit(GroupOffsets),
    CreateTopic(TopicSpec),
    Fence {
        writer: String,
    },
    Trim {
        partition: Partition,
        before: u64,
    },
    /// Copies that the cleaner made: per partition how many, and their bodies.
    Move {
        runs: Vec<(PartitionKey, u32, Vec<u8>)>,
    },
    /// Ends the active segment.
    Roll,
    /// Says of all frames so far that they are durable, so that damage to the last
    /// one is told from a torn tail.
    Confirm,
    /// Answers once everything that was asked for before is durable.
    Barrier,
}

#[derive(Debug)]
pub(super) enum Answer {
    Appended(Vec<Appended>),
    Epoch(u64),
    /// In which segment the copies are.
    Moved(u64),
    Done,
}

/// Records to append, encoded by the caller, so that the committer only copies.
#[derive(Debug, Default)]
pub(super) struct Records {
    /// Per partition its records, in the order in which the partitions first come.
    pub(super) runs: Vec<EncodedRun>,
    /// Per record in the caller's order: its run, and its place in the run.
    pub(super) places: Vec<(u32, u32)>,
}

#[derive(Debug)]
pub(super) struct EncodedRun {
    pub(super) partition: Partition,
    pub(super) count: u32,
    /// Whether each record has a key, which compacted topics need.
    pub(super) all_keyed: bool,
    pub(super) body: Vec<u8>,
}

impl Records {
    /// # Errors
    /// [`crate::log::Error::TooLarge`].
    pub(super) fn encode(records: &[(Partition, NewRecord)], spares: &Spares) -> Result<Self> {
        check_sizes(records)?;
        let mut encoded = Self::default();
        let (mut run_of, mut bytes_of) = (HashMap::new(), Vec::new());
        encoded.places.reserve_exact(records.len());
        for (partition, record) in records {
            let number = *run_of.entry(partition).or_insert_with(|| {
                let (partition, body) = (partition.clone(), Vec::new());
                encoded.runs.push(EncodedRun { partition, count: 0, all_keyed: true, body });
                bytes_of.push(0);
                encoded.runs.len() - 1
            });
            let run = &mut encoded.runs[number];
            encoded.places.push((number as u32, run.count));
            run.count += 1;
            run.all_keyed &= record.key.is_some();
            bytes_of[number] += record.bytes() + RECORD_OVERHEAD_BYTES;
        }
        for (run, bytes) in encoded.runs.iter_mut().zip(bytes_of) {
            run.body = spares.take(bytes);
        }
        for ((number, _), (_, record)) in encoded.places.iter().zip(records) {
            put_record(&mut encoded.runs[*number as usize].body, record);
        }
        Ok(encoded)
    }

    /// Gives back what was written.
    pub(super) fn recycle(self, spares: &Spares) {
        self.runs.into_iter().for_each(|run| spares.give(run.body));
    }

    fn bytes(&self) -> usize {
        self.runs.iter().map(|run| run.body.len() + SECTION_OVERHEAD_BYTES).sum()
    }
}

impl Request {
    /// The payload that it takes, at most.
    pub(super) fn bytes(&self) -> usize {
        let offsets = |offsets: &GroupOffsets| {
            offsets.offsets.len() * (offsets.group.len() + SECTION_OVERHEAD_BYTES)
        };
        match self {
            Self::Append(records) => records.bytes(),
            Self::Transact { records, offsets: groups, .. } => {
                records.bytes() + groups.iter().map(offsets).sum::<usize>()
            }
            Self::Commit(commit) => offsets(commit),
            // A name of 249 bytes and its settings as JSON.
            Self::CreateTopic(_) => 1024,
            Self::Fence { writer } => writer.len() + SECTION_OVERHEAD_BYTES,
            Self::Trim { .. } => SECTION_OVERHEAD_BYTES,
            Self::Move { runs } => {
                runs.iter().map(|(_, _, body)| body.len() + SECTION_OVERHEAD_BYTES).sum()
            }
            Self::Confirm | Self::Roll | Self::Barrier => 0,
        }
    }

    /// Whether it may use the room that is kept for what frees space.
    pub(super) fn frees_space(&self) -> bool {
        matches!(self, Self::Trim { .. })
    }
}
