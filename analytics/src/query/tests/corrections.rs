//! Windows that answer once more, with the rows that came too late for them.

use std::collections::BTreeSet;

use arrow::array::{AsArray as _, BooleanArray, RecordBatch};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::TimestampMicrosecondType;
use arrow::util::pretty::pretty_format_batches;
use fastrand::Rng;

use super::world::{at_once, file, plan, records, run, shown, troubled};
use crate::query::{Continuous, Correction, Plan, QueryFile, Sources, Span, WINDOW_START};

const HEAD: &str = "-- title: a test\n-- owner: tests\n-- lateness: 10 s\n-- corrections: 70 s\n";
pub(super) const TEXTS: [&str; 5] = [
    "SELECT window_start, client_address, count(*) AS n, sum(http_response_body_size) AS bytes
     FROM TUMBLE(events, event_time, INTERVAL '10 seconds') WHERE kind = 'request'
     GROUP BY window_start, client_address",
    "SELECT window_start, window_end, count(DISTINCT client_address) AS clients
     FROM HOP(events, event_time, INTERVAL '10 seconds', INTERVAL '30 seconds')
     WHERE kind = 'request' GROUP BY window_start, window_end",
    // With a late row there may be too many, and the window answers nothing any more.
    "SELECT window_start, count(*) AS n FROM TUMBLE(events, event_time, INTERVAL '10 seconds')
     WHERE kind = 'request' GROUP BY window_start HAVING count(*) < 4",
    "-- horizon: 1 min\nSELECT window_start, api_name, count(*) AS n, sum(count(*)) OVER
        (PARTITION BY api_name ORDER BY window_start
         RANGE BETWEEN INTERVAL '30 seconds' PRECEDING AND CURRENT ROW) AS lately
     FROM TUMBLE(events, event_time, INTERVAL '10 seconds') WHERE kind = 'request'
     GROUP BY window_start, api_name",
    "SELECT window_start, client_address, lag(http_response_status_code) OVER
        (PARTITION BY window_start ORDER BY event_time, log_partition, log_offset) AS before
     FROM TUMBLE(events, event_time, INTERVAL '20 seconds') WHERE kind = 'request'",
];

/// A text of [`TEXTS`], whole.
pub(super) fn with_head(text: &str) -> String {
    match text.strip_prefix("-- horizon: 1 min\n") {
        Some(text) => format!("{HEAD}-- horizon: 1 min\n{text}"),
        None => format!("{HEAD}{text}"),
    }
}

/// The rows by whether their window is one of some.
fn of_windows(rows: &RecordBatch, is_asked: impl Fn(i64) -> bool) -> RecordBatch {
    let starts = rows.column_by_name(WINDOW_START).unwrap();
    let starts = starts.as_primitive::<TimestampMicrosecondType>().values();
    let asked: BooleanArray = starts.iter().map(|start| Some(is_asked(*start))).collect();
    filter_record_batch(rows, &asked).unwrap()
}

