//! Whose attempt begins next: by the limits of its queue, and of the upstream that it goes to;
//! and by whether that takes connections at all.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ingest::registry::Name;
use ingest::registry::kind::Queue;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::breaker::Breaker;
use super::limit::{Limit, Permit};

/// After how long who waits for a rate looks whether it is another.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The turns of a queue on this node, which all its partitions share.
#[derive(Debug, Clone)]
pub(super) struct Turns(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    queue: Name,
    own: Limit,
    breaker: Breaker,
    /// What its upstream takes of all queues together, if that is limited.
    target: watch::Sender<Option<Limit>>,
}

/// The right to one attempt, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    _own: Permit,
    _target: Option<Permit>,
}

impl Turns {
    pub(super) fn new(queue: Name) -> Self {
        let own = Limit::new(BTreeMap::new());
        let breaker = Breaker::new(queue.clone());
        let (target, _) = watch::channel(None);
        Self(Arc::new(Shared { queue, own, breaker, target }))
    }

    /// The limits as they are from now on.
    pub(super) fn set(&self, spec: &Queue, target: Option<Limit>) {
        let Shared { queue, own, target: known, .. } = &*self.0;
        own.set_queues(BTreeMap::from([(queue.clone(), spec.partitions)]));
        own.set_max(Some(spec.concurrency_max));
        own.set_rate(spec.rate);
        known.send_if_modified(|known| {
            let is_same = match (&*known, &target) {
                (Some(known), Some(target)) => known.is_same(target),
                (known, target) => known.is_none() && target.is_none(),
            };
            *known = target;
            !is_same
        });
    }

    /// How many of the queue's partitions this node owns.
    pub(super) fn set_owned(&self, owned: usize) {
        let Shared { queue, own, target, .. } = &*self.0;
        own.set_owned(queue, owned);
        if let Some(target) = &*target.borrow() {
            target.set_owned(queue, owned);
        }
    }

    /// Waits until an attempt may begin. Who asks for the same stands in one line, so it
    /// costs one's place not to wait to the end.
    pub(super) async fn take(&self) -> Turn {
        let Shared { own, breaker, target, .. } = &*self.0;
        let own_permit = own.permit().await;
        let mut targets = target.subscribe();
        loop {
            // Nobody waits for the own rate, or for a target that is away, in the place of
            // another queue.
            let now = Instant::now();
            let waits = [own.pace().not_before(now), breaker.not_before(now)];
            if let Some(wait) = waits.into_iter().flatten().max() {
                sleep_until(wait.min(Instant::now() + LOOK_EVERY)).await;
                continue;
            }
            let of = targets.borrow_and_update().clone();
            let Some(of) = of else {
                let (now, mut pace) = (Instant::now(), own.pace());
                if pace.not_before(now).is_none() && breaker.begin(now) {
                    pace.begin(now);
                    return Turn { _own: own_permit, _target: None };
                }
                continue;
            };
            tokio::select! {
                permit = of.permit() => if self.begin_both(&of).await {
                    return Turn { _own: own_permit, _target: Some(permit) };
                },
                // It is sent by what this borrows from.
                _ = targets.changed() => {}
            }
        }
    }

    /// An attempt found the queue's target.
    pub(super) fn found(&self) {
        self.0.breaker.found();
    }

    /// An attempt found nobody, and why.
    pub(super) fn missed(&self, why: &str) {
        self.0.breaker.missed(why);
    }

