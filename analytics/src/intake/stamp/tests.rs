use ingest::event::{Event, EventId, Outcome, Producer, Timestamp};
use ingest::log::{Headers, LogTime};

use super::*;

const S: i64 = 1_000_000;

fn event(producer: &str, boot: i64, sequence: i64, seconds: i64) -> Event {
    let id = EventId { producer: Producer::new(producer.to_owned()).unwrap(), boot, sequence };
    let time = Timestamp::from_micros(seconds * S);
    let mut event = Event::new(id, time, Kind::Request, Outcome::Success);
    event.sequence_before = (sequence > 1).then_some(sequence - 1);
    event
}

fn records(events: &[Event]) -> Vec<Record> {
    let record = |(offset, event): (usize, &Event)| Record {
        offset: offset as u64,
        time: LogTime(1_000_000),
        key: None,
        value: Some(event.to_json().into()),
        headers: Headers::default(),
    };
    events.iter().enumerate().map(record).collect()
}

fn stamp(stamps: &mut Stamps, records: &[Record]) -> Stamped {
    let next = records.last().map_or(0, |record| record.offset + 1);
    stamps.stamp(&Decoder::new(), 3, records, next).unwrap()
}

fn integers(rows: &RecordBatch, name: &str) -> Vec<i64> {
    rows.column_by_name(name).unwrap().as_primitive::<Int64Type>().values().to_vec()
}

#[test]
fn each_event_is_there_once_with_its_place_and_lag() {
    let mut again = event("a", 1, 2, 90);
    again.client_address = Some("198.51.100.7".into());
    let events = [event("a", 1, 1, 100), again.clone(), event("a", 1, 1, 100), again];
    let mut stamps = Stamps::new(0);
    let stamped = stamp(&mut stamps, &records(&events));
    assert_eq!((stamped.repeated, stamped.gaps), (2, 0));
    assert_eq!(integers(&stamped.rows, "sequence"), [1, 2]);
    assert_eq!(integers(&stamped.rows, "log_offset"), [0, 1]);
    assert_eq!(integers(&stamped.rows, "lag_us"), [0, 10 * S]);
    assert_eq!(stamped.rows.schema(), stamped_schema());
    assert_eq!((stamps.next(), stamps.floor()), (4, Some(100 * S)));
}

#[test]
fn a_record_that_is_no_event_is_told_of_and_the_offset_goes_on() {
    let mut records = records(&[event("a", 1, 1, 100), event("a", 1, 2, 100)]);
    records[0].value = Some("no event".into());
    let mut stamps = Stamps::new(0);
    let stamped = stamp(&mut stamps, &records);
    assert_eq!(stamped.unreadable.len(), 1);
    assert_eq!(stamped.unreadable[0].0, 0);
    assert_eq!((stamped.repeated, integers(&stamped.rows, "sequence")), (0, vec![2]));
    assert_eq!(stamps.next(), 2);
}

#[test]
fn a_replay_ends_by_its_record_and_delays_nothing() {
    let replayed = |sequence, seconds, kind| {
        let mut event = event("a", 1, sequence, seconds);
        event.replay_id = Some("r1".into());
        event.kind = kind;
        event
    };
    let events = [
        event("a", 1, 1, 900),
        replayed(2, 50, Kind::Request),
        replayed(3, 20, Kind::Request),
        replayed(4, 60, Kind::ReplayEnded),
        replayed(5, 61, Kind::Request),
    ];
    let mut stamps = Stamps::new(0);
    let stamped = stamp(&mut stamps, &records(&events));
    assert_eq!(integers(&stamped.rows, "lag_us"), [0, 0, 30 * S, 0, super::super::LATE]);
    assert_eq!(stamps.ended_replays().collect::<Vec<_>>(), ["r1"]);
    assert_eq!(stamps.floor(), Some(900 * S));
}

#[test]
fn the_watermark_waits_for_every_partition() {
    let (mut one, mut two) = (Stamps::new(0), Stamps::new(0));
    stamp(&mut one, &records(&[event("a", 1, 1, 100)]));
    assert_eq!(watermark([&one, &two]), None);
    stamp(&mut two, &records(&[event("a", 1, 1, 70)]));
    assert_eq!(watermark([&one, &two]), Some(70 * S));
}

#[test]
fn boots_are_bounded_and_the_oldest_stays_told() {
    let boots = 2 * BOOTS_MAX as i64;
    let events: Vec<Event> = (1..=boots).map(|boot| event("a", boot, 1, 100)).collect();
    let mut stamps = Stamps::new(0);
    let stamped = stamp(&mut stamps, &records(&events));
    assert_eq!((stamped.rows.num_rows(), stamped.repeated), (events.len(), 0));
    assert_eq!(stamps.sequences["a"].len(), BOOTS_MAX);
    let mut old = records(&[event("a", 1, 1, 100)]);
    old[0].offset = stamps.next();
    assert_eq!(stamp(&mut stamps, &old).repeated, 1);
}

/// Random events, some again, read in one go, in random batches, and with the stamps
/// kept as JSON and read back in between.
#[test]
fn stamps_do_not_depend_on_batches_or_restarts() {
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    let mut sequences = [0_i64; 3];
    let mut events: Vec<Event> = Vec::new();
    for _ in 0..2_000 {
        if !events.is_empty() && random.u8(..) < 20 {
            events.push(events[random.usize(..events.len())].clone());
            continue;
        }
        let of = random.usize(..3);
        sequences[of] += 1;
        let mut event = event(["a", "b", "c"][of], 1, sequences[of], random.i64(0..500));
        match random.u8(0..20) {
            0 => event.kind = Kind::SourceJoined,
            1 => event.kind = Kind::SourceLeft,
            2 => event.kind = Kind::Heartbeat,
            3 => {
                event.kind = Kind::SourceRetired;
                event.source_producer = Some(["a", "b", "c"][random.usize(..3)].into());
            }
            4..8 => event.replay_id = Some(["r1", "r2"][random.usize(..2)].into()),
            _ => {}
        }
        events.push(event);
    }
    let records = records(&events);
    let mut whole = Stamps::new(0);
    let expected = stamp(&mut whole, &records).rows;

    let (mut stamps, mut parts, mut at) = (Stamps::new(0), Vec::new(), 0);
    while at < records.len() {
        let end = (at + random.usize(1..200)).min(records.len());
        // A reader that goes on may begin a little before.
        let from = at.saturating_sub(random.usize(0..5));
        parts.push(stamp(&mut stamps, &records[from..end]).rows);
        let kept = serde_json::to_string(&stamps).unwrap();
        stamps = serde_json::from_str(&kept).unwrap();
        at = end;
    }
    let rows = arrow::compute::concat_batches(&stamped_schema(), &parts).unwrap();
    assert!(rows.num_rows() < events.len(), "seed {seed}: nothing came again");
    assert_eq!(rows, expected, "seed {seed}");
    assert_eq!(stamps, whole, "seed {seed}");
}
