//! What a frame's payload is made of.
//!
//! | tag | section | fields |
//! | --- | --- | --- |
//! | 1 | records | topic u32, index u32, first offset u64, time i64, count u32, length u32, records |
//! | 2 | moved | topic u32, index u32, count u32, length u32, records with offset u64 and time i64 before each |
//! | 3 | offset | group, topic u32, index u32, offset u64 |
//! | 4 | topic | id u32, specification as JSON |
//! | 5 | writer | name, epoch u64 |
//! | 6 | trim | topic u32, index u32, first offset u64 |
//!
//! A record is key length i32 and value length i32 (-1 if absent), headers'
//! length u32, key, value, headers. Names are a length u32 and UTF-8.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::codec::{Cursor, Truncated, put_i64, put_text, put_u32, put_u64};
use crate::log::{Headers, LogTime, NewRecord, Record};

/// A partition, by its topic's number in this journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct PartitionKey {
    pub(super) topic: u32,
    pub(super) index: u32,
}

/// A section, its bytes left where they are.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Section<'a> {
    Records { partition: PartitionKey, first: u64, time: LogTime, count: u32, body: &'a [u8] },
    Moved { partition: PartitionKey, count: u32, body: &'a [u8] },
    Offset { group: &'a str, partition: PartitionKey, offset: u64 },
    Topic { id: u32, spec: &'a str },
    Writer { name: &'a str, epoch: u64 },
    Trim { partition: PartitionKey, before: u64 },
}

/// What a section takes besides names and bodies, at most.
pub(super) const SECTION_OVERHEAD_BYTES: usize = 40;
/// What a record takes besides key, value and headers, at most.
pub(super) const RECORD_OVERHEAD_BYTES: usize = 28;

impl<'a> Section<'a> {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match *self {
            Self::Records { partition, first, time, count, body } => {
                out.push(1);
                put_partition(out, partition);
                put_u64(out, first);
                put_i64(out, time.0);
                put_u32(out, count);
                put_body(out, body);
            }
            Self::Moved { partition, count, body } => {
                out.push(2);
                put_partition(out, partition);
                put_u32(out, count);
                put_body(out, body);
            }
            Self::Offset { group, partition, offset } => {
                out.push(3);
                put_text(out, group);
                put_partition(out, partition);
                put_u64(out, offset);
            }
            Self::Topic { id, spec } => {
                out.push(4);
                put_u32(out, id);
                put_text(out, spec);
            }
            Self::Writer { name, epoch } => {
                out.push(5);
                put_text(out, name);
                put_u64(out, epoch);
            }
            Self::Trim { partition, before } => {
                out.push(6);
                put_partition(out, partition);
                put_u64(out, before);
            }
        }
    }

    fn read(cursor: &mut Cursor<'a>) -> Result<Self, Truncated> {
        let section = match cursor.u8()? {
            1 => Self::Records {
                partition: partition(cursor)?,
                first: cursor.u64()?,
                time: LogTime(cursor.i64()?),
                count: cursor.u32()?,
                body: body(cursor)?,
            },
            2 => Self::Moved {
                partition: partition(cursor)?,
                count: cursor.u32()?,
                body: body(cursor)?,
            },
            3 => Self::Offset {
                group: cursor.text()?,
                partition: partition(cursor)?,
                offset: cursor.u64()?,
            },
            4 => Self::Topic { id: cursor.u32()?, spec: cursor.text()? },
            5 => Self::Writer { name: cursor.text()?, epoch: cursor.u64()? },
            6 => Self::Trim { partition: partition(cursor)?, before: cursor.u64()? },
            _ => return Err(Truncated),
        };
        Ok(section)
    }
}

fn put_partition(out: &mut Vec<u8>, partition: PartitionKey) {
    put_u32(out, partition.topic);
    put_u32(out, partition.index);
}

fn put_body(out: &mut Vec<u8>, body: &[u8]) {
    put_u32(out, u32::try_from(body.len()).expect("a batch is bounded"));
    out.extend_from_slice(body);
}

fn partition(cursor: &mut Cursor<'_>) -> Result<PartitionKey, Truncated> {
    Ok(PartitionKey { topic: cursor.u32()?, index: cursor.u32()? })
}

fn body<'a>(cursor: &mut Cursor<'a>) -> Result<&'a [u8], Truncated> {
    let len = cursor.u32()? as usize;
    cursor.take(len)
}

/// The sections of a payload.
pub(super) fn sections(payload: &[u8]) -> impl Iterator<Item = Result<Section<'_>, Truncated>> {
    let mut cursor = Cursor::new(payload);
    std::iter::from_fn(move || (!cursor.is_at_end()).then(|| Section::read(&mut cursor)))
}

/// Appends a record to a section's body.
pub(super) fn put_record(out: &mut Vec<u8>, record: &NewRecord) {
    put_parts(out, record.key.as_ref(), record.value.as_ref(), &record.headers);
}

/// Appends a record that keeps its offset and time to a moved section's body.
pub(super) fn put_moved_record(out: &mut Vec<u8>, record: &Record) {
    put_u64(out, record.offset);
    put_i64(out, record.time.0);
    put_parts(out, record.key.as_ref(), record.value.as_ref(), &record.headers);
}

