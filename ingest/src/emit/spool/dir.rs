//! The spool's directory: its lock, its files and the two small ones.
//!
//! `boot` holds the last boot's number. `position` says how far the log has
//! acknowledged, in two slots that are written in turn and in place, so that a
//! full disk does not stop it and a torn write leaves the slot before. It is
//! synced only before a file is removed: to lose more repeats events and loses none.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use super::super::Error;

const LOCK: &str = "lock";
const TEMPORARY: &str = "new";
const BOOT: &str = "boot";
const POSITION: &str = "position";
const RESERVE: &str = "reserve";
/// A sector, so that one write tears one slot at most.
const SLOT_BYTES: usize = 512;
const SEGMENT_SUFFIX: &str = ".spool";
/// Only the owner reads a spool: events hold addresses and names.
const FILE_MODE: u32 = 0o600;

/// How far the log has acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Position {
    /// The file to go on in.
    pub(crate) segment: u64,
    /// Where in it.
    pub(crate) offset: u64,
    /// The boot of the last event before; 0 if there is none.
    pub(crate) boot: i64,
    /// The sequence of that event.
    pub(crate) sequence: i64,
}

impl Position {
    fn to_slot(self) -> Vec<u8> {
        let Self { segment, offset, boot, sequence } = self;
        let text = format!("{segment} {offset} {boot} {sequence}");
        let mut slot = format!("{text} {}\n", checksum(&text)).into_bytes();
        slot.resize(SLOT_BYTES, 0);
        slot
    }

    /// What the slot says, if it can be believed.
    fn of_slot(slot: &[u8]) -> Option<Self> {
        let content = std::str::from_utf8(slot).ok()?.trim_end_matches(['\0', '\n']);
        let (text, crc) = content.rsplit_once(' ')?;
        (crc == checksum(text)).then_some(())?;
        let mut words = text.split(' ');
        Some(Self {
            segment: words.next()?.parse().ok()?,
            offset: words.next()?.parse().ok()?,
            boot: words.next()?.parse().ok()?,
            sequence: words.next()?.parse().ok()?,
        })
    }
}

#[derive(Debug)]
pub(super) struct Dir {
    path: PathBuf,
    /// Holds the lock until it is dropped.
    _lock: File,
}

impl Dir {
    /// Makes the directory if it is missing, and takes its lock.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let place = path.display().to_string();
        fs::create_dir_all(path).map_err(Error::io("create directory", &place))?;
        let lock = writable()
            .create(true)
            .truncate(false)
            .open(path.join(LOCK))
            .map_err(Error::io("open lock in", &place))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(Error::Locked(place)),
            Err(TryLockError::Error(error)) => Err(Error::io("lock", place)(error)),
        }
    }

    /// For messages: where this is.
    pub(super) fn place(&self) -> String {
        self.path.display().to_string()
    }

    /// The numbers of the spool's files, ascending.
    pub(super) fn segments(&self) -> Result<Vec<u64>, Error> {
        let names = || -> io::Result<Vec<String>> {
            let name = |entry: io::Result<fs::DirEntry>| {
                Ok(entry?.file_name().to_string_lossy().into_owned())
            };
            fs::read_dir(&self.path)?.map(name).collect()
        };
        let names = names().map_err(Error::io("list", self.place()))?;
        let number = |name: &String| name.strip_suffix(SEGMENT_SUFFIX)?.parse().ok();
        let mut numbers: Vec<u64> = names.iter().filter_map(number).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Makes an empty file that is not there yet.
    pub(super) fn create_segment(&self, number: u64) -> io::Result<File> {
        writable().create_new(true).open(self.path.join(segment_name(number)))
    }

    pub(super) fn open_segment(&self, number: u64) -> Result<File, Error> {
        let name = segment_name(number);
        writable().open(self.path.join(&name)).map_err(Error::io("open", name))
    }

    pub(super) fn remove_segment(&self, number: u64) -> Result<(), Error> {
        let name = segment_name(number);
        fs::remove_file(self.path.join(&name)).map_err(Error::io("remove", name))
    }

    /// Takes room on the disk that is given back when there is no other.
    pub(super) fn take_reserve(&self, bytes: u64) -> io::Result<()> {
        let path = self.path.join(RESERVE);
        let file = writable().create(true).truncate(false).open(&path)?;
        let taken = match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, bytes) {
            // The file system takes room by writing only.
            Err(Errno::OPNOTSUPP) => {
                let zeros = vec![0; 64 * 1024];
                let mut places = (0..bytes).step_by(zeros.len());
                places.try_for_each(|at| file.write_all_at(&zeros, at))
            }
            taken => taken.map_err(io::Error::from),
        };
        if taken.is_err() {
            // Less than all of it is of no use, and others need it.
            let _ = fs::remove_file(&path);
        }
        taken
    }

    /// Gives that room back.
    pub(super) fn give_reserve(&self) -> io::Result<()> {
        fs::remove_file(self.path.join(RESERVE))
    }

    /// Makes durable which files there are.
    pub(super) fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    /// The next boot's number, made durable: above the last one, and at least `floor`.
    pub(super) fn next_boot(&self, floor: i64) -> Result<i64, Error> {
        let damaged = || Error::Damaged {
            file: BOOT,
            place: self.place(),
            detail: "it should hold a number; write one above every boot of this producer",
        };
        let last: i64 = match fs::read_to_string(self.path.join(BOOT)) {
            Ok(text) => text.trim_end().parse().map_err(|_| damaged())?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(Error::io("read", BOOT)(error)),
        };
        let boot = last.checked_add(1).ok_or_else(damaged)?.max(floor);
        self.replace(BOOT, &format!("{boot}\n"))?;
        Ok(boot)
    }

    /// The position that was last stored, if there is one that can be believed.
    pub(super) fn position(&self) -> Option<Position> {
        latest(&fs::read(self.path.join(POSITION)).ok()?).map(|(_, position)| position)
    }

    /// Makes the room for [`Self::store_position`], as long as the disk has some.
    pub(super) fn prepare_position(&self) -> Result<(), Error> {
        let prepare = || -> io::Result<()> {
            let file = self.position_file()?;
            let there = file.metadata()?.len();
            let missing = (2 * SLOT_BYTES as u64).saturating_sub(there);
            file.write_all_at(&[0; 2 * SLOT_BYTES][..missing as usize], there)
        };
        prepare().map_err(Error::io("write", POSITION))
    }

    pub(super) fn store_position(&self, position: Position) -> Result<(), Error> {
        let store = || -> io::Result<()> {
            let file = self.position_file()?;
            let next = latest(&super::reader::read_all(&file)?).map_or(0, |(slot, _)| 1 - slot);
            file.write_all_at(&position.to_slot(), (next * SLOT_BYTES) as u64)
        };
        store().map_err(Error::io("write", POSITION))
    }

    /// Makes the position durable, for what may only be done after it.
    pub(super) fn sync_position(&self) -> Result<(), Error> {
        let sync = || self.position_file()?.sync_data();
        sync().map_err(Error::io("sync", POSITION))
    }

    fn position_file(&self) -> io::Result<File> {
        writable().create(true).truncate(false).open(self.path.join(POSITION))
    }

    /// Puts `content` in the place of the file, all or nothing, and durably.
    fn replace(&self, name: &'static str, content: &str) -> Result<(), Error> {
        let temporary = self.path.join(TEMPORARY);
        let replace = || -> io::Result<()> {
            let mut file = writable().create(true).truncate(true).open(&temporary)?;
            file.write_all(content.as_bytes())?;
            file.sync_all()?;
            fs::rename(&temporary, self.path.join(name))?;
            self.sync()
        };
        replace().map_err(Error::io("write", name))
    }
}

