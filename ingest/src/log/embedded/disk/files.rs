//! A directory of the file system, held by one process at a time.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FallocateFlags, fallocate};

use super::{Disk, DiskFile};
use crate::log::{Error, Result};

const LOCK: &str = "lock";
const TEMPORARY: &str = "new";
/// Only the owner reads a log: bodies and keys are in it.
const FILE_MODE: u32 = 0o600;

#[derive(Debug)]
pub(crate) struct FileDisk {
    dir: PathBuf,
    /// Holds the lock until it is dropped.
    _lock: File,
}

impl FileDisk {
    /// Makes the directory if it is missing, and takes its lock.
    ///
    /// # Errors
    /// [`Error::Locked`] if another process has it.
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        let io = |action, source| Error::Io { action, file: dir.display().to_string(), source };
        create_dirs(dir).map_err(|e| io("create directory", e))?;
        let lock = open_options()
            .create(true)
            .truncate(false)
            .open(dir.join(LOCK))
            .map_err(|e| io("open lock in", e))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { dir: dir.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(Error::Locked(dir.display().to_string())),
            Err(TryLockError::Error(e)) => Err(io("lock", e)),
        }
    }

    fn sync_dir(&self) -> io::Result<()> {
        File::open(&self.dir)?.sync_all()
    }
}

/// Makes a directory and those above it, durably.
fn create_dirs(dir: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = dir.ancestors().take_while(|dir| !dir.exists()).collect();
    fs::create_dir_all(dir)?;
    for made in missing {
        let parent = made.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
    }
    Ok(())
}

fn open_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(FILE_MODE);
    options
}

impl Disk for FileDisk {
    fn place(&self) -> String {
        self.dir.display().to_string()
    }

    fn list(&self) -> io::Result<Vec<String>> {
        fs::read_dir(&self.dir)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .filter(|name| !matches!(name.as_deref(), Ok(LOCK | TEMPORARY)))
            .collect()
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        let path = self.dir.join(name);
        let file = open_options().create(true).truncate(true).open(&path)?;
        let made = fallocate(&file, FallocateFlags::empty(), 0, bytes)
            .map_err(io::Error::from)
            .and_then(|()| file.sync_all())
            .and_then(|()| self.sync_dir());
        match made {
            Ok(()) => Ok(Arc::new(file)),
            Err(error) => {
                // What cannot be removed here is removed when the log is next opened.
                let _ = fs::remove_file(&path);
                Err(error)
            }
        }
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(open_options().open(self.dir.join(name))?))
    }

    fn replace(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let temporary = self.dir.join(TEMPORARY);
        let file = open_options().create(true).truncate(true).open(&temporary)?;
        FileExt::write_all_at(&file, content, 0)?;
        file.sync_all()?;
        fs::rename(&temporary, self.dir.join(name))?;
        self.sync_dir()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.dir.join(name))
    }
}

impl DiskFile for File {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_exact_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, buffer, position)
    }

    fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, position)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.set_len(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_opening_is_refused_until_the_first_ends() {
        let dir = tempfile::tempdir().unwrap();
        let first = FileDisk::open(dir.path()).unwrap();
        assert!(matches!(FileDisk::open(dir.path()), Err(Error::Locked(_))));
        drop(first);
        FileDisk::open(dir.path()).unwrap();
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = FileDisk::open(&file.path().join("log")).unwrap_err();
        assert!(error.to_string().contains(&file.path().display().to_string()), "{error}");
    }
}
