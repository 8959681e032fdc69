//! Files in memory, which can fail as real ones do.
//!
//! The faults follow what file systems promise: a write may reach the disk in
//! part, sector by sector and in any order, until it is synced; a removal may be
//! undone by a crash; a replacement happens whole or not at all.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Disk, DiskFile};

/// What a disk writes whole or not at all.
#[cfg(test)]
const SECTOR_BYTES: usize = 512;

#[derive(Debug, Default, Clone)]
pub(crate) struct MemoryDisk(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    files: BTreeMap<String, Arc<Mutex<Content>>>,
    /// Removed files that a crash may bring back.
    removed: BTreeMap<String, Arc<Mutex<Content>>>,
    faults: Faults,
}

#[derive(Debug, Default)]
struct Content {
    bytes: Vec<u8>,
    /// Before each unsynced write: where, and what was there.
    unsynced: Vec<(usize, Vec<u8>)>,
}

#[derive(Debug, Default)]
struct Faults {
    /// How many more steps succeed; the next one fails half done, and so do all
    /// that follow, until [`MemoryDisk::crash`].
    steps_left: Option<u64>,
    /// So many bytes fit, all files together.
    capacity: Option<usize>,
    /// So many syncs fail.
    syncs_to_fail: u64,
}

impl Faults {
    /// Counts a step that changes something; an error if it is the one to fail.
    fn step(&mut self) -> io::Result<()> {
        match &mut self.steps_left {
            None => Ok(()),
            Some(0) => Err(io::Error::other("injected: the machine stopped")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
        }
    }
}

impl Inner {
    fn bytes(&self) -> usize {
        self.files.values().map(|content| content.lock().bytes.len()).sum()
    }

    fn check_room(&self, bytes: usize) -> io::Result<()> {
        match self.faults.capacity {
            Some(capacity) if self.bytes() + bytes > capacity => {
                Err(io::ErrorKind::StorageFull.into())
            }
            _ => Ok(()),
        }
    }
}

fn not_found(name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{name} does not exist"))
}

impl Disk for MemoryDisk {
    fn place(&self) -> String {
        "memory".to_owned()
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.0.lock().files.keys().cloned().collect())
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        let mut inner = self.0.lock();
        inner.faults.step()?;
        let bytes = usize::try_from(bytes).map_err(io::Error::other)?;
        inner.check_room(bytes)?;
        let content = Arc::new(Mutex::new(Content { bytes: vec![0; bytes], unsynced: Vec::new() }));
        inner.files.insert(name.to_owned(), content.clone());
        Ok(Arc::new(MemoryFile { disk: self.clone(), content }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let content = self.0.lock().files.get(name).cloned().ok_or_else(|| not_found(name))?;
        Ok(Arc::new(MemoryFile { disk: self.clone(), content }))
    }

    fn replace(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let mut inner = self.0.lock();
        inner.faults.step()?;
        inner.check_room(content.len())?;
        let content = Content { bytes: content.to_vec(), unsynced: Vec::new() };
        inner.files.insert(name.to_owned(), Arc::new(Mutex::new(content)));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut inner = self.0.lock();
        inner.faults.step()?;
        let content = inner.files.remove(name).ok_or_else(|| not_found(name))?;
        inner.removed.insert(name.to_owned(), content);
        Ok(())
    }
}

#[derive(Debug)]
struct MemoryFile {
    disk: MemoryDisk,
    content: Arc<Mutex<Content>>,
}

impl DiskFile for MemoryFile {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.content.lock().bytes.len() as u64)
    }

    fn read_exact_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()> {
        let content = self.content.lock();
        let start = usize::try_from(position).map_err(io::Error::other)?;
        let found = content.bytes.get(start..start + buffer.len());
        buffer.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        let step = self.disk.0.lock().faults.step();
        let mut content = self.content.lock();
        let start = usize::try_from(position).map_err(io::Error::other)?;
        let end = start + bytes.len();
        assert!(end <= content.bytes.len(), "the log writes within the space that it allocated");
        let before = content.bytes[start..end].to_vec();
        // Also the write that fails may have reached the disk, in part.
        content.unsynced.push((start, before));
        content.bytes[start..end].copy_from_slice(bytes);
        step
    }