    /// Begins an attempt once the target's rate lets it; answers false if the queue's does
    /// not any more, or there is another target, or none.
    async fn begin_both(&self, of: &Limit) -> bool {
        let Shared { own, breaker, target, .. } = &*self.0;
        let _line = of.line().await;
        loop {
            let wait = {
                let is_target = target.borrow().as_ref().is_some_and(|target| target.is_same(of));
                let (mut own, mut of) = (own.pace(), of.pace());
                let now = Instant::now();
                if !is_target || own.not_before(now).is_some() {
                    return false;
                }
                let Some(wait) = of.not_before(now) else {
                    if !breaker.begin(now) {
                        return false;
                    }
                    own.begin(now);
                    of.begin(now);
                    return true;
                };
                wait
            };
            sleep_until(wait.min(Instant::now() + LOOK_EVERY)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use ingest::registry::kind::Quota;
    use parking_lot::Mutex;
    use serde_json::json;
    use tokio::time::timeout_at;

    use super::*;

    fn queue(concurrency_max: u64, rate: Option<Quota>) -> Queue {
        let deliver = json!({"upstream": "shop", "path": "/"});
        let spec = json!({"deliver": deliver, "concurrency_max": concurrency_max, "rate": rate});
        serde_json::from_value(spec).unwrap()
    }

    fn turns(name: &str, spec: &Queue, target: Option<&Limit>) -> Turns {
        let turns = Turns::new(name.parse().unwrap());
        turns.set(spec, target.cloned());
        turns.set_owned(4);
        turns
    }

    fn per_second(max: u64) -> Option<Quota> {
        Some(Quota { max, window_ms: 1_000 })
    }

    /// How many attempts begin in so many seconds, each over at once.
    async fn begun(turns: &Turns, seconds: u64) -> usize {
        let (until, mut count) = (Instant::now() + Duration::from_secs(seconds), 0);
        while timeout_at(until, turns.take()).await.is_ok() {
            count += 1;
        }
        count
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_begin_as_often_as_the_rate_says() {
        let turns = turns("orders", &queue(100, per_second(50)), None);
        assert!((500..=502).contains(&begun(&turns, 10).await));
        // After a rest no more begin at once than a timer may be late.
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!((50..=52).contains(&begun(&turns, 1).await));
        turns.set_owned(1);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!((125..=127).contains(&begun(&turns, 10).await), "a quarter");
        turns.set(&queue(100, per_second(100_000)), None);
        turns.set_owned(4);
        let busy = begun(&turns, 1).await;
        assert!((95_000..=101_001).contains(&busy), "{busy} at a rate beyond the timer's");
    }

    #[tokio::test(start_paused = true)]
    async fn a_target_that_takes_no_connection_is_probed() {
        let limit = Limit::new(BTreeMap::new());
        limit.set_rate(per_second(1_000));
        for target in [None, Some(&limit)] {
            let turns = turns("orders", &queue(100, None), target);
            for _ in 0..20 {
                drop(turns.take().await);
                turns.missed("refused");
            }
            assert!((99..=101).contains(&begun(&turns, 10).await));
            turns.found();
            let before = Instant::now();
            for _ in 0..1_000 {
                drop(turns.take().await);
            }
            assert!(before.elapsed() < Duration::from_secs(2), "{:?}", before.elapsed());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn two_queues_share_the_rate_of_their_target() {
        let partitions = |name: &str, of| (name.parse().unwrap(), of);
        let target = Limit::new([partitions("orders", 4), partitions("bills", 4)].into());
        target.set_rate(per_second(50));
        let orders = turns("orders", &queue(100, None), Some(&target));
        let bills = turns("bills", &queue(100, per_second(10)), Some(&target));
        let (many, few) = tokio::join!(begun(&orders, 10), begun(&bills, 10));
        // Less than its own rate by what it stood in the line.
        assert!((80..=101).contains(&few), "its own rate: {few}");
        assert!((500..=502).contains(&(many + few)), "{many} and {few}");
        // Another node has all partitions of one of them, and so half of the rate.
        bills.set_owned(0);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!((250..=252).contains(&begun(&orders, 10).await));
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_its_own_rate_takes_nobodys_place() {
        let target = Limit::new(BTreeMap::new());
        target.set_max(Some(1));
        let slow = turns("slow", &queue(16, Some(Quota { max: 1, window_ms: 60_000 })), None);
        slow.set(&queue(16, Some(Quota { max: 1, window_ms: 60_000 })), Some(target.clone()));
        let other = turns("other", &queue(16, None), Some(&target));
        drop(slow.take().await);
        let waiting = tokio::spawn({
            let slow = slow.clone();
            async move { slow.take().await }
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(other.take().now_or_never().is_some());
        assert!(!waiting.is_finished());
        drop(waiting.await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn one_target_is_one_line() {
        let target = Limit::new(BTreeMap::new());
        target.set_max(Some(1));
        let many = turns("many", &queue(16, None), Some(&target));
        let one = turns("one", &queue(16, None), Some(&target));
        let under_way = many.take().await;
        let order = Arc::new(Mutex::new(Vec::new()));
        let wait = |turns: &Turns, name: &'static str| {
            let (turns, order) = (turns.clone(), order.clone());
            tokio::spawn(async move {
                let turn = turns.take().await;
                order.lock().push(name);
                tokio::time::sleep(Duration::from_millis(10)).await;
                drop(turn);
            })
        };
        let mut waiting = Vec::new();
        for name in ["many", "many", "one", "many"] {
            waiting.push(wait(if name == "one" { &one } else { &many }, name));
            tokio::task::yield_now().await;
        }
        assert!(one.take().now_or_never().is_none());
        drop(under_way);
        futures_util::future::join_all(waiting).await;
        assert_eq!(*order.lock(), ["many", "many", "one", "many"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_is_one_line_too() {
        let target = Limit::new(BTreeMap::new());
        target.set_rate(per_second(10));
        let many = turns("many", &queue(16, None), Some(&target));
        let one = turns("one", &queue(16, None), Some(&target));
        drop(many.take().await);
        let order = Arc::new(Mutex::new(Vec::new()));
        let wait = |turns: &Turns, name: &'static str| {
            let (turns, order) = (turns.clone(), order.clone());
            tokio::spawn(async move {
                drop(turns.take().await);
                order.lock().push(name);
            })
        };
        let mut waiting = Vec::new();
        for name in ["many", "many", "one", "many", "many"] {
            waiting.push(wait(if name == "one" { &one } else { &many }, name));
            tokio::task::yield_now().await;
        }
        futures_util::future::join_all(waiting).await;
        assert_eq!(*order.lock(), ["many", "many", "one", "many", "many"]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_a_target_that_is_no_more_waits_for_the_next() {
        let (old, new) = (Limit::new(BTreeMap::new()), Limit::new(BTreeMap::new()));
        old.set_rate(Some(Quota { max: 1, window_ms: 60_000 }));
        let turns = turns("orders", &queue(16, None), Some(&old));
        drop(turns.take().await);
        let waiting = tokio::spawn({
            let turns = turns.clone();
            async move { turns.take().await }
        });
        tokio::task::yield_now().await;
        new.set_max(Some(1));
        turns.set(&queue(16, None), Some(new.clone()));
        let turn = tokio::time::timeout(2 * LOOK_EVERY, waiting).await.unwrap().unwrap();
        assert!(new.permit().now_or_never().is_none());
        drop(turn);
    }
}
