//! How many requests may come at once: a bucket that fills up again within a
//! second, as GCRA counts it. The one number is the time at which the bucket will
//! be full again.

use std::sync::atomic::{AtomicU64, Ordering};

const SECOND_NS: u64 = 1_000_000_000;
const MS_NS: u64 = 1_000_000;

/// A bucket.
#[derive(Debug, Default)]
pub(super) struct Burst(AtomicU64);

/// What a bucket answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Poured {
    pub(super) allowed: bool,
    pub(super) remaining: u64,
    /// When there is one more.
    pub(super) reset_ms: u64,
    /// What it held before, and after.
    pub(super) change: (u64, u64),
}

impl Burst {
    /// Takes one of `max`, 1 to 1,000,000.
    pub(super) fn take(&self, max: u64, now_ms: u64) -> Poured {
        let each_ns = SECOND_NS / max;
        let room_ns = each_ns * max;
        let now = now_ms.saturating_mul(MS_NS);
        let mut held = self.0.load(Ordering::Relaxed);
        loop {
            // Only a clock that stepped back by more than a second finds a bucket
            // further from full than it can be: from here it is empty.
            let full_at =
                if held > now + room_ns + SECOND_NS { now + room_ns } else { held.max(now) };
            let next = full_at + each_ns;
            let refused = next > now + room_ns;
            let store = if refused { full_at } else { next };
            if !(refused && held <= now + room_ns + SECOND_NS)
                && let Err(found) =
                    self.0.compare_exchange_weak(held, store, Ordering::Relaxed, Ordering::Relaxed)
            {
                held = found;
                continue;
            }
            let remaining = (now + room_ns).saturating_sub(store) / each_ns;
            let wait_ns = (store + each_ns).saturating_sub(now + room_ns);
            return Poured {
                allowed: !refused,
                remaining: if refused { 0 } else { remaining },
                reset_ms: wait_ns.div_ceil(MS_NS),
                change: (held, store),
            };
        }
    }

    /// Puts back what was taken, unless somebody took since: what the bucket was
    /// then is no longer known.
    pub(super) fn give_back(&self, (before, after): (u64, u64)) {
        let _ = self.0.compare_exchange(after, before, Ordering::Relaxed, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn a_bucket_gives_what_it_holds_and_fills_up_within_a_second() {
        let burst = Burst::default();
        let check = |now_ms, allowed, remaining| {
            let poured = burst.take(4, now_ms);
            assert_eq!((poured.allowed, poured.remaining), (allowed, remaining), "at {now_ms}");
        };
        for remaining in [3, 2, 1, 0] {
            check(10_000, true, remaining);
        }
        check(10_249, false, 0);
        check(10_250, true, 0);
        check(10_250, false, 0);
        check(60_000, true, 3);
    }

    #[test]
    fn eight_threads_get_exactly_the_burst() {
        let burst = Burst::default();
        let start = Barrier::new(8);
        let count = || {
            start.wait();
            (0..100_000).filter(|_| burst.take(500_000, 10_000).allowed).count()
        };
        let allowed: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(count)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(allowed, 500_000);
    }

    #[test]
    fn a_clock_that_steps_back_neither_refills_nor_locks_out() {
        let burst = Burst::default();
        assert!(burst.take(1, 9_000_000).allowed);
        assert!(!burst.take(1, 1_000).allowed, "it was empty");
        assert!(burst.take(1, 2_000).allowed, "a second later it is not");
    }

    #[test]
    fn what_was_taken_since_is_not_put_back() {
        let burst = Burst::default();
        let one = burst.take(2, 1_000);
        burst.give_back(one.change);
        let one = burst.take(2, 1_000);
        assert!(burst.take(2, 1_000).allowed);
        burst.give_back(one.change);
        assert!(!burst.take(2, 1_000).allowed);
    }
}
