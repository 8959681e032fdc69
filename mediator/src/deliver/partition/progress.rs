//! How far a partition is, as text that lies on disks and in topics: what the next owner of a
//! partition goes on from. Two records of the `.progress` topic; the one of what is parked is
//! written when that has changed.

use ingest::event::Timestamp;
use serde::{Deserialize, Serialize};

use super::{ParkedKey, Ranges};

/// How far a partition is, as its owner writes it down with each commit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// Which owner wrote it.
    pub(crate) epoch: u64,
    /// Everything below is completed.
    pub(crate) committed: u64,
    /// What is completed above.
    #[serde(with = "pairs")]
    pub(crate) completed: Ranges,
    /// The messages for which an attempt was started, and which are not completed.
    pub(crate) heads: Vec<Head>,
    /// The keys that are parked: a record of its own, see [`Self::encode_parked`].
    #[serde(skip)]
    pub(crate) parked: Vec<ParkedKey>,
}

/// A message for which an attempt was started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Stored", into = "Stored")]
pub(crate) struct Head {
    pub(crate) offset: u64,
    /// Attempts that were started, the one under way too.
    pub(crate) attempts: u64,
    /// When the next is due; at once if there is none.
    pub(crate) due: Option<Timestamp>,
    /// It stays until somebody decides.
    pub(crate) is_held: bool,
}

/// There may be thousands, many times a second: offset, attempts, microseconds,
/// held.
#[derive(Clone, Serialize, Deserialize)]
struct Stored(u64, u64, Option<i64>, bool);

impl From<Stored> for Head {
    fn from(Stored(offset, attempts, due, is_held): Stored) -> Self {
        Self { offset, attempts, due: due.map(Timestamp::from_micros), is_held }
    }
}

impl From<Head> for Stored {
    fn from(head: Head) -> Self {
        Self(head.offset, head.attempts, head.due.map(Timestamp::as_micros), head.is_held)
    }
}

impl Progress {
    /// The value of its record. At the window's bound it stays below 700 KB.
    pub(crate) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("numbers are JSON")
    }

    /// The value of the record of what is parked: up to 900 KB.
    pub(crate) fn encode_parked(&self) -> Vec<u8> {
        serde_json::to_vec(&self.parked).expect("numbers and texts are JSON")
    }

    /// Reads the values of both records.
    pub(crate) fn decode(value: &[u8], parked: Option<&[u8]>) -> Result<Self, serde_json::Error> {
        let mut progress: Self = serde_json::from_slice(value)?;
        if let Some(parked) = parked {
            progress.parked = serde_json::from_slice(parked)?;
        }
        Ok(progress)
    }
}

mod pairs {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::deliver::partition::Ranges;

    pub(super) fn serialize<S: Serializer>(ranges: &Ranges, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(ranges.iter())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Ranges, D::Error> {
        Ok(Ranges::of(Vec::<(u64, u64)>::deserialize(from)?))
    }
}

#[cfg(test)]
mod tests {
    use super::super::parked::{Id, KEYS_BYTES_MAX as PARKED_KEYS_BYTES_MAX};
    use super::*;
    use ingest::log::RECORD_BYTES_MAX;

    #[test]
    fn progress_reads_back() {
        let head = |offset, due: Option<i64>, is_held| {
            let due = due.map(Timestamp::from_micros);
            Head { offset, attempts: 3, due, is_held }
        };
        let progress = Progress {
            epoch: 4,
            committed: 17,
            completed: Ranges::of([(18, 20), (25, 26)]),
            heads: vec![head(17, None, false), head(21, Some(5), false), head(22, None, true)],
            parked: vec![
                ParkedKey { id: Id::Key((&b"a b\xff"[..]).into()), next: 3, from: 1, count: 9 },
                ParkedKey { id: Id::Message(8), next: 8, from: 5, count: 1 },
            ],
        };
        let (value, parked) = (progress.encode(), progress.encode_parked());
        assert_eq!(Progress::decode(&value, Some(&parked)).unwrap(), progress);
        let plain = Progress { parked: Vec::new(), ..progress };
        assert_eq!(Progress::decode(&value, None).unwrap(), plain);
        let text = r#"[["a%20b%FF",3,1,9],[null,8,5,1]]"#;
        assert_eq!(String::from_utf8(parked).unwrap(), text, "the format is on disks");
        let text = r#"{"epoch":4,"committed":17,"completed":[[18,20],[25,26]],"heads":[[17,3,null,false],[21,3,5,false],[22,3,null,true]]}"#;
        assert_eq!(String::from_utf8(value).unwrap(), text, "the format is on disks");
        assert!(Progress::decode(b"{}", None).is_err());
    }

    #[test]
    fn the_largest_progress_fits_into_a_record() {
        let far = 1_000_000_000_000;
        let head = |offset| Head {
            offset,
            attempts: 1_000,
            due: Some(Timestamp::from_micros(1_900_000_000_000_000)),
            is_held: false,
        };
        let progress = Progress {
            epoch: far,
            committed: far,
            completed: Ranges::of((0..5_000).map(|n| (far + 2 * n, far + 2 * n + 1))),
            heads: (0..11_000).map(|n| head(far + n)).collect(),
            // As large as keys may be that are parked together.
            parked: (0..1_000)
                .map(|n| ParkedKey {
                    id: Id::Key(vec![0xff; PARKED_KEYS_BYTES_MAX / 1_000].into()),
                    next: far + n,
                    from: far + n,
                    count: far,
                })
                .collect(),
        };
        assert!(progress.encode().len() < 700_000 && 700_000 < RECORD_BYTES_MAX);
        assert!(progress.encode_parked().len() < 900_000 && 900_000 < RECORD_BYTES_MAX);
    }
}