fn put_parts(out: &mut Vec<u8>, key: Option<&Bytes>, value: Option<&Bytes>, headers: &Headers) {
    let length = |part: Option<&Bytes>| {
        part.map_or(-1, |bytes| i32::try_from(bytes.len()).expect("a record is bounded"))
    };
    out.extend_from_slice(&length(key).to_le_bytes());
    out.extend_from_slice(&length(value).to_le_bytes());
    put_u32(out, u32::try_from(headers.packed().len()).expect("a record is bounded"));
    for part in [key, value, Some(headers.packed())].into_iter().flatten() {
        out.extend_from_slice(part);
    }
}

/// Reads the records of a section, as slices of `buffer`, of which the section
/// is a part.
pub(super) fn records<'a>(
    section: &Section<'a>,
    buffer: &'a Bytes,
) -> impl Iterator<Item = Result<Record, Truncated>> + use<'a> {
    let (count, body, mut natural) = match *section {
        Section::Records { first, time, count, body, .. } => (count, body, Some((first, time))),
        Section::Moved { count, body, .. } => (count, body, None),
        _ => (0, &[][..], None),
    };
    let mut cursor = Cursor::new(body);
    (0..count).map(move |_| {
        let (offset, time) = match &mut natural {
            Some((next, time)) => {
                *next += 1;
                (*next - 1, *time)
            }
            None => (cursor.u64()?, LogTime(cursor.i64()?)),
        };
        read_parts(&mut cursor, offset, time, buffer)
    })
}

fn read_parts(
    cursor: &mut Cursor<'_>,
    offset: u64,
    time: LogTime,
    buffer: &Bytes,
) -> Result<Record, Truncated> {
    let key_len = cursor.u32()? as i32;
    let value_len = cursor.u32()? as i32;
    let headers_len = cursor.u32()? as usize;
    let mut part = |len: i32| -> Result<Option<Bytes>, Truncated> {
        match usize::try_from(len) {
            Ok(len) => Ok(Some(buffer.slice_ref(cursor.take(len)?))),
            Err(_) => Ok(None),
        }
    };
    let key = part(key_len)?;
    let value = part(value_len)?;
    let headers = buffer.slice_ref(cursor.take(headers_len)?);
    let headers = Headers::from_packed(headers).ok_or(Truncated)?;
    Ok(Record { offset, time, key, value, headers })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARTITION: PartitionKey = PartitionKey { topic: 3, index: 1 };

    #[test]
    fn sections_are_read_as_written() {
        let body = vec![1, 2, 3];
        let written = [
            Section::Topic { id: 3, spec: "{}" },
            Section::Writer { name: "lake", epoch: 2 },
            Section::Records {
                partition: PARTITION,
                first: 9,
                time: LogTime(5),
                count: 1,
                body: &body,
            },
            Section::Moved { partition: PARTITION, count: 1, body: &body },
            Section::Offset { group: "g", partition: PARTITION, offset: u64::MAX },
            Section::Trim { partition: PARTITION, before: 4 },
        ];
        let mut payload = Vec::new();
        for section in &written {
            let before = payload.len();
            section.write(&mut payload);
            assert!(payload.len() - before <= SECTION_OVERHEAD_BYTES + 8, "{section:?}");
        }
        let read: Vec<_> = sections(&payload).collect::<Result<_, _>>().unwrap();
        assert_eq!(read, written);
        assert!(sections(&payload[..payload.len() - 1]).any(|s| s == Err(Truncated)));
    }

    #[test]
    fn records_are_read_as_written() {
        let given = [
            NewRecord::keyed("key", "value"),
            NewRecord { headers: Headers::new([("a", "b")]), ..NewRecord::tombstone("") },
            NewRecord::unkeyed(""),
        ];
        let mut body = Vec::new();
        given.iter().for_each(|record| put_record(&mut body, record));
        let mut payload = Vec::new();
        let time = LogTime(77);
        Section::Records { partition: PARTITION, first: 40, time, count: 3, body: &body }
            .write(&mut payload);
        let buffer = Bytes::from(payload);
        let section = sections(&buffer).next().unwrap().unwrap();
        let read: Vec<_> = records(&section, &buffer).collect::<Result<_, _>>().unwrap();
        for (i, (record, given)) in read.iter().zip(&given).enumerate() {
            assert_eq!((record.offset, record.time), (40 + i as u64, time));
            assert_eq!((&record.key, &record.value), (&given.key, &given.value));
            assert_eq!(record.headers, given.headers);
        }

        let mut moved = Vec::new();
        put_moved_record(&mut moved, &read[2]);
        put_moved_record(&mut moved, &read[0]);
        let mut payload = Vec::new();
        Section::Moved { partition: PARTITION, count: 2, body: &moved }.write(&mut payload);
        let buffer = Bytes::from(payload);
        let section = sections(&buffer).next().unwrap().unwrap();
        let again: Vec<_> = records(&section, &buffer).collect::<Result<_, _>>().unwrap();
        assert_eq!(again, [read[2].clone(), read[0].clone()]);
    }
}
