//! Counting what is lost and what repeats, by the identity of events.
//!
//! The events of a source, which is a (producer, boot, partition), come in the
//! order of their sequences, so that one number each tells a repetition: an event
//! at or below it was seen. Each event names the one before it, so that a gap
//! shows at once:
//!
//! ```text
//!  1 ─► 4 ─► 4 ─► 9 (before: 7)     4 repeats; 4 to 7 are a gap
//! ```
//!
//! An append with an unknown outcome may have left a hole, which its repetition
//! fills later. So a gap is kept open, and an event that goes on from its lower
//! end fills it: it is new, not a repetition.
//!
//! Limits: one entry per source, and 16 open gaps each; of more, the oldest stay
//! counted and can no longer be filled. The events after the last one that came
//! cannot be missed here; that a boot ended in order is told by `source_left`.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::event::{Event, Kind, Producer};

const OPEN_GAPS_MAX: usize = 16;

/// What an event is to those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It goes on where the one before it ended.
    New,
    /// It was seen before; whoever counts passes it over.
    Repeated,
    /// It is new, and events between the last one and it are missing.
    Gap {
        /// The last sequence that was seen; `None` if there was none.
        after: Option<i64>,
        /// The sequence that should have come before it.
        before: i64,
    },
    /// It was missing, and is new: the gap is smaller, or gone.
    Filled,
}

impl Seen {
    /// Whether the event counts.
    pub fn is_new(self) -> bool {
        self != Self::Repeated
    }
}

/// Where the events that are audited begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the start of the log: the first event of a source has none before it.
    Beginning,
    /// Anywhere: a source's first event is believed.
    Middle,
}

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Events, each counted once.
    pub events: u64,
    /// Events that came again.
    pub repetitions: u64,
    /// Places where events are missing.
    pub gaps: u64,
    /// Events that loss events tell of.
    pub told_lost: u64,
    /// Sources that were seen.
    pub sources: u64,
}

/// A checker over the events of the log, which are to come in the order of their
/// partitions.
#[derive(Debug)]
pub struct Audit {
    start: Start,
    producers: HashMap<Producer, HashMap<(i64, u32), Sequences>>,
    report: Report,
}

/// The sequences of one source that were seen. It can be kept and gone on from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sequences {
    last: i64,
    gaps: Vec<Gap>,
    /// Gaps too many to be kept open.
    closed_gaps: u64,
    events: u64,
}

/// What is missing: from `after`, exclusive, to `before`, inclusive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Gap {
    after: Option<i64>,
    before: i64,
}

impl Audit {
    /// A checker that has seen nothing.
    pub fn new(start: Start) -> Self {
        Self { start, producers: HashMap::new(), report: Report::default() }
    }

    /// Takes in the next event of a partition.
    pub fn see(&mut self, partition: u32, event: &Event) -> Seen {
        let seen = self.see_source(partition, event);
        match seen {
            Seen::Repeated => self.report.repetitions += 1,
            Seen::New | Seen::Gap { .. } | Seen::Filled => {
                self.report.events += 1;
                if event.kind == Kind::Loss {
                    let lost = event.loss_events.and_then(|events| u64::try_from(events).ok());
                    self.report.told_lost += lost.unwrap_or(0);
                }
            }
        }
        seen
    }

    fn see_source(&mut self, partition: u32, event: &Event) -> Seen {
        if !self.producers.contains_key(&event.producer) {
            self.producers.insert(event.producer.clone(), HashMap::new());
        }
        let sources = self.producers.get_mut(&event.producer);
        let place = (event.boot, partition);
        let source = sources.and_then(|sources| sources.get_mut(&place));
        if let Some(source) = source {
            return source.see(event.sequence, event.sequence_before);
        }
        self.report.sources += 1;
        let before = event.sequence_before.filter(|_| self.start == Start::Beginning);
        let (source, seen) = Sequences::begin(event.sequence, before);
        self.producers.entry(event.producer.clone()).or_default().insert(place, source);
        seen
    }

    /// What was counted so far.
    pub fn report(&self) -> Report {
        let sources = self.producers.values().flat_map(HashMap::values);
        let gaps = sources.map(Sequences::gaps).sum();
        Report { gaps, ..self.report }
    }

    /// How many events of a boot are missing below the highest sequence seen,
    /// over all partitions. Exact from the beginning of the log on.
    pub fn missing(&self, producer: &Producer, boot: i64) -> u64 {
        let sources = self.producers.get(producer).into_iter().flatten();
        let of_boot = sources.filter(|((of, _), _)| *of == boot).map(|(_, source)| source);
        let (highest, events) =
            of_boot.fold((0, 0), |(last, events), s| (s.last.max(last), events + s.events));
        u64::try_from(highest).unwrap_or(0).saturating_sub(events)
    }

    /// The boots of a producer that were seen, ascending.
    pub fn boots(&self, producer: &Producer) -> Vec<i64> {
        let sources = self.producers.get(producer).into_iter().flatten();
        let mut boots: Vec<i64> = sources.map(|((boot, _), _)| *boot).collect();
        boots.sort_unstable();
        boots.dedup();
        boots
    }
}

