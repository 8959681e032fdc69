//! What holds of the table, and of events written and read.

use super::sample::sample;
use super::{Error, Event, Kind, Outcome, SCHEMA_VERSION, Text, Timestamp, field, fields, golden};

const FIELD_LIST: &str = "src/event/golden/fields.txt";

fn field_line(field: &super::Field) -> String {
    format!("{} {} {}", field.name, field.data_type.word(), field.since)
}

/// The list is compared with the last checked-in one before it may be renewed, so that
/// no regeneration hides a removal.
#[test]
fn fields_are_only_ever_added() {
    for line in golden::read(FIELD_LIST).lines() {
        let now = line.split(' ').next().and_then(field).map(field_line);
        assert_eq!(
            now.as_deref(),
            Some(line),
            "a field of a past version is gone or changed; add a new field instead"
        );
    }
    let list: String = fields().map(|field| field_line(field) + "\n").collect();
    golden::check(FIELD_LIST, &list);
}

#[test]
fn rows_are_well_formed() {
    let mut names = std::collections::HashSet::new();
    for field in fields() {
        let name = field.name;
        assert!(names.insert(name), "{name} is there twice");
        assert!((1..=SCHEMA_VERSION).contains(&field.since), "{name}: since");
        assert!(field.doc.ends_with('.'), "{name}: the doc is no sentence");
        assert!(field.doc.len() < 200, "{name}: the doc is too long");
        if let Some(attribute) = field.attribute {
            assert_eq!(attribute.replace('.', "_"), name);
        }
        if name.ends_with("_us") {
            assert!(field.doc.contains("microseconds"), "{name}: the doc has no unit");
        }
        if name.ends_with("_size") {
            assert!(field.doc.contains("bytes"), "{name}: the doc has no unit");
        }
        let time = matches!(field.data_type, super::Type::Time);
        assert_eq!(name.ends_with("_time"), time, "{name}: times end in _time");
    }
}

#[test]
fn samples_of_each_kind_read_back() {
    let mut lines = String::new();
    for kind in Kind::ALL {
        let event = sample(*kind);
        let json = event.to_json();
        assert_eq!(Event::from_json(&json).as_ref(), Ok(&event));
        lines += &(String::from_utf8(json).unwrap() + "\n");
    }
    golden::check("src/event/golden/samples.ndjson", &lines);
}

/// The shortest event there is, with one more member.
fn with(member: &str) -> String {
    format!(
        r#"{{"event_time":"2026-01-31T23:59:59Z","producer":"p","boot":1,"sequence":2,
            "schema_version":1,"kind":"request","outcome":"success"{member}}}"#
    )
}

fn check_read(json: &str, expected: Result<(), &str>) {
    let read = Event::from_json(json.as_bytes()).map(|_| ()).map_err(|error| error.to_string());
    assert_eq!(read, expected.map_err(str::to_owned), "{json}");
}