/// The slot that was written last, and what it says. Positions only grow.
fn latest(content: &[u8]) -> Option<(usize, Position)> {
    let slots = content.chunks(SLOT_BYTES).take(2).enumerate();
    slots
        .filter_map(|(slot, bytes)| Some((slot, Position::of_slot(bytes)?)))
        .max_by_key(|(_, position)| (position.segment, position.offset))
}

pub(crate) fn segment_name(number: u64) -> String {
    format!("{number:012}{SEGMENT_SUFFIX}")
}

fn checksum(text: &str) -> String {
    format!("{:08x}", crc32c::crc32c(text.as_bytes()))
}

fn writable() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(FILE_MODE);
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boots_grow_and_never_fall_below_the_floor() {
        let dir = tempfile::tempdir().unwrap();
        let next = |floor| Dir::open(dir.path()).unwrap().next_boot(floor).unwrap();
        assert_eq!([next(0), next(0), next(100), next(50)], [1, 2, 100, 101]);
        fs::write(dir.path().join(BOOT), "x").unwrap();
        let error = Dir::open(dir.path()).unwrap().next_boot(0).unwrap_err();
        assert!(error.to_string().starts_with("boot of spool"), "{error}");
    }

    #[test]
    fn a_position_that_cannot_be_believed_leaves_the_one_before() {
        let temporary = tempfile::tempdir().unwrap();
        let dir = Dir::open(temporary.path()).unwrap();
        assert_eq!(dir.position(), None);
        dir.prepare_position().unwrap();
        assert_eq!(dir.position(), None);
        let file = temporary.path().join(POSITION);
        let at = |offset| Position { segment: 3, offset, boot: 2, sequence: 17 };
        for offset in [88, 96, 104] {
            dir.store_position(at(offset)).unwrap();
            assert_eq!(dir.position(), Some(at(offset)));
            assert_eq!(fs::metadata(&file).unwrap().len(), 1024, "no more room is taken");
        }
        let text = String::from_utf8(fs::read(&file).unwrap()).unwrap();
        fs::write(&file, text.replacen("3 104", "3 112", 1)).unwrap();
        assert_eq!(dir.position(), Some(at(96)));
        dir.store_position(at(120)).unwrap();
        assert_eq!(dir.position(), Some(at(120)));
    }

    #[test]
    fn a_second_opening_is_refused_until_the_first_ends() {
        let dir = tempfile::tempdir().unwrap();
        let first = Dir::open(dir.path()).unwrap();
        assert!(matches!(Dir::open(dir.path()), Err(Error::Locked(_))));
        drop(first);
        Dir::open(dir.path()).unwrap();
    }
}
