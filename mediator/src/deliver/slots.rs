//! How many attempts of a queue are under way on this node, and how often one begins.

use std::sync::Arc;
use std::time::Duration;

use ingest::registry::kind::Quota;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};

/// Attempts that are late may follow each other at once for so long: a timer is no more
/// exact than a millisecond.
const LATE_MAX: Duration = Duration::from_millis(10);

/// Slots that all partitions of a queue share. Their number may change while they
/// are in use: too many then end with their attempts.
#[derive(Debug, Clone)]
pub(super) struct Slots(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    semaphore: Arc<Semaphore>,
    count: Mutex<Count>,
    pace: Mutex<Pace>,
}

/// When the next attempt may begin.
#[derive(Debug)]
struct Pace {
    rate: Option<Quota>,
    /// The partitions that this node owns, of how many: what it has of the rate.
    share: (u32, u32),
    next: Instant,
}

impl Pace {
    /// Takes the right to begin now, or says when to ask again.
    fn take(&mut self, now: Instant) -> Result<(), Instant> {
        let Some(interval) = self.interval() else { return Ok(()) };
        if now < self.next {
            return Err(self.next);
        }
        let begun = now.checked_sub(LATE_MAX).map_or(self.next, |late| self.next.max(late));
        self.next = begun + interval;
        Ok(())
    }

    /// The time between two attempts of this node.
    fn interval(&self) -> Option<Duration> {
        let rate = self.rate?;
        let (owned, all) = self.share;
        let window = Duration::from_millis(rate.window_ms).as_secs_f64();
        let interval = window / rate.max as f64 * f64::from(all) / f64::from(owned.max(1));
        Some(Duration::from_secs_f64(interval))
    }
}

#[derive(Debug)]
struct Count {
    max: usize,
    /// Slots in use that are not to be given back.
    surplus: usize,
}

/// The right to one attempt, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Slot {
    permit: Option<OwnedSemaphorePermit>,
    shared: Arc<Shared>,
}

impl Slots {
    pub(super) fn new(max: usize) -> Self {
        let semaphore = Arc::new(Semaphore::new(max));
        let count = Mutex::new(Count { max, surplus: 0 });
        let pace = Mutex::new(Pace { rate: None, share: (1, 1), next: Instant::now() });
        Self(Arc::new(Shared { semaphore, count, pace }))
    }

    /// How often an attempt begins, over all nodes.
    pub(super) fn set_rate(&self, rate: Option<Quota>) {
        let mut pace = self.0.pace.lock();
        if pace.rate != rate {
            (pace.rate, pace.next) = (rate, Instant::now());
        }
    }

    /// How many of the queue's partitions this node owns: it has as much of the rate.
    pub(super) fn set_share(&self, owned: usize, partitions: u32) {
        let mut pace = self.0.pace.lock();
        let share = (u32::try_from(owned).unwrap_or(partitions), partitions);
        if pace.share != share {
            pace.share = share;
            // Who has more of it now does not wait as long as who had less.
            if let Some(interval) = pace.interval() {
                pace.next = pace.next.min(Instant::now() + interval);
            }
        }
    }

    pub(super) fn set_max(&self, max: usize) {
        let mut count = self.0.count.lock();
        if max >= count.max {
            let kept = count.surplus.min(max - count.max);
            count.surplus -= kept;
            self.0.semaphore.add_permits(max - count.max - kept);
        } else {
            let gone = self.0.semaphore.forget_permits(count.max - max);
            count.surplus += count.max - max - gone;
        }
        count.max = max;
    }

    /// Waits for a slot, and for the time of the next attempt.
    pub(super) async fn take(&self) -> Slot {
        let permit = self.0.semaphore.clone().acquire_owned().await;
        let permit = permit.expect("the semaphore is never closed");
        let slot = Slot { permit: Some(permit), shared: self.0.clone() };
        loop {
            let taken = self.0.pace.lock().take(Instant::now());
            match taken {
                Ok(()) => return slot,
                Err(at) => sleep_until(at).await,
            }
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut count = self.shared.count.lock();
        if count.surplus > 0 {
            count.surplus -= 1;
            if let Some(permit) = self.permit.take() {
                permit.forget();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn take(slots: &Slots) -> Option<Slot> {
        slots.take().now_or_never()
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_begin_as_often_as_the_rate_says() {
        let slots = Slots::new(100);
        slots.set_rate(Some(Quota { max: 50, window_ms: 1_000 }));
        let count = async |seconds: u64| {
            let (until, mut count) = (Instant::now() + Duration::from_secs(seconds), 0);
            while let Ok(slot) = tokio::time::timeout_at(until, slots.take()).await {
                drop(slot);
                count += 1;
            }
            count
        };
        assert!((500..=502).contains(&count(10).await));
        // After a rest no more begin at once than a timer may be late.
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!((50..=52).contains(&count(1).await));
        slots.set_share(1, 4);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!((125..=127).contains(&count(10).await), "a quarter");
        slots.set_rate(Some(Quota { max: 100_000, window_ms: 1_000 }));
        slots.set_share(4, 4);
        let busy = count(1).await;
        assert!((95_000..=101_001).contains(&busy), "{busy} at a rate beyond the timer's");
    }

    #[tokio::test]
    async fn the_number_may_change_while_slots_are_in_use() {
        let slots = Slots::new(3);
        let mut taken: Vec<Slot> = (0..3).map(|_| take(&slots).unwrap()).collect();
        assert!(take(&slots).is_none());
        slots.set_max(1);
        taken.pop();
        taken.pop();
        assert!(take(&slots).is_none(), "one is in use still");
        slots.set_max(2);
        taken.push(take(&slots).unwrap());
        assert!(take(&slots).is_none());
        taken.clear();
        let all: Vec<_> = (0..2).map(|_| take(&slots).unwrap()).collect();
        assert!(take(&slots).is_none());
        drop(all);
        slots.set_max(4);
        let all: Vec<_> = (0..4).map(|_| take(&slots).unwrap()).collect();
        assert!(take(&slots).is_none());
        drop(all);
    }
}
