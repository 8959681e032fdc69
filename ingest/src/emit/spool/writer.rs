//! Where order is fixed: sequence, the sequence before, and the place in the file.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;

use super::Spool;
use super::dir::segment_name;
use super::frame::{self, Head};
use crate::emit::{Config, Error, WhenFull};
use crate::event::{Event, EventId};

/// How much of the spool a write may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::emit) enum Room {
    /// All but the reserve, as work that is still to be let in.
    Admission,
    /// All, as work that was let in.
    Whole,
    /// More than all: the few words that the emitter has to say for itself.
    Beyond,
}

/// What was last written in a partition.
#[derive(Clone, Copy, Debug, Default)]
struct Last {
    sequence: Option<i64>,
    /// Whether anything was written since the last round of heartbeats.
    spoke: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    Closed,
    /// A failed write could not be taken back, so nothing may follow it until it is.
    Broken,
}

#[derive(Debug)]
pub(super) struct Writer {
    boot: i64,
    last_sequence: i64,
    partitions: Vec<Last>,
    number: u64,
    file: Arc<File>,
    /// Where the active file's last whole frame ends.
    bytes: u64,
    /// Files that were written since they were synced, the active one too.
    unsynced: Vec<Arc<File>>,
    state: State,
    buffer: Vec<u8>,
    /// How many writes from now on find the disk full.
    #[cfg(test)]
    refusals: u32,
}

impl Writer {
    pub(super) fn begin(config: &Config, boot: i64, number: u64, file: Arc<File>) -> Self {
        Self {
            boot,
            last_sequence: 0,
            partitions: vec![Last::default(); config.partitions.get() as usize],
            number,
            file,
            bytes: 0,
            unsynced: Vec::new(),
            state: State::Open,
            buffer: Vec::new(),
            #[cfg(test)]
            refusals: 0,
        }
    }

    /// Numbers the events and appends their frames to the buffer.
    fn encode(&mut self, events: &mut [Event], places: &[u32]) -> Result<(), Error> {
        self.buffer.clear();
        for (event, &partition) in events.iter_mut().zip(places) {
            let last = &mut self.partitions[partition as usize];
            event.boot = self.boot;
            event.sequence = self.last_sequence + 1;
            event.sequence_before = last.sequence;
            let head = Head { partition, boot: event.boot, sequence: event.sequence };
            frame::write(&mut self.buffer, head, |out| event.write_json(out))?;
            self.last_sequence = event.sequence;
            *last = Last { sequence: Some(event.sequence), spoke: true };
        }
        Ok(())
    }

    /// Takes the numbers of events back that were not written.
    fn take_back(&mut self, events: &[Event], places: &[u32], before: i64) {
        let numbered = events.iter().zip(places).filter(|(event, _)| event.sequence > before);
        for (event, &partition) in numbered.rev() {
            self.partitions[partition as usize].sequence = event.sequence_before;
        }
        self.last_sequence = before;
    }

    fn write_buffer(&mut self) -> io::Result<()> {
        #[cfg(test)]
        if self.refusals > 0 {
            self.refusals -= 1;
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.file.write_all_at(&self.buffer, self.bytes)
    }

    /// Appends the buffer to the active file: after this a kill loses none of it.
    fn write(&mut self) -> io::Result<()> {
        if let Err(error) = self.write_buffer() {
            // What is there of it must not pass for an event that was emitted.
            if self.file.set_len(self.bytes).is_err() {
                self.state = State::Broken;
            }
            return Err(error);
        }
        self.bytes += self.buffer.len() as u64;
        if !self.unsynced.last().is_some_and(|file| Arc::ptr_eq(file, &self.file)) {
            self.unsynced.push(self.file.clone());
        }
        Ok(())
    }
}

impl Spool {
    /// Writes events, in order and all or none, to the page cache.
    ///
    /// Their producer is set and the rest of their identity is set here.
    pub(in crate::emit) fn write(
        &self,
        events: &mut [Event],
        room: Room,
    ) -> Result<Vec<EventId>, Error> {
        let places = self.unnumber(events);
        self.write_to(events, &places, room)?;
        Ok(events.iter().map(Event::id).collect())
    }

    /// As [`Self::write`], for one event.
    pub(in crate::emit) fn write_one(&self, event: &mut Event, room: Room) -> Result<(), Error> {
        event.sequence = 0;
        let place = event.partition(self.config.partitions);
        self.write_to(std::slice::from_mut(event), &[place], room)
    }

    fn write_to(&self, events: &mut [Event], places: &[u32], room: Room) -> Result<(), Error> {
        let mut writer = self.writer.lock();
        let written = self.write_or_take_back(&mut writer, events, places, room);
        let full = written.as_ref().is_err_and(Error::is_full);
        if full && room == Room::Whole && self.config.when_full == WhenFull::Drop {
            // Under the lock, so that the last words tell of it.
            self.counters.dropped_untold.add(events.len() as u64);
        }
        written
    }

