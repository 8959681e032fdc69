//! Records of the log that are no events, kept with their bytes for who wants to know what
//! they were: `DIR/quarantine/PARTITION-OFFSET.json`, a file for each.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use deltalake::logstore::object_store::PutPayload;
use ingest::event::Timestamp;
use ingest::log::Record;
use serde::{Deserialize, Serialize};

use super::disk;

/// How many records are kept at most, and how many bytes of files. Those that came first stay:
/// they show what began it.
const RECORDS_MAX: usize = 1_000;
const BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The directory of the records; all nodes that share a lake share it.
#[derive(Debug, Clone)]
pub struct Quarantine {
    dir: PathBuf,
    records_max: usize,
    bytes_max: u64,
}

/// A record that is no event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantined {
    /// The partition of the log that it lies in.
    pub log_partition: u32,
    /// Its offset there.
    pub log_offset: u64,
    /// When the log took it.
    pub log_time: Timestamp,
    /// Why it is no event.
    pub why: String,
    /// Its value, as it is.
    #[serde(with = "in_base64")]
    pub value: Vec<u8>,
}

impl Quarantine {
    /// That of a lake's directory.
    pub(super) fn of_lake(dir: &Path) -> Self {
        let dir = dir.join("quarantine");
        Self { dir, records_max: RECORDS_MAX, bytes_max: BYTES_MAX }
    }

    /// Keeps records of a partition, each once, and answers how many of them could not be kept.
    /// They are on the disk then. Nothing waits for room: the log goes on, and has them for as
    /// long as it keeps anything. Blocks.
    pub fn keep<'a>(
        &self,
        partition: u32,
        records: impl Iterator<Item = (&'a Record, &'static str)>,
    ) -> usize {
        let (mut unkept, mut fault) = (0, None);
        for (record, why) in records {
            let value = record.value.as_deref().unwrap_or_default().to_vec();
            let (log_offset, why) = (record.offset, why.to_owned());
            let log_time = Timestamp::from_micros(record.time.0.saturating_mul(1_000));
            let of = Quarantined { log_partition: partition, log_offset, log_time, why, value };
            if let Err(why) = self.put(&of) {
                unkept += 1;
                fault.get_or_insert(why);
            }
        }
        if let Some(why) = fault {
            let dir = self.dir.display();
            tracing::error!(unkept, %dir, why, "records that are no events are not kept");
        }
        unkept
    }

    fn put(&self, of: &Quarantined) -> Result<(), String> {
        let to = self.dir.join(format!("{}-{}.json", of.log_partition, of.log_offset));
        // A node that has read it before, or another one.
        if to.exists() {
            return Ok(());
        }
        let json = serde_json::to_vec(of).map_err(|error| error.to_string())?;
        let (records, bytes) = self.held().map_err(|error| error.to_string())?;
        if records >= self.records_max || bytes + json.len() as u64 > self.bytes_max {
            return Err(format!(
                "there are {records} with {bytes} bytes, and no room for more; look at them, and \
                 delete their files"
            ));
        }
        disk::write(&to, &PutPayload::from(json), true).map(drop).map_err(|error| error.to_string())
    }

    /// How many there are, and the bytes of their files.
    fn held(&self) -> std::io::Result<(usize, u64)> {
        let files = self.files()?;
        let bytes = files.iter().filter_map(|file| fs::metadata(file).ok()).map(|of| of.len());
        Ok((files.len(), bytes.sum()))
    }

    /// Their files, in the order of the log.
    pub(crate) fn files(&self) -> std::io::Result<Vec<PathBuf>> {
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut files = Vec::new();
        for entry in entries {
            let path = entry?.path();
            let place = path.file_name().and_then(|name| {
                let (partition, offset) = name.to_str()?.strip_suffix(".json")?.split_once('-')?;
                Some((partition.parse::<u32>().ok()?, offset.parse::<u64>().ok()?))
            });
            files.extend(place.map(|place| (place, path)));
        }
        files.sort();
        Ok(files.into_iter().map(|(_, path)| path).collect())
    }

    /// Reads a file; nothing if it is gone.
    pub(crate) fn read(file: &Path) -> std::io::Result<Option<Quarantined>> {
        match fs::read(file) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            bytes => Ok(Some(serde_json::from_slice(&bytes?)?)),
        }
    }
}

