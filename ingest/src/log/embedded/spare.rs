//! Large buffers that are used again. Fresh memory has to be cleared by the kernel first,
//! page by page, which takes longer than what is done with it.

use parking_lot::Mutex;

/// Smaller buffers are the allocator's.
const BYTES_MIN: usize = 32 * 1024;
/// Larger ones, and more than so many, are given back.
const BYTES_MAX: usize = 2 * 1024 * 1024;
const BUFFERS_MAX: usize = 8;

/// Buffers that nobody uses.
#[derive(Debug, Default)]
pub(super) struct Spares(Mutex<Vec<Vec<u8>>>);

impl Spares {
    /// An empty buffer with room for so many bytes.
    pub(super) fn take(&self, bytes: usize) -> Vec<u8> {
        if bytes < BYTES_MIN {
            return Vec::with_capacity(bytes);
        }
        let mut spares = self.0.lock();
        let fits = spares.iter().position(|spare| spare.capacity() >= bytes);
        let spare = fits.map(|at| spares.swap_remove(at));
        drop(spares);
        // Of one size, so that the next one fits too.
        spare.unwrap_or_else(|| Vec::with_capacity(bytes.next_power_of_two()))
    }

    /// Takes a buffer back.
    pub(super) fn give(&self, mut buffer: Vec<u8>) {
        if !(BYTES_MIN..=BYTES_MAX).contains(&buffer.capacity()) {
            return;
        }
        buffer.clear();
        let mut spares = self.0.lock();
        if spares.len() < BUFFERS_MAX {
            spares.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_empty_and_large_enough() {
        let spares = Spares::default();
        let mut first = spares.take(100_000);
        first.extend_from_slice(&[7; 100_000]);
        let place = first.as_ptr();
        spares.give(first);
        let larger = spares.take(500_000);
        assert_ne!(larger.as_ptr(), place, "it is too small");
        let again = spares.take(120_000);
        assert_eq!((again.as_ptr(), again.len()), (place, 0));
        // What is small, or too large, is not kept.
        for bytes in [100, 2 * BYTES_MAX] {
            spares.give(Vec::with_capacity(bytes));
        }
        (0..2 * BUFFERS_MAX).for_each(|_| spares.give(Vec::with_capacity(BYTES_MIN)));
        assert_eq!(spares.0.lock().len(), BUFFERS_MAX);
    }
}
