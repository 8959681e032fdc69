use super::Limit;
use super::counters::Count;

/// The most limits of a request: four levels, each with a quota and a burst.
pub const LIMITS_MAX: usize = 8;

/// What a limit answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// Whether the request may go on.
    pub allowed: bool,
    /// The quota.
    pub limit: u64,
    /// How much of it is left.
    pub remaining: u64,
    /// When there is more, from now: the next window, or the burst's next one.
    pub reset_ms: u64,
    receipt: Receipt,
}

/// What is needed to give back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Receipt {
    Window(u64),
    Burst((u64, u64)),
}

/// What all limits of a request together answered.
#[derive(Debug, Clone, Copy)]
pub struct Verdict<'a> {
    /// Whether the request may go on: every limit allows it.
    pub allowed: bool,
    /// The limit that refused; if none did, the one of which the smallest part is
    /// left. `None`: there is no limit.
    pub nearest: Option<(&'a Limit, Taken)>,
}

impl Limit {
    /// Takes one request from it.
    pub fn take(&self, now_ms: u64) -> Taken {
        match &self.counter.0 {
            Count::Window(window) => {
                let counted = window.take(self.max, self.window_ms, now_ms);
                Taken {
                    allowed: counted.allowed,
                    limit: self.max,
                    remaining: counted.remaining,
                    reset_ms: counted.reset_ms,
                    receipt: Receipt::Window(counted.index),
                }
            }
            Count::Burst(burst) => {
                let poured = burst.take(self.max, now_ms);
                Taken {
                    allowed: poured.allowed,
                    limit: self.max,
                    remaining: poured.remaining,
                    reset_ms: poured.reset_ms,
                    receipt: Receipt::Burst(poured.change),
                }
            }
        }
    }

    /// Gives back what was taken, as the request did not go on.
    pub fn give_back(&self, taken: Taken) {
        match (&self.counter.0, taken.receipt) {
            _ if !taken.allowed => {}
            (Count::Window(window), Receipt::Window(index)) => window.give_back(index),
            (Count::Burst(burst), Receipt::Burst(change)) => burst.give_back(change),
            _ => {}
        }
    }
}

/// Takes one request from every limit, or from none.
///
/// # Panics
/// If there are more than [`LIMITS_MAX`].
pub fn take_all<'a>(limits: impl IntoIterator<Item = &'a Limit>, now_ms: u64) -> Verdict<'a> {
    let mut takings: [Option<(&Limit, Taken)>; LIMITS_MAX] = [None; LIMITS_MAX];
    let mut nearest: Option<(&Limit, Taken)> = None;
    for (i, limit) in limits.into_iter().enumerate() {
        let taken = limit.take(now_ms);
        if !taken.allowed {
            for (earlier, taken) in takings.into_iter().flatten() {
                earlier.give_back(taken);
            }
            return Verdict { allowed: false, nearest: Some((limit, taken)) };
        }
        takings[i] = Some((limit, taken));
        // remaining / limit, compared without a division.
        let is_nearer = nearest
            .is_none_or(|(_, least)| taken.remaining * least.limit < least.remaining * taken.limit);
        if is_nearer {
            nearest = Some((limit, taken));
        }
    }
    Verdict { allowed: true, nearest }
}

#[cfg(test)]
mod tests {
    use ingest::registry::Name;
    use ingest::registry::kind::{Quota, Tier};

    use super::*;
    use crate::throttle::{Counters, Level};

    fn quota(counters: &Counters, level: Level, name: &str, max: u64) -> Vec<Limit> {
        let requests = Some(Quota { max, window_ms: 60_000 });
        let tier = Tier { requests, bytes: None, burst_requests_max: Some(2 * max) };
        counters.limits(level, "s", &name.parse::<Name>().unwrap(), &tier)
    }

    #[test]
    fn a_refusal_uses_up_nothing_of_the_others() {
        let counters = Counters::default();
        let wide = quota(&counters, Level::Application, "wide", 10);
        let narrow = quota(&counters, Level::Api, "narrow", 1);
        let both = || wide.iter().chain(&narrow);
        assert!(take_all(both(), 1_000).allowed);
        for _ in 0..20 {
            let verdict = take_all(both(), 1_000);
            let (limit, _) = verdict.nearest.unwrap();
            assert_eq!((verdict.allowed, limit.policy.as_str()), (false, "narrow"));
        }
        assert_eq!(wide[0].take(1_000).remaining, 8, "the quota");
        assert_eq!(wide[1].take(1_000).remaining, 18, "the burst");
    }

    #[test]
    fn the_nearest_limit_is_the_one_with_the_smallest_part_left() {
        let counters = Counters::default();
        let (wide, narrow) = (
            quota(&counters, Level::Application, "wide", 1_000),
            quota(&counters, Level::Subscription, "narrow", 5),
        );
        let (limit, taken) = take_all(wide.iter().chain(&narrow), 0).nearest.unwrap();
        assert_eq!((limit.policy.as_str(), taken.limit, taken.remaining), ("narrow", 5, 4));
        assert_eq!((limit.level.text(), taken.reset_ms), ("subscription", 60_000));
        assert!(take_all([], 0).nearest.is_none());
    }
}
