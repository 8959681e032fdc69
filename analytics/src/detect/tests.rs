use std::sync::Arc;

use arrow::array::{Int64Array, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use fastrand::Rng;

use super::*;
use crate::query::{Order, QueryFile, Severity};

const HOUR: i64 = 3_600_000_000;
const TUMBLE: Order = Order::Begin { overlap_us: 0 };

fn schema() -> SchemaRef {
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    Arc::new(Schema::new(vec![
        Field::new("window_start", time.clone(), true),
        Field::new("window_end", time, true),
        Field::new("client_address", DataType::Utf8, true),
        Field::new("errors", DataType::Int64, true),
    ]))
}

fn file(header: &str) -> QueryFile {
    let text = format!("-- title: Many errors\n-- owner: security\n{header}\nSELECT 1");
    QueryFile::parse("many_errors", &text).unwrap()
}

const HEADER: &str = "-- severity: high\n-- subject: client_address\n-- quiet: 2 h
-- message: \"{{ client_address }} had {{ errors | grouped }} errors.\"";

fn detection() -> Detection {
    Detection::of(&file(HEADER), &schema(), TUMBLE).unwrap().unwrap()
}

/// Findings of (hour, subject, errors).
fn rows(found: &[(i64, &str, i64)]) -> arrow::array::RecordBatch {
    let time = |hours: i64| {
        let times = found.iter().map(move |of| (of.0 + hours) * HOUR);
        Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC"))
    };
    let subjects = StringArray::from_iter_values(found.iter().map(|of| of.1));
    let errors = Int64Array::from_iter_values(found.iter().map(|of| of.2));
    arrow::array::RecordBatch::try_new(
        schema(),
        vec![time(0), time(1), Arc::new(subjects), Arc::new(errors)],
    )
    .unwrap()
}

/// What changed, as (subject, state, findings, revision, opens).
fn told(changes: &[Change]) -> Vec<(&str, State, u64, u64, bool)> {
    let told = |of: &'_ Change| (of.alert.state, of.alert.findings, of.alert.revision, of.opens);
    changes
        .iter()
        .map(|change| {
            let (state, findings, revision, opens) = told(change);
            (change.alert.subject.as_str(), state, findings, revision, opens)
        })
        .collect()
}

#[test]
fn an_alert_opens_counts_and_is_resolved_when_it_is_quiet() {
    use State::{Open, Resolved};
    let (detection, mut book) = (detection(), Book::default());
    let changes = book.take(&detection, None, &rows(&[(0, "a", 1234), (0, "b", 7)])).unwrap();
    assert_eq!(told(&changes), [("a", Open, 1, 1, true), ("b", Open, 1, 1, true)]);
    assert_eq!(changes[0].alert.message, "a had 1,234 errors.");
    let evidence = &changes[0].alert.evidence;
    let names: Vec<&str> = evidence.iter().map(|of| of.name.as_str()).collect();
    assert_eq!(names, ["window_start", "window_end", "client_address", "errors"]);
    assert_eq!(evidence[3].value, 1234);
    let changes = book.take(&detection, None, &rows(&[(2, "a", 9)])).unwrap();
    assert_eq!(told(&changes), [("a", Open, 2, 2, false)]);
    // b was found last until hour 1, and is quiet at 3; a until 3, and at 5.
    let mut passed = Vec::new();
    book.pass(&detection, None, 3 * HOUR - 1, &mut passed);
    assert_eq!(passed, []);
    book.pass(&detection, None, 3 * HOUR, &mut passed);
    assert_eq!(told(&passed), [("b", Resolved, 1, 2, false)]);
    let changes = book.take(&detection, None, &rows(&[(5, "a", 8)])).unwrap();
    assert_eq!(told(&changes), [("a", Resolved, 2, 3, false), ("a", Open, 1, 1, true)]);
    assert_ne!(changes[0].alert.id, changes[1].alert.id);
}

/// Windows that overlap by days are told of by their ends: what was quiet for two hours is
/// over, though windows that begin before that are yet to answer.
#[test]
fn what_is_quiet_is_over_however_much_windows_overlap() {
    use State::{Open, Resolved};
    let overlap = Order::Begin { overlap_us: 168 * HOUR };
    let detection = Detection::of(&file(HEADER), &schema(), overlap).unwrap().unwrap();
    let wide = |start: i64| {
        let narrow = rows(&[(start, "a", 7)]);
        let end = TimestampMicrosecondArray::from_iter_values([(start + 169) * HOUR]);
        let mut columns = narrow.columns().to_vec();
        columns[1] = Arc::new(end.with_timezone("UTC"));
        arrow::array::RecordBatch::try_new(schema(), columns).unwrap()
    };
    let mut book = Book::default();
    let changes = book.take(&detection, None, &wide(0)).unwrap();
    assert_eq!(told(&changes), [("a", Open, 1, 1, true)]);
    // It was found until hour 169: those that end until 171 find nothing.
    let changes = book.take(&detection, None, &wide(2)).unwrap();
    assert_eq!(told(&changes), [("a", Open, 2, 2, false)]);
    let changes = book.take(&detection, None, &wide(5)).unwrap();
    assert_eq!(told(&changes), [("a", Resolved, 2, 3, false), ("a", Open, 1, 1, true)]);
}

#[test]
fn a_finding_may_say_how_bad_it_is_itself() {
    let mut fields: Vec<_> = schema().fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new("severity", DataType::Utf8, true)));
    let with_severity = Arc::new(Schema::new(fields));
    let detection = Detection::of(&file(HEADER), &with_severity, TUMBLE).unwrap().unwrap();
    let mut book = Book::default();
    let mut take = |hour: i64, severity: &str| {
        let mut columns = rows(&[(hour, "a", 1)]).columns().to_vec();
        columns.push(Arc::new(StringArray::from(vec![severity])));
        let rows = arrow::array::RecordBatch::try_new(with_severity.clone(), columns).unwrap();
        book.take(&detection, None, &rows).unwrap().remove(0).alert
    };
    let first = take(0, "low");
    assert_eq!(first.severity, Severity::Low);
    assert!(first.evidence.iter().all(|of| of.name != "severity"), "it has its own place");
    // The worst counts; what is none is as the file says, which is high.
    assert_eq!(take(1, "critical").severity, Severity::Critical);
    assert_eq!(take(2, "medium").severity, Severity::Critical);
    assert_eq!(take(9, "dreadful").state, State::Resolved);
    let mut wrong: Vec<_> = schema().fields().iter().cloned().collect();
    wrong.push(Arc::new(Field::new("severity", DataType::Int64, true)));
    let faults = Detection::of(&file(HEADER), &Arc::new(Schema::new(wrong)), TUMBLE).unwrap_err();
    assert_eq!(faults[0].what, "the column severity is no text");
}

