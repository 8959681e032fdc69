//! What readers see: everything that is durable, and nothing else.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use super::disk::{Disk, DiskFile, file_error};
use super::frame;
use super::index::{Extents, Run};
use super::mark::Mark;
use super::read::FrameCache;
use super::recover::index_of;
use super::section::{PartitionKey, Section, sections};
use super::segment::{Loaded, Segment, index_name};
use super::spare::Spares;
use super::state::{Contradiction, State};
use crate::log::{Error, LogTime, Result};

/// Shared by the committer, which changes it, the maintenance, which moves
/// records within it, and the readers.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) view: RwLock<View>,
    /// Long work is to end.
    pub(super) stopping: AtomicBool,
    /// Why nothing can be written any more.
    pub(super) poison: OnceLock<String>,
    /// Counts what was published; readers wait for it to change.
    pub(super) published: watch::Sender<u64>,
    /// Full segments whose index and state are not in a checkpoint yet.
    pub(super) sealed: Mutex<Vec<Sealed>>,
    /// A segment whose space is already there.
    pub(super) spare: Mutex<Option<(u64, Arc<dyn DiskFile>)>>,
    pub(super) frames: FrameCache,
    /// For what is to be written.
    pub(super) spares: Spares,
    tick: AtomicU64,
}

/// A segment that is full, and the state at its end.
#[derive(Debug)]
pub(super) struct Sealed {
    pub(super) segment: Arc<Segment>,
    pub(super) next_sequence: u64,
    pub(super) state: State,
}

/// The durable log, as one consistent picture.
#[derive(Debug, Default)]
pub(super) struct View {
    pub(super) state: State,
    pub(super) extents: Extents,
    pub(super) segments: BTreeMap<u64, Arc<Segment>>,
    /// The length of each full segment.
    pub(super) segment_bytes: BTreeMap<u64, u64>,
    /// How far the journal is.
    pub(super) durable: Mark,
}

impl Shared {
    pub(super) fn new(disk: Arc<dyn Disk>, view: View, sealed: Vec<Sealed>) -> Self {
        Self {
            disk,
            view: RwLock::new(view),
            stopping: AtomicBool::new(false),
            poison: OnceLock::new(),
            published: watch::Sender::new(0),
            sealed: Mutex::new(sealed),
            spare: Mutex::new(None),
            frames: FrameCache::default(),
            spares: Spares::default(),
            tick: AtomicU64::new(1),
        }
    }

    /// Refuses if a write has failed before.
    pub(super) fn check_writable(&self) -> Result<()> {
        self.poison.get().map_or(Ok(()), |reason| Err(Error::Poisoned(reason.clone())))
    }

    /// A segment's open file and index. An index that cannot be read is made anew.
    pub(super) fn load(&self, segment: &Segment) -> Result<Arc<Loaded>> {
        let tick = self.tick.fetch_add(1, Ordering::Relaxed);
        segment.load(&*self.disk, tick, || {
            let (bytes, extents) = {
                let view = self.view.read();
                let bytes = view.segment_bytes.get(&segment.number).copied();
                (bytes.unwrap_or(0), view.extents.in_segment(segment.number))
            };
            let name = index_name(segment.number);
            tracing::warn!(file = name, "an index cannot be read, and is made anew");
            let index = index_of(&*self.disk, segment.number, bytes, &extents)?;
            let written = self.disk.replace(&name, &index.encode(segment.number));
            written.map_err(|e| file_error(&*self.disk, "write", &name, e))?;
            Ok(index)
        })
    }

    /// Lets readers see what has become durable.
    pub(super) fn announce(&self) {
        self.published.send_modify(|count| *count += 1);
    }
}

impl View {
    /// About the bytes that each segment holds for somebody.
    pub(super) fn live_bytes(&self) -> BTreeMap<u64, u64> {
        self.extents.live_bytes(|partition| self.state.ends(partition).first)
    }

    /// Takes in a durable frame of `segment` at `position`.
    pub(super) fn apply(
        &mut self,
        segment: &Segment,
        loaded: &Loaded,
        position: usize,
        frame_bytes: &[u8],
        moved: MovedRuns,
    ) -> Result<(), Contradiction> {
        let payload = payload_of(frame_bytes)?;
        let frame_len = frame::framed_bytes(payload.len());
        let mut index = loaded.index.write();
        for section in sections(payload) {
            let section = section.map_err(|_| Contradiction("a section is cut off".to_owned()))?;
            self.state.apply(&section)?;
            let Some((partition, mut run, bytes)) = run_of(&section)? else {
                if let Section::Trim { partition, .. } = section {
                    self.extents.trim(partition, self.state.ends(partition).first);
                }
                continue;
            };
            run.position = u32::try_from(position).expect("a segment is below 4 GiB");
            run.frame_bytes = u32::try_from(frame_len).expect("a frame is below 4 GiB");
            match section {
                Section::Records { .. } => {
                    self.extents.append(partition, segment.number, &run, bytes);
                    index.insert(partition, run);
                }
                _ if moved == MovedRuns::Index => index.insert(partition, run),
                _ => {}
            }
        }
        Ok(())
    }
}

/// What to do with records that the cleaner copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MovedRuns {
    /// Index them: their extents follow.
    Index,
    /// Pass them over: the cleaner did not finish, and the originals are there.
    Ignore,
}

pub(super) fn payload_of(frame: &[u8]) -> Result<&[u8], Contradiction> {
    let header = frame::Header::read(frame);
    header
        .and_then(|h| frame.get(frame::HEADER_BYTES..frame::HEADER_BYTES + h.payload_bytes))
        .ok_or_else(|| Contradiction("a frame is cut off".to_owned()))
}

/// What a run takes in a segment besides its records: about a frame's header,
/// a section's, and padding.
const FRAMING_BYTES: u64 = 72;

/// The offsets and the bytes of a section with records; position and frame
/// length are the caller's to fill in.
pub(super) fn run_of(
    section: &Section<'_>,
) -> Result<Option<(PartitionKey, Run, u64)>, Contradiction> {
    let (position, frame_bytes) = (0, 0);
    match *section {
        Section::Records { partition, first, time, count, body } if count > 0 => {
            let last = first + u64::from(count) - 1;
            let run = Run { first, last, time, position, frame_bytes };
            Ok(Some((partition, run, body.len() as u64 + FRAMING_BYTES)))
        }
        Section::Moved { partition, count, body } if count > 0 => {
            // Only the ends are wanted, so the records are read without copying.
            let buffer = bytes::Bytes::copy_from_slice(body);
            let section = Section::Moved { partition, count, body: &buffer };
            let mut ends: Option<(u64, u64, LogTime)> = None;
            for record in super::section::records(&section, &buffer) {
                let record =
                    record.map_err(|_| Contradiction("a moved record is cut off".to_owned()))?;
                let first = ends.map_or(record.offset, |(first, ..)| first);
                ends = Some((first, record.offset, record.time));
            }
            Ok(ends.map(|(first, last, time)| {
                let run = Run { first, last, time, position, frame_bytes };
                (partition, run, body.len() as u64 + FRAMING_BYTES)
            }))
        }
        _ => Ok(None),
    }
}
