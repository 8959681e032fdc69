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

use crate::entities::Entities;
use crate::entities::tests::tell;
use crate::intake::{Decoder, Stamps, stamped_schema, watermark};
use crate::query::{Continuous, Correction, Plan, QueryFile, Reference, Sources, Span, backtest};

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

/// Views and a table that a text may read.
pub(super) fn sources() -> Sources {
    const OWNERS: &str = "address,owner,quota
198.51.100.1,north,10
198.51.100.1,south,20
198.51.100.2,north,30
198.51.100.4,,5
";
    const VIEWS: &[(&str, &str)] = &[
        (
            "of_clients",
            "SELECT window_start, window_end, client_address, count(*) AS n,
                sum(http_response_body_size) AS bytes
             FROM TUMBLE(events, event_time, INTERVAL '10 seconds') WHERE kind = 'request'
             GROUP BY window_start, window_end, client_address",
        ),
        (
            "of_clients_and_before",
            "-- title: a test
-- owner: tests
-- horizon: 1 min
             SELECT window_start AS at, client_address, n, window_start, window_end,
                sum(n) OVER (PARTITION BY client_address ORDER BY window_start
                    RANGE BETWEEN INTERVAL '1 minute' PRECEDING AND CURRENT ROW) AS lately
             FROM (SELECT window_start, window_end, client_address, sum(n) AS n
                FROM HOP((SELECT window_start AS t, client_address, n FROM of_clients), t,
                    INTERVAL '15 seconds', INTERVAL '45 seconds')
                GROUP BY window_start, window_end, client_address)",
        ),
        (
            "corrected",
            "-- title: a test
-- owner: tests
-- corrections: 2 h
             SELECT window_start, count(*) AS n
             FROM TUMBLE(events, event_time, INTERVAL '1 minute') GROUP BY window_start",
        ),
    ];
    // By the names of the APIs that are called.
    const VERSIONS: &str = r#"
        api/orders 1 {"upstream":"north","lifecycle":"published","timeout_ms":10}
        upstream/north 1 {"url":"http://n","retries_max":1}
        .end 2
        api/prices 1 {"upstream":"south","lifecycle":"published","timeout_ms":20}
        .end 3
        api/orders 2 {"upstream":"south","lifecycle":"deprecated","timeout_ms":30}
        upstream/south 1 {"retries_max":2}
        .end 5
        api/prices
        upstream/north 2 {"retries_max":3}
        .end 6
        .end 8"#;
    let view = |(name, text): &(&str, &str)| QueryFile { name: (*name).to_owned(), ..file(text) };
    let mut tables = vec![Reference::of_csv("owners", OWNERS).unwrap()];
    let entities = Entities::default();
    tell(&entities, VERSIONS);
    tables.extend(Reference::of_registry(&entities));
    Sources::new(&VIEWS.iter().map(view).collect::<Vec<_>>(), tables)
}

pub(super) async fn plan(text: &str) -> Plan {
    Plan::new(file(text), &sources()).await.unwrap_or_else(|fault| panic!("{fault}\n{text}"))
}

/// Sources that live from the beginning to the end, and say so.
const STEADY: [&str; 2] = ["a", "b"];

/// A log that is written.
struct Written {
    partitions: Vec<Vec<Record>>,
    sequences: BTreeMap<(usize, &'static str), i64>,
    now: i64,
}

impl Written {
    fn new(partitions: usize) -> Self {
        let mut new = Self {
            partitions: vec![Vec::new(); partitions],
            sequences: BTreeMap::new(),
            now: BEGIN,
        };
        for producer in STEADY {
            new.everywhere(producer, Kind::SourceJoined, |event| {
                event.source_watermark_time = Some(Timestamp::from_micros(BEGIN));
            });
        }
        new
    }

    fn event(
        &mut self,
        at: usize,
        producer: &'static str,
        time: i64,
        kind: Kind,
        fill: impl FnOnce(&mut Event),
    ) {
        let sequence = self.sequences.entry((at, producer)).or_insert(0);
        *sequence += 1;
        let producer = Producer::new(producer).unwrap();
        let id = EventId { producer, boot: 1, sequence: *sequence };
        let mut event = Event::new(id, Timestamp::from_micros(time), kind, Outcome::Success);
        event.sequence_before = (*sequence > 1).then_some(*sequence - 1);
        fill(&mut event);
        let records = &mut self.partitions[at];
        records.push(Record {
            offset: records.len() as u64,
            time: LogTime(self.now / 1_000),
            key: None,
            value: Some(event.to_json().into()),
            headers: Headers::default(),
        });
    }

