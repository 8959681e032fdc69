use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// For how long a query is young.
const YOUNG_FOR: Duration = Duration::from_secs(1);
/// For how long one that is not pauses while there are young ones, and for how long it then
/// runs. It is never kept from running, or who asks all the time would keep out others.
const PAUSE: Duration = Duration::from_millis(8);
const RUN: Duration = Duration::from_millis(2);

/// When the queries began that are young, by their numbers. One that is held by a call of a
/// function ages all the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Young(Arc<Mutex<HashMap<u64, Instant>>>);

impl Young {
    fn are_there(&self) -> bool {
        let mut begun = self.0.lock();
        begun.retain(|_, begun| begun.elapsed() < YOUNG_FOR);
        !begun.is_empty()
    }
}

/// The way of one query past others. All its steps share it.
#[derive(Debug)]
pub(super) struct Way {
    young: Young,
    number: u64,
    begun: Instant,
    /// Until when it pauses, or has, in microseconds from its beginning.
    paused_until_us: AtomicU64,
}

impl Way {
    /// Of a query that begins.
    pub(super) fn new(young: &Young) -> Arc<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let (number, begun) = (NUMBER.fetch_add(1, Ordering::Relaxed), Instant::now());
        young.0.lock().insert(number, begun);
        Arc::new(Self { young: young.clone(), number, begun, paused_until_us: AtomicU64::new(0) })
    }

    /// Until when the query is to pause; nothing if it may go on.
    pub(super) fn pause(&self) -> Option<Instant> {
        let age = self.begun.elapsed();
        if age < YOUNG_FOR || !self.young.are_there() {
            return None;
        }
        let us = |of: Duration| u64::try_from(of.as_micros()).unwrap_or(u64::MAX);
        let (now, until) = (us(age), self.paused_until_us.load(Ordering::Relaxed));
        let until = match now {
            now if now < until => until,
            now if now < until + us(RUN) => return None,
            now => {
                let until = now + us(PAUSE);
                self.paused_until_us.store(until, Ordering::Relaxed);
                until
            }
        };
        Some(self.begun + Duration::from_micros(until))
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        self.young.0.lock().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_that_has_run_for_long_leaves_most_of_the_time_to_the_young() {
        let young = Young::default();
        let old = Way::new(&young);
        advance(YOUNG_FOR).await;
        assert_eq!(old.pause(), None, "there is nobody to give way to");
        let other = Way::new(&young);
        assert_eq!(other.pause(), None, "it is young");
        let mut paused = 0;
        for _ in 0..100 {
            paused += u32::from(old.pause().is_some());
            advance(Duration::from_millis(1)).await;
        }
        assert_eq!(paused, 80, "of 100 ms");
        drop(other);
        assert_eq!(old.pause(), None);
        // One that never looks is not young for ever.
        let held = Way::new(&young);
        assert!(young.are_there());
        advance(YOUNG_FOR).await;
        assert!(!young.are_there());
        drop((old, held));
        assert!(young.0.lock().is_empty());
    }
}
