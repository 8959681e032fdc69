//! Each shipped query, over the events that stand beside it: the answer is the one that
//! stands there too, at once, as a stream, and as a stream with restarts.
//!
//! `NAME.CASE.events.csv` has a row per event, with `times` for as many alike, each `every`
//! seconds after the one before, and `NAME.CASE.expected.csv` the answer. `WEIR_BLESS=1`
//! writes the answers anew.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use datafusion::datasource::MemTable;
use ingest::event::{Event, EventId, Kind, Outcome, Producer, Timestamp};
use ingest::log::{Headers, LogTime, Record};
use serde_json::Value;

use crate::intake::{Decoder, Stamps, stamped_schema, watermark};
use crate::query::{Continuous, Plan, QueryFile, Sources, Span, backtest};
use crate::run::shipped::{SHIPPED, Shipped};

fn shipped() -> Vec<PathBuf> {
    let queries = Path::new(env!("CARGO_MANIFEST_DIR")).join("../queries");
    let kinds = ["views", "detections"].map(|kind| queries.join(kind));
    let files = kinds.iter().flat_map(|dir| std::fs::read_dir(dir).unwrap());
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    files
}

fn name(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

async fn plan(path: &Path) -> Plan {
    let text = std::fs::read_to_string(path).unwrap();
    let query = name(path).strip_suffix(".sql").unwrap();
    let file =
        QueryFile::parse(query, &text).unwrap_or_else(|faults| panic!("{path:?}: {faults:?}"));
    let parsed = |of: &Shipped| QueryFile::parse(of.name, of.text).unwrap();
    let all: Vec<QueryFile> = SHIPPED.iter().map(parsed).collect();
    let sources = Sources::new(&all, Vec::new());
    Plan::new(file, &sources).await.unwrap_or_else(|fault| panic!("{path:?}: {fault}"))
}

/// An event of a file: when it was, and its fields.
type Told<'a> = (Timestamp, Vec<(&'a str, &'a str)>);

/// The events of a file, in the order of their time if it has times that repeat.
fn told(csv: &str) -> Vec<Told<'_>> {
    let mut lines = csv.lines();
    let names: Vec<&str> = lines.next().unwrap().split(',').collect();
    let mut told = Vec::new();
    for line in lines {
        let values: Vec<&str> = line.split(',').collect();
        assert_eq!(values.len(), names.len(), "{line}");
        let mut fields: Vec<(&str, &str)> = names.iter().copied().zip(values).collect();
        let mut take = |name: &str| {
            let at = fields.iter().position(|(of, _)| *of == name)?;
            Some(fields.remove(at).1)
        };
        let number = |text: Option<&str>, or: i64| text.map_or(or, |text| text.parse().unwrap());
        let (times, every) = (number(take("times"), 1), number(take("every"), 0));
        let begin: jiff::Timestamp = take("event_time").unwrap().parse().unwrap();
        fields.retain(|(_, text)| !text.is_empty());
        for index in 0..times {
            let at = begin.as_microsecond() + index * every * 1_000_000;
            told.push((Timestamp::from_micros(at), fields.clone()));
        }
    }
    if names.contains(&"every") {
        told.sort_by_key(|(at, _)| at.as_micros());
    }
    told
}

fn records(csv: &str) -> Vec<Record> {
    let mut records = Vec::new();
    for (at, fields) in told(csv) {
        let sequence = records.len() as i64 + 1;
        let id = EventId { producer: Producer::new("gateway").unwrap(), boot: 1, sequence };
        let mut event = Event::new(id, at, Kind::Request, Outcome::Success);
        event.sequence_before = (sequence > 1).then_some(sequence - 1);
        let mut json: Value = serde_json::from_slice(&event.to_json()).unwrap();
        for (name, text) in fields {
            json[name] = text.parse::<i64>().map_or_else(|_| text.into(), Into::into);
        }
        records.push(Record {
            offset: records.len() as u64,
            time: LogTime(i64::MAX / 2_000),
            key: None,
            value: Some(json.to_string().into()),
            headers: Headers::default(),
        });
    }
    records
}

fn csv(answers: &[RecordBatch], plan: &Plan) -> String {
    let answer = concat_batches(&plan.schema(), answers).unwrap();
    let mut csv = Vec::new();
    arrow::csv::Writer::new(&mut csv).write(&answer).unwrap();
    String::from_utf8(csv).unwrap()
}

/// As a stream, in batches of so many records, perhaps with a restart after each.
async fn stream(path: &Path, records: &[Record], size: usize, restarts: bool) -> String {
    let (decoder, mut stamps) = (Decoder::new(), Stamps::new(0));
    let mut query = Continuous::new(plan(path).await);
    let mut answers = Vec::new();
    for records in records.chunks(size) {
        let next = records.last().unwrap().offset + 1;
        let stamped = stamps.stamp(&decoder, 0, records, next).unwrap();
        assert_eq!(stamped.unreadable, [], "{path:?}");
        query.feed(&stamped.rows).await.unwrap();
        if let Some(floor) = watermark([&stamps]) {
            answers.extend(query.advance(None, floor).await.unwrap());
        }
        if restarts {
            let saved = query.save().await.unwrap();
            query = Continuous::restore(plan(path).await, &saved).unwrap();
        }
    }
    answers.extend(query.end(None).await.unwrap());
    csv(&answers, query.plan())
}

#[tokio::test]
async fn a_shipped_query_answers_as_is_written_beside_it() {
    let files = shipped();
    let is_shipped =
        |path: &Path| SHIPPED.iter().any(|of| name(path) == format!("{}.sql", of.name));
    let queries = files.iter().filter(|path| name(path).ends_with(".sql"));
    assert!(queries.clone().all(|path| is_shipped(path)) && queries.count() == SHIPPED.len());
    for path in files.iter().filter(|path| name(path).ends_with(".sql")) {
        let begins = format!("{}.", name(path).strip_suffix(".sql").unwrap());
        let cases = files
            .iter()
            .filter(|of| name(of).starts_with(&begins) && name(of).ends_with(".events.csv"));
        let mut count = 0;
        for case in cases {
            count += 1;
            let records = records(&std::fs::read_to_string(case).unwrap());
            let (decoder, mut stamps) = (Decoder::new(), Stamps::new(0));
            let next = records.len() as u64;
            let rows = stamps.stamp(&decoder, 0, &records, next).unwrap().rows;
            let history = MemTable::try_new(stamped_schema(), vec![vec![rows]]).unwrap();
            let plan = plan(path).await;
            let answer =
                backtest(&plan, Arc::new(history), &Span::default(), Arc::default()).await.unwrap();
            let at_once = csv(&[answer], &plan);

            let expected = PathBuf::from(case.to_str().unwrap().replace(".events.", ".expected."));
            if std::env::var_os("WEIR_BLESS").is_some() {
                std::fs::write(&expected, &at_once).unwrap();
            }
            let expected = std::fs::read_to_string(&expected).unwrap();
            assert_eq!(at_once, expected, "{case:?} at once");
            // Some hundred batches, of an odd size.
            let size = 41.max(records.len() / 100 + 1);
            assert_eq!(stream(path, &records, size, false).await, expected, "{case:?} as a stream");
            assert_eq!(
                stream(path, &records, size + 1, true).await,
                expected,
                "{case:?} restarted"
            );
        }
        // A detection has one that fires it, and one that must not.
        let least = if plan(path).await.file().is_detection() { 2 } else { 1 };
        println!("{begins} {count} cases");
        assert!(count >= least, "{path:?} has {count} cases beside it, not {least}");
    }
}
