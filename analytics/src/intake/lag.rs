//! How far a row lies behind: one partition's clocks of event time.
//!
//! A source is a producer in a partition. A row's lag is the distance to the highest
//! event time that its source had before it. The floor of a partition is the lowest of
//! the highest event times of its live sources; it never falls:
//!
//! ```text
//! joined        the source counts from max(its watermark, the floor) on
//! left          it counts no longer; nothing holds the floor for it
//! retired       likewise, and what it still sends is late without bound, until it
//!               speaks as a live one again (a heartbeat, or another join)
//! ```
//!
//! So a row whose lag is L or less is never older than the floor minus L, and a window
//! that ends below that is complete. While no source is live, the floor stays where it
//! is: the next to join fixes from where it goes on.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The lag of a row that no lateness covers: of a retired source, of a replay that has
/// ended, or with a clock too far ahead.
pub const LATE: i64 = i64::MAX;

/// How far an event's clock may be ahead of the log's, in microseconds. A row beyond
/// it is not believed: it is late, and moves nothing.
pub const CLOCK_AHEAD_MAX_US: i64 = 300 * 1_000_000;

/// How many sources a partition remembers. Beyond it, those that have left are
/// forgotten, the longest silent first.
const SOURCES_MAX: usize = 10_000;

/// What a row says to the clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word<'a> {
    /// An event like any other.
    Event,
    /// The producer has nothing older to send.
    Heartbeat,
    /// The producer counts, from this time on in microseconds.
    Joined(Option<i64>),
    /// The producer sends nothing more.
    Left,
    /// Another producer counts no longer.
    Retired(Option<&'a str>),
}

/// The live timeline of a partition.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Live {
    sources: BTreeMap<String, Source>,
    floor: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Source {
    highest: i64,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Live,
    Left,
    Retired,
}

impl Live {
    /// Takes in the next row, and answers its lag in microseconds.
    pub(super) fn see(&mut self, producer: &str, time: i64, log_time: i64, word: Word<'_>) -> i64 {
        if time > log_time.saturating_add(CLOCK_AHEAD_MAX_US) {
            return LATE;
        }
        let known = self.sources.get(producer).map(|source| (source.highest, source.state));
        let lag = match known {
            Some((_, State::Retired)) if word == Word::Event => return LATE,
            Some((highest, State::Live)) => highest.saturating_sub(time).max(0),
            _ => {
                self.raise();
                self.floor.map_or(0, |floor| floor.saturating_sub(time).max(0))
            }
        };
        match word {
            Word::Joined(watermark) => {
                self.raise();
                let from = watermark.unwrap_or(time).max(time).max(self.floor.unwrap_or(time));
                self.put(producer, from, State::Live);
            }
            Word::Left => {
                // Its last word counts; then nothing is held for it.
                self.raise();
                self.put(producer, time, State::Live);
                self.raise();
                self.put(producer, time, State::Left);
            }
            Word::Event if matches!(known, Some((_, State::Left))) => {}
            Word::Event | Word::Heartbeat | Word::Retired(_) => {
                let from = time.max(self.floor_unless_live(known.map(|(_, state)| state), time));
                self.put(producer, from, State::Live);
                if let Word::Retired(Some(of)) = word {
                    self.raise();
                    self.put(of, i64::MIN, State::Retired);
                }
            }
        }
        lag
    }

    /// Below which time no row comes that is not late; absent before the first source.
    pub(super) fn floor(&self) -> Option<i64> {
        self.floor.max(self.lowest())
    }

    /// Who counts, and the highest event time of each.
    pub(super) fn live_sources(&self) -> impl Iterator<Item = (&str, i64)> {
        let live = self.sources.iter().filter(|(_, source)| source.state == State::Live);
        live.map(|(name, source)| (name.as_str(), source.highest))
    }

    /// What a source that was not live comes in at: not below the floor.
    fn floor_unless_live(&self, state: Option<State>, time: i64) -> i64 {
        if state == Some(State::Live) { time } else { self.floor.unwrap_or(time) }
    }

    /// To be called before a source's state changes: the floor is then what it was
    /// highest at.
    fn raise(&mut self) {
        self.floor = self.floor();
    }

    fn lowest(&self) -> Option<i64> {
        let live = self.sources.values().filter(|source| source.state == State::Live);
        live.map(|source| source.highest).min()
    }

    fn put(&mut self, producer: &str, at_least: i64, state: State) {
        if let Some(source) = self.sources.get_mut(producer) {
            source.highest = source.highest.max(at_least);
            source.state = state;
            return;
        }
        if self.sources.len() >= SOURCES_MAX {
            self.forget_one();
        }
        self.sources.insert(producer.to_owned(), Source { highest: at_least, state });
    }

    fn forget_one(&mut self) {
        let gone = self.sources.iter().filter(|(_, source)| source.state != State::Live);
        let oldest = gone.min_by_key(|(_, source)| source.highest).map(|(name, _)| name.clone());
        if let Some(name) = oldest {
            self.sources.remove(&name);
        }
    }
}

/// The timeline of a replay, in a partition.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Replay {
    highest: BTreeMap<String, i64>,
    ended: bool,
}

