use std::collections::VecDeque;

use crate::log::{Partition, Record};

/// Records that the client gave and nobody has read. Whatever the client gives later is
/// behind them in their partitions, so of a partition they are read all, and first.
#[derive(Debug, Default)]
pub(super) struct Ahead(VecDeque<(Partition, Record)>);

impl Ahead {
    /// Keeps a record that the client has just given.
    pub(super) fn keep(&mut self, partition: Partition, record: Record) {
        self.0.push_back((partition, record));
    }

    /// All records of the first partition that may be read now.
    pub(super) fn take(
        &mut self,
        may_be_read: impl Fn(&Partition) -> bool,
    ) -> Option<(Partition, Vec<Record>)> {
        let of = self.0.iter().map(|(of, _)| of).find(|of| may_be_read(of))?.clone();
        let all = std::mem::take(&mut self.0).into_iter();
        let (its, others): (Vec<_>, _) = all.partition(|(other, _)| *other == of);
        self.0 = others.into();
        Some((of, its.into_iter().map(|(_, record)| record).collect()))
    }

    /// Forgets a partition that is read no longer.
    pub(super) fn forget(&mut self, partition: &Partition) {
        self.0.retain(|(of, _)| of != partition);
    }

    pub(super) fn has(&self, partition: &Partition) -> bool {
        self.0.iter().any(|(of, _)| of == partition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{Headers, LogTime};

    fn record(offset: u64) -> Record {
        let (time, headers) = (LogTime(0), Headers::default());
        Record { offset, time, key: None, value: None, headers }
    }

    #[test]
    fn what_was_given_of_a_partition_is_read_first_and_all_at_once() {
        let partition = |index| Partition::new("t", index);
        let mut ahead = Ahead::default();
        // The first was given when it was paused; it is read again when the client gives
        // the next, which a read of another partition comes upon.
        ahead.keep(partition(0), record(5));
        assert_eq!(ahead.take(|of| of.index != 0).map(|(of, _)| of), None);
        ahead.keep(partition(1), record(8));
        let (of, records) = ahead.take(|of| of.index != 0).unwrap();
        assert_eq!((of.index, records[0].offset), (1, 8));
        ahead.keep(partition(0), record(6));
        ahead.keep(partition(2), record(1));
        let (of, records) = ahead.take(|_| true).unwrap();
        let offsets: Vec<u64> = records.iter().map(|record| record.offset).collect();
        assert_eq!((of.index, offsets), (0, vec![5, 6]));
        assert!(ahead.has(&partition(2)) && !ahead.has(&partition(0)));
        ahead.forget(&partition(2));
        assert!(ahead.take(|_| true).is_none());
    }

    /// A client that gives the records of three partitions, each in its order, and a reader
    /// that pauses and resumes them.
    #[test]
    fn whatever_is_paused_each_partition_is_read_in_its_order() {
        let seed = fastrand::u64(..);
        let mut random = fastrand::Rng::with_seed(seed);
        let mut ahead = Ahead::default();
        let (mut given, mut read, mut paused) = ([0; 3], [0; 3], [false; 3]);
        for _ in 0..20_000 {
            paused[random.usize(..3)] = random.bool();
            let of = random.usize(..3);
            // The client gives nothing of what is paused.
            let may_give = |of: usize| !paused[of];
            let taken = ahead.take(|of| !paused[of.index as usize]);
            let mut batch = taken.map(|(of, records)| (of.index as usize, records));
            for of in std::iter::once(of).chain(random.bool().then(|| random.usize(..3))) {
                if !may_give(of) {
                    continue;
                }
                let next = record(given[of]);
                given[of] += 1;
                match &mut batch {
                    None => batch = Some((of, vec![next])),
                    Some((of_batch, records)) if *of_batch == of => records.push(next),
                    Some(_) => {
                        ahead.keep(Partition::new("t", of as u32), next);
                        break;
                    }
                }
            }
            let Some((of, records)) = batch else { continue };
            for record in records {
                assert_eq!(record.offset, read[of], "partition {of}, seed {seed}");
                read[of] += 1;
            }
        }
        assert!(read.iter().all(|count| *count > 1_000), "{read:?}");
    }
}
