//! The log: every event, queue, registry entry and decision of Weir is a record in it.
//!
//! [`EventLog`] is the contract. Two durable implementations keep it, and one
//! suite (`ingest/tests/log/contract.rs`) holds both to it:
//!
//! | implementation | copies | what an acknowledged append survives |
//! | --- | --- | --- |
//! | [`embedded`] | one, in a directory of one process | a kill and a power cut, not a lost disk |
//! | [`kafka`] | as many as the topic has replicas | the loss of brokers, as long as one in-sync replica lives |
//!
//! [`embedded::EmbeddedLog::in_memory`] is the embedded log on memory instead of
//! files, for unit tests.
//!
//! Words, as in Kafka: a *topic* has *partitions*; a partition is a sequence of
//! *records*, each with an *offset*; a *group* remembers per partition the offset
//! to go on from.

pub mod embedded;
mod error;
mod group;
pub mod kafka;
mod keeper;
mod partitioner;
mod record;
mod scan;
mod topic;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

pub use error::{Error, Outcome};
pub use group::Membership;
pub use keeper::{Keeper, keep};
pub use partitioner::partition_for;
pub use record::{Headers, LogTime, NewRecord, Record};
pub use scan::Scan;
pub use topic::{Cleanup, TopicSpec};

/// What a log call answers.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The largest record that every implementation takes: key, value and headers, in bytes.
///
/// Larger bodies are refused by name ([`Error::TooLarge`]), never cut.
pub const RECORD_BYTES_MAX: usize = 1_000_000;

/// The largest batch or transaction, in bytes; each record counts 32 more. An
/// embedded log whose segments are smaller than that takes less.
pub const BATCH_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A partition of a topic.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Partition {
    /// The topic's name.
    pub topic: Arc<str>,
    /// From 0 to the topic's number of partitions, exclusive.
    pub index: u32,
}

impl Partition {
    /// Names partition `index` of `topic`; whether it exists, the log says when asked.
    pub fn new(topic: impl Into<Arc<str>>, index: u32) -> Self {
        Self { topic: topic.into(), index }
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.index)
    }
}

impl fmt::Debug for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The offsets that a partition holds: `first..end`, with gaps where compaction
/// or a transaction's own marks took an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The lowest offset that a reader may start from.
    pub first: u64,
    /// The offset after the last one that readers may see.
    pub end: u64,
}

/// Where an append put a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// The record's offset in its partition.
    pub offset: u64,
    /// The time that the log gave it.
    pub time: LogTime,
}

/// Some records of one partition, in offset order.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Where they come from.
    pub partition: Partition,
    /// At least one record.
    pub records: Vec<Record>,
    /// The offset to go on from.
    pub next: u64,
}

/// How much one call may return, and how long it may wait for the first record.
#[derive(Debug, Clone, Copy)]
pub struct ReadLimit {
    /// Stop after about this many bytes; one record is always returned.
    pub bytes: usize,
    /// Answer empty-handed after this time.
    pub wait: Duration,
}

impl Default for ReadLimit {
    fn default() -> Self {
        Self { bytes: 1024 * 1024, wait: Duration::from_millis(500) }
    }
}

/// Offsets of a group, to be committed together with a transaction's records.
#[derive(Debug, Clone)]
pub struct GroupOffsets {
    /// The group's name.
    pub group: String,
    /// The membership that owns the partitions; `None` for a group without
    /// members, whose offsets are guarded by the writer's epoch alone. That the
    /// group has no members then is for the caller to see to.
    pub membership: Option<Membership>,
    /// Per partition the offset to go on from.
    pub offsets: Vec<(Partition, u64)>,
}

/// Records and offsets that become visible together, or not at all.
#[derive(Debug, Clone, Default)]
pub struct Transaction {
    /// What to append, in order.
    pub records: Vec<(Partition, NewRecord)>,
    /// What to commit.
    pub offsets: Vec<GroupOffsets>,
}

/// The log's contract.
///
/// *Order.* Records of one partition are read in the order of their offsets,
/// which is the order in which they were acknowledged; appends that one caller
/// starts one after another keep that order, also without waiting in between.
///
/// *Durability.* An append answers after it is durable (see the module). Readers
/// never see a record that is not.
///
/// *Identity.* What is read is what was appended, to the byte: key, value,
/// headers and their order; an absent key is not an empty one, an absent value
/// is a tombstone. `(partition, offset)` names a record for ever.
///
/// *Time.* A record's time is the log's own, taken when it is appended. What
/// the writer knows of time belongs in the record.
#[async_trait]
pub trait EventLog: Send + Sync + fmt::Debug {
    /// Makes a topic. Does nothing if it is there just so.
    ///
    /// # Errors
    /// [`Error::TopicDiffers`] if it is there with other settings;
    /// [`Error::InvalidTopic`] if the name or the settings cannot be had.
    async fn create_topic(&self, spec: &TopicSpec) -> Result<()>;

    /// How a topic was made.
    ///
    /// # Errors
    /// [`Error::UnknownTopic`].
    async fn topic(&self, name: &str) -> Result<TopicSpec>;

    /// What a partition holds now.
    ///
    /// # Errors
    /// [`Error::UnknownPartition`].
    async fn bounds(&self, partition: &Partition) -> Result<Bounds>;

    /// The offset of the first record whose time is `time` or later; the end if
    /// there is none yet.
    ///
    /// # Errors
    /// [`Error::UnknownPartition`].
    async fn offset_at(&self, partition: &Partition, time: LogTime) -> Result<u64>;

