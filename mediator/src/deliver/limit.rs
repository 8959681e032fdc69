//! How many attempts are under way on this node, and how often one begins: of a queue, or of
//! all queues that deliver to an upstream.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ingest::registry::Name;
use ingest::registry::kind::Quota;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// Attempts that are late may follow each other at once for so long: a timer is no more
/// exact than a millisecond.
const LATE_MAX: Duration = Duration::from_millis(10);
/// How many may be under way where nothing is said of it.
const UNLIMITED: usize = 1 << 20;

/// A limit that many share. It may change while attempts are under way: too many then end
/// by themselves.
#[derive(Debug, Clone)]
pub(super) struct Limit(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    semaphore: Arc<Semaphore>,
    count: Mutex<Count>,
    pace: Mutex<Pace>,
    /// Held by who waits for the pace: whoever comes first begins first.
    line: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Count {
    max: usize,
    /// Permits in use that are not to be given back.
    surplus: usize,
}

/// When the next attempt may begin.
#[derive(Debug)]
pub(super) struct Pace {
    rate: Option<Quota>,
    /// The partitions of each queue that this node owns, of how many: what it has of the rate.
    shares: BTreeMap<Name, (u32, u32)>,
    next: Instant,
}

/// The right to be under way, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Permit {
    permit: Option<OwnedSemaphorePermit>,
    shared: Arc<Shared>,
}

impl Limit {
    /// A limit for those queues: how many partitions each of them has.
    pub(super) fn new(queues: BTreeMap<Name, u32>) -> Self {
        let semaphore = Arc::new(Semaphore::new(UNLIMITED));
        let count = Mutex::new(Count { max: UNLIMITED, surplus: 0 });
        let pace = Pace { rate: None, shares: BTreeMap::new(), next: Instant::now() };
        let (pace, line) = (Mutex::new(pace), tokio::sync::Mutex::default());
        let limit = Self(Arc::new(Shared { semaphore, count, pace, line }));
        limit.set_queues(queues);
        limit
    }

    /// How many attempts are under way on this node; as many as there are if none.
    pub(super) fn set_max(&self, max: Option<u64>) {
        let max = max.and_then(|max| usize::try_from(max).ok()).unwrap_or(UNLIMITED);
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

    /// How often an attempt begins, over all nodes.
    pub(super) fn set_rate(&self, rate: Option<Quota>) {
        let mut pace = self.0.pace.lock();
        if pace.rate != rate {
            (pace.rate, pace.next) = (rate, Instant::now());
        }
    }

    /// Whose attempts it limits, and how many partitions each has.
    pub(super) fn set_queues(&self, queues: BTreeMap<Name, u32>) {
        let mut pace = self.0.pace.lock();
        let shares = queues.into_iter().map(|(queue, partitions)| {
            let owned = pace.shares.get(&queue).map_or(0, |(owned, _)| *owned);
            (queue, (owned, partitions))
        });
        let shares = shares.collect();
        pace.share(shares);
    }

    /// How many partitions of a queue this node owns: it has as much of the rate.
    pub(super) fn set_owned(&self, queue: &Name, owned: usize) {
        let mut pace = self.0.pace.lock();
        let mut shares = pace.shares.clone();
        if let Some((had, all)) = shares.get_mut(queue) {
            *had = u32::try_from(owned).unwrap_or(*all);
            pace.share(shares);
        }
    }

    pub(super) async fn permit(&self) -> Permit {
        let permit = self.0.semaphore.clone().acquire_owned().await;
        let permit = permit.expect("the semaphore is never closed");
        Permit { permit: Some(permit), shared: self.0.clone() }
    }

    /// Waits until nobody who came before waits for the pace.
    pub(super) async fn line(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.0.line.lock().await
    }

    pub(super) fn pace(&self) -> MutexGuard<'_, Pace> {
        self.0.pace.lock()
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Pace {
    /// When the next attempt may begin; none if at once.
    pub(super) fn not_before(&self, now: Instant) -> Option<Instant> {
        (self.rate.is_some() && now < self.next).then_some(self.next)
    }

    /// An attempt begins, since it may.
    pub(super) fn begin(&mut self, now: Instant) {
        let Some(interval) = self.interval() else { return };
        let begun = now.checked_sub(LATE_MAX).map_or(self.next, |late| self.next.max(late));
        self.next = begun + interval;
    }

    /// The time between two attempts of this node.
    fn interval(&self) -> Option<Duration> {
        let rate = self.rate?;
        let sum = |of: fn(&(u32, u32)) -> u32| self.shares.values().map(of).sum::<u32>().max(1);
        let (owned, all) = (sum(|(owned, _)| *owned), sum(|(_, all)| *all));
        let window = Duration::from_millis(rate.window_ms).as_secs_f64();
        let interval = window / rate.max as f64 * f64::from(all) / f64::from(owned);
        Some(Duration::from_secs_f64(interval))
    }

    fn share(&mut self, shares: BTreeMap<Name, (u32, u32)>) {
        if self.shares == shares {
            return;
        }
        self.shares = shares;
        // Who has more of it now does not wait as long as who had less.
        if let Some(interval) = self.interval() {
            self.next = self.next.min(Instant::now() + interval);
        }
    }
}

impl Drop for Permit {
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

    #[tokio::test]
    async fn the_number_may_change_while_attempts_are_under_way() {
        let limit = Limit::new(BTreeMap::new());
        limit.set_max(Some(3));
        let take = || limit.permit().now_or_never();
        let mut taken: Vec<Permit> = (0..3).map(|_| take().unwrap()).collect();
        assert!(take().is_none());
        limit.set_max(Some(1));
        taken.pop();
        taken.pop();
        assert!(take().is_none(), "one is in use still");
        limit.set_max(Some(2));
        taken.push(take().unwrap());
        assert!(take().is_none());
        taken.clear();
        let all: Vec<_> = (0..2).map(|_| take().unwrap()).collect();
        assert!(take().is_none());
        drop(all);
        limit.set_max(Some(4));
        let all: Vec<_> = (0..4).map(|_| take().unwrap()).collect();
        assert!(take().is_none());
        limit.set_max(None);
        assert!(take().is_some());
        drop(all);
    }
}