#[test]
fn a_replay_has_alerts_of_its_own() {
    let (detection, mut book) = (detection(), Book::default());
    let live = book.take(&detection, None, &rows(&[(0, "a", 1)])).unwrap();
    let replayed = book.take(&detection, Some("may"), &rows(&[(0, "a", 1)])).unwrap();
    assert!(live[0].opens && replayed[0].opens);
    assert_ne!(live[0].alert.id, replayed[0].alert.id);
    assert!(replayed[0].alert.query.contains("replay_id = 'may'"), "{}", replayed[0].alert.query);
    assert!(live[0].alert.query.contains("replay_id IS NULL"));
    let mut ended = Vec::new();
    book.end("may", &mut ended);
    assert_eq!(told(&ended), [("a", State::Resolved, 1, 2, false)]);
    assert_eq!(ended[0].alert.replay_id.as_deref(), Some("may"));
}

#[test]
fn beyond_the_limit_one_alert_counts_all_others() {
    let (detection, mut book) = (detection(), Book::default());
    let names: Vec<String> = (0..60).map(|of| format!("s{of:02}")).collect();
    let found: Vec<_> = names.iter().map(|name| (0, name.as_str(), 5)).collect();
    let changes = book.take(&detection, None, &rows(&found)).unwrap();
    let opened = changes.iter().filter(|change| change.opens).count();
    assert_eq!(opened, 51);
    let others = &changes.last().unwrap().alert;
    assert_eq!((others.subject.as_str(), others.findings), ("others", 10));
    assert!(others.message.contains("more than 50 alerts are open"), "{}", others.message);
    assert!(!others.query.contains("client_address ="), "{}", others.query);
}

#[test]
fn a_subject_cannot_change_the_query_of_its_evidence() {
    let (detection, mut book) = (detection(), Book::default());
    let changes = book.take(&detection, None, &rows(&[(0, "x' OR '1'='1", 5)])).unwrap();
    let query = &changes[0].alert.query;
    assert!(query.contains("client_address = 'x'' OR ''1''=''1'"), "{query}");
}

/// However findings are cut into batches, and wherever a book is taken up again.
#[test]
fn alerts_do_not_depend_on_batches_or_restarts() {
    let detection = detection();
    for seed in 0..50 {
        let mut rng = Rng::with_seed(seed);
        let mut hour = 0;
        let found: Vec<(i64, &str, i64)> = (0..40)
            .map(|at| {
                hour += rng.i64(0..3);
                (hour, ["a", "b", "c"][rng.usize(0..3)], at)
            })
            .collect();
        let mut at_once = Book::default();
        let mut expected = at_once.take(&detection, None, &rows(&found)).unwrap();
        at_once.pass(&detection, None, i64::MAX, &mut expected);

        let (mut book, mut changes, mut rest) = (Book::default(), Vec::new(), &found[..]);
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rng.usize(1..=rest.len()));
            changes.extend(book.take(&detection, None, &rows(now)).unwrap());
            rest = later;
            if let Some((next, ..)) = rest.first()
                && rng.bool()
            {
                book.pass(&detection, None, next * HOUR, &mut changes);
            }
            let kept = serde_json::to_vec(&book).unwrap();
            book = serde_json::from_slice(&kept).unwrap();
        }
        book.pass(&detection, None, i64::MAX, &mut changes);
        assert_eq!(changes, expected, "seed {seed}");
        let ids: std::collections::BTreeSet<_> =
            changes.iter().filter(|of| of.opens).map(|of| &of.alert.id).collect();
        assert_eq!(ids.len(), changes.iter().filter(|of| of.opens).count(), "seed {seed}");
    }
}

#[test]
fn a_detection_that_does_not_fit_its_query_is_refused() {
    let check = |header: &str, expected: &str| {
        let faults = Detection::of(&file(header), &schema(), TUMBLE).unwrap_err();
        let told: String = faults.iter().map(|fault| format!("{fault}\n")).collect();
        assert!(told.contains(expected), "{told}");
    };
    check(
        "-- severity: low\n-- subject: user\n-- message: m",
        "line 4: subject: the query gives no column user",
    );
    check(
        "-- severity: low\n-- subject: errors\n-- message: m",
        "line 4: subject: errors is no text; cast",
    );
    let message = |message: &str| {
        format!("-- severity: low\n-- subject: client_address\n-- message: \"{message}\"")
    };
    check(&message("{{ requests }}"), "line 5: message: the query gives no column requests");
    check(&message("{{ errors"), "line 5: message: syntax error");
    assert!(Detection::of(&file(""), &schema(), TUMBLE).unwrap().is_none());
}
