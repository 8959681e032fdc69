//! A quota in fixed windows: the number of the window and the count, in one
//! atomic number.

use std::sync::atomic::{AtomicU64, Ordering};

/// The lower bits count; the upper 34 hold the window's number, which lasts for
/// 544 years of the shortest window.
const COUNT_BITS: u32 = 30;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;

/// Counts requests of the latest window that was seen.
#[derive(Debug, Default)]
pub(super) struct Window(AtomicU64);

/// What a window answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) allowed: bool,
    pub(super) remaining: u64,
    /// When the next window begins, from now.
    pub(super) reset_ms: u64,
    /// The window that was counted in.
    pub(super) index: u64,
}

impl Window {
    pub(super) fn take(&self, max: u64, window_ms: u64, now_ms: u64) -> Counted {
        let max = max.min(COUNT_MASK);
        let mut held = self.0.load(Ordering::Relaxed);
        loop {
            let (at, count) = (held >> COUNT_BITS, held & COUNT_MASK);
            let index = (now_ms / window_ms).max(at);
            let count = if index == at { count } else { 0 };
            let end_ms = (index + 1).saturating_mul(window_ms);
            let reset_ms = end_ms.saturating_sub(now_ms);
            if count >= max {
                return Counted { allowed: false, remaining: 0, reset_ms, index };
            }
            let next = index << COUNT_BITS | (count + 1);
            // The number alone is shared, so no order with other memory is needed.
            match self.0.compare_exchange_weak(held, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => {
                    return Counted { allowed: true, remaining: max - count - 1, reset_ms, index };
                }
                Err(found) => held = found,
            }
        }
    }

    /// Takes back one that was counted in window `index`, if it is not over.
    pub(super) fn give_back(&self, index: u64) {
        let less = |held: u64| {
            let counted = held >> COUNT_BITS == index && held & COUNT_MASK > 0;
            counted.then(|| held - 1)
        };
        // Refused when the window is over, and then there is nothing to give.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn eight_threads_get_exactly_the_quota_of_each_window() {
        let (window, max) = (Window::default(), 500_000);
        let start = Barrier::new(8);
        let allowed = |index: u64| {
            let count = || {
                start.wait();
                let take = |_: &u32| window.take(max, 1_000, index * 1_000 + 7).allowed;
                (0..100_000).filter(take).count()
            };
            std::thread::scope(|scope| {
                let threads: Vec<_> = (0..8).map(|_| scope.spawn(count)).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>()
            })
        };
        for index in [1_700_000_000, 1_700_000_001] {
            assert_eq!(allowed(index), 500_000, "window {index}");
        }
    }

    #[test]
    fn windows_begin_at_the_epoch_and_the_rest_is_told() {
        let window = Window::default();
        let check = |now_ms, allowed, remaining, reset_ms| {
            let counted = window.take(2, 60_000, now_ms);
            let found = (counted.allowed, counted.remaining, counted.reset_ms);
            assert_eq!(found, (allowed, remaining, reset_ms), "at {now_ms}");
        };
        check(59_999, true, 1, 1);
        check(60_000, true, 1, 60_000);
        check(60_001, true, 0, 59_999);
        check(119_999, false, 0, 1);
        check(120_000, true, 1, 60_000);
    }

    #[test]
    fn a_clock_that_steps_back_does_not_reopen_a_window() {
        let window = Window::default();
        assert!(window.take(1, 1_000, 5_000).allowed);
        let back = window.take(1, 1_000, 1_000);
        assert_eq!((back.allowed, back.reset_ms), (false, 5_000));
        assert!(!window.take(1, 1_000, 5_999).allowed);
        assert!(window.take(1, 1_000, 6_000).allowed);
    }

    #[test]
    fn only_what_the_window_counted_is_given_back() {
        let window = Window::default();
        let first = window.take(1, 1_000, 1_000);
        window.give_back(first.index);
        assert!(window.take(1, 1_000, 1_000).allowed, "it was given back");
        assert!(window.take(1, 1_000, 2_000).allowed);
        window.give_back(first.index);
        assert!(!window.take(1, 1_000, 2_000).allowed, "that window is over");
        window.give_back(2);
        window.give_back(2);
        assert!(window.take(1, 1_000, 2_000).allowed);
        assert!(!window.take(1, 1_000, 2_000).allowed, "no more than was taken");
    }
}