impl Sequences {
    /// Begins with the first event that is seen of a source, and the one that it says
    /// came before it.
    pub fn begin(sequence: i64, before: Option<i64>) -> (Self, Seen) {
        let mut source = Self { last: sequence, events: 1, ..Self::default() };
        let seen = before.map_or(Seen::New, |before| source.open_gap(None, before));
        (source, seen)
    }

    /// Takes in the next event, and the one that it says came before it.
    pub fn see(&mut self, sequence: i64, before: Option<i64>) -> Seen {
        if sequence <= self.last {
            return self.see_earlier(sequence, before);
        }
        let last = std::mem::replace(&mut self.last, sequence);
        self.events += 1;
        match before {
            Some(before) if before == last => Seen::New,
            // One that claims to be the first, or to follow on something older,
            // contradicts what was seen; the gap is then empty, and counted.
            before => self.open_gap(Some(last), before.unwrap_or(0)),
        }
    }

    /// Places where events are missing.
    pub fn gaps(&self) -> u64 {
        self.closed_gaps + self.gaps.len() as u64
    }

    fn see_earlier(&mut self, sequence: i64, before: Option<i64>) -> Seen {
        let fits = |gap: &Gap| gap.after == before && sequence <= gap.before;
        let Some(at) = self.gaps.iter().position(fits) else { return Seen::Repeated };
        self.events += 1;
        if sequence == self.gaps[at].before {
            self.gaps.remove(at);
        } else {
            self.gaps[at].after = Some(sequence);
        }
        Seen::Filled
    }

    fn open_gap(&mut self, after: Option<i64>, before: i64) -> Seen {
        if self.gaps.len() == OPEN_GAPS_MAX {
            self.gaps.remove(0);
            self.closed_gaps += 1;
        }
        self.gaps.push(Gap { after, before });
        Seen::Gap { after, before }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{EventId, Outcome, Timestamp};

    fn event(sequence: i64, before: i64) -> Event {
        let id = EventId { producer: Producer::new("p").unwrap(), boot: 1, sequence };
        let mut event = Event::new(id, Timestamp::from_micros(0), Kind::Request, Outcome::Success);
        event.sequence_before = (before > 0).then_some(before);
        event
    }

    /// Feeds (sequence, before) pairs; `N`ew, `R`epeated, `G`ap, `F`illed.
    fn check(start: Start, pairs: &[(i64, i64)], expected: &str, gaps: u64, missing: u64) {
        let mut audit = Audit::new(start);
        let letter = |seen| match seen {
            Seen::New => 'N',
            Seen::Repeated => 'R',
            Seen::Gap { .. } => 'G',
            Seen::Filled => 'F',
        };
        let seen: String =
            pairs.iter().map(|(s, before)| letter(audit.see(0, &event(*s, *before)))).collect();
        assert_eq!(seen, expected, "{pairs:?}");
        let report = audit.report();
        assert_eq!(report.repetitions, expected.matches('R').count() as u64);
        assert_eq!(report.events + report.repetitions, pairs.len() as u64);
        assert_eq!(report.gaps, gaps, "{pairs:?}");
        assert_eq!(audit.missing(&Producer::new("p").unwrap(), 1), missing, "{pairs:?}");
    }

    #[test]
    fn repetitions_and_gaps_are_told_apart() {
        use Start::{Beginning, Middle};
        check(Beginning, &[(1, 0), (2, 1), (3, 2)], "NNN", 0, 0);
        check(Beginning, &[(1, 0), (2, 1), (1, 0), (2, 1), (3, 2)], "NNRRN", 0, 0);
        check(Beginning, &[(1, 0), (4, 3), (5, 4), (4, 3)], "NGNR", 1, 2);
        check(Beginning, &[(1, 0), (5, 4), (2, 1), (3, 2), (4, 3), (4, 3)], "NGFFFR", 0, 0);
        check(Beginning, &[(1, 0), (5, 4), (3, 2), (2, 1)], "NGRF", 1, 2);
        check(Beginning, &[(3, 2), (1, 0), (2, 1)], "GFF", 0, 0);
        check(Middle, &[(3, 2), (4, 3)], "NN", 0, 2);
        check(Beginning, &[(1, 0), (2, 0)], "NG", 1, 0);
    }

    #[test]
    fn sources_are_apart_and_missing_is_over_all() {
        let mut audit = Audit::new(Start::Beginning);
        assert_eq!(audit.see(0, &event(1, 0)), Seen::New);
        assert_eq!(audit.see(1, &event(2, 0)), Seen::New);
        assert_eq!(audit.see(0, &event(4, 1)), Seen::New);
        let mut loss = event(5, 4);
        (loss.kind, loss.loss_events) = (Kind::Loss, Some(1));
        assert_eq!(audit.see(0, &loss), Seen::New);
        let report = audit.report();
        assert_eq!((report.sources, report.gaps, report.told_lost), (2, 0, 1));
        let producer = Producer::new("p").unwrap();
        assert_eq!((audit.boots(&producer), audit.missing(&producer, 1)), (vec![1], 1));
    }

    #[test]
    fn open_gaps_are_bounded_and_stay_counted() {
        let mut audit = Audit::new(Start::Beginning);
        for n in 0..100 {
            let _ = audit.see(0, &event(3 * n + 2, 3 * n + 1));
        }
        assert_eq!(audit.report().gaps, 100);
    }
}