mod in_base64 {
    use serde::de::Error as _;
    use serde::{Deserializer, Serializer};

    use super::*;

    pub(super) fn serialize<S: Serializer>(value: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&BASE64_STANDARD.encode(value))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(from)?;
        BASE64_STANDARD.decode(text).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use ingest::log::{Headers, LogTime};

    use super::*;

    fn record(offset: u64, value: Option<&'static [u8]>) -> Record {
        let value = value.map(Into::into);
        Record { offset, time: LogTime(17), key: None, value, headers: Headers::default() }
    }

    fn read(quarantine: &Quarantine) -> Vec<Quarantined> {
        let files = quarantine.files().unwrap();
        files.iter().map(|file| Quarantine::read(file).unwrap().unwrap()).collect()
    }

    #[test]
    fn records_are_kept_with_their_bytes_each_once() {
        let dir = tempfile::tempdir().unwrap();
        let quarantine = Quarantine::of_lake(dir.path());
        assert_eq!(read(&quarantine), []);
        let records = [record(9, Some(b"{\xff\0")), record(10, None)];
        for _ in 0..2 {
            assert_eq!(quarantine.keep(1, records.iter().map(|of| (of, "it is none"))), 0);
        }
        assert_eq!(quarantine.keep(0, [(&record(70, Some(b"[]")), "another")].into_iter()), 0);
        let kept = read(&quarantine);
        let places: Vec<_> = kept.iter().map(|of| (of.log_partition, of.log_offset)).collect();
        assert_eq!(places, [(0, 70), (1, 9), (1, 10)]);
        assert_eq!((&*kept[1].value, &*kept[1].why), (&b"{\xff\0"[..], "it is none"));
        assert_eq!(kept[1].log_time, Timestamp::from_micros(17_000));
        assert_eq!(kept[2].value, b"");
    }

    #[test]
    fn there_are_no_more_than_may_be_and_the_first_stay() {
        let dir = tempfile::tempdir().unwrap();
        let few = Quarantine { records_max: 2, ..Quarantine::of_lake(dir.path()) };
        let records: Vec<Record> = (0..5).map(|offset| record(offset, Some(b"x"))).collect();
        assert_eq!(few.keep(0, records.iter().map(|of| (of, "it is none"))), 3);
        let offsets = |of: &Quarantine| read(of).iter().map(|of| of.log_offset).collect::<Vec<_>>();
        assert_eq!(offsets(&few), [0, 1]);
        // What was there before is kept, and room is found where somebody has made it.
        assert_eq!(few.keep(0, records[..2].iter().map(|of| (of, "it is none"))), 0);
        fs::remove_file(&few.files().unwrap()[0]).unwrap();
        assert_eq!(few.keep(0, records[4..].iter().map(|of| (of, "it is none"))), 0);
        assert_eq!(offsets(&few), [1, 4]);
        let small = Quarantine { bytes_max: few.held().unwrap().1 + 10, ..few.clone() };
        fs::remove_file(&few.files().unwrap()[0]).unwrap();
        let large = vec![b'x'; 1_000].leak();
        assert_eq!(small.keep(0, [(&record(6, Some(large)), "it is none")].into_iter()), 1);
    }

    #[test]
    fn a_directory_that_takes_nothing_is_told_and_stops_nothing() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("quarantine"), "in the way").unwrap();
        let quarantine = Quarantine::of_lake(dir.path());
        assert_eq!(quarantine.keep(0, [(&record(1, None), "it is none")].into_iter()), 1);
    }
}
