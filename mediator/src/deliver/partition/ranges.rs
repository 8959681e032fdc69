use std::collections::BTreeMap;

/// A set of offsets, as ranges that do not touch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    /// From pairs of a first offset and the one after the last; what is no range
    /// is passed over.
    pub(crate) fn of(pairs: impl IntoIterator<Item = (u64, u64)>) -> Self {
        let mut ranges = Self::default();
        for (first, end) in pairs.into_iter().filter(|(first, end)| first < end) {
            ranges.insert_range(first, end);
        }
        ranges
    }

    /// Adds an offset.
    pub(crate) fn insert(&mut self, offset: u64) {
        self.insert_range(offset, offset + 1);
    }

    fn insert_range(&mut self, mut first: u64, mut end: u64) {
        let touching: Vec<u64> =
            self.0.range(..=end).rev().take_while(|(_, e)| **e >= first).map(|(f, _)| *f).collect();
        for start in touching {
            first = first.min(start);
            end = end.max(self.0.remove(&start).unwrap_or(end));
        }
        self.0.insert(first, end);
    }

    pub(crate) fn contains(&self, offset: u64) -> bool {
        self.0.range(..=offset).next_back().is_some_and(|(_, end)| offset < *end)
    }

    /// Removes what is below `before`.
    pub(crate) fn remove_below(&mut self, before: u64) {
        while let Some(entry) = self.0.first_entry().filter(|entry| *entry.key() < before) {
            let end = entry.remove();
            if end > before {
                self.0.insert(before, end);
            }
        }
    }

    /// How many offsets there are.
    pub(crate) fn count(&self) -> u64 {
        self.0.iter().map(|(first, end)| end - first).sum()
    }

    /// The ranges: a first offset and the one after the last.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, u64)> {
        self.0.iter().map(|(first, end)| (*first, *end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn ranges_are_the_set_they_stand_for() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..200 {
            let (mut ranges, mut set) = (Ranges::default(), BTreeSet::new());
            for _ in 0..60 {
                if random.u8(..10) == 0 {
                    let before = random.u64(..50);
                    ranges.remove_below(before);
                    set.retain(|offset| *offset >= before);
                } else {
                    let offset = random.u64(..50);
                    ranges.insert(offset);
                    set.insert(offset);
                }
                assert!((0..55).all(|o| ranges.contains(o) == set.contains(&o)), "{ranges:?}");
                assert_eq!(ranges.count(), set.len() as u64);
                let pairs: Vec<_> = ranges.iter().collect();
                assert!(pairs.windows(2).all(|w| w[0].1 < w[1].0), "touching: {ranges:?}");
                assert_eq!(Ranges::of(pairs), ranges);
            }
        }
    }

    #[test]
    fn what_is_no_range_is_passed_over() {
        assert_eq!(Ranges::of([(5, 5), (9, 2), (1, 3), (2, 4)]), Ranges::of([(1, 4)]));
    }
}