    fn sync(&self) -> io::Result<()> {
        {
            let faults = &mut self.disk.0.lock().faults;
            faults.step()?;
            if faults.syncs_to_fail > 0 {
                faults.syncs_to_fail -= 1;
                return Err(io::Error::other("injected: the disk failed to sync"));
            }
        }
        self.content.lock().unsynced.clear();
        Ok(())
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.disk.0.lock().faults.step()?;
        let mut content = self.content.lock();
        let bytes = usize::try_from(bytes).map_err(io::Error::other)?;
        content.bytes.truncate(bytes);
        content.unsynced.retain(|(start, before)| start + before.len() <= bytes);
        Ok(())
    }
}

#[cfg(test)]
impl MemoryDisk {
    /// Lets `steps` more steps succeed, and none after.
    pub(crate) fn fail_after(&self, steps: u64) {
        self.0.lock().faults.steps_left = Some(steps);
    }

    /// Leaves no room beyond what is taken now, or removes that limit.
    pub(crate) fn set_full(&self, full: bool) {
        let mut inner = self.0.lock();
        inner.faults.capacity = full.then(|| inner.bytes());
    }

    /// Fails one sync; those after it succeed, as after a real one.
    pub(crate) fn fail_a_sync(&self) {
        self.0.lock().faults.syncs_to_fail = 1;
    }

    /// What the disk holds after a power cut: of every unsynced write any part,
    /// of every removal the file or not. Faults end.
    pub(crate) fn crash(&self, random: &mut fastrand::Rng) -> Self {
        let inner = self.0.lock();
        let mut files = BTreeMap::new();
        for (name, content) in &inner.files {
            files.insert(name.clone(), Arc::new(Mutex::new(content.lock().crash(random))));
        }
        for (name, content) in &inner.removed {
            if !files.contains_key(name) && random.bool() {
                files.insert(name.clone(), Arc::new(Mutex::new(content.lock().crash(random))));
            }
        }
        let inner = Inner { files, ..Inner::default() };
        Self(Arc::new(Mutex::new(inner)))
    }

    /// What the disk holds after a kill -9 of the process: all that was written.
    pub(crate) fn kill(&self) -> Self {
        let inner = self.0.lock();
        let copy = |content: &Arc<Mutex<Content>>| {
            let content = content.lock();
            let unsynced = content.unsynced.clone();
            Arc::new(Mutex::new(Content { bytes: content.bytes.clone(), unsynced }))
        };
        let files = inner.files.iter().map(|(name, c)| (name.clone(), copy(c))).collect();
        Self(Arc::new(Mutex::new(Inner { files, ..Inner::default() })))
    }

    /// Flips one bit.
    pub(crate) fn flip_bit(&self, name: &str, byte: usize, bit: u8) {
        let inner = self.0.lock();
        inner.files[name].lock().bytes[byte] ^= 1 << bit;
    }

    /// How many bytes all files take.
    pub(crate) fn bytes(&self) -> usize {
        self.0.lock().bytes()
    }
}

#[cfg(test)]
impl Content {
    fn crash(&self, random: &mut fastrand::Rng) -> Self {
        let mut bytes = self.bytes.clone();
        // Undo the newest first, so that what was there before the oldest stays.
        for (start, before) in self.unsynced.iter().rev() {
            if random.u8(..4) == 0 {
                continue;
            }
            let keep_all_but_tail = random.bool();
            let torn_at = random.usize(..=before.len());
            for (i, byte) in before.iter().enumerate() {
                let sector = (start + i) / SECTOR_BYTES;
                let lost = if keep_all_but_tail {
                    i >= torn_at
                } else {
                    // A fixed coin per sector and write.
                    (sector.wrapping_mul(0x9e37_79b9) ^ torn_at) & 4 == 0
                };
                if lost {
                    bytes[start + i] = *byte;
                }
            }
        }
        Self { bytes, unsynced: Vec::new() }
    }
}
