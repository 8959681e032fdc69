//! A frame: what one append, commit or administrative act writes, whole or not
//! at all.
//!
//! ```text
//!  0  magic     u32   "WEI1"
//!  4  length    u32   of the payload
//!  8  crc       u32   CRC-32C (RFC 3720, B.4) of bytes 12 to the payload's end
//! 12  zero      u32
//! 16  sequence  u64   consecutive over the journal's life
//! 24  durable   u64   every frame below this number was durable before this one was written
//! 32  payload         sections, one after another; then zeros up to a multiple of 8
//! ```
//!
//! `durable` tells a torn tail from damage. A frame that cannot be read, while a
//! later one says that it was durable, was acknowledged: that is damage, and it
//! is named. If no later frame says so, nobody was told that it was written.

use super::codec::{Cursor, Truncated};

pub(super) const MAGIC: u32 = u32::from_le_bytes(*b"WEI1");
pub(super) const HEADER_BYTES: usize = 32;
const ALIGNMENT: usize = 8;

/// A frame's header, read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) payload_bytes: usize,
    pub(super) sequence: u64,
    pub(super) durable: u64,
    crc: u32,
}

impl Header {
    /// Reads the 32 bytes; `None` if they do not begin a frame.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let mut cursor = Cursor::new(bytes.get(..HEADER_BYTES)?);
        let header = |c: &mut Cursor<'_>| -> Result<Option<Self>, Truncated> {
            let magic = c.u32()?;
            let payload_bytes = c.u32()? as usize;
            let crc = c.u32()?;
            let zero = c.u32()?;
            let (sequence, durable) = (c.u64()?, c.u64()?);
            let plausible = magic == MAGIC && zero == 0;
            Ok(plausible.then_some(Self { payload_bytes, sequence, durable, crc }))
        };
        header(&mut cursor).ok().flatten()
    }

    /// The frame's length in the file, padding included.
    pub(super) fn frame_bytes(&self) -> usize {
        (HEADER_BYTES + self.payload_bytes).next_multiple_of(ALIGNMENT)
    }

    /// Whether the checksum holds. `frame` begins at the header.
    pub(super) fn is_intact(&self, frame: &[u8]) -> bool {
        frame
            .get(12..HEADER_BYTES + self.payload_bytes)
            .is_some_and(|covered| crc32c::crc32c(covered) == self.crc)
    }
}

/// The bytes that a payload takes in the file.
pub(super) fn framed_bytes(payload_bytes: usize) -> usize {
    (HEADER_BYTES + payload_bytes).next_multiple_of(ALIGNMENT)
}

/// Begins a frame in `out`; the caller writes the payload and calls [`finish`].
pub(super) fn begin(out: &mut Vec<u8>, sequence: u64, durable: u64) -> usize {
    let start = out.len();
    out.extend_from_slice(&MAGIC.to_le_bytes());
    out.extend_from_slice(&[0; 12]);
    out.extend_from_slice(&sequence.to_le_bytes());
    out.extend_from_slice(&durable.to_le_bytes());
    start
}

/// Ends the frame that began at `start`: length, checksum, padding.
pub(super) fn finish(out: &mut Vec<u8>, start: usize) {
    let payload = u32::try_from(out.len() - start - HEADER_BYTES).expect("a batch is bounded");
    out[start + 4..start + 8].copy_from_slice(&payload.to_le_bytes());
    let crc = crc32c::crc32c(&out[start + 12..]);
    out[start + 8..start + 12].copy_from_slice(&crc.to_le_bytes());
    let padded = start + (out.len() - start).next_multiple_of(ALIGNMENT);
    out.resize(padded, 0);
}

/// Looks in `bytes` for an intact frame whose `durable` is past `sequence`: the
/// proof that frame `sequence` was acknowledged. Answers its position.
pub(super) fn find_proof_of(sequence: u64, bytes: &[u8]) -> Option<usize> {
    // By the magic first: most of what is looked at is the unwritten rest of a file.
    let magic = MAGIC.to_le_bytes();
    memchr::memmem::find_iter(bytes, &magic).find(|&at| {
        let header = Header::read(&bytes[at..]).filter(|_| at.is_multiple_of(ALIGNMENT));
        header.is_some_and(|header| header.durable > sequence && header.is_intact(&bytes[at..]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(sequence: u64, durable: u64, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let start = begin(&mut out, sequence, durable);
        out.extend_from_slice(payload);
        finish(&mut out, start);
        out
    }

    #[test]
    fn a_frame_is_read_as_written() {
        for payload in [&b""[..], b"1", b"12345678", &[0; 1000]] {
            let bytes = frame(7, 6, payload);
            let header = Header::read(&bytes).unwrap();
            assert_eq!((header.sequence, header.durable), (7, 6));
            assert_eq!(header.payload_bytes, payload.len());
            assert_eq!(header.frame_bytes(), bytes.len());
            assert!(header.is_intact(&bytes));
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let bytes = frame(7, 6, b"payload");
        for bit in 0..(HEADER_BYTES + 7) * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let intact = Header::read(&flipped).is_some_and(|h| h.is_intact(&flipped));
            assert!(!intact, "bit {bit}");
        }
    }

    #[test]
    fn only_a_later_durable_frame_proves_an_earlier_one() {
        let mut bytes = vec![0; 64];
        bytes.extend(frame(9, 8, b"later, of the same group"));
        assert_eq!(find_proof_of(8, &bytes), None);
        assert_eq!(find_proof_of(7, &bytes), Some(64));
    }
}
