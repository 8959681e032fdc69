//! Opening: the checkpoint, then the frames that were written after it.
//!
//! The journal's sequence numbers run on from segment to segment. Reading stops
//! at the first frame that is not there in one piece. Was it ever acknowledged?
//! If a later frame says so (see [`super::frame`]), the journal is damaged and
//! nothing is opened; else the tail is cut there, and nobody misses it. A journal that
//! ends before its mark (see [`super::mark`]) is damaged, too.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::checkpoint::{Checkpoint, Covered};
use super::disk::{Disk, DiskFile, read_all};
use super::frame;
use super::index::{Run, SegmentIndex};
use super::journal::Start;
use super::mark::{self, Mark};
use super::section::{PartitionKey, sections};
use super::segment::{self, Segment, file_name};
use super::view::{MovedRuns, Sealed, Shared, View, payload_of, run_of};
use crate::log::{Error, Result};

/// Opens the log on `disk`.
///
/// # Errors
/// [`Error::Damaged`], naming the file and the place; nothing was changed then.
pub(super) fn recover(disk: Arc<dyn Disk>) -> Result<(Arc<Shared>, Start, Covered)> {
    let names = disk.list().map_err(|e| io(&disk.place(), "list", e))?;
    let mut files: Vec<u64> = names.iter().filter_map(|name| segment::number_in(name)).collect();
    files.sort_unstable();

    let mut recovery = Recovery { disk, view: View::default(), last_segment: 0, next_sequence: 0 };
    if let Some(checkpoint) = Checkpoint::read(&*recovery.disk)? {
        recovery.take_over(checkpoint, &files)?;
    }
    let covered = Covered {
        last_segment: recovery.last_segment,
        next_sequence: recovery.next_sequence,
        state: recovery.view.state.clone(),
    };
    let newer: Vec<u64> =
        files.iter().copied().filter(|number| *number > covered.last_segment).collect();
    let found = recovery.scan(&newer)?;
    recovery.check_mark(&files, &found)?;
    // From here on the disk is changed: the log is known to be sound.
    let sealed = recovery.seal(found)?;
    recovery.remove_leftovers(&names)?;
    let Recovery { disk, view, last_segment, next_sequence } = recovery;
    let start = Start { state: view.state.clone(), next_segment: last_segment + 1, next_sequence };
    Ok((Arc::new(Shared::new(disk, view, sealed)), start, covered))
}

struct Recovery {
    disk: Arc<dyn Disk>,
    view: View,
    last_segment: u64,
    next_sequence: u64,
}

/// A segment after the checkpoint, read to where its frames end.
struct Scanned {
    segment: Arc<Segment>,
    file: Arc<dyn DiskFile>,
    /// Where the last whole frame ends; 0 if nothing was ever written to it.
    bytes: u64,
    next_sequence: u64,
    state: super::state::State,
}

impl Recovery {
    fn take_over(&mut self, checkpoint: Checkpoint, files: &[u64]) -> Result<()> {
        self.view.extents = checkpoint.extents();
        for (number, bytes) in &checkpoint.segments {
            let length = files
                .binary_search(number)
                .ok()
                .and_then(|_| self.disk.open(&file_name(*number)).ok())
                .and_then(|file| file.bytes().ok())
                .unwrap_or(0);
            if length < *bytes {
                let detail = format!("{bytes} bytes were written, {length} are there");
                return Err(damaged(*number, length, detail));
            }
            self.view.segments.insert(*number, Arc::new(Segment::closed(*number)));
            self.view.segment_bytes.insert(*number, *bytes);
        }
        let missing = self.view.extents.iter().find_map(|(_, _, extent)| {
            (!self.view.segments.contains_key(&extent.segment)).then_some(extent.segment)
        });
        if let Some(number) = missing {
            return Err(damaged(number, 0, "the checkpoint needs it, and lists it not".to_owned()));
        }
        self.view.state = checkpoint.state.into();
        self.last_segment = checkpoint.last_segment;
        self.next_sequence = checkpoint.next_sequence;
        Ok(())
    }

