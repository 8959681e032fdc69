//! Reading in order, past what is damaged, and forgetting what is in the log.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;

use super::dir::segment_name;
use super::frame::{self, Head};
use super::{Position, Spool};
use crate::emit::Error;

/// An event of the spool.
#[derive(Debug)]
pub(in crate::emit) struct Spooled {
    pub(in crate::emit) head: Head,
    pub(in crate::emit) json: Bytes,
}

/// Events that were in the spool and cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::emit) struct Lost {
    /// The boot that they are of, if it can be told.
    pub(in crate::emit) boot: Option<i64>,
    /// How many; at least so many where the end of a boot is damaged, or where the
    /// position is lost too.
    pub(in crate::emit) events: u64,
    /// The file in which the next intact event is.
    pub(in crate::emit) segment: u64,
    /// Where that event is.
    pub(in crate::emit) offset: u64,
}

/// What one read found.
#[derive(Debug)]
pub(in crate::emit) struct Pulled {
    pub(in crate::emit) events: Vec<Spooled>,
    pub(in crate::emit) lost: Vec<Lost>,
    /// To be acknowledged once the events are in the log.
    pub(in crate::emit) position: Position,
    /// What that takes from the lag, damage included.
    pub(in crate::emit) bytes: u64,
    /// Whether this was all there was.
    pub(in crate::emit) at_end: bool,
}

/// Reads the spool from the acknowledged position on. All of it blocks.
pub(in crate::emit) struct Reader {
    spool: Arc<Spool>,
    /// How far it has read.
    position: Position,
    /// The first file that may still be there.
    oldest: u64,
    file: Option<(u64, File)>,
    /// Whether damage was passed over since the last event.
    damaged: bool,
    /// Bytes read and not yet handed out with a position.
    passed_bytes: u64,
    /// What was read last: read into again once nobody holds any of it, since fresh
    /// memory has to be cleared by the kernel first.
    buffer: Bytes,
}

impl Reader {
    pub(super) fn new(spool: Arc<Spool>, position: Position) -> Self {
        let oldest = position.segment;
        let (file, damaged, passed_bytes, buffer) = (None, false, 0, Bytes::new());
        Self { spool, position, oldest, file, damaged, passed_bytes, buffer }
    }

    /// Whether everything that was written was read.
    pub(in crate::emit) fn is_at_end(&self) -> bool {
        (self.position.segment, self.position.offset) >= self.spool.end()
    }

    /// The next events of one file. After an error the same may be tried again.
    pub(in crate::emit) fn pull(&mut self) -> Result<Pulled, Error> {
        let mut pulled = Pulled {
            events: Vec::new(),
            lost: Vec::new(),
            position: self.position,
            bytes: 0,
            at_end: false,
        };
        while pulled.events.is_empty() {
            let Some(end) = self.readable_end()? else {
                pulled.at_end = true;
                break;
            };
            self.pull_chunk(end, &mut pulled)?;
        }
        if !pulled.events.is_empty() {
            pulled.bytes = std::mem::take(&mut self.passed_bytes);
        }
        pulled.position = self.position;
        pulled.at_end |= self.is_at_end();
        Ok(pulled)
    }

    /// Where the readable part of the present file ends, once there is something
    /// to read; `None` if all was read. Goes on to the next file.
    fn readable_end(&mut self) -> Result<Option<u64>, Error> {
        loop {
            let (active, active_end) = self.spool.end();
            if self.position.segment >= active {
                return Ok((self.position.offset < active_end).then_some(active_end));
            }
            let name = segment_name(self.position.segment);
            if let Some(file) = self.open()? {
                let end = file.metadata().map_err(Error::io("measure", name))?.len();
                if self.position.offset < end {
                    return Ok(Some(end));
                }
            }
            self.position.segment += 1;
            self.position.offset = 0;
        }
    }

    /// The present file; `None` if it is not there. What was in it shows as a
    /// jump of the sequence.
    fn open(&mut self) -> Result<Option<&File>, Error> {
        let number = self.position.segment;
        if self.file.as_ref().is_none_or(|(open, _)| *open != number) {
            self.file = match self.spool.dir.open_segment(number) {
                Ok(file) => Some((number, file)),
                Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return Err(error),
            };
        }
        Ok(self.file.as_ref().map(|(_, file)| file))
    }

