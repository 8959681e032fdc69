//! Which messages of a partition wait for their time, in the order of it.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use ingest::event::Timestamp;

/// Where a message stands: when it is due, and its record's offset.
pub(super) type Place = (Timestamp, u64);

/// What a record of the topic says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    /// The message waits until then.
    Waits(Timestamp),
    /// Somebody has decided of the message: it is due then.
    Decided(Timestamp),
    /// It waits no more.
    Gone,
}

/// How many ids are remembered that went last.
const GONE_MAX: usize = 100_000;

/// The messages that wait, by id and by time; some 200 bytes each.
///
/// An id that comes again takes the place of its former record. A decision about a message
/// that has gone decides nothing. One about a message that is not known counts: compaction may
/// have removed the record that it was made of.
#[derive(Debug, Default)]
pub(super) struct Calendar {
    by_id: HashMap<Arc<str>, Place>,
    by_due: BTreeMap<Place, (Arc<str>, usize)>,
    /// The hashes of the ids that went last.
    gone: HashSet<u64>,
    gone_order: VecDeque<u64>,
    hasher: RandomState,
}

impl Calendar {
    /// Takes in what the record at `offset`, of so many bytes, says.
    pub(super) fn take(&mut self, id: &str, (offset, bytes): (u64, usize), said: Said) -> Taken {
        let hash = self.hasher.hash_one(id);
        let due = match said {
            Said::Waits(due) => due,
            Said::Decided(due) => {
                if !self.by_id.contains_key(id) && self.gone.contains(&hash) {
                    return Taken::Late;
                }
                due
            }
            Said::Gone => {
                self.remove(id);
                self.remember(hash);
                return Taken::Gone;
            }
        };
        self.remove(id);
        self.gone.remove(&hash);
        let id: Arc<str> = id.into();
        self.by_due.insert((due, offset), (id.clone(), bytes));
        self.by_id.insert(id, (due, offset));
        Taken::Waits(due)
    }

    /// The message of `place` waits no more, unless its id came again meanwhile.
    pub(super) fn end(&mut self, place: Place) {
        if let Some((id, _)) = self.by_due.remove(&place) {
            self.by_id.remove(&id);
        }
    }

    /// Whether a message of the id waits.
    pub(super) fn knows(&self, id: &str) -> bool {
        self.by_id.contains_key(id)
    }

    /// When the next is due.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.by_due.first_key_value().map(|((due, _), _)| *due)
    }

    /// The soonest, up to so many and so many bytes; one in any case.
    pub(super) fn soonest(&self, count: usize, bytes: usize) -> impl Iterator<Item = Place> {
        let (mut nth, mut taken) = (0, 0);
        let fits = move |(_, (_, size)): &(&Place, &(Arc<str>, usize))| {
            (nth, taken) = (nth + 1, taken + size);
            nth == 1 || taken <= bytes
        };
        self.by_due.iter().take(count).take_while(fits).map(|(place, _)| *place)
    }

    /// Whether a message still stands there.
    pub(super) fn has(&self, place: Place) -> bool {
        self.by_due.contains_key(&place)
    }

    pub(super) fn len(&self) -> usize {
        self.by_due.len()
    }

    fn remember(&mut self, gone: u64) {
        if !self.gone.insert(gone) {
            return;
        }
        self.gone_order.push_back(gone);
        if self.gone_order.len() > GONE_MAX
            && let Some(first) = self.gone_order.pop_front()
        {
            self.gone.remove(&first);
        }
    }

    fn remove(&mut self, id: &str) {
        if let Some(place) = self.by_id.remove(id) {
            self.by_due.remove(&place);
        }
    }
}

/// What a record came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// The message waits until then.
    Waits(Timestamp),
    /// A message waits no more.
    Gone,
    /// A decision about a message that had gone.
    Late,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    /// Each record of a random topic, against a map that is kept the plain way.
    #[test]
    fn what_waits_is_what_was_said_last() {
        let mut random = fastrand::Rng::with_seed(11);
        for _ in 0..300 {
            let (mut calendar, mut plain) = (Calendar::default(), BTreeMap::new());
            let mut gone = HashSet::new();
            for offset in 0..80 {
                let id = random.u8(..12).to_string();
                let due = at(random.i64(..20));
                match random.u8(..5) {
                    0 => {
                        assert_eq!(calendar.take(&id, (offset, 1), Said::Gone), Taken::Gone);
                        plain.remove(&id);
                        gone.insert(id);
                    }
                    1 => {
                        let taken = calendar.take(&id, (offset, 1), Said::Decided(due));
                        if !plain.contains_key(&id) && gone.contains(&id) {
                            assert_eq!(taken, Taken::Late);
                        } else {
                            assert_eq!(taken, Taken::Waits(due));
                            plain.insert(id, (due, offset));
                        }
                    }
                    2 => {
                        let place = (due, random.u64(..=offset));
                        assert_eq!(calendar.has(place), plain.values().any(|of| *of == place));
                        calendar.end(place);
                        plain.retain(|_, of| *of != place);
                    }
                    _ => {
                        let taken = calendar.take(&id, (offset, 1), Said::Waits(due));
                        assert_eq!(taken, Taken::Waits(due));
                        gone.remove(&id);
                        plain.insert(id, (due, offset));
                    }
                }
                let mut places: Vec<Place> = plain.values().copied().collect();
                places.sort_unstable();
                assert_eq!(calendar.soonest(100, 100).collect::<Vec<_>>(), places);
                let three = calendar.soonest(100, 3).collect::<Vec<_>>();
                assert_eq!(three, places[..places.len().min(3)]);
                assert_eq!(calendar.soonest(2, 0).count(), places.len().min(1));
                assert_eq!(calendar.len(), places.len());
                assert_eq!(calendar.next(), places.first().map(|(due, _)| *due));
            }
        }
    }

    #[test]
    fn a_decision_whose_message_was_compacted_away_counts() {
        let decided = Said::Decided(at(9));
        let mut calendar = Calendar::default();
        assert_eq!(calendar.take("a", (7, 1), decided), Taken::Waits(at(9)));
        calendar.take("b", (5, 1), Said::Gone);
        assert_eq!(calendar.take("b", (8, 1), decided), Taken::Late);
        for number in 0..GONE_MAX {
            calendar.take(&number.to_string(), (9, 1), Said::Gone);
        }
        assert_eq!(calendar.take("b", (10, 1), decided), Taken::Waits(at(9)), "that was long ago");
        assert_eq!(calendar.soonest(9, 9).collect::<Vec<_>>(), [(at(9), 7), (at(9), 10)]);
    }
}
