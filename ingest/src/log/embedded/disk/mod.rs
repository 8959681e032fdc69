//! What the embedded log asks of a file system.
//!
//! Two implementations: [`files::FileDisk`] on a real directory, and
//! [`memory::MemoryDisk`], which can also lose what was not synced, run full and
//! fail at any step.

pub(super) mod files;
pub(super) mod memory;

use std::fmt;
use std::io;
use std::sync::Arc;

use crate::log::Error;

/// A flat directory of files.
pub(super) trait Disk: Send + Sync + fmt::Debug {
    /// For messages: where this is.
    fn place(&self) -> String;

    /// The files there are.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Makes a file of `bytes` zeros whose space is taken from the disk at
    /// once, so that writing within it cannot run out of space. The file's
    /// being there is durable.
    ///
    /// # Errors
    /// [`io::ErrorKind::StorageFull`] or `QuotaExceeded`; nothing is left behind.
    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens a file to read and write.
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Puts `content` in the place of the file, durably; after a crash there is
    /// the whole old content or the whole new one.
    fn replace(&self, name: &str, content: &[u8]) -> io::Result<()>;

    /// Removes a file. After a crash it may be there again.
    fn remove(&self, name: &str) -> io::Result<()>;
}

/// A file of a [`Disk`].
pub(super) trait DiskFile: Send + Sync + fmt::Debug {
    /// The length in bytes.
    fn bytes(&self) -> io::Result<u64>;

    /// Fills `buffer` from `position` on.
    fn read_exact_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()>;

    /// Writes within the file's length. Durable only after [`DiskFile::sync`].
    fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()>;

    /// Makes everything that was written durable.
    fn sync(&self) -> io::Result<()>;

    /// Cuts the file.
    fn truncate(&self, bytes: u64) -> io::Result<()>;
}

/// Reads a whole file.
pub(super) fn read_all(file: &dyn DiskFile) -> io::Result<Vec<u8>> {
    let bytes = usize::try_from(file.bytes()?).map_err(io::Error::other)?;
    let mut content = vec![0; bytes];
    file.read_exact_at(&mut content, 0)?;
    Ok(content)
}

/// What to tell a caller of a failure with a file.
pub(super) fn file_error(
    disk: &dyn Disk,
    action: &'static str,
    name: &str,
    source: io::Error,
) -> Error {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Error::Full { place: disk.place() }
        }
        _ => Error::Io { action, file: name.to_owned(), source },
    }
}
