//! The log of one machine: one journal in one directory, held by one process.
//!
//! ```text
//!  append, commit, … ──► committer thread ──► 000000000007.journal  (active, space allocated)
//!                           │  one write and one fdatasync for all that waits
//!                           ▼
//!                         view: extents per partition, runs per segment
//!                           ▲                    ▲
//!  readers ─────────────────┘                    │ moves, trims, retires
//!                        maintenance thread ─────┘──► *.index, checkpoint
//! ```
//!
//! All partitions share the journal, so that one sync serves all writers. A
//! *frame* is what one call writes, records and offsets alike: whole or not at
//! all (`frame.rs`). A *segment* is a file of frames (`segment.rs`). A partition's
//! *extents* say which segments hold it, a segment's *runs* where (`index.rs`).
//!
//! What holds:
//! 1. Readers and callers learn of a frame after its fdatasync, not before.
//! 2. Live writing, the readers' view and recovery take in frames by the same
//!    code (`state.rs`, `view.rs`).
//! 3. A failed write or sync ends all writing: the page cache can no longer be
//!    trusted. Restarting reads what is really there.
//! 4. Opening cuts a tail that nobody was told of, and refuses a journal in which
//!    something acknowledged is missing (`recover.rs`).
//! 5. A segment is removed only after a checkpoint that does without it
//!    (`maintain.rs`).
//! 6. No write can find the disk full: its space was allocated before. A full
//!    disk refuses appends, and trims and retention still work.
//!
//! Limits: a record 1,000,000 bytes, a batch 16 MiB or the segment's size less
//! 65 KiB, 16 full segments open, 64 MiB waiting to be written, a segment below 4 GiB. Compaction
//! holds the topic's keys in memory while it runs. There is no way to delete a
//! topic yet.

mod checkpoint;
mod cleaner;
mod clock_jumps;
mod codec;
mod committer;
mod disk;
mod frame;
mod index;
mod journal;
mod maintain;
mod mark;
mod member;
mod membership;
#[cfg(test)]
mod model;
mod read;
mod reader;
mod recover;
mod request;
mod section;
mod segment;
mod spare;
mod state;
mod view;
mod writer;

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;

use self::committer::{Caretaker, Committer};
use self::disk::Disk;
use self::disk::files::FileDisk;
use self::disk::memory::MemoryDisk;
use self::journal::Journal;
use self::maintain::{Maintenance, Thresholds};
use self::member::EmbeddedMember;
use self::membership::Coordinator;
use self::reader::EmbeddedReader;
use self::recover::recover;
use self::request::{Answer, Records, Request};
use self::view::Shared;
use self::writer::EmbeddedWriter;
use super::{
    Appended, Bounds, Error, EventLog, GroupOffsets, LogTime, Member, NewRecord, Partition, Reader,
    Result, TopicSpec, Writer,
};

/// How the embedded log is set up.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where it lives; made if it is missing.
    pub dir: PathBuf,
    /// The size of a journal file, whose space is taken at once: 2 MiB to 2 GiB.
    pub segment_bytes: u64,
    /// How often retention, compaction and checkpoints are looked after.
    pub maintenance_interval: Duration,
    /// A compacted partition is compacted when at least so much is new in it,
    /// and half of it is.
    pub compact_bytes_min: u64,
    /// A member of a group that does not poll for so long loses its partitions.
    pub member_poll_interval_max: Duration,
}

impl Config {
    /// The defaults: 64 MiB segments, a look every second, compaction from
    /// 8 MiB, 30 s between polls.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            segment_bytes: 64 * 1024 * 1024,
            maintenance_interval: Duration::from_secs(1),
            compact_bytes_min: 8 * 1024 * 1024,
            member_poll_interval_max: Duration::from_secs(30),
        }
    }
}

/// Segments between these sizes work as described.
const SEGMENT_BYTES: std::ops::RangeInclusive<u64> = 2 * 1024 * 1024..=2 * 1024 * 1024 * 1024;

/// The log of one machine. Closed when it, its readers, writers and members are
/// dropped.
#[derive(Debug)]
pub struct EmbeddedLog(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    groups: Arc<Coordinator>,
    /// In the order in which they are to end.
    caretaker: Option<Caretaker>,
    committer: Option<Committer>,
    committer_thread: Option<JoinHandle<()>>,
}

impl EmbeddedLog {
    /// Opens the log, or makes a new one. Blocks while it reads what was
    /// written since the last checkpoint.
    ///
    /// # Errors
    /// [`Error::Locked`] if another process has it; [`Error::Damaged`].
    pub fn open(config: &Config) -> Result<Self> {
        if !SEGMENT_BYTES.contains(&config.segment_bytes) {
            return Err(Error::Io {
                action: "open",
                file: config.dir.display().to_string(),
                source: std::io::Error::new(
                    std::io::ErrorKind::InvalidInput,
                    format!(
                        "segment_bytes is {}, it has to be from {} to {}",
                        config.segment_bytes,
                        SEGMENT_BYTES.start(),
                        SEGMENT_BYTES.end()
                    ),
                ),
            });
        }
        Self::open_on(Arc::new(FileDisk::open(&config.dir)?), config)
    }