    /// Writes what `last_words` answers and takes no more events, with nothing in
    /// between; it closes even if the words cannot be written.
    pub(in crate::emit) fn close(
        &self,
        last_words: impl FnOnce() -> Vec<Event>,
    ) -> Result<(), Error> {
        let mut writer = self.writer.lock();
        let mut events = last_words();
        let places = self.unnumber(&mut events);
        let told = self.write_or_take_back(&mut writer, &mut events, &places, Room::Beyond);
        writer.state = State::Closed;
        told
    }

    /// The partitions of events that have no number yet.
    fn unnumber(&self, events: &mut [Event]) -> Vec<u32> {
        for event in events.iter_mut() {
            event.sequence = 0;
        }
        events.iter().map(|event| event.partition(self.config.partitions)).collect()
    }

    fn write_or_take_back(
        &self,
        writer: &mut Writer,
        events: &mut [Event],
        places: &[u32],
        room: Room,
    ) -> Result<(), Error> {
        match writer.state {
            State::Open => {}
            State::Closed => return Err(Error::Closed),
            State::Broken => {
                writer.file.set_len(writer.bytes).map_err(|_| self.broken())?;
                writer.state = State::Open;
            }
        }
        let before = writer.last_sequence;
        let written = self.write_locked(writer, events, places, room);
        match &written {
            Ok(()) => self.counters.emitted.add(events.len() as u64),
            Err(_) => writer.take_back(events, places, before),
        }
        written
    }

    fn write_locked(
        &self,
        writer: &mut Writer,
        events: &mut [Event],
        places: &[u32],
        room: Room,
    ) -> Result<(), Error> {
        writer.encode(events, places)?;
        let bytes = writer.buffer.len() as u64;
        self.check_room(bytes, room)?;
        if writer.bytes > 0 && writer.bytes + bytes > self.config.segment_bytes {
            self.begin_segment(writer)?;
        }
        let mut written = writer.write();
        if written.as_ref().is_err_and(is_disk_full) && self.use_reserve() {
            written = writer.write();
        }
        if writer.state == State::Broken {
            let place = self.place();
            tracing::error!(place, "a failed write to the spool cannot be taken back");
            return Err(self.broken());
        }
        written.map_err(|error| self.refused("write", writer.number, error))?;
        self.counters.spooled_bytes.add(bytes);
        self.counters.lag_bytes.add(bytes);
        Ok(())
    }

    /// Whether so many bytes more fit.
    pub(in crate::emit) fn check_room(&self, bytes: u64, room: Room) -> Result<(), Error> {
        let max = match room {
            Room::Admission => self.config.spool_bytes_max - self.config.reserve_bytes,
            Room::Whole => self.config.spool_bytes_max,
            Room::Beyond => u64::MAX,
        };
        let fits = self.counters.spooled_bytes.get().saturating_add(bytes) <= max;
        if fits { Ok(()) } else { Err(self.full()) }
    }

    fn full(&self) -> Error {
        Error::Full { place: self.place(), bytes: self.counters.spooled_bytes.get() }
    }

    fn refused(&self, action: &'static str, number: u64, error: io::Error) -> Error {
        match is_disk_full(&error) {
            true => Error::DiskFull { place: self.place() },
            false => Error::io(action, segment_name(number))(error),
        }
    }

    fn broken(&self) -> Error {
        Error::Broken { place: self.place() }
    }

    fn begin_segment(&self, writer: &mut Writer) -> Result<(), Error> {
        let number = writer.number + 1;
        let mut created = self.dir.create_segment(number);
        if created.as_ref().is_err_and(is_disk_full) && self.use_reserve() {
            created = self.dir.create_segment(number);
        }
        let created = created.map_err(|error| self.refused("create", number, error))?;
        writer.file = Arc::new(created);
        (writer.number, writer.bytes) = (number, 0);
        Ok(())
    }

    /// The active file, and where its last whole frame ends.
    pub(in crate::emit) fn end(&self) -> (u64, u64) {
        let writer = self.writer.lock();
        (writer.number, writer.bytes)
    }

    /// The partitions in which nothing was written since this was last asked.
    pub(in crate::emit) fn take_silent(&self) -> Vec<u32> {
        let mut silent = Vec::new();
        for (partition, last) in (0..).zip(&mut self.writer.lock().partitions) {
            if !std::mem::take(&mut last.spoke) {
                silent.push(partition);
            }
        }
        silent
    }

    /// Forgets that anybody spoke, after heartbeats did.
    pub(in crate::emit) fn hush(&self, partitions: &[u32]) {
        let mut writer = self.writer.lock();
        for &partition in partitions {
            writer.partitions[partition as usize].spoke = false;
        }
    }

