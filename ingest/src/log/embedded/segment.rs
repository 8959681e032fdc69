//! A file of the journal.
//!
//! ```text
//!  0  magic           8 bytes  "WEIRSEG1"
//!  8  segment         u64      its number, the same as in its name
//! 16  first sequence  u64      of the first frame
//! 24  crc             u32      CRC-32C of bytes 0 to 23
//! 28  zero            u32
//! 32  frames, then zeros that were allocated ahead; cut when the segment is full
//! ```

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

use super::codec::{Cursor, Truncated, put_u32, put_u64};
use super::disk::{Disk, DiskFile, file_error, read_all};
use super::index::SegmentIndex;
use crate::log::Result;

pub(super) const HEADER_BYTES: usize = 32;
const MAGIC: &[u8; 8] = b"WEIRSEG1";

pub(super) fn file_name(segment: u64) -> String {
    format!("{segment:012}.journal")
}

pub(super) fn index_name(segment: u64) -> String {
    format!("{segment:012}.index")
}

/// The number in a journal file's name; `None` for another file.
pub(super) fn number_in(name: &str) -> Option<u64> {
    name.strip_suffix(".journal")?.parse().ok()
}

/// The number in an index file's name; `None` for another file.
pub(super) fn index_number_in(name: &str) -> Option<u64> {
    name.strip_suffix(".index")?.parse().ok()
}

pub(super) fn write_header(out: &mut Vec<u8>, segment: u64, first_sequence: u64) {
    let start = out.len();
    out.extend_from_slice(MAGIC);
    put_u64(out, segment);
    put_u64(out, first_sequence);
    let crc = crc32c::crc32c(&out[start..]);
    put_u32(out, crc);
    put_u32(out, 0);
}

/// The first sequence in an intact header of segment `segment`.
pub(super) fn read_header(segment: u64, file: &[u8]) -> Option<u64> {
    let header = file.get(..HEADER_BYTES)?;
    let mut cursor = Cursor::new(header);
    let mut fields = || -> std::result::Result<(bool, u64, u64, u32), Truncated> {
        Ok((cursor.take(8)? == MAGIC, cursor.u64()?, cursor.u64()?, cursor.u32()?))
    };
    let (magic, number, first_sequence, crc) = fields().ok()?;
    let intact = magic && number == segment && crc == crc32c::crc32c(&header[..24]);
    intact.then_some(first_sequence)
}

/// A segment. Its file and index are opened when they are needed, and closed
/// when many others have been used since.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) number: u64,
    loaded: Mutex<Option<Arc<Loaded>>>,
    used: AtomicU64,
}

/// An open segment.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) index: RwLock<SegmentIndex>,
}

impl Segment {
    /// A segment that is open.
    pub(super) fn open(number: u64, file: Arc<dyn DiskFile>, index: SegmentIndex) -> Self {
        let loaded = Loaded { file, index: RwLock::new(index) };
        Self { number, loaded: Mutex::new(Some(Arc::new(loaded))), used: AtomicU64::new(0) }
    }

    /// A segment whose file and index are on disk.
    pub(super) fn closed(number: u64) -> Self {
        Self { number, loaded: Mutex::new(None), used: AtomicU64::new(0) }
    }

    /// The open segment; opens it if it is not. `rebuild` is asked for the index
    /// if its file is missing or damaged.
    ///
    /// # Errors
    /// The file's own, or those of `rebuild`.
    pub(super) fn load(
        &self,
        disk: &dyn Disk,
        tick: u64,
        rebuild: impl FnOnce() -> Result<SegmentIndex>,
    ) -> Result<Arc<Loaded>> {
        self.used.store(tick, Ordering::Relaxed);
        let mut loaded = self.loaded.lock();
        if let Some(loaded) = &*loaded {
            return Ok(loaded.clone());
        }
        let name = file_name(self.number);
        let file = disk.open(&name).map_err(|e| file_error(disk, "open", &name, e))?;
        let stored = disk.open(&index_name(self.number)).and_then(|file| read_all(&*file));
        let index = match stored {
            Ok(bytes) => SegmentIndex::decode(self.number, &bytes).or_else(|_| rebuild())?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => rebuild()?,
            Err(error) => return Err(file_error(disk, "read", &index_name(self.number), error)),
        };
        let open = Arc::new(Loaded { file, index: RwLock::new(index) });
        *loaded = Some(open.clone());
        Ok(open)
    }

    /// The open segment, if it is.
    pub(super) fn loaded(&self) -> Option<Arc<Loaded>> {
        self.loaded.lock().clone()
    }

    /// Closes file and index; readers that use them finish.
    pub(super) fn close(&self) {
        *self.loaded.lock() = None;
    }

    /// The tick of the last use.
    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_belongs_to_its_segment() {
        let mut bytes = Vec::new();
        write_header(&mut bytes, 3, 99);
        assert_eq!(bytes.len(), HEADER_BYTES);
        assert_eq!(read_header(3, &bytes), Some(99));
        assert_eq!(read_header(4, &bytes), None);
        assert_eq!(read_header(3, &[0; 32]), None);
        bytes[16] ^= 1;
        assert_eq!(read_header(3, &bytes), None);
        assert_eq!(number_in(&file_name(3)), Some(3));
        assert_eq!(number_in(&index_name(3)), None);
    }
}