    fn pull_chunk(&mut self, end: u64, pulled: &mut Pulled) -> Result<(), Error> {
        let bytes = self.spool.config.read_bytes() as u64;
        let chunk = self.read(end.min(self.position.offset + bytes))?;
        if frame::first_in(&chunk).is_none() {
            let chunk = self.read(end)?;
            let skipped = frame::find_in(&chunk).unwrap_or(chunk.len());
            tracing::error!(
                file = segment_name(self.position.segment),
                position = self.position.offset,
                bytes = skipped,
                "passed over damage in the spool"
            );
            self.pass(skipped);
            self.damaged = true;
            return Ok(());
        }
        let (mut at, batch_bytes) = (0, self.spool.config.batch_bytes);
        while let Some(frame) = frame::first_in(&chunk[at..]) {
            if at > 0 && at + frame.bytes > batch_bytes {
                break;
            }
            pulled.lost.extend(self.lost_before(frame.head));
            pulled.events.push(Spooled { head: frame.head, json: chunk.slice_ref(frame.json) });
            at += frame.bytes;
            self.pass(frame.bytes);
            self.position.boot = frame.head.boot;
            self.position.sequence = frame.head.sequence;
        }
        Ok(())
    }

    fn pass(&mut self, bytes: usize) {
        self.position.offset += bytes as u64;
        self.passed_bytes += bytes as u64;
    }

    /// What is missing between the last event and this one.
    fn lost_before(&mut self, next: Head) -> Option<Lost> {
        let damaged = std::mem::take(&mut self.damaged);
        let (boot, events) = match (self.position.boot, self.position.sequence) {
            // The first event ever read here: what came before it was acknowledged.
            (0, _) if !damaged => return None,
            // Nor can it be told how much of what is damaged was acknowledged.
            (0, _) => (None, 1),
            (boot, last) if boot == next.boot => (Some(boot), next.sequence - last - 1),
            // The end of the last boot cannot be known; the head of this one can.
            (last_boot, _) => {
                let missing = next.sequence - 1;
                let boot = if missing > 0 { next.boot } else { last_boot };
                (Some(boot), missing.max(i64::from(damaged)))
            }
        };
        let events = u64::try_from(events).unwrap_or(0);
        let Position { segment, offset, .. } = self.position;
        (events > 0).then_some(Lost { boot, events, segment, offset })
    }

    fn read(&mut self, end: u64) -> Result<Bytes, Error> {
        let Position { segment, offset, .. } = self.position;
        let bytes = usize::try_from(end - offset).expect("a file of the spool is below 2 GiB");
        let mut chunk = std::mem::take(&mut self.buffer).try_into_mut().unwrap_or_default();
        chunk.resize(bytes, 0);
        let Some(file) = self.open()? else {
            let missing = io::ErrorKind::NotFound.into();
            return Err(Error::io("read", segment_name(segment))(missing));
        };
        file.read_exact_at(&mut chunk, offset).map_err(Error::io("read", segment_name(segment)))?;
        self.buffer = chunk.freeze();
        Ok(self.buffer.clone())
    }

    /// Forgets what was pulled and before: it is in the log.
    ///
    /// After an error reading may go on: what could not be forgotten is forgotten
    /// with what follows, or read again at the next opening.
    pub(in crate::emit) fn acknowledge(&mut self, pulled: &Pulled) -> Result<(), Error> {
        let forgotten = self.forget_before(pulled.position);
        self.spool.counters.drained.add(pulled.events.len() as u64);
        self.spool.counters.lag_bytes.sub(pulled.bytes);
        self.spool.counters.acknowledged_bytes.add(pulled.bytes);
        forgotten
    }

    fn forget_before(&mut self, position: Position) -> Result<(), Error> {
        let dir = &self.spool.dir;
        dir.store_position(position)?;
        if self.oldest < position.segment {
            // An older position would take the removed files for lost ones.
            dir.sync_position()?;
        }
        while self.oldest < position.segment {
            let file = match dir.open_segment(self.oldest) {
                Ok(file) => Some(file),
                Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return Err(error),
            };
            if let Some(file) = file {
                let bytes = file.metadata().map_or(0, |metadata| metadata.len());
                dir.remove_segment(self.oldest)?;
                self.spool.counters.spooled_bytes.sub(bytes);
            }
            self.oldest += 1;
        }
        Ok(())
    }
}

pub(super) fn read_all(file: &File) -> io::Result<Vec<u8>> {
    let bytes = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
    let mut content = vec![0; bytes];
    file.read_exact_at(&mut content, 0)?;
    Ok(content)
}