    /// Reads the segments after the checkpoint, and changes nothing on disk.
    fn scan(&mut self, numbers: &[u64]) -> Result<Vec<Scanned>> {
        let mut scanned = Vec::new();
        let mut ended: Option<(u64, u64)> = None;
        for &number in numbers {
            let file = self.disk.open(&file_name(number)).map_err(|e| io_of(number, "open", e))?;
            let content = read_all(&*file).map_err(|e| io_of(number, "read", e))?;
            let expected = self.next_sequence;
            let begins_here = segment::read_header(number, &content) == Some(expected);
            if begins_here && number != self.last_segment + 1 {
                let missing = self.last_segment + 1;
                return Err(damaged(missing, 0, "the file is missing".to_owned()));
            }
            if !begins_here {
                // Either nobody was ever told of anything in it, or what it
                // follows on is lost.
                if let Some(at) = frame::find_proof_of(expected, &content) {
                    let (file, end) = ended.unwrap_or((number, 0));
                    let detail = format!(
                        "frame {expected} is missing, which {} confirms at byte {at}",
                        file_name(number),
                    );
                    return Err(damaged(file, end, detail));
                }
                continue;
            }
            let segment = Arc::new(Segment::open(number, file.clone(), SegmentIndex::default()));
            let bytes = self.scan_frames(&segment, &content)?;
            ended = Some((number, bytes));
            self.last_segment = number;
            let (next_sequence, state) = (self.next_sequence, self.view.state.clone());
            scanned.push(Scanned { segment, file, bytes, next_sequence, state });
        }
        Ok(scanned)
    }

    /// Takes in the frames of a segment; answers where they end.
    fn scan_frames(&mut self, segment: &Segment, content: &[u8]) -> Result<u64> {
        let loaded = segment.loaded().expect("a scanned segment is open");
        let mut position = segment::HEADER_BYTES;
        while let Some(frame) = whole_frame(content, position, self.next_sequence) {
            self.view
                .apply(segment, &loaded, position, frame, MovedRuns::Ignore)
                .map_err(|e| damaged(segment.number, position as u64, e.0))?;
            position += frame.len();
            self.next_sequence += 1;
        }
        if let Some(at) = frame::find_proof_of(self.next_sequence, &content[position..]) {
            let detail = format!(
                "frame {} cannot be read, which byte {} confirms",
                self.next_sequence,
                position + at,
            );
            return Err(damaged(segment.number, position as u64, detail));
        }
        Ok(position as u64)
    }

    /// Refuses a journal that is shorter than it was.
    fn check_mark(&mut self, files: &[u64], found: &[Scanned]) -> Result<()> {
        let here = Mark { segment: self.last_segment, next_sequence: self.next_sequence };
        self.view.durable = here;
        let Some(mark) = Mark::read(&*self.disk)? else { return Ok(()) };
        if mark.next_sequence <= here.next_sequence {
            return Ok(());
        }
        let missing = files.binary_search(&mark.segment).is_err();
        let end =
            found.iter().find(|of| of.segment.number == mark.segment).map_or(0, |of| of.bytes);
        let detail = format!(
            "{}, though {} frames were durable and {} can be read: put the file back, or remove \
             the file {} to go on without what is lost",
            if missing { "it is missing" } else { "it ends there" },
            mark.next_sequence,
            here.next_sequence,
            mark::NAME,
        );
        Err(damaged(mark.segment, end, detail))
    }

