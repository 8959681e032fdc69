//! The file `durable`: how far the journal was at least, so that files which are
//! missing or shorter than they were are noticed. Between two frames nothing else
//! says that there was a third.
//!
//! One line `weir-log-durable <version> <segment> <next sequence> <CRC-32C of what is
//! before, in hex>`. It is replaced once a second at most, and when the log is closed;
//! what was written after it, a kill or not, is beyond it.

use super::disk::{Disk, file_error, read_all};
use crate::log::{Error, Result};

pub(super) const NAME: &str = "durable";
const TITLE: &str = "weir-log-durable 1";

/// Frames below `next_sequence` were durable, the last of them in `segment`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) segment: u64,
    pub(super) next_sequence: u64,
}

impl Mark {
    pub(super) fn write(self, disk: &dyn Disk) -> Result<()> {
        let said = format!("{TITLE} {} {}", self.segment, self.next_sequence);
        let line = format!("{said} {:08x}\n", crc32c::crc32c(said.as_bytes()));
        disk.replace(NAME, line.as_bytes()).map_err(|e| file_error(disk, "write", NAME, e))
    }

    /// The last mark; `None` if there never was one.
    pub(super) fn read(disk: &dyn Disk) -> Result<Option<Self>> {
        let file = match disk.open(NAME) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(file_error(disk, "open", NAME, error)),
        };
        let content = read_all(&*file).map_err(|e| file_error(disk, "read", NAME, e))?;
        let mark = Self::parse(&content).ok_or_else(|| Error::Damaged {
            file: NAME.to_owned(),
            position: 0,
            detail: "it is no mark of this version; without it the log opens, unchecked".to_owned(),
        })?;
        Ok(Some(mark))
    }

    fn parse(content: &[u8]) -> Option<Self> {
        let (said, crc) = std::str::from_utf8(content).ok()?.trim_end().rsplit_once(' ')?;
        (crc == format!("{:08x}", crc32c::crc32c(said.as_bytes()))).then_some(())?;
        let (segment, next) = said.strip_prefix(TITLE)?.trim_start().split_once(' ')?;
        Some(Self { segment: segment.parse().ok()?, next_sequence: next.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::super::disk::memory::MemoryDisk;
    use super::*;

    #[test]
    fn a_mark_reads_back_and_every_flipped_bit_is_noticed() {
        let disk = MemoryDisk::default();
        assert_eq!(Mark::read(&disk).unwrap(), None);
        let mark = Mark { segment: 3, next_sequence: 99 };
        mark.write(&disk).unwrap();
        assert_eq!(Mark::read(&disk).unwrap(), Some(mark));
        for byte in 0..disk.open(NAME).unwrap().bytes().unwrap() as usize - 1 {
            disk.flip_bit(NAME, byte, 1);
            assert!(matches!(Mark::read(&disk), Err(Error::Damaged { .. })), "byte {byte}");
            disk.flip_bit(NAME, byte, 1);
        }
    }
}
