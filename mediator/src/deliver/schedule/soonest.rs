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
