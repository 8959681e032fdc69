use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

use super::{BATCH_BYTES_MAX, Error, Partition, RECORD_BYTES_MAX, Result};

/// When the log took a record: milliseconds since 1970, UTC, by the log's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LogTime(pub i64);

impl LogTime {
    /// The machine's clock.
    pub fn now() -> Self {
        let since =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Self(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }
}

/// A record to append.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewRecord {
    /// What orders and compacts: records of one key belong together.
    pub key: Option<Bytes>,
    /// The body; `None` is a tombstone, which compaction lets stand for the
    /// key's removal.
    pub value: Option<Bytes>,
    /// Named attributes.
    pub headers: Headers,
}

impl NewRecord {
    /// A record with a key and a body.
    pub fn keyed(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        Self { key: Some(key.into()), value: Some(value.into()), headers: Headers::default() }
    }

    /// A record without a key.
    pub fn unkeyed(value: impl Into<Bytes>) -> Self {
        Self { key: None, value: Some(value.into()), headers: Headers::default() }
    }

    /// Marks a key as removed.
    pub fn tombstone(key: impl Into<Bytes>) -> Self {
        Self { key: Some(key.into()), value: None, headers: Headers::default() }
    }

    /// The bytes that count against [`super::RECORD_BYTES_MAX`].
    pub fn bytes(&self) -> usize {
        self.key.as_ref().map_or(0, Bytes::len)
            + self.value.as_ref().map_or(0, Bytes::len)
            + self.headers.0.len()
    }
}

/// What a record counts in a batch besides its own bytes.
const RECORD_OVERHEAD_BYTES: usize = 32;

/// Refuses records and batches that are larger than any log takes.
pub(crate) fn check_sizes(records: &[(Partition, NewRecord)]) -> Result<()> {
    let check = |what, bytes, limit| {
        if bytes > limit { Err(Error::TooLarge { what, bytes, limit }) } else { Ok(()) }
    };
    let mut batch_bytes = 0;
    for (_, record) in records {
        check("a record", record.bytes(), RECORD_BYTES_MAX)?;
        batch_bytes += record.bytes() + RECORD_OVERHEAD_BYTES;
    }
    check("a batch", batch_bytes, BATCH_BYTES_MAX)
}

/// A record as it is in the log.
///
/// Its parts share the buffer that was read, so keeping one small part keeps up
/// to a read's worth of memory; copy what is to live long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its place in the partition.
    pub offset: u64,
    /// When the log took it.
    pub time: LogTime,
    /// See [`NewRecord::key`].
    pub key: Option<Bytes>,
    /// See [`NewRecord::value`].
    pub value: Option<Bytes>,
    /// See [`NewRecord::headers`].
    pub headers: Headers,
}

/// Header names and values in their order, packed in one buffer: name length
/// (u16), value length (u32), name, value, and so on, little endian.
///
/// Packed, since most readers look at one header of many, and a record with ten
/// headers would else cost twenty allocations.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers(Bytes);

/// Room for the headers of most records, those of events among them.
const USUAL_HEADER_BYTES: usize = 256;

impl Headers {
    /// Packs pairs.
    ///
    /// # Panics
    /// If a name is longer than 65,535 bytes or a value than 4 GiB.
    pub fn new<N: AsRef<str>, V: AsRef<[u8]>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        let mut packed = BytesMut::with_capacity(USUAL_HEADER_BYTES);
        for (name, value) in pairs {
            let (name, value) = (name.as_ref(), value.as_ref());
            packed.put_u16_le(u16::try_from(name.len()).expect("a header name is short"));
            packed.put_u32_le(u32::try_from(value.len()).expect("a header value is below 4 GiB"));
            packed.put_slice(name.as_bytes());
            packed.put_slice(value);
        }
        Self(packed.freeze())
    }

    /// Takes a packed buffer, if it is one.
    pub(crate) fn from_packed(packed: Bytes) -> Option<Self> {
        let mut rest = &packed[..];
        while !rest.is_empty() {
            let (name, _, tail) = split_pair(rest)?;
            std::str::from_utf8(name).ok()?;
            rest = tail;
        }
        Some(Self(packed))
    }

    /// The packed buffer.
    pub(crate) fn packed(&self) -> &Bytes {
        &self.0
    }

    /// The pairs, in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let mut rest = &self.0[..];
        std::iter::from_fn(move || {
            let (name, value, tail) = split_pair(rest)?;
            rest = tail;
            Some((std::str::from_utf8(name).ok()?, value))
        })
    }

    /// The first value of a name.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.iter().find(|(n, _)| *n == name).map(|(_, value)| value)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.iter().map(|(name, value)| (name, String::from_utf8_lossy(value))))
            .finish()
    }
}

fn split_pair(packed: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (name_len, rest) = packed.split_first_chunk::<2>()?;
    let (value_len, rest) = rest.split_first_chunk::<4>()?;
    let (name, rest) = rest.split_at_checked(u16::from_le_bytes(*name_len) as usize)?;
    let (value, rest) = rest.split_at_checked(u32::from_le_bytes(*value_len) as usize)?;
    Some((name, value, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_keep_order_and_repetition() {
        let pairs = [("b", &b"2"[..]), ("a", b""), ("b", b"\xff\0")];
        let headers = Headers::new(pairs);
        assert_eq!(headers.iter().collect::<Vec<_>>(), pairs);
        assert_eq!(headers.get("b"), Some(&b"2"[..]));
        assert_eq!(headers.get("c"), None);
        assert_eq!(Headers::from_packed(headers.packed().clone()), Some(headers));
    }

    #[test]
    fn a_cut_or_foreign_buffer_is_not_taken_for_headers() {
        let packed = Headers::new([("name", "value")]).packed().clone();
        for cut in 1..packed.len() {
            assert_eq!(Headers::from_packed(packed.slice(..cut)), None, "cut at {cut}");
        }
        let not_text = Bytes::from_static(&[1, 0, 0, 0, 0, 0, 0xff]);
        assert_eq!(Headers::from_packed(not_text), None);
    }
}
