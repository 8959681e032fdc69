use std::collections::HashMap;
use std::sync::{Arc, Weak};

use http::HeaderValue;
use ingest::registry::Name;
use ingest::registry::kind::Tier;
use parking_lot::Mutex;

use super::burst::Burst;
use super::headers::{item, policy};
use super::window::Window;
use super::{Level, Limit};

/// The counters of a node, by what they count.
///
/// Used when a table is compiled, never by a request. It holds no counter itself:
/// as many are kept as the tables in use have, and a few that nobody has any more,
/// until the next look for those.
#[derive(Debug, Default)]
pub struct Counters(Mutex<Held>);

#[derive(Debug, Default)]
struct Held {
    windows: HashMap<Key, Weak<Window>>,
    bursts: HashMap<Key, Weak<Burst>>,
    /// Look for forgotten ones when there are more than so many.
    look_at: usize,
}

/// What a counter counts. The quota's size is not in it: who raises it does not
/// forget what was used.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    level: Level,
    subject: Box<str>,
    policy: Name,
    window_ms: u64,
}

/// Where a limit counts.
#[derive(Debug, Clone)]
pub struct Counter(pub(super) Count);

#[derive(Debug, Clone)]
pub(super) enum Count {
    Window(Arc<Window>),
    Burst(Arc<Burst>),
}

/// The window of a burst.
const BURST_MS: u64 = 1_000;

/// Fewer counters than this are not looked through.
const LOOK_AT_MIN: usize = 1_024;

impl Counters {
    /// The limits that tier `policy` puts on `subject`: none to two. The same
    /// arguments give limits with the same counters.
    pub fn limits(&self, level: Level, subject: &str, policy: &Name, tier: &Tier) -> Vec<Limit> {
        let mut held = self.0.lock();
        held.forget();
        let mut limits = Vec::new();
        let key =
            |window_ms| Key { level, subject: subject.into(), policy: policy.clone(), window_ms };
        if let Some(quota) = tier.requests {
            let count = Count::Window(shared(&mut held.windows, key(quota.window_ms)));
            limits.push(limit(level, policy, quota.max, quota.window_ms, count));
        }
        if let Some(max) = tier.burst_requests_max {
            let count = Count::Burst(shared(&mut held.bursts, key(BURST_MS)));
            limits.push(limit(level, policy, max, BURST_MS, count));
        }
        limits
    }

    /// How many are in use.
    pub fn len(&self) -> usize {
        let held = self.0.lock();
        let windows = held.windows.values().filter(|window| window.strong_count() > 0).count();
        windows + held.bursts.values().filter(|burst| burst.strong_count() > 0).count()
    }

    /// Whether none is in use.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Held {
    fn forget(&mut self) {
        if self.windows.len() + self.bursts.len() < self.look_at.max(LOOK_AT_MIN) {
            return;
        }
        self.windows.retain(|_, window| window.strong_count() > 0);
        self.bursts.retain(|_, burst| burst.strong_count() > 0);
        self.look_at = 2 * (self.windows.len() + self.bursts.len());
    }
}

fn shared<T: Default>(map: &mut HashMap<Key, Weak<T>>, key: Key) -> Arc<T> {
    let place = map.entry(key).or_default();
    place.upgrade().unwrap_or_else(|| {
        let made = Arc::new(T::default());
        *place = Arc::downgrade(&made);
        made
    })
}

fn limit(level: Level, name: &Name, max: u64, window_ms: u64, count: Count) -> Limit {
    let policy_header: HeaderValue = policy(name, &count, max, window_ms);
    let rate_limit_item = item(name, &count).into();
    let counter = Counter(count);
    Limit { level, policy: name.clone(), max, window_ms, counter, policy_header, rate_limit_item }
}

#[cfg(test)]
mod tests {
    use ingest::registry::kind::Quota;

    use super::*;

    fn tier(max: u64, burst: Option<u64>) -> Tier {
        let requests = Some(Quota { max, window_ms: 60_000 });
        Tier { requests, bytes: None, burst_requests_max: burst }
    }

    #[test]
    fn a_table_that_is_compiled_anew_finds_its_counters() {
        let counters = Counters::default();
        let gold: Name = "gold".parse().unwrap();
        let limits =
            |subject: &str, max| counters.limits(Level::Api, subject, &gold, &tier(max, None));
        let old = limits("orders", 2);
        assert!(old[0].take(1_000).allowed);
        let raised = limits("orders", 3);
        assert_eq!(raised[0].take(1_000).remaining, 1, "one was used before");
        assert_eq!(limits("bills", 3)[0].take(1_000).remaining, 2, "another's is another's");
        drop((old, raised));
        assert!(counters.is_empty());
        assert_eq!(limits("orders", 3)[0].take(1_000).remaining, 2, "it was forgotten");
    }

    #[test]
    fn what_no_table_uses_takes_no_room() {
        let counters = Counters::default();
        let gold: Name = "gold".parse().unwrap();
        for i in 0..5 * LOOK_AT_MIN {
            counters.limits(Level::Api, &format!("api-{i}"), &gold, &tier(1, Some(1)));
        }
        let held = counters.0.lock();
        assert!(held.windows.len() + held.bursts.len() <= LOOK_AT_MIN + 2);
    }
}
