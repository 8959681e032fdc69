//! How far the queues are, for screens.

use std::collections::BTreeMap;

use ingest::event::Timestamp;
use ingest::registry::Name;

/// How far a queue is on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueStatus {
    /// Which queue.
    pub queue: Name,
    /// The partitions that this node owns.
    pub partitions: BTreeMap<u32, PartitionStatus>,
    /// How many messages wait for their time, by partition; without those of which that is
    /// not read yet.
    pub scheduled: BTreeMap<u32, u64>,
    /// Why the queue's worker does not work; none while it does.
    pub fault: Option<String>,
}

/// How far a partition is, as of its last commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionStatus {
    /// The owner's epoch.
    pub epoch: u64,
    /// Everything below is delivered or dead.
    pub committed: u64,
    /// Where the partition ends; 0 where the log did not say.
    pub end: u64,
    /// Messages delivered or dead above the committed offset.
    pub completed_ahead: u64,
    /// Attempts under way.
    pub under_way: usize,
    /// Messages that wait for their next attempt, and hold back their keys.
    pub waiting: usize,
    /// Messages that stay until somebody decides, and hold back their keys.
    pub held: usize,
    /// Messages that are parked, and count as completed in the queue.
    pub parked: u64,
    /// Messages that are read and not completed, with those behind others, and the parked.
    pub messages: usize,
    /// Their bytes.
    pub bytes: usize,
    /// When the oldest of them was accepted.
    pub oldest_accepted: Option<Timestamp>,
}
