//! The file `checkpoint`: everything up to the end of a segment, so that opening
//! the log reads what came after it only.
//!
//! One line `weir-log-checkpoint <version> <CRC-32C of the rest, in hex>`, then
//! JSON. Replaced as a whole: what it names is in force from that moment, so a
//! segment that it no longer names is gone, whether its file is removed yet or
//! not.

use serde::{Deserialize, Serialize};

use super::disk::{Disk, file_error, read_all};
use super::index::{Extent, Extents};
use super::section::PartitionKey;
use super::state;
use crate::log::{Error, Result};

const NAME: &str = "checkpoint";
const TITLE: &str = "weir-log-checkpoint";
const VERSION: &str = "1";

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Checkpoint {
    /// The last segment that it covers.
    pub(super) last_segment: u64,
    /// The sequence of the first frame that it does not cover.
    pub(super) next_sequence: u64,
    /// The segments that hold something, and their lengths.
    pub(super) segments: Vec<(u64, u64)>,
    pub(super) extents: Vec<(PartitionKey, u64, Extent)>,
    pub(super) state: state::Stored,
}

/// How far the last checkpoint reaches, and the state there.
#[derive(Debug, Clone, Default)]
pub(super) struct Covered {
    pub(super) last_segment: u64,
    pub(super) next_sequence: u64,
    pub(super) state: state::State,
}

impl Checkpoint {
    pub(super) fn write(&self, disk: &dyn Disk) -> Result<()> {
        let json = serde_json::to_string(self).expect("a checkpoint is plain data");
        let crc = crc32c::crc32c(json.as_bytes());
        let content = format!("{TITLE} {VERSION} {crc:08x}\n{json}\n");
        let replaced = disk.replace(NAME, content.as_bytes());
        replaced.map_err(|source| file_error(disk, "write", NAME, source))
    }

    /// The last checkpoint; `None` if there never was one.
    pub(super) fn read(disk: &dyn Disk) -> Result<Option<Self>> {
        let file = match disk.open(NAME) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => {
                return Err(Error::Io { action: "open", file: NAME.to_owned(), source });
            }
        };
        let content = read_all(&*file).map_err(|source| Error::Io {
            action: "read",
            file: NAME.to_owned(),
            source,
        })?;
        Self::parse(&content).map(Some).map_err(|detail| Error::Damaged {
            file: NAME.to_owned(),
            position: 0,
            detail,
        })
    }

    fn parse(content: &[u8]) -> std::result::Result<Self, String> {
        let text = std::str::from_utf8(content).map_err(|_| "it is not text".to_owned())?;
        let (title, json) = text.split_once('\n').ok_or("it has no title line")?;
        let json = json.strip_suffix('\n').ok_or("its end is missing")?;
        match title.split(' ').collect::<Vec<_>>()[..] {
            [TITLE, VERSION, crc] if crc == format!("{:08x}", crc32c::crc32c(json.as_bytes())) => {
                serde_json::from_str(json).map_err(|error| error.to_string())
            }
            [TITLE, VERSION, _] => Err("its checksum does not hold".to_owned()),
            [TITLE, version, _] => {
                Err(format!("it is of version {version}, this program reads {VERSION}"))
            }
            _ => Err("it is not a checkpoint".to_owned()),
        }
    }

    pub(super) fn extents(&self) -> Extents {
        let mut extents = Extents::default();
        for (partition, first, extent) in &self.extents {
            extents.insert(*partition, *first, *extent);
        }
        extents
    }
}

#[cfg(test)]
mod tests {
    use super::super::disk::memory::MemoryDisk;
    use super::*;

    #[test]
    fn every_flipped_bit_is_noticed() {
        let disk = MemoryDisk::default();
        let checkpoint = Checkpoint {
            last_segment: 1,
            next_sequence: 2,
            segments: vec![(1, 32)],
            extents: Vec::new(),
            state: state::Stored::from(&state::State::default()),
        };
        assert!(Checkpoint::read(&disk).unwrap().is_none());
        checkpoint.write(&disk).unwrap();
        assert_eq!(Checkpoint::read(&disk).unwrap().unwrap().next_sequence, 2);
        let bytes = disk.bytes();
        for byte in 0..bytes {
            disk.flip_bit(NAME, byte, 1);
            assert!(matches!(Checkpoint::read(&disk), Err(Error::Damaged { .. })), "byte {byte}");
            disk.flip_bit(NAME, byte, 1);
        }
    }
}