    /// A log in memory, for unit tests: the same code on memory instead of files.
    ///
    /// # Panics
    /// If a thread cannot be started.
    pub fn in_memory() -> Self {
        let config = Config { segment_bytes: 2 * 1024 * 1024, ..Config::new("memory") };
        Self::open_on(Arc::new(MemoryDisk::default()), &config).expect("memory does not fail")
    }

    fn open_on(disk: Arc<dyn Disk>, config: &Config) -> Result<Self> {
        let place = disk.place();
        let (shared, start, covered) = recover(disk)?;
        let groups = Arc::new(Coordinator::new(config.member_poll_interval_max));
        let clock = LogTime::now;
        let journal =
            Journal::begin(shared.clone(), groups.clone(), clock, config.segment_bytes, start)?;
        let thread = |source| Error::Io { action: "start a thread for", file: place, source };
        let (committer, committer_thread) = match Committer::start(journal) {
            Ok(started) => started,
            Err(source) => return Err(thread(source)),
        };
        let submit = {
            let committer = committer.clone();
            move |request| committer.submit_blocking(request)
        };
        let thresholds = Thresholds {
            segment_bytes: config.segment_bytes,
            compact_bytes_min: config.compact_bytes_min,
            small_segments_max: 16,
            open_segments_max: 16,
        };
        let maintenance = Maintenance::new(shared.clone(), thresholds, clock, submit, covered);
        let caretaker =
            Caretaker::start(maintenance, config.maintenance_interval).map_err(thread)?;
        Ok(Self(Arc::new(Inner {
            shared,
            groups,
            caretaker: Some(caretaker),
            committer: Some(committer),
            committer_thread: Some(committer_thread),
        })))
    }
}

impl Inner {
    async fn submit(&self, request: Request) -> Result<Answer> {
        match &self.committer {
            Some(committer) => committer.submit(request).await,
            None => Err(Error::Closed),
        }
    }

    async fn submit_records(&self, request: Request) -> Result<Vec<Appended>> {
        match self.submit(request).await? {
            Answer::Appended(appended) => Ok(appended),
            answer => unreachable!("records are answered with their places, not {answer:?}"),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        self.caretaker = None;
        self.committer = None;
        if self.committer_thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the log's committer panicked");
        }
    }
}

#[async_trait]
impl EventLog for EmbeddedLog {
    async fn create_topic(&self, spec: &TopicSpec) -> Result<()> {
        self.0.submit(Request::CreateTopic(spec.clone())).await.map(drop)
    }

    async fn topic(&self, name: &str) -> Result<TopicSpec> {
        let view = self.0.shared.view.read();
        view.state.topic(name).cloned().ok_or_else(|| Error::UnknownTopic(name.to_owned()))
    }

    async fn bounds(&self, partition: &Partition) -> Result<Bounds> {
        let view = self.0.shared.view.read();
        Ok(view.state.bounds(view.state.key(partition)?))
    }

    async fn offset_at(&self, partition: &Partition, time: LogTime) -> Result<u64> {
        let key = self.0.shared.view.read().state.key(partition)?;
        let shared = self.0.shared.clone();
        reader::blocking(move || shared.offset_at(key, time)).await
    }

    async fn append(&self, records: Vec<(Partition, NewRecord)>) -> Result<Vec<Appended>> {
        self.0
            .submit_records(Request::Append(Records::encode(&records, &self.0.shared.spares)?))
            .await
    }

    async fn reader(&self, from: Vec<(Partition, u64)>) -> Result<Box<dyn Reader>> {
        Ok(Box::new(EmbeddedReader::new(self.0.clone(), from)?))
    }

    async fn trim(&self, partition: &Partition, before: u64) -> Result<()> {
        let partition = partition.clone();
        self.0.submit(Request::Trim { partition, before }).await.map(drop)
    }

    async fn committed(&self, group: &str, partition: &Partition) -> Result<Option<u64>> {
        let view = self.0.shared.view.read();
        Ok(view.state.committed(group, view.state.key(partition)?))
    }

    async fn commit(&self, group: &str, offsets: &[(Partition, u64)]) -> Result<()> {
        let (group, offsets) = (group.to_owned(), offsets.to_vec());
        let commit = GroupOffsets { group, membership: None, offsets };
        self.0.submit(Request::Commit(commit)).await.map(drop)
    }

    async fn writer(&self, id: &str) -> Result<Box<dyn Writer>> {
        Ok(Box::new(EmbeddedWriter::new(self.0.clone(), id).await?))
    }

    async fn join(&self, group: &str, topics: &[&str]) -> Result<Box<dyn Member>> {
        let topics: BTreeSet<String> = topics.iter().map(|topic| (*topic).to_owned()).collect();
        Ok(Box::new(EmbeddedMember::join(self.0.clone(), group, topics)?))
    }
}

impl fmt::Display for EmbeddedLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "embedded log in {}", self.0.shared.disk.place())
    }
}
