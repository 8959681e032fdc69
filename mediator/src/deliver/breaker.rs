//! The circuit breaker of a queue: while its target takes no connection, an attempt now and then
//! asks whether it is back, instead of one for each message that is due.
//!
//! Only attempts of which nothing was sent count. A target that answers is there, whatever it
//! says, and one that refuses some messages is no reason to keep others from it.

use std::time::Duration;

use ingest::registry::Name;
use parking_lot::Mutex;
use tokio::time::Instant;

/// After so many attempts one after another that found nobody it opens.
const OPENS_AFTER: u32 = 16;
/// How often an attempt begins while it is open.
const PROBE_EVERY: Duration = Duration::from_millis(100);

/// Closed, or open until an attempt finds the target.
#[derive(Debug)]
pub(super) struct Breaker {
    queue: Name,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Attempts that found nobody since the last one that did.
    missed: u32,
    /// When the next may begin while it is open.
    next: Instant,
}

impl State {
    fn is_open(&self) -> bool {
        self.missed >= OPENS_AFTER
    }

    fn not_before(&self, now: Instant) -> Option<Instant> {
        (self.is_open() && now < self.next).then_some(self.next)
    }
}

impl Breaker {
    pub(super) fn new(queue: Name) -> Self {
        let state = Mutex::new(State { missed: 0, next: Instant::now() });
        Self { queue, state }
    }

    /// When the next attempt may begin; none if at once.
    pub(super) fn not_before(&self, now: Instant) -> Option<Instant> {
        self.state.lock().not_before(now)
    }

    /// Begins an attempt, if one may.
    pub(super) fn begin(&self, now: Instant) -> bool {
        let mut state = self.state.lock();
        let may = state.not_before(now).is_none();
        if may && state.is_open() {
            state.next = now + PROBE_EVERY;
        }
        may
    }

    /// An attempt found the target.
    pub(super) fn found(&self) {
        let was_open = {
            let mut state = self.state.lock();
            let was_open = state.is_open();
            state.missed = 0;
            was_open
        };
        if was_open {
            tracing::info!(queue = %self.queue, "the target takes connections again");
        }
    }

    /// An attempt found nobody: nothing was sent.
    pub(super) fn missed(&self, why: &str) {
        let opens = {
            let mut state = self.state.lock();
            state.missed = state.missed.saturating_add(1);
            let opens = state.missed == OPENS_AFTER;
            if opens {
                state.next = Instant::now() + PROBE_EVERY;
            }
            opens
        };
        if opens {
            let every = PROBE_EVERY.as_millis();
            tracing::warn!(
                queue = %self.queue, why,
                "the target takes no connection: it is tried each {every} ms until it does"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_opens_after_misses_and_closes_with_the_first_that_is_found() {
        let breaker = Breaker::new("orders".parse().unwrap());
        let begun = || (0..50).filter(|_| breaker.begin(Instant::now())).count();
        let miss = |times| (0..times).for_each(|_| breaker.missed("refused"));
        miss(OPENS_AFTER - 1);
        breaker.found();
        miss(OPENS_AFTER - 1);
        assert_eq!(begun(), 50, "one between that found it");
        miss(1);
        assert_eq!(begun(), 0);
        for _ in 0..3 {
            tokio::time::sleep(PROBE_EVERY).await;
            assert_eq!(begun(), 1, "one each time, however many ask");
            miss(1);
        }
        breaker.found();
        assert_eq!(begun(), 50);
    }
}