impl Replay {
    /// Takes in the next row, and answers its lag in microseconds.
    pub(super) fn see(&mut self, producer: &str, time: i64, ends: bool) -> i64 {
        if self.ended {
            return LATE;
        }
        if ends {
            self.ended = true;
            self.highest.clear();
            return 0;
        }
        let Some(highest) = self.highest.get_mut(producer) else {
            self.highest.insert(producer.to_owned(), time);
            return 0;
        };
        let lag = highest.saturating_sub(time).max(0);
        *highest = (*highest).max(time);
        lag
    }

    pub(super) fn ended(&self) -> bool {
        self.ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: i64 = 1_000_000;

    /// Feeds (producer, seconds, word) and compares each lag, in seconds, and the floor
    /// after it.
    fn check(rows: &[(&str, i64, Word<'_>, i64, Option<i64>)]) {
        let mut live = Live::default();
        for (at, (producer, seconds, word, lag, floor)) in rows.iter().enumerate() {
            let got = live.see(producer, seconds * S, 1000 * S, *word);
            let got = if got == LATE { got } else { got / S };
            assert_eq!(got, *lag, "lag of row {at}");
            assert_eq!(live.floor(), floor.map(|floor| floor * S), "floor after row {at}");
        }
    }

    #[test]
    fn a_lag_is_the_distance_to_the_highest_before() {
        use Word::{Event, Heartbeat};
        check(&[
            ("a", 100, Event, 0, Some(100)),
            ("a", 90, Event, 10, Some(100)),
            ("a", 130, Event, 0, Some(130)),
            ("a", 130, Heartbeat, 0, Some(130)),
            ("b", 110, Event, 20, Some(130)),
            ("b", 140, Event, 0, Some(130)),
            ("a", 150, Event, 0, Some(140)),
        ]);
    }

    #[test]
    fn who_leaves_holds_nothing_and_who_joins_counts_from_the_floor() {
        use Word::{Event, Joined, Left};
        check(&[
            ("a", 100, Joined(Some(100 * S)), 0, Some(100)),
            ("b", 120, Joined(Some(120 * S)), 0, Some(100)),
            ("a", 101, Left, 0, Some(120)),
            ("a", 119, Event, 1, Some(120)),
            ("b", 125, Left, 0, Some(125)),
            // Nobody is live: the floor waits for the next to join.
            ("c", 110, Joined(Some(110 * S)), 15, Some(125)),
            ("c", 120, Event, 5, Some(125)),
            ("a", 300, Joined(Some(300 * S)), 0, Some(125)),
            ("c", 310, Event, 0, Some(300)),
        ]);
    }

    #[test]
    fn a_retired_source_is_late_until_it_speaks_as_a_live_one() {
        use Word::{Event, Heartbeat, Retired};
        check(&[
            ("a", 100, Event, 0, Some(100)),
            ("b", 200, Event, 0, Some(100)),
            ("b", 201, Retired(Some("a")), 0, Some(201)),
            ("a", 202, Event, LATE, Some(201)),
            ("a", 203, Heartbeat, 0, Some(201)),
            ("a", 204, Event, 0, Some(201)),
            ("b", 206, Event, 0, Some(204)),
        ]);
    }

    #[test]
    fn a_clock_too_far_ahead_moves_nothing() {
        use Word::{Event, Joined};
        check(&[
            ("a", 100, Event, 0, Some(100)),
            ("a", 1301, Event, LATE, Some(100)),
            ("b", 1301, Joined(None), LATE, Some(100)),
            ("a", 1300, Event, 0, Some(1300)),
        ]);
    }

    #[test]
    fn a_replay_has_its_own_clock_until_it_ends() {
        let mut replay = Replay::default();
        assert_eq!(replay.see("a", 100, false), 0);
        assert_eq!(replay.see("a", 40, false), 60);
        assert_eq!(replay.see("b", 40, false), 0);
        assert_eq!(replay.see("b", 500, true), 0);
        assert!(replay.ended());
        assert_eq!(replay.see("a", 600, false), LATE);
    }

    /// What the module promises, on random rows: none that is not late lies below
    /// the floor before it minus the lateness, and the floor never falls.
    #[test]
    fn rows_in_time_are_never_below_the_floor() {
        let seed = fastrand::u64(..);
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..200 {
            let (mut live, mut floor) = (Live::default(), None);
            let lateness = random.i64(0..50);
            for _ in 0..200 {
                let producer = ["a", "b", "c"][random.usize(0..3)];
                let time = random.i64(0..400);
                let word = match random.u8(0..12) {
                    0 => Word::Joined(random.bool().then(|| random.i64(0..400))),
                    1 => Word::Left,
                    2 => Word::Retired(Some(["a", "b", "c"][random.usize(0..3)])),
                    3 | 4 => Word::Heartbeat,
                    _ => Word::Event,
                };
                let lag = live.see(producer, time, 0, word);
                let below = floor.is_some_and(|floor: i64| time < floor - lateness);
                assert!(lag > lateness || !below, "seed {seed}: {producer} {time} {word:?}");
                assert!(live.floor() >= floor, "seed {seed}");
                floor = live.floor();
            }
        }
    }
}