    /// Appends records and answers, in their order, where they are, once they
    /// are durable. Waits while the log has its hands full. Dropping the future
    /// does not take the records back.
    ///
    /// # Errors
    /// The error says by [`Error::outcome`] whether the records may be there all
    /// the same. Records of one call are not atomic: use a [`Writer`].
    async fn append(&self, records: Vec<(Partition, NewRecord)>) -> Result<Vec<Appended>>;

    /// Reads from given offsets on, independent of any group.
    ///
    /// # Errors
    /// [`Error::UnknownPartition`]. Offsets are checked when they are read.
    async fn reader(&self, from: Vec<(Partition, u64)>) -> Result<Box<dyn Reader>>;

    /// Removes the records below `before`. Readers may still see them for a while.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] if `before` is past the end.
    async fn trim(&self, partition: &Partition, before: u64) -> Result<()>;

    /// The offset that a group has committed; `None` if it never did.
    ///
    /// # Errors
    /// [`Error::UnknownPartition`].
    async fn committed(&self, group: &str, partition: &Partition) -> Result<Option<u64>>;

    /// Commits offsets of a group that has no members.
    ///
    /// # Errors
    /// [`Error::Fenced`] if the group has members; [`Error::UnknownPartition`].
    async fn commit(&self, group: &str, offsets: &[(Partition, u64)]) -> Result<()>;

    /// Becomes the one writer called `id`. Every earlier writer of that name is
    /// fenced: its commits are refused from now on.
    ///
    /// # Errors
    /// When the log cannot be reached in time.
    async fn writer(&self, id: &str) -> Result<Box<dyn Writer>>;

    /// Joins a group, whose members share the partitions of `topics` among them.
    /// All members of a group name the same topics.
    ///
    /// # Errors
    /// [`Error::UnknownTopic`]; [`Error::InvalidGroup`].
    async fn join(&self, group: &str, topics: &[&str]) -> Result<Box<dyn Member>>;
}

/// Reads partitions at its own pace.
#[async_trait]
pub trait Reader: Send + fmt::Debug {
    /// The next records of one of the partitions; partitions take turns.
    /// `None` if none came in time. Cancel safe: no record is lost by dropping
    /// the future.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] if an offset is no longer, or not yet, there:
    /// nothing is passed over in silence.
    async fn next(&mut self, limit: ReadLimit) -> Result<Option<Batch>>;

    /// Whether all that `partition` has before `end` has been told, `end` being a
    /// [`Bounds::end`] that the log gave. [`Batch::next`] need not come to it, since the last
    /// offsets may be a transaction's own marks, or of one that was refused; so who waits for
    /// it goes on asking for what is next, and asks this when nothing came.
    fn has_reached(&self, partition: &Partition, end: u64) -> bool;

    /// Says that nobody looks at keys and headers: from now on records come without them
    /// where they cost something, as on Kafka, whose client makes each header for itself.
    fn need_values_alone(&mut self) {}
}

/// Commits transactions under a name that one writer holds at a time.
#[async_trait]
pub trait Writer: Send + fmt::Debug {
    /// Appends and commits all of `transaction`, durable and visible as one, or
    /// nothing of it. On Kafka readers and [`EventLog::bounds`] may see it a moment
    /// after the answer, of one partition before another.
    ///
    /// # Errors
    /// [`Error::Fenced`] if a later writer has the name, or a membership has
    /// lost a partition whose offset it wants to commit. After any error, only
    /// [`Error::outcome`] tells whether it may have been committed.
    async fn commit(&mut self, transaction: Transaction) -> Result<Vec<Appended>>;
}

/// What a member of a group is told.
#[derive(Debug)]
pub enum Polled {
    /// These partitions are now the member's, to be read from these offsets: the
    /// committed ones, or the partition's first.
    Assigned(Vec<(Partition, u64)>),
    /// These partitions are to be given up. The member may still commit for
    /// them; its next poll hands them over.
    Revoked(Vec<Partition>),
    /// These partitions were taken away, because the member did not poll in
    /// time. What it commits for them is refused.
    Lost(Vec<Partition>),
    /// Records of a partition that the member has.
    Records(Batch),
    /// Nothing came in time.
    Idle,
}

/// A member of a group.
///
/// It must poll at least every [`Member::poll_interval_max`], else its
/// partitions go to others. Dropping it leaves the group.
#[async_trait]
pub trait Member: Send + fmt::Debug {
    /// What comes next.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] as for a [`Reader`].
    async fn poll(&mut self, limit: ReadLimit) -> Result<Polled>;

    /// Stops reading partitions, so that the member can go on polling while it has
    /// no room for their records. After this answers no poll tells of their
    /// records, until [`Member::resume`], and none is lost meanwhile. It ends when
    /// the partition is given up; partitions that are not the member's are passed
    /// over.
    ///
    /// # Errors
    /// When the log's client refuses; nothing has changed then.
    fn pause(&mut self, partitions: &[Partition]) -> Result<()>;

    /// Goes on reading paused partitions with the record where it stopped.
    ///
    /// # Errors
    /// As for [`Member::pause`].
    fn resume(&mut self, partitions: &[Partition]) -> Result<()>;

    /// Commits the offsets to go on from.
    ///
    /// # Errors
    /// [`Error::Fenced`] if a partition is no longer the member's.
    async fn commit(&mut self, offsets: &[(Partition, u64)]) -> Result<()>;

    /// What proves, in a [`Transaction`], that the offsets are the member's to commit.
    fn membership(&self) -> Membership;

    /// The longest time between two polls.
    fn poll_interval_max(&self) -> Duration;

    /// Leaves the group; the partitions go to others at once.
    ///
    /// # Errors
    /// When the log cannot be reached; the partitions then go to others after
    /// [`Member::poll_interval_max`].
    async fn leave(self: Box<Self>) -> Result<()>;
}