pub(super) fn lines(rows: &RecordBatch) -> Vec<String> {
    let shown = pretty_format_batches(std::slice::from_ref(rows)).unwrap().to_string();
    let mut lines: Vec<String> = shown.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// What windows gave last: as they were corrected, or else as they answered first.
pub(super) fn last(
    plan: &Plan,
    answers: &[RecordBatch],
    corrections: &[Correction],
) -> RecordBatch {
    let mut corrected = BTreeSet::new();
    for start in corrections.iter().flat_map(|of| &of.windows) {
        assert!(corrected.insert(*start), "a window is corrected twice");
    }
    let first = answers.iter().map(|rows| of_windows(rows, |start| !corrected.contains(&start)));
    let again = corrections.iter().map(|of| of.rows.clone());
    concat_batches(&plan.schema(), &first.chain(again).collect::<Vec<_>>()).unwrap()
}

/// In random batches, with restarts: first as all rows in time give it, last as all rows give
/// it that are late by no more than the corrections; and of windows that no late row touches
/// nothing is said again.
#[tokio::test]
async fn windows_answer_once_more_with_what_came_late() {
    let (mut again, mut empty, mut windows) = (0, 0, 0);
    for seed in 0..60 {
        let mut rng = Rng::with_seed(seed);
        let text = with_head(TEXTS[seed as usize % TEXTS.len()]);
        let partitions = 1 + rng.usize(0..3);
        let log = if rng.bool() {
            records(&mut rng, partitions, 300)
        } else {
            troubled(&mut rng, partitions, 300)
        };
        let ran = run(&text, &log, &mut rng).await;
        let plan = plan(&text).await;
        let no_rows = Vec::new();
        let timelines: BTreeSet<&Option<String>> =
            ran.answers.keys().chain(ran.corrections.keys()).collect();
        for timeline in timelines {
            let (floor_us, corrects) = match (timeline, ran.floor) {
                (None, Some(floor)) => (Some(floor), plan.corrects(floor)),
                (None, None) => continue,
                (Some(_), _) => (None, i64::MAX),
            };
            let answers = ran.answers.get(timeline).unwrap_or(&no_rows);
            let none = Vec::new();
            let corrections = ran.corrections.get(timeline).unwrap_or(&none);
            let first = Span { replay: timeline.clone(), floor_us, ..Span::default() };
            let expected = at_once(&text, &ran.rows, &first).await;
            assert_eq!(shown(&ran.query, answers), expected, "seed {seed}, {timeline:?}");
            let found = last(&plan, answers, corrections);
            let found = lines(&of_windows(&found, |start| start < corrects));
            let span = Span {
                replay: timeline.clone(),
                before_us: Some(corrects),
                corrected: true,
                ..Span::default()
            };
            let expected = at_once(&text, &ran.rows, &span).await;
            let mut expected: Vec<String> = expected.lines().map(str::to_owned).collect();
            expected.sort();
            assert_eq!(found, expected, "seed {seed}, {timeline:?}, corrected");
            let starts = |rows: &RecordBatch| {
                let starts = rows.column_by_name(WINDOW_START).unwrap();
                starts.as_primitive::<TimestampMicrosecondType>().values().to_vec()
            };
            let all: BTreeSet<i64> = answers.iter().flat_map(starts).collect();
            windows += all.len();
            for of in corrections {
                again += of.windows.len();
                let left = starts(&of.rows);
                let none = of.windows.iter().filter(|start| !left.contains(start)).count();
                assert!(
                    none == 0 || text.contains("HAVING"),
                    "a window without a row is corrected"
                );
                empty += none;
            }
        }
    }
    assert!(again > 100 && again < windows / 2, "{again} of {windows} windows were corrected");
    assert!(empty > 10, "{empty} windows have no rows any more");
}

#[test]
fn corrections_that_correct_nothing_are_refused() {
    for (header, expected) in [
        ("-- corrections: 30 s", "corrections: corrects nothing"),
        (
            "-- corrections: 1 h\n-- severity: low\n-- subject: a\n-- message: b",
            "corrections: is for views",
        ),
    ] {
        let text = format!("-- title: a\n-- owner: b\n{header}\nSELECT 1");
        let faults = QueryFile::parse("test", &text).unwrap_err();
        assert!(faults[0].to_string().contains(expected), "{header}: {faults:?}");
        assert_eq!(faults[0].line, Some(3), "{header}: {faults:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_corrected_is_refused() {
    let sessions = "SELECT window_start, window_end, count(*) FROM SESSION(events, event_time, \
        INTERVAL '1 minute') GROUP BY 1, 2";
    let over = "SELECT window_start, sum(n) AS n FROM TUMBLE((SELECT window_start AS t, n FROM \
        of_clients), t, INTERVAL '1 minute') GROUP BY 1";
    let named = "SELECT window_start, count(*) AS revision FROM TUMBLE(events, event_time, \
        INTERVAL '1 minute') GROUP BY 1";
    let far = "SELECT window_start, count(*) AS n, sum(count(*)) OVER (ORDER BY window_start RANGE \
        BETWEEN INTERVAL '3 hours' PRECEDING AND CURRENT ROW) AS lately FROM TUMBLE(events, \
        event_time, INTERVAL '1 second') GROUP BY 1";
    for (text, expected) in [
        (sessions, "are for windows of a fixed length"),
        (over, "what a view gives is not late"),
        (named, "add a column revision"),
        (far, "read 8,192 windows at most"),
    ] {
        let file = file(&format!("{HEAD}-- horizon: 3 h\n{text}"));
        let fault = Plan::new(file, &super::world::sources()).await.unwrap_err();
        assert!(fault.to_string().contains(expected), "{fault}");
        assert_eq!(fault.line, Some(4), "{fault}");
    }
}

/// What reads a view is what it was, whatever of the view is corrected later.
#[tokio::test]
async fn what_reads_a_corrected_view_goes_on_as_it_is() {
    let minutes = |header: &str| {
        let text = format!(
            "-- title: a\n-- owner: b\n{header}SELECT window_start, count(*) AS n \
             FROM TUMBLE(events, event_time, INTERVAL '1 minute') GROUP BY 1"
        );
        let view = QueryFile::parse("minutes", &text).unwrap();
        Sources::new(&[view], Vec::new())
    };
    let over = file(
        "SELECT window_start, max(n) AS n FROM TUMBLE((SELECT window_start AS t, n FROM minutes), \
         t, INTERVAL '1 hour') GROUP BY 1",
    );
    let before = Plan::new(over.clone(), &minutes("")).await.unwrap();
    let after = Plan::new(over.clone(), &minutes("-- corrections: 1 h\n")).await.unwrap();
    assert_eq!(before.hash(), after.hash());
    let saved = Continuous::new(before).save().await.unwrap();
    Continuous::restore(after, &saved).unwrap();
    let later = Plan::new(over, &minutes("-- lateness: 90 s\n")).await.unwrap();
    assert!(Continuous::restore(later, &saved).is_err());
}
