//! The one who writes: takes requests, puts each into a frame, writes many
//! frames at once, syncs, and only then shows and acknowledges them.

use std::io;
use std::sync::Arc;

use fail::fail_point;

use super::disk::{DiskFile, file_error};
use super::frame;
use super::mark::Mark;
use super::membership::Coordinator;
use super::request::{Answer, Records, Request};
use super::section::{PartitionKey, Section};
use super::segment::{self, Loaded, Segment, file_name};
use super::state::State;
use super::view::{MovedRuns, Sealed, Shared};
use crate::log::{Appended, Error, GroupOffsets, LogTime, Result};

/// As much is written before a sync, unless one request alone is larger.
const GROUP_BYTES_MAX: usize = 8 * 1024 * 1024;
/// A file whose space is given up when there is none left for a checkpoint or
/// for opening the log.
pub(super) const RESERVE: &str = "reserve";
/// The reserve is this part of a segment.
pub(super) const RESERVE_FRACTION: u64 = 16;
/// Room at a segment's end for trims, which free space, when the disk is full.
const RESERVE_BYTES: usize = 64 * 1024;

/// The journal's writing end.
#[derive(Debug)]
pub(super) struct Journal {
    shared: Arc<Shared>,
    groups: Arc<Coordinator>,
    clock: fn() -> LogTime,
    segment_bytes: u64,
    /// What fits the active segment.
    capacity: usize,
    /// Whether no frame says yet that the last ones are durable.
    unconfirmed: bool,
    /// All that was written, also what is not durable yet.
    state: State,
    active: Arc<Segment>,
    loaded: Arc<Loaded>,
    /// Where the next write goes in the active segment.
    position: usize,
    next_sequence: u64,
    /// Frames that are not written yet, from `position` on.
    buffer: Vec<u8>,
    /// Where in `buffer` each frame begins; a segment header before the first
    /// does not count.
    frames: Vec<usize>,
}

/// What a journal starts from.
#[derive(Debug)]
pub(super) struct Start {
    pub(super) state: State,
    pub(super) next_segment: u64,
    pub(super) next_sequence: u64,
}

impl Journal {
    /// Begins a new segment after what recovery has found.
    pub(super) fn begin(
        shared: Arc<Shared>,
        groups: Arc<Coordinator>,
        clock: fn() -> LogTime,
        segment_bytes: u64,
        start: Start,
    ) -> Result<Self> {
        let number = start.next_segment;
        let file = match create_segment(&shared, number, segment_bytes) {
            // What is kept for a full disk is enough to trim, and so to free more.
            Err(Error::Full { .. }) if shared.disk.remove(RESERVE).is_ok() => {
                create_segment(&shared, number, segment_bytes / RESERVE_FRACTION)?
            }
            created => created?,
        };
        let capacity = capacity_of(number, &*file)?;
        let active = Arc::new(Segment::open(number, file, Default::default()));
        let loaded = active.loaded().expect("a new segment is open");
        shared.view.write().segments.insert(active.number, active.clone());
        let mut journal = Self {
            shared,
            groups,
            clock,
            segment_bytes,
            capacity,
            unconfirmed: false,
            state: start.state,
            active,
            loaded,
            position: 0,
            next_sequence: start.next_sequence,
            buffer: Vec::new(),
            frames: Vec::new(),
        };
        journal.write_segment_header();
        Ok(journal)
    }

    /// The largest payload that fits a segment.
    fn payload_bytes_max(&self) -> usize {
        self.segment_bytes as usize
            - segment::HEADER_BYTES
            - frame::framed_bytes(0)
            - RESERVE_BYTES
            - 8
    }

    /// Carries out requests in their order, with as few syncs as may be, and
    /// answers each through `reply`.
    pub(super) fn carry_out<R>(
        &mut self,
        requests: impl IntoIterator<Item = (Request, R)>,
        mut reply: impl FnMut(R, Result<Answer>),
    ) {
        let mut waiting: Vec<(R, Answer)> = Vec::new();
        for (request, to) in requests {
            let staged = self.make_room(&request, &mut waiting, &mut reply).and_then(|()| {
                self.shared.check_writable()?;
                self.stage(request)
            });
            match staged {
                Ok(answer) => waiting.push((to, answer)),
                Err(error) => reply(to, Err(error)),
            }
            if self.buffer.len() >= GROUP_BYTES_MAX {
                self.finish(&mut waiting, &mut reply);
            }
        }
        self.finish(&mut waiting, &mut reply);
    }

    /// Makes what is staged durable, and answers.
    fn finish<R>(
        &mut self,
        waiting: &mut Vec<(R, Answer)>,
        reply: &mut impl FnMut(R, Result<Answer>),
    ) {
        let flushed = self.flush();
        for (to, answer) in waiting.drain(..) {
            let result = match &flushed {
                Ok(()) => Ok(answer),
                Err(reason) => Err(Error::Poisoned(reason.clone())),
            };
            reply(to, result);
        }
    }

