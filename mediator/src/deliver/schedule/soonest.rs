//! The records of the messages that are due soonest.

use std::collections::{BTreeMap, HashSet};

use ingest::log::{Error, EventLog, Partition, Scan};

use super::calendar::{Calendar, Place};
use crate::deliver::stored::Message;

/// How much is kept, and how much is read at a time.
const KEPT_BYTES_MAX: usize = 8 * 1024 * 1024;
const READ_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The records of some messages of a partition; those that are not here are read when they
/// are needed.
#[derive(Debug, Default)]
pub(super) struct Soonest {
    records: BTreeMap<Place, Message>,
    bytes: usize,
}

impl Soonest {
    /// Keeps a record, in the place of those that are due later.
    pub(super) fn keep(&mut self, place: Place, message: Message) {
        self.bytes += message.bytes();
        if let Some(before) = self.records.insert(place, message) {
            self.bytes -= before.bytes();
        }
        while self.bytes > KEPT_BYTES_MAX
            && let Some((_, latest)) = self.records.pop_last()
        {
            self.bytes -= latest.bytes();
        }
    }

    /// Gives a record away.
    pub(super) fn take(&mut self, place: Place) -> Option<Message> {
        let message = self.records.remove(&place)?;
        self.bytes -= message.bytes();
        Some(message)
    }

    /// Reads the soonest that are not here.
    ///
    /// # Errors
    /// As [`Scan::next`].
    pub(super) async fn fill(
        &mut self,
        calendar: &Calendar,
        log: &dyn EventLog,
        partition: &Partition,
    ) -> Result<(), Error> {
        // What came again, or was decided of, is of no use any more.
        self.records.retain(|place, _| calendar.has(*place));
        self.bytes = self.records.values().map(Message::bytes).sum();
        let places = calendar.soonest(usize::MAX, READ_BYTES_MAX);
        let wanted: Vec<Place> = places.filter(|place| !self.records.contains_key(place)).collect();
        let offsets: HashSet<u64> = wanted.iter().map(|(_, offset)| *offset).collect();
        let (Some(first), Some(last)) = (offsets.iter().min(), offsets.iter().max()) else {
            return Ok(());
        };
        let spans = [(partition.clone(), (*first, last + 1))].into();
        let mut scan = Scan::within(log, spans).await?;
        let mut found = BTreeMap::new();
        while found.len() < wanted.len()
            && let Some(batch) = scan.next().await?
        {
            let of = batch.records.iter().filter(|record| offsets.contains(&record.offset));
            found.extend(of.map(|record| (record.offset, Message::of(record))));
        }
        for place in wanted {
            if let Some(message) = found.remove(&place.1) {
                self.keep(place, message);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ingest::event::Timestamp;
    use ingest::log::TopicSpec;
    use ingest::log::embedded::EmbeddedLog;

    use super::*;
    use crate::deliver::message::{DUE_TIME, ID};
    use crate::deliver::schedule::read;

    /// More than is kept, due in another order than they were accepted in.
    #[tokio::test]
    async fn what_is_not_kept_is_read_when_it_is_due() {
        const COUNT: usize = 40;
        let log: Arc<dyn EventLog> = Arc::new(EmbeddedLog::in_memory());
        let partition = Partition::new("scheduled", 0);
        log.create_topic(&TopicSpec::compacted("scheduled", 1)).await.unwrap();
        let mut order: Vec<usize> = (0..COUNT).collect();
        fastrand::Rng::with_seed(5).shuffle(&mut order);
        for due in &order {
            let time = Timestamp::from_micros(*due as i64).to_string();
            let id = format!("m{due:02}");
            let headers = ingest::log::Headers::new([(DUE_TIME, &time), (ID, &id)]);
            let value = Some(vec![b'x'; 500_000].into());
            let record =
                ingest::log::NewRecord { key: Some(id.into_bytes().into()), value, headers };
            log.append(vec![(partition.clone(), record)]).await.unwrap();
        }
        let (mut calendar, mut soonest) = (Calendar::default(), Soonest::default());
        let mut scan = Scan::open(&*log, [partition.clone()]).await.unwrap();
        while let Some(batch) = scan.next().await.unwrap() {
            for record in &batch.records {
                let (id, said) = read(record).unwrap();
                let message = Message::of(record);
                calendar.take(id, (record.offset, message.bytes()), said);
                let due = calendar.soonest(COUNT, usize::MAX).find(|of| of.1 == record.offset);
                soonest.keep(due.unwrap(), message);
                assert!(soonest.bytes <= KEPT_BYTES_MAX);
            }
        }
        assert!(soonest.records.len() < COUNT / 2, "{} are kept", soonest.records.len());
        for number in 0..COUNT {
            let place = calendar.soonest(1, 0).next().unwrap();
            let message = match soonest.take(place) {
                Some(message) => message,
                None => {
                    soonest.fill(&calendar, &*log, &partition).await.unwrap();
                    soonest.take(place).unwrap()
                }
            };
            assert_eq!(message.key().unwrap(), format!("m{number:02}").as_bytes());
            calendar.end(place);
        }
    }
}
