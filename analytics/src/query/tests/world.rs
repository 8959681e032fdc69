//! A log of random events, stamped in random batches, and what a query gives over it.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::util::pretty::pretty_format_batches;
use datafusion::datasource::MemTable;
use fastrand::Rng;
use ingest::event::{Event, EventId, Kind, Outcome, Producer, Timestamp};
use ingest::log::{Headers, LogTime, Record};

use crate::intake::{Decoder, Stamps, stamped_schema, watermark};
use crate::query::{Continuous, Plan, QueryFile, Span, backtest};

pub(super) const S: i64 = 1_000_000;
/// When the worlds begin; a whole hour.
pub(super) const BEGIN: i64 = 1_769_904_000 * S;
const REPLAYS: [&str; 2] = ["may", "june"];

pub(super) fn file(text: &str) -> QueryFile {
    let text = if text.starts_with("--") {
        text.to_owned()
    } else {
        format!("-- title: a test\n-- owner: tests\n{text}")
    };
    QueryFile::parse("test", &text).unwrap()
}

pub(super) async fn plan(text: &str) -> Plan {
    Plan::new(file(text)).await.unwrap_or_else(|fault| panic!("{fault}\n{text}"))
}

/// Records of each partition, as they stand in the log.
pub(super) fn records(rng: &mut Rng, partitions: usize, count: usize) -> Vec<Vec<Record>> {
    let mut partitions = vec![Vec::new(); partitions];
    let producers = ["a", "b", "c"];
    let mut sequences = BTreeMap::new();
    let mut now = BEGIN;
    let write = |partitions: &mut Vec<Vec<Record>>,
                 sequences: &mut BTreeMap<(usize, &'static str), i64>,
                 at: usize,
                 producer: &'static str,
                 time: i64,
                 kind: Kind,
                 fill: &mut dyn FnMut(&mut Event)| {
        let sequence = sequences.entry((at, producer)).or_insert(0);
        *sequence += 1;
        let producer = Producer::new(producer).unwrap();
        let id = EventId { producer, boot: 1, sequence: *sequence };
        let mut event = Event::new(id, Timestamp::from_micros(time), kind, Outcome::Success);
        event.sequence_before = (*sequence > 1).then_some(*sequence - 1);
        fill(&mut event);
        let record = Record {
            offset: partitions[at].len() as u64,
            time: LogTime(BEGIN / 1000 + 10_000_000),
            key: None,
            value: Some(event.to_json().into()),
            headers: Headers::default(),
        };
        partitions[at].push(record);
    };
    for at in 0..partitions.len() {
        for producer in &producers[..2] {
            let joins = &mut |event: &mut Event| {
                event.source_watermark_time = Some(Timestamp::from_micros(BEGIN));
            };
            write(&mut partitions, &mut sequences, at, producer, BEGIN, Kind::SourceJoined, joins);
        }
    }
    for index in 0..count {
        now += rng.i64(0..4 * S);
        let at = rng.usize(0..partitions.len());
        let producer = producers[rng.usize(0..2)];
        if rng.u8(0..12) == 0 {
            for producer in &producers[..2] {
                for at in 0..partitions.len() {
                    write(
                        &mut partitions,
                        &mut sequences,
                        at,
                        producer,
                        now,
                        Kind::Heartbeat,
                        &mut |_| {},
                    );
                }
            }
        }
        let time = now - if rng.bool() { 0 } else { rng.i64(0..90 * S) };
        let replay = (rng.u8(0..4) == 0).then(|| REPLAYS[rng.usize(0..2)]);
        // A replay is of another time, in any order within a minute.
        let time = if replay.is_some() { BEGIN - 86_400 * S + index as i64 * S } else { time };
        let (status, client, bytes) =
            ([200, 200, 200, 404, 500][rng.usize(0..5)], rng.u8(0..6), rng.i64(0..10_000));
        write(&mut partitions, &mut sequences, at, producer, time, Kind::Request, &mut |event| {
            event.replay_id = replay.map(|id| id.to_owned().into());
            event.api_name = Some(["orders", "prices"][usize::from(client % 2)].into());
            event.client_address = (client > 0).then(|| format!("198.51.100.{client}").into());
            event.http_response_status_code = Some(status);
            event.http_response_body_size = (bytes % 7 != 0).then_some(bytes);
            event.latency_total_us = Some(bytes * 3);
        });
    }
    for replay in REPLAYS {
        for at in 0..partitions.len() {
            write(
                &mut partitions,
                &mut sequences,
                at,
                "c",
                BEGIN,
                Kind::ReplayEnded,
                &mut |event| {
                    event.replay_id = Some(replay.into());
                },
            );
        }
    }
    partitions
}

/// What a query gave, per timeline, in the order in which it gave it.
pub(super) type Answers = BTreeMap<Option<String>, Vec<RecordBatch>>;

/// A query that follows the records to their end.
pub(super) struct Run {
    pub(super) answers: Answers,
    pub(super) rows: Vec<RecordBatch>,
    pub(super) floor: Option<i64>,
    pub(super) query: Continuous,
}

/// Runs a query over records, in batches and with restarts at random.
pub(super) async fn run(text: &str, partitions: &[Vec<Record>], rng: &mut Rng) -> Run {
    let mut query = Continuous::new(plan(text).await);
    let decoder = Decoder::new();
    let mut stamps: Vec<Stamps> = partitions.iter().map(|_| Stamps::new(0)).collect();
    let (mut answers, mut rows) = (Answers::new(), Vec::new());
    let mut ended: Vec<String> = Vec::new();
    loop {
        let left: Vec<usize> = (0..partitions.len())
            .filter(|at| (stamps[*at].next() as usize) < partitions[*at].len())
            .collect();
        if left.is_empty() {
            break;
        }
        let at = left[rng.usize(0..left.len())];
        let from = stamps[at].next() as usize;
        let to = (from + 1 + rng.usize(0..40)).min(partitions[at].len());
        let records = &partitions[at][from..to];
        let stamped = stamps[at].stamp(&decoder, at as u32, records, to as u64).unwrap();
        query.feed(&stamped.rows).await.unwrap();
        rows.push(stamped.rows);
        if let Some(floor) = watermark(&stamps)
            && let Some(answer) = query.advance(None, floor).await.unwrap()
        {
            answers.entry(None).or_default().push(answer);
        }
        for replay in REPLAYS {
            let over = stamps.iter().all(|of| of.ended_replays().any(|ended| ended == replay));
            if over && !ended.iter().any(|of| of == replay) {
                ended.push(replay.to_owned());
                let answer = query.end(Some(replay)).await.unwrap();
                answers.entry(Some(replay.to_owned())).or_default().extend(answer);
            }
        }
        if rng.u8(0..8) == 0 {
            let saved = query.save().await.unwrap();
            query = Continuous::restore(plan(text).await, &saved).unwrap();
        }
    }
    Run { answers, rows, floor: watermark(&stamps), query }
}

/// What the same text gives over all rows at once.
pub(super) async fn at_once(text: &str, rows: &[RecordBatch], span: &Span) -> String {
    let history = MemTable::try_new(stamped_schema(), vec![rows.to_vec()]).unwrap();
    let answer =
        backtest(&plan(text).await, Arc::new(history), span, Arc::default()).await.unwrap();
    pretty_format_batches(&[answer]).unwrap().to_string()
}

pub(super) fn shown(query: &Continuous, answers: &[RecordBatch]) -> String {
    let all = concat_batches(&query.plan().schema(), answers).unwrap();
    pretty_format_batches(&[all]).unwrap().to_string()
}
