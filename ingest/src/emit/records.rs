//! From frames of the spool to records of the log.

use std::sync::{Arc, LazyLock};

use super::TOPIC;
use super::notice::{EVENT_TOO_LARGE, EVENT_UNREADABLE, become_loss};
use super::spool::{Head, Spooled};
use crate::event::{Event, EventId, Kind, Outcome, Producer, Timestamp, cloudevents};
use crate::log::{Headers, NewRecord, Partition};

/// The record of an event, for the partition that it was numbered in.
pub(super) fn record_of(event: &Event, partition: u32) -> (Partition, NewRecord) {
    log_record(cloudevents::record(event), partition)
}

fn log_record(record: cloudevents::Record, partition: u32) -> (Partition, NewRecord) {
    let cloudevents::Record { key, headers, value } = record;
    let headers = Headers::new(headers);
    (topic_partition(partition), NewRecord { key: Some(key), value: Some(value), headers })
}

fn topic_partition(index: u32) -> Partition {
    static NAME: LazyLock<Arc<str>> = LazyLock::new(|| TOPIC.into());
    Partition::new(NAME.clone(), index)
}

/// What stands in for an event that the log refuses for ever: a loss event of the
/// same identity, so that the chain of sequences goes on and nothing repeats.
pub(super) fn stand_in(
    spooled: &Spooled,
    producer: &Producer,
    now: Timestamp,
) -> (Partition, NewRecord) {
    let Head { partition, boot, sequence } = spooled.head;
    let id = EventId { producer: producer.clone(), boot, sequence };
    let read = Event::from_json(&spooled.json).ok();
    let (time, code) = match &read {
        Some(event) => (event.event_time, EVENT_TOO_LARGE),
        None => (now, EVENT_UNREADABLE),
    };
    let mut loss = Event::new(id, time, Kind::Loss, Outcome::InternalError);
    loss.sequence_before = read.and_then(|event| event.sequence_before);
    loss.source_partition = Some(i64::from(partition));
    become_loss(&mut loss, 1, code);
    record_of(&loss, partition)
}

/// The records of events, in their order, and how many had to be replaced.
pub(super) fn records_of(
    events: &[Spooled],
    producer: &Producer,
    now: Timestamp,
) -> (Vec<(Partition, NewRecord)>, u64) {
    let mut replaced = 0;
    let record = |spooled: &Spooled| match cloudevents::record_of_json(spooled.json.clone()) {
        Ok(record) => log_record(record, spooled.head.partition),
        Err(error) => {
            let sequence = spooled.head.sequence;
            tracing::error!(sequence, %error, "an event of the spool cannot be read");
            replaced += 1;
            stand_in(spooled, producer, now)
        }
    };
    let records = events.iter().map(record).collect();
    (records, replaced)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn what_stands_in_keeps_identity_and_chain() {
        let producer = Producer::new("edge-1").unwrap();
        let id = EventId { producer: producer.clone(), boot: 2, sequence: 9 };
        let time = Timestamp::from_micros(5);
        let mut event = Event::new(id.clone(), time, Kind::Request, Outcome::Success);
        event.sequence_before = Some(4);
        let head = Head { partition: 3, boot: 2, sequence: 9 };
        let spooled = Spooled { head, json: event.to_json().into() };
        let (partition, record) = stand_in(&spooled, &producer, Timestamp::from_micros(7));
        assert_eq!(partition, Partition::new(TOPIC, 3));
        let loss = cloudevents::read(record.headers.iter(), &record.value.unwrap()).unwrap();
        assert_eq!((loss.id(), loss.sequence_before, loss.event_time), (id, Some(4), time));
        assert_eq!((loss.kind, loss.loss_events), (Kind::Loss, Some(1)));
        assert_eq!(loss.fault_code.as_deref(), Some(EVENT_TOO_LARGE));
    }

    #[test]
    fn an_event_that_cannot_be_read_is_replaced() {
        let producer = Producer::new("edge-1").unwrap();
        let head = Head { partition: 0, boot: 2, sequence: 9 };
        let events = [Spooled { head, json: Bytes::from_static(b"{") }];
        let (records, replaced) = records_of(&events, &producer, Timestamp::from_micros(7));
        assert_eq!((records.len(), replaced), (1, 1));
        assert_eq!(records[0].1.headers.get("ce_id"), Some(&b"edge-1/2/9"[..]));
    }
}
