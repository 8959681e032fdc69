//! A frame: one event in a spool file, whole or not at all.
//!
//! ```text
//!  0  magic      u32   "WES1"
//!  4  length     u32   of the payload
//!  8  crc        u32   CRC-32C (RFC 3720, B.4) of bytes 12 to the payload's end
//! 12  partition  u32   of the events topic
//! 16  boot       u64
//! 24  sequence   u64   consecutive within the boot, from 1
//! 32  payload          the event's JSON; then zeros up to a multiple of 8
//! ```
//!
//! A header holds bytes that JSON does not, so no payload can pass for a frame
//! when one is looked for behind damage.

use super::super::Error;

const MAGIC: u32 = u32::from_le_bytes(*b"WES1");
pub(super) const HEADER_BYTES: usize = 32;
const ALIGNMENT: usize = 8;

/// The largest event that a spool takes, in bytes of JSON. It is a little more
/// than the log takes, whose answer decides.
pub(super) const EVENT_BYTES_MAX: usize = 1024 * 1024;

/// The largest frame.
pub(crate) const FRAME_BYTES_MAX: usize = HEADER_BYTES + EVENT_BYTES_MAX;

/// What a frame says of its event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) partition: u32,
    pub(crate) boot: i64,
    pub(crate) sequence: i64,
}

/// An intact frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) head: Head,
    pub(crate) json: &'a [u8],
    /// The frame's length in the file, padding included.
    pub(crate) bytes: usize,
}

/// Appends a frame, whose payload `write` appends. Nothing is appended on an error.
pub(super) fn write(
    out: &mut Vec<u8>,
    head: Head,
    write: impl FnOnce(&mut Vec<u8>),
) -> Result<(), Error> {
    let start = out.len();
    out.extend_from_slice(&MAGIC.to_le_bytes());
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&head.partition.to_le_bytes());
    out.extend_from_slice(&head.boot.to_le_bytes());
    out.extend_from_slice(&head.sequence.to_le_bytes());
    write(out);
    let payload = out.len() - start - HEADER_BYTES;
    if payload > EVENT_BYTES_MAX {
        out.truncate(start);
        return Err(Error::TooLarge { bytes: payload, limit: EVENT_BYTES_MAX });
    }
    let length = u32::try_from(payload).expect("an event is bounded");
    out[start + 4..start + 8].copy_from_slice(&length.to_le_bytes());
    let crc = crc32c::crc32c(&out[start + 12..]);
    out[start + 8..start + 12].copy_from_slice(&crc.to_le_bytes());
    out.resize(start + (out.len() - start).next_multiple_of(ALIGNMENT), 0);
    Ok(())
}

/// The frame that `bytes` begin with, if it is intact.
pub(super) fn first_in(bytes: &[u8]) -> Option<Frame<'_>> {
    let word = |at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
    let number = |at: usize| Some(i64::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
    if word(0)? != MAGIC {
        return None;
    }
    let end = HEADER_BYTES.checked_add(word(4)? as usize)?;
    let (covered, whole) = (bytes.get(12..end)?, end.next_multiple_of(ALIGNMENT));
    let intact = bytes.len() >= whole && crc32c::crc32c(covered) == word(8)?;
    let head = Head { partition: word(12)?, boot: number(16)?, sequence: number(24)? };
    intact.then(|| Frame { head, json: &bytes[HEADER_BYTES..end], bytes: whole })
}

/// Where in `bytes` the next intact frame begins.
pub(super) fn find_in(bytes: &[u8]) -> Option<usize> {
    (0..bytes.len()).step_by(ALIGNMENT).find(|&at| first_in(&bytes[at..]).is_some())
}

/// How many of `bytes` are intact frames, from the start on.
pub(super) fn intact_bytes(bytes: &[u8]) -> usize {
    let mut end = 0;
    while let Some(frame) = first_in(&bytes[end..]) {
        end += frame.bytes;
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: Head = Head { partition: 3, boot: 7, sequence: 9 };

    fn frame(json: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out, HEAD, |out| out.extend_from_slice(json)).unwrap();
        out
    }

    #[test]
    fn a_frame_is_read_as_written() {
        for json in [&b""[..], b"1", b"12345678", &[b'x'; 1000]] {
            let bytes = frame(json);
            let expected = Frame { head: HEAD, json, bytes: bytes.len() };
            assert_eq!(first_in(&bytes), Some(expected));
        }
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let bytes = frame(b"payload");
        for bit in 0..(HEADER_BYTES + 7) * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(first_in(&flipped), None, "bit {bit}");
        }
        for cut in 0..bytes.len() {
            assert_eq!(first_in(&bytes[..cut]), None, "cut at {cut}");
        }
    }

    #[test]
    fn the_next_frame_is_found_behind_damage() {
        let mut bytes = frame(b"first");
        let second = bytes.len();
        bytes.extend(frame(b"second"));
        assert_eq!(intact_bytes(&bytes), bytes.len());
        bytes[4] ^= 0x40;
        assert_eq!((intact_bytes(&bytes), find_in(&bytes)), (0, Some(second)));
        assert_eq!(find_in(&bytes[..second]), None);
    }

    #[test]
    fn an_event_over_the_limit_leaves_nothing() {
        let mut out = vec![1];
        let large = write(&mut out, HEAD, |out| out.resize(out.len() + EVENT_BYTES_MAX + 1, 0));
        assert!(matches!(large, Err(Error::TooLarge { .. })));
        assert_eq!(out, [1]);
    }
}