    /// Cuts the torn tail and makes durable what is kept: it may never have
    /// been synced.
    fn seal(&mut self, scanned: Vec<Scanned>) -> Result<Vec<Sealed>> {
        let mut sealed = Vec::new();
        for Scanned { segment, file, bytes, next_sequence, state } in scanned {
            file.truncate(bytes).map_err(|e| io_of(segment.number, "cut", e))?;
            if segment.number == self.last_segment {
                // After a sync that failed, the cache holds what the disk does not,
                // and calls it clean. Written again, it is synced again.
                let content = read_all(&*file).map_err(|e| io_of(segment.number, "read", e))?;
                file.write_all_at(&content, 0).map_err(|e| io_of(segment.number, "write", e))?;
            }
            file.sync().map_err(|e| io_of(segment.number, "sync", e))?;
            self.view.segments.insert(segment.number, segment.clone());
            self.view.segment_bytes.insert(segment.number, bytes);
            sealed.push(Sealed { segment, next_sequence, state });
        }
        Ok(sealed)
    }

    /// Removes the files of segments that hold nothing: retired before the
    /// checkpoint, or allocated ahead and not used.
    fn remove_leftovers(&self, names: &[String]) -> Result<()> {
        for name in names {
            let number = segment::number_in(name).or_else(|| segment::index_number_in(name));
            if number.is_some_and(|number| !self.view.segments.contains_key(&number)) {
                self.disk.remove(name).map_err(|e| io(name, "remove", e))?;
            }
        }
        Ok(())
    }
}

/// Reads the index of a full segment out of its frames. Copies that the cleaner
/// did not finish have no extent there, and stay out of it.
pub(super) fn index_of(
    disk: &dyn Disk,
    number: u64,
    bytes: u64,
    extents: &BTreeMap<PartitionKey, Vec<(u64, u64)>>,
) -> Result<SegmentIndex> {
    let file = disk.open(&file_name(number)).map_err(|e| io_of(number, "open", e))?;
    let content = read_all(&*file).map_err(|e| io_of(number, "read", e))?;
    let Some(mut sequence) = segment::read_header(number, &content) else {
        return Err(damaged(number, 0, "its header cannot be read".to_owned()));
    };
    let mut index = SegmentIndex::default();
    let mut position = segment::HEADER_BYTES;
    while (position as u64) < bytes {
        let Some(frame) = whole_frame(&content, position, sequence) else {
            let detail = format!("frame {sequence} cannot be read");
            return Err(damaged(number, position as u64, detail));
        };
        let indexed = index_frame(&mut index, position, frame);
        indexed.map_err(|detail| damaged(number, position as u64, detail))?;
        position += frame.len();
        sequence += 1;
    }
    index.retain(|partition, run| {
        let ranges = extents.get(&partition).map_or(&[][..], Vec::as_slice);
        ranges.iter().any(|(first, last)| run.last >= *first && run.first <= *last)
    });
    Ok(index)
}

/// The intact frame at `position`, if it has the sequence.
fn whole_frame(content: &[u8], position: usize, sequence: u64) -> Option<&[u8]> {
    let rest = content.get(position..)?;
    let header = frame::Header::read(rest)?;
    let frame = rest.get(..header.frame_bytes())?;
    (header.sequence == sequence && header.is_intact(frame)).then_some(frame)
}

fn index_frame(
    index: &mut SegmentIndex,
    position: usize,
    frame: &[u8],
) -> std::result::Result<(), String> {
    for section in sections(payload_of(frame).map_err(|e| e.0)?) {
        let section = section.map_err(|_| "a section is cut off".to_owned())?;
        if let Some((partition, run, _)) = run_of(&section).map_err(|e| e.0)? {
            let position = u32::try_from(position).expect("a segment is below 4 GiB");
            let frame_bytes = u32::try_from(frame.len()).expect("a segment is below 4 GiB");
            index.insert(partition, Run { position, frame_bytes, ..run });
        }
    }
    Ok(())
}

fn damaged(segment: u64, position: u64, detail: String) -> Error {
    Error::Damaged { file: file_name(segment), position, detail }
}

fn io(name: &str, action: &'static str, source: std::io::Error) -> Error {
    Error::Io { action, file: name.to_owned(), source }
}

fn io_of(segment: u64, action: &'static str, source: std::io::Error) -> Error {
    io(&file_name(segment), action, source)
}