    /// A word of a source in each partition.
    fn everywhere(&mut self, producer: &'static str, kind: Kind, fill: impl Fn(&mut Event)) {
        for at in 0..self.partitions.len() {
            self.event(at, producer, self.now, kind, &fill);
        }
    }

    fn request(&mut self, at: usize, producer: &'static str, request: &Request) {
        self.event(at, producer, request.time, Kind::Request, |event| {
            let Request { replay, status, client, bytes, .. } = *request;
            event.replay_id = replay.map(|id| id.to_owned().into());
            event.api_name = Some(["orders", "prices"][usize::from(client % 2)].into());
            event.client_address = (client > 0).then(|| format!("198.51.100.{client}").into());
            event.http_response_status_code = Some(status);
            event.http_response_body_size = (bytes % 7 != 0).then_some(bytes);
            event.latency_total_us = Some(bytes * 3);
            event.config_revision = (bytes % 5 != 0).then_some(bytes % 9);
        });
    }

    /// Says that the replays are over.
    fn end(mut self) -> Vec<Vec<Record>> {
        for replay in REPLAYS {
            for at in 0..self.partitions.len() {
                let ends = |event: &mut Event| event.replay_id = Some(replay.into());
                self.event(at, "c", BEGIN, Kind::ReplayEnded, ends);
            }
        }
        self.partitions
    }
}

struct Request {
    time: i64,
    replay: Option<&'static str>,
    status: i64,
    client: u8,
    bytes: i64,
}

impl Request {
    fn new(rng: &mut Rng, time: i64, replay: Option<&'static str>) -> Self {
        let status = [200, 200, 200, 404, 500][rng.usize(0..5)];
        Self { time, replay, status, client: rng.u8(0..6), bytes: rng.i64(0..10_000) }
    }
}

/// Records of each partition, as they stand in the log: of two sources, some of them late,
/// and of replays.
pub(super) fn records(rng: &mut Rng, partitions: usize, count: usize) -> Vec<Vec<Record>> {
    let mut log = Written::new(partitions);
    for index in 0..count {
        log.now += rng.i64(0..4 * S);
        let (at, producer) = (rng.usize(0..partitions), STEADY[rng.usize(0..2)]);
        if rng.u8(0..12) == 0 {
            for producer in STEADY {
                log.everywhere(producer, Kind::Heartbeat, |_| {});
            }
        }
        let time = log.now - if rng.bool() { 0 } else { rng.i64(0..90 * S) };
        let replay = (rng.u8(0..4) == 0).then(|| REPLAYS[rng.usize(0..2)]);
        // A replay is of another time, in any order within a minute.
        let time = if replay.is_some() { BEGIN - 86_400 * S + index as i64 * S } else { time };
        log.request(at, producer, &Request::new(rng, time, replay));
    }
    log.end()
}

/// The same, with sources that join and leave, fall silent and are retired, keep what they
/// have to say for up to an hour, have wrong clocks, and replay 2015; some of these in one
/// log, since one that is silent holds all windows open. In half of the logs times are whole
/// seconds, so that they meet the bounds of windows.
pub(super) fn troubled(rng: &mut Rng, partitions: usize, count: usize) -> Vec<Vec<Record>> {
    const MAY_2015: i64 = 1_431_856_800 * S;
    let mut log = Written::new(partitions);
    let mut kept: Option<Vec<(usize, Request)>> = None;
    let (mut guest_is_here, mut retired) = (false, false);
    let grain = if rng.bool() { S } else { 1 };
    let (has_guest, has_silent, has_spooling) = (rng.bool(), rng.bool(), rng.bool());
    if has_silent {
        log.everywhere("silent", Kind::SourceJoined, |_| {});
    }
    if has_spooling {
        log.everywhere("spooling", Kind::SourceJoined, |_| {});
    }
    for index in 0..count {
        // While somebody keeps what it has to say, an hour passes.
        log.now += rng.i64(0..if kept.is_some() { 60 * S } else { 4 * S });
        let at = rng.usize(0..partitions);
        if rng.u8(0..12) == 0 {
            for producer in STEADY {
                log.everywhere(producer, Kind::Heartbeat, |_| {});
            }
        }
        let late = if rng.bool() { 0 } else { rng.i64(0..90 * S) };
        let on_time = Request::new(rng, (log.now - late) / grain * grain, None);
        match rng.u8(0..10) {
            0 if has_guest => {
                let kind = if guest_is_here { Kind::SourceLeft } else { Kind::SourceJoined };
                guest_is_here = !guest_is_here;
                log.everywhere("guest", kind, |_| {});
            }
            1 if has_guest => log.request(at, "guest", &on_time),
            // Until it is said to be retired it holds every window open; then what it still
            // sends is late, until it joins anew.
            2 if has_silent && index < count / 4 => log.request(at, "silent", &on_time),
            2 if has_silent && !retired && index > count / 3 => {
                retired = true;
                log.everywhere(STEADY[0], Kind::SourceRetired, |event| {
                    event.source_producer = Some("silent".into());
                });
            }
            2 if retired && rng.u8(0..4) == 0 => {
                log.everywhere("silent", Kind::SourceJoined, |_| {});
            }
            2 if has_silent => log.request(at, "silent", &on_time),
            3 if has_spooling => match &mut kept {
                Some(of) if of.len() > 8 => {
                    for (at, request) in kept.take().into_iter().flatten() {
                        log.request(at, "spooling", &request);
                    }
                    log.everywhere("spooling", Kind::Heartbeat, |_| {});
                }
                Some(of) => of.push((at, on_time)),
                None if rng.u8(0..4) == 0 => kept = Some(Vec::new()),
                None => log.request(at, "spooling", &on_time),
            },
            4 => {
                let wrong = [250 * S, 86_400 * S, -86_400 * S, -log.now][rng.usize(0..4)];
                let time = log.now + wrong;
                log.request(at, STEADY[1], &Request { time, ..on_time });
            }
            5 | 6 => {
                let time = MAY_2015 + index as i64 * S + rng.i64(0..5 * S);
                let replay = Some(REPLAYS[rng.usize(0..2)]);
                log.request(at, "silent", &Request { time, replay, ..on_time });
            }
            _ => log.request(at, STEADY[rng.usize(0..2)], &on_time),
        }
    }
    log.end()
}

/// What a query gave, per timeline, in the order in which it gave it.
pub(super) type Answers = BTreeMap<Option<String>, Vec<RecordBatch>>;

/// A query that follows the records to their end.
pub(super) struct Run {
    pub(super) answers: Answers,
    /// What windows gave once more, per timeline.
    pub(super) corrections: BTreeMap<Option<String>, Vec<Correction>>,
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
    let mut corrections = BTreeMap::<_, Vec<Correction>>::new();
    let corrects = query.plan().corrections_us().is_some();
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
        if let Some(floor) = watermark(&stamps) {
            let (correction, _) = query.correct(None, floor, rng.i64(1..9)).await.unwrap();
            corrections.entry(None).or_default().extend(correction);
        }
        for replay in REPLAYS {
            let over = stamps.iter().all(|of| of.ended_replays().any(|ended| ended == replay));
            if over && !ended.iter().any(|of| of == replay) {
                ended.push(replay.to_owned());
                let mut more = corrects;
                if corrects {
                    let answer = query.advance(Some(replay), i64::MAX).await.unwrap();
                    answers.entry(Some(replay.to_owned())).or_default().extend(answer);
                }
                while more {
                    let step = query.correct(Some(replay), i64::MAX, rng.i64(1..9)).await.unwrap();
                    corrections.entry(Some(replay.to_owned())).or_default().extend(step.0);
                    more = step.1;
                }
                let answer = query.end(Some(replay)).await.unwrap();
                answers.entry(Some(replay.to_owned())).or_default().extend(answer);
            }
        }
        if rng.u8(0..8) == 0 {
            let saved = query.save().await.unwrap();
            query = Continuous::restore(plan(text).await, &saved).unwrap();
        }
    }
    if let Some(floor) = watermark(&stamps) {
        let (correction, more) = query.correct(None, floor, i64::MAX).await.unwrap();
        corrections.entry(None).or_default().extend(correction);
        assert!(!more, "all that may be corrected is");
    }
    Run { answers, corrections, rows, floor: watermark(&stamps), query }
}

/// What the same text gives over all rows at once.
pub(super) async fn at_once(text: &str, rows: &[RecordBatch], span: &Span) -> String {
    let history = MemTable::try_new(stamped_schema(), vec![rows.to_vec()]).unwrap();
    let answer =
        backtest(&plan(text).await, Arc::new(history), span, Arc::default()).await.unwrap();
    pretty_format_batches(&[answer]).unwrap().to_string()
}

/// In the order in which it came.
pub(super) fn shown(query: &Continuous, answers: &[RecordBatch]) -> String {
    let all = concat_batches(&query.plan().schema(), answers).unwrap();
    pretty_format_batches(&[all]).unwrap().to_string()
}