    fn make_room<R>(
        &mut self,
        request: &Request,
        waiting: &mut Vec<(R, Answer)>,
        reply: &mut impl FnMut(R, Result<Answer>),
    ) -> Result<()> {
        if matches!(request, Request::Barrier) {
            return Ok(());
        }
        let payload = request.bytes();
        if payload > self.payload_bytes_max() {
            let limit = self.payload_bytes_max();
            return Err(Error::TooLarge { what: "a batch", bytes: payload, limit });
        }
        let kept_free = if request.frees_space() { 0 } else { RESERVE_BYTES };
        let used = self.position + self.buffer.len();
        let fits = used + frame::framed_bytes(payload) + kept_free <= self.capacity;
        let asked_to_roll = matches!(request, Request::Roll) && used > segment::HEADER_BYTES;
        if fits && !asked_to_roll {
            return Ok(());
        }
        self.finish(waiting, reply);
        self.shared.check_writable()?;
        self.roll()
    }

    /// Ends the active segment and begins the next. All frames are written.
    fn roll(&mut self) -> Result<()> {
        let number = self.active.number + 1;
        // Held until the new segment is in the view, so that nobody allocates it twice.
        let shared = self.shared.clone();
        let mut spare = shared.spare.lock();
        let file = match spare.take() {
            Some((spare, file)) if spare == number => file,
            _ => create_segment(&self.shared, number, self.segment_bytes)?,
        };
        let capacity = capacity_of(number, &*file)?;
        // The rest is zeros, so it does not matter when the cut becomes durable.
        let bytes = self.position as u64;
        self.loaded.file.truncate(bytes).map_err(|source| self.poison("cut", source))?;
        let sealed = Sealed {
            segment: self.active.clone(),
            next_sequence: self.next_sequence,
            state: self.state.clone(),
        };
        self.active = Arc::new(Segment::open(number, file, Default::default()));
        self.loaded = self.active.loaded().expect("a new segment is open");
        let mut view = self.shared.view.write();
        view.segments.insert(number, self.active.clone());
        view.segment_bytes.insert(number - 1, bytes);
        drop(view);
        // Only now: a checkpoint that covers a segment finds it in the view.
        self.shared.sealed.lock().push(sealed);
        self.position = 0;
        self.capacity = capacity;
        self.write_segment_header();
        Ok(())
    }

    fn write_segment_header(&mut self) {
        segment::write_header(&mut self.buffer, self.active.number, self.next_sequence);
    }

    /// Checks a request against everything before it, and puts its frame into
    /// the buffer. Nothing is changed if it is refused.
    fn stage(&mut self, request: Request) -> Result<Answer> {
        match request {
            Request::Append(records) => {
                let staged = self.stage_records(&records, &[]);
                records.recycle(&self.shared.spares);
                staged.map(Answer::Appended)
            }
            Request::Transact { writer, epoch, records, offsets } => {
                if self.state.epoch(&writer) != Some(epoch) {
                    return Err(Error::Fenced(format!("writer {writer:?}")));
                }
                let staged = self.stage_records(&records, &offsets);
                records.recycle(&self.shared.spares);
                staged.map(Answer::Appended)
            }
            Request::Commit(commit) => {
                self.stage_records(&Records::default(), &[commit])?;
                Ok(Answer::Done)
            }
            Request::CreateTopic(spec) => self.stage_topic(&spec),
            Request::Fence { writer } => {
                let epoch = self.state.epoch(&writer).unwrap_or(0) + 1;
                self.stage_frame(&[Section::Writer { name: &writer, epoch }]);
                Ok(Answer::Epoch(epoch))
            }
            Request::Trim { partition, before } => {
                let key = self.state.key(&partition)?;
                let bounds = self.state.bounds(key);
                if before > bounds.end {
                    return Err(Error::OutOfRange { partition, offset: before, bounds });
                }
                if before > bounds.first {
                    self.stage_frame(&[Section::Trim { partition: key, before }]);
                }
                Ok(Answer::Done)
            }
            Request::Move { runs } => {
                let sections: Vec<_> = runs
                    .iter()
                    .map(|(partition, count, body)| Section::Moved {
                        partition: *partition,
                        count: *count,
                        body,
                    })
                    .collect();
                self.stage_frame(&sections);
                Ok(Answer::Moved(self.active.number))
            }
            Request::Confirm => {
                if self.unconfirmed {
                    self.stage_frame(&[]);
                }
                Ok(Answer::Done)
            }
            Request::Roll | Request::Barrier => Ok(Answer::Done),
        }
    }

    fn stage_topic(&mut self, spec: &crate::log::TopicSpec) -> Result<Answer> {
        spec.check()?;
        if let Some(existing) = self.state.topic(&spec.name) {
            existing.check_same(spec)?;
            return Ok(Answer::Done);
        }
        let id = self.state.next_topic_id();
        let json = serde_json::to_string(spec).expect("a specification is plain data");
        self.stage_frame(&[Section::Topic { id, spec: &json }]);
        Ok(Answer::Done)
    }