    /// Makes durable what was written. Blocks.
    pub(in crate::emit) fn sync(&self) {
        let mut unsynced = std::mem::take(&mut self.writer.lock().unsynced);
        if unsynced.is_empty() {
            return;
        }
        // What was removed is in the log. To keep it would keep its room as well.
        unsynced.retain(|file| file.metadata().map_or(true, |metadata| metadata.nlink() > 0));
        let mut failure = self.dir.sync().err();
        // Without its name a file is as good as lost.
        let nameless = failure.is_some();
        unsynced.retain(|file| match file.sync_data() {
            Ok(()) => nameless,
            Err(error) => {
                failure = Some(error);
                true
            }
        });
        let Some(error) = failure else { return };
        self.counters.sync_failures.add(1);
        let place = self.place();
        tracing::error!(place, %error, "a sync of the spool failed, and is tried again");
        let mut writer = self.writer.lock();
        unsynced.retain(|file| !writer.unsynced.iter().any(|other| Arc::ptr_eq(file, other)));
        // In front, so that the active file stays last.
        writer.unsynced.splice(..0, unsynced);
    }
}

fn is_disk_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::num::NonZeroU32;

    use super::*;
    use crate::event::{Kind, ManualClock, Outcome, Producer, Timestamp};

    fn spool(dir: &std::path::Path) -> Arc<Spool> {
        let config = Config::new(Producer::new("edge-1").unwrap(), dir, NonZeroU32::MIN);
        let config = Config { when_full: WhenFull::Drop, ..config };
        let clock = Arc::new(ManualClock::new(Timestamp::from_micros(0)));
        super::super::open(config, clock).unwrap().0
    }

    fn write(spool: &Spool) -> Result<Vec<EventId>, Error> {
        spool.write(&mut [spool.event(Kind::Request, Outcome::Success)], Room::Whole)
    }

    /// A file that cannot be synced.
    fn unsyncable() -> Arc<File> {
        Arc::new(fs::OpenOptions::new().write(true).open("/dev/null").unwrap())
    }

    #[test]
    fn what_cannot_be_synced_is_tried_again_and_stops_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let spool = spool(dir.path());
        write(&spool).unwrap();
        let removed = Arc::new(File::create(dir.path().join("gone")).unwrap());
        fs::remove_file(dir.path().join("gone")).unwrap();
        let failing = unsyncable();
        spool.writer.lock().unsynced.splice(..0, [removed, failing.clone()]);
        for failures in 1..3 {
            spool.sync();
            assert_eq!(spool.counters.sync_failures.get(), failures);
            let unsynced = spool.writer.lock().unsynced.clone();
            assert!(unsynced.len() == 1 && Arc::ptr_eq(&unsynced[0], &failing));
        }
        spool.writer.lock().unsynced.clear();
        spool.sync();
        assert_eq!(spool.counters.sync_failures.get(), 2);
    }

    #[test]
    fn on_a_full_disk_what_was_let_in_is_told_and_nothing_more_is_let_in() {
        let dir = tempfile::tempdir().unwrap();
        let spool = spool(dir.path());
        let reserve = dir.path().join("reserve");
        assert_eq!(fs::metadata(&reserve).unwrap().blocks() * 512, spool.config.segment_bytes);
        spool.check_disk().unwrap();
        // The reserve makes room for what is under way.
        spool.writer.lock().refusals = 1;
        write(&spool).unwrap();
        assert!(!reserve.exists());
        assert!(matches!(spool.check_disk(), Err(Error::DiskFull { .. })));
        // When that is used up too, an event is refused, and the one after it is not.
        spool.writer.lock().refusals = 1;
        let refused = write(&spool).unwrap_err();
        assert!(matches!(refused, Error::DiskFull { .. }) && refused.is_retryable(), "{refused}");
        write(&spool).unwrap();
        // Once there is room it is taken again.
        spool.restore_reserve();
        assert!(reserve.exists());
        spool.check_disk().unwrap();
    }

    #[test]
    fn a_write_that_cannot_be_taken_back_is_no_full_spool_and_no_drop() {
        let dir = tempfile::tempdir().unwrap();
        let spool = spool(dir.path());
        let first = write(&spool).unwrap().remove(0);
        let place = dir.path().join(segment_name(spool.end().0));
        let good = spool.writer.lock().file.clone();
        spool.writer.lock().file = Arc::new(File::open(place).unwrap());
        for _ in 0..2 {
            let error = write(&spool).unwrap_err();
            assert!(matches!(error, Error::Broken { .. }) && !error.is_retryable(), "{error}");
        }
        assert_eq!(spool.counters.dropped_untold.get(), 0);
        spool.writer.lock().file = good;
        assert_eq!(write(&spool).unwrap()[0].sequence, first.sequence + 1);
    }
}