#[test]
fn what_is_not_known_or_absent_costs_nothing() {
    check_read(&with(""), Ok(()));
    check_read(&with(r#","new_field":1,"new_field":{"a":[1,null,"x"]}"#), Ok(()));
    check_read(&with(r#","client_address":null,"client_port":null"#), Ok(()));
    check_read(&format!(" \n{}\t", with("")), Ok(()));
    let event = Event::from_json(with(r#","url_\u0070ath":"/\ud83d\ude00""#).as_bytes()).unwrap();
    assert_eq!(event.url_path, Some(Text::from("/😀")));
}

#[test]
fn wrong_types_name_field_and_types() {
    let code = "field http_response_status_code: expected an integer, found ";
    for (value, found) in [
        ("\"200\"", "a text"),
        ("200.0", "a number that is no 64-bit integer"),
        ("9223372036854775808", "a number that is no 64-bit integer"),
        ("-9223372036854775809", "a number that is no 64-bit integer"),
        ("true", "a boolean"),
        ("[200]", "an array"),
        ("{\"a\":200}", "an object"),
    ] {
        let json = with(&format!(r#","http_response_status_code":{value}"#));
        check_read(&json, Err(&format!("{code}{found}")));
    }
    check_read(&with(r#","url_path":7"#), Err("field url_path: expected a text, found an integer"));
    check_read(
        &with(r#","payload_truncated":0"#),
        Err("field payload_truncated: expected a boolean, found an integer"),
    );
    check_read(
        &with(r#","delivery_accepted_time":5"#),
        Err("field delivery_accepted_time: expected a time as text, found an integer"),
    );
}

#[test]
fn wrong_values_name_field_and_rule() {
    let changed = |from: &str, to: &str| with("").replace(from, to);
    check_read(&changed("success", "fine"), Err(r#"field outcome: unknown outcome "fine""#));
    check_read(&changed("\"request\"", "null"), Err("field kind: expected a text, found null"));
    check_read(&changed("\"p\"", "\"\""), Err("field producer: the name is empty"));
    check_read(&changed("\"boot\":1", "\"boot\":-1"), Err("field boot: the number is negative"));
    check_read(
        &changed("2026-01-31T", "2026-01-32T"),
        Err("field event_time: expected a time as in 2026-01-31T23:59:59.000000Z"),
    );
    check_read(
        &with(r#","sequence_before":-5"#),
        Err("field sequence_before: the number is negative"),
    );
}

#[test]
fn a_mandatory_field_must_be_there_and_no_field_twice() {
    check_read("{}", Err("field event_time is missing"));
    check_read(&with("").replace("\"outcome\"", "\"outcom\""), Err("field outcome is missing"));
    check_read(&with(r#","kind":"step""#), Err("field kind is given twice"));
    check_read(&with(r#","node":null,"node":"a""#), Err("field node is given twice"));
}

#[test]
fn what_is_no_object_is_refused() {
    for json in ["[]", "\"secret\"", "7", "null", "true", "[{\"kind\":1}]"] {
        check_read(json, Err("the event is not a JSON object"));
    }
    check_read("", Err("the event is not JSON at line 1, column 0"));
    check_read("{\"kind\":", Err("the event is not JSON at line 1, column 8"));
    check_read(&format!("{} {{}}", with("")), Err("the event is not JSON at line 2, column 70"));
    check_read("{\"x\":\"\u{1}\"}", Err("the event is not JSON at line 1, column 6"));
    let deep = format!("{{\"x\":{}}}", "[".repeat(100_000));
    assert!(matches!(Event::from_json(deep.as_bytes()), Err(Error::Syntax { .. })));
    let cut = b"{\"url_path\":\"\xff\"}";
    assert!(matches!(Event::from_json(cut), Err(Error::Syntax { .. })));
}

/// Errors travel into log lines, so they must not carry what a client sent.
#[test]
fn errors_never_repeat_a_value() {
    for member in [
        r#","client_port":"hunter2""#,
        r#","payload_truncated":"hunter2""#,
        r#","decision_expires_time":"hunter2""#,
        r#","url_path":["hunter2"]"#,
        r#","url_path":"hunter2","url_path":"hunter2""#,
        r#","url_path":"hunter2"#,
    ] {
        let error = Event::from_json(with(member).as_bytes()).unwrap_err();
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    }
}

fn check_kept(text: &str, number: i64, time: Timestamp) {
    let mut event = sample(Kind::Request);
    event.url_query = Some(Text::from(text.to_owned()));
    event.detection_value = Some(number);
    event.delivery_next_attempt_time = Some(time);
    event.event_time = time;
    let json = event.to_json();
    assert_eq!(Event::from_json(&json).as_ref(), Ok(&event));
    let value: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(value["url_query"], text);
    assert_eq!(value["detection_value"], number);
    assert_eq!(value["event_time"], time.to_string());
}

#[test]
fn hostile_and_extreme_values_are_kept() {
    check_kept("", 0, Timestamp::from_micros(0));
    check_kept("\"},{\"kind\":\"admin\"", i64::MIN, Timestamp::MIN);
    check_kept("\0\u{1f}\u{7f}\\\r\n", i64::MAX, Timestamp::MAX);
    check_kept("\u{10ffff}\u{fffd}\u{2028}😀", -1, Timestamp::from_micros(-1));
    check_kept(&"\\".repeat(100_000), 1, Timestamp::from_micros(253_402_300_799_999_999));
}

#[test]
fn writing_appends_and_leaves_out_what_is_absent() {
    let mut out = b"before\n".to_vec();
    let mut event = sample(Kind::Heartbeat);
    event.outcome = Outcome::Unknown;
    event.write_json(&mut out);
    assert!(out.starts_with(b"before\n{\"event_time\":\"") && out.ends_with(b"}"));
    let value: serde_json::Value = serde_json::from_slice(&out[7..]).unwrap();
    assert_eq!(value.as_object().unwrap().len(), 13);
}

/// Every optional field is filled through its row, so none is written or read wrongly.
#[test]
fn every_field_reads_back() {
    for field in fields().filter(|field| !field.mandatory) {
        let value = match field.data_type {
            super::Type::Text => "\"a\"",
            super::Type::Integer => "7",
            super::Type::Boolean => "true",
            super::Type::Time => "\"1969-12-31T23:59:59.999999Z\"",
        };
        let json = with(&format!(r#","{}":{value}"#, field.name));
        let event = Event::from_json(json.as_bytes()).unwrap();
        let written = String::from_utf8(event.to_json()).unwrap();
        assert!(written.ends_with(&format!(",\"{}\":{value}}}", field.name)), "{written}");
    }
}

/// Damaged bytes are refused or read as some event, but never stop the reader; and what
/// was read is written so that it reads the same.
#[test]
fn damaged_bytes_never_stop_the_reader() {
    let seed = 0x5eed;
    let mut random = fastrand::Rng::with_seed(seed);
    for round in 0..20_000 {
        let mut json = sample(Kind::ALL[round % Kind::ALL.len()]).to_json();
        for _ in 0..random.usize(1..4) {
            let at = random.usize(..json.len());
            match random.u8(..3) {
                0 => json[at] = random.u8(..),
                1 => json[at] = *random.choice(b"\"\\{}[],:0-e").unwrap(),
                _ => json.truncate(at.max(1)),
            }
        }
        if let Ok(event) = Event::from_json(&json) {
            let again = Event::from_json(&event.to_json());
            assert_eq!(again, Ok(event), "seed {seed}, round {round}");
        }
    }
}