    fn stage_records(
        &mut self,
        records: &Records,
        groups: &[GroupOffsets],
    ) -> Result<Vec<Appended>> {
        let keys = self.check_records(records)?;
        let offsets = self.check_offsets(groups)?;
        let time = (self.clock)().max(self.state.time());
        let mut sections = Vec::with_capacity(records.runs.len() + offsets.len());
        for (run, partition) in records.runs.iter().zip(&keys) {
            let first = self.state.ends(*partition).end;
            let (partition, count, body) = (*partition, run.count, &run.body[..]);
            sections.push(Section::Records { partition, first, time, count, body });
        }
        let firsts: Vec<u64> = keys.iter().map(|key| self.state.ends(*key).end).collect();
        for (group, partition, offset) in &offsets {
            let (partition, offset) = (*partition, *offset);
            sections.push(Section::Offset { group, partition, offset });
        }
        if !sections.is_empty() {
            self.stage_frame(&sections);
        }
        let appended = |(run, place): &(u32, u32)| Appended {
            offset: firsts[*run as usize] + u64::from(*place),
            time,
        };
        Ok(records.places.iter().map(appended).collect())
    }

    fn check_records(&self, records: &Records) -> Result<Vec<PartitionKey>> {
        let mut keys = Vec::with_capacity(records.runs.len());
        for run in &records.runs {
            keys.push(self.state.key(&run.partition)?);
            let topic = self.state.topic(&run.partition.topic);
            if !run.all_keyed && topic.is_some_and(|spec| spec.needs_keys()) {
                let name = run.partition.topic.to_string();
                let reason = "it is compacted, so each of its records needs a key".to_owned();
                return Err(Error::InvalidTopic { name, reason });
            }
        }
        Ok(keys)
    }

    fn check_offsets<'a>(
        &self,
        groups: &'a [GroupOffsets],
    ) -> Result<Vec<(&'a str, PartitionKey, u64)>> {
        let mut checked = Vec::new();
        for commit in groups {
            self.groups.check_commit(commit)?;
            for (partition, offset) in &commit.offsets {
                checked.push((commit.group.as_str(), self.state.key(partition)?, *offset));
            }
        }
        Ok(checked)
    }

    fn stage_frame(&mut self, sections: &[Section<'_>]) {
        let durable = self.durable();
        let start = frame::begin(&mut self.buffer, self.next_sequence, durable);
        self.frames.push(start);
        self.unconfirmed = !sections.is_empty();
        self.next_sequence += 1;
        for section in sections {
            section.write(&mut self.buffer);
            self.state.apply(section).expect("a staged section follows from the state");
        }
        frame::finish(&mut self.buffer, start);
    }

    /// All frames below this sequence are durable.
    fn durable(&self) -> u64 {
        self.next_sequence - self.frames.len() as u64
    }

    /// Writes and syncs what is staged, and lets readers see it. A failure is
    /// final: it is the reason that every later call is given.
    fn flush(&mut self) -> Result<(), String> {
        if self.frames.is_empty() {
            return Ok(());
        }
        // A sync that failed once and then succeeds has made nothing durable.
        if let Some(reason) = self.shared.poison.get() {
            return Err(reason.clone());
        }
        let file = &self.loaded.file;
        let written = file
            .write_all_at(&self.buffer, self.position as u64)
            .and_then(|()| {
                fail_point!("log::written");
                file.sync()
            })
            .map_err(|source| self.poison("write", source).to_string());
        if let Err(error) = written {
            return Err(self.shared.poison.get().cloned().unwrap_or(error));
        }
        fail_point!("log::synced");
        let mut view = self.shared.view.write();
        for &start in &self.frames {
            let (position, bytes) = (self.position + start, &self.buffer[start..]);
            view.apply(&self.active, &self.loaded, position, bytes, MovedRuns::Index)
                .expect("a staged frame follows from the view");
        }
        view.durable = Mark { segment: self.active.number, next_sequence: self.next_sequence };
        drop(view);
        self.position += self.buffer.len();
        self.buffer.clear();
        self.frames.clear();
        self.shared.announce();
        Ok(())
    }

    /// Writes down how far it is.
    pub(super) fn mark(&self) -> Result<()> {
        let mark = self.shared.view.read().durable;
        mark.write(&*self.shared.disk)
    }

    fn poison(&self, action: &str, source: io::Error) -> Error {
        let reason = format!("{action} {}: {source}", file_name(self.active.number));
        let reason = self.shared.poison.get_or_init(|| reason).clone();
        // Readers that wait for more are told, too.
        self.shared.announce();
        Error::Poisoned(reason)
    }
}

fn capacity_of(number: u64, file: &dyn DiskFile) -> Result<usize> {
    let bytes = file.bytes().map_err(|source| Error::Io {
        action: "look at",
        file: file_name(number),
        source,
    })?;
    Ok(usize::try_from(bytes).expect("a segment is below 4 GiB"))
}

/// Makes a segment's file, its space taken.
pub(super) fn create_segment(
    shared: &Shared,
    number: u64,
    bytes: u64,
) -> Result<Arc<dyn DiskFile>> {
    let name = file_name(number);
    let created = shared.disk.create(&name, bytes);
    created.map_err(|source| file_error(&*shared.disk, "create", &name, source))
}
