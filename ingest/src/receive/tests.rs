use http::HeaderMap;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::lines::About;
use super::row::{Row, Trace, compact};
use super::{ROWS_MAX, cloud, lines, otlp};
use crate::http::{Code, Problem};

fn read(event: &str) -> Result<Row, Problem> {
    let json: &RawValue = serde_json::from_str(event).unwrap();
    cloud::of_json(json).and_then(|row| row.check().map(|()| row))
}

#[test]
fn a_cloud_event_is_read_whole() {
    let row = read(
        r#"{"specversion": "1.0", "id": "7", "source": "/erp", "type": "order", "subject": "o-1",
            "time": "2026-01-31T23:59:59.5+01:00", "datacontenttype": "application/json",
            "correlationid": "c-1", "priority": 3, "urgent": true, "nothing": null,
            "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "data": {"a": [1, 2.50, "b \" c"]}}"#,
    )
    .unwrap();
    assert_eq!((row.id.as_deref(), &*row.source, &*row.kind), (Some("7"), "/erp", "order"));
    assert_eq!(row.subject.as_deref(), Some("o-1"));
    assert_eq!(row.time.unwrap().to_string(), "2026-01-31T22:59:59.500000Z");
    assert_eq!(row.correlation_id.as_deref(), Some("c-1"));
    // Numbers keep their digits, texts their spaces.
    assert_eq!(row.data.as_deref(), Some(r#"{"a":[1,2.50,"b \" c"]}"#));
    let attributes = r#"{"datacontenttype":"application/json","priority":3,"urgent":true}"#;
    assert_eq!(row.attributes.as_deref(), Some(attributes));
    let trace = Trace {
        trace: "0af7651916cd43dd8448eb211c80319c".to_owned(),
        span: Some("b7ad6b7169203331".to_owned()),
    };
    assert_eq!(row.trace, Some(trace));
    let plain = read(r#"{"specversion":"1.0","id":"7","source":"s","type":"t"}"#).unwrap();
    assert_eq!((plain.data, plain.attributes, plain.time), (None, None, None));
}

#[test]
fn what_is_no_cloud_event_is_told_by_its_part() {
    let event = |change: &dyn Fn(&mut Value)| {
        let mut event = json!({"specversion": "1.0", "id": "7", "source": "s", "type": "t"});
        change(&mut event);
        event.to_string()
    };
    let check = |event: &str, expected: &str| {
        let problem = read(event).unwrap_err();
        assert_eq!(problem.detail.as_deref(), Some(expected), "{event}");
    };
    check("7", "an event is a JSON object");
    for name in ["specversion", "id", "source", "type"] {
        let without = event(&|event| drop(event.as_object_mut().unwrap().remove(name)));
        check(&without, &format!("{name} is missing"));
        check(&event(&|event| event[name] = json!(1)), &format!("{name} is not a text"));
    }
    check(&event(&|event| event["id"] = json!("")), "id is empty");
    let long = "x".repeat(1_025);
    let expected = "source: 1025 bytes, 1024 are allowed";
    check(&event(&|event| event["source"] = json!(long)), expected);
    let expected = r#"specversion "0.3" is not known; send 1.0"#;
    check(&event(&|event| event["specversion"] = json!("0.3")), expected);
    let expected = "more is no text, number or truth; put what has parts into data";
    check(&event(&|event| event["more"] = json!({"a": 1})), expected);
    let expected = r#""Order_Id" is no name of an attribute; use lower-case letters and digits"#;
    check(&event(&|event| event["Order_Id"] = json!(1)), expected);
    let both = event(&|event| {
        event["data"] = json!(1);
        event["data_base64"] = json!("AA==");
    });
    check(&both, "an event has data or data_base64, not both");
    check(&event(&|event| event["data_base64"] = json!("?")), "data_base64 is no base64");
    let many = event(&|event| {
        for number in 0..61 {
            event[format!("a{number}")] = json!(number);
        }
    });
    check(&many, "65 attributes, 64 are allowed");
}

#[test]
fn a_header_that_comes_twice_or_is_no_text_is_refused() {
    let read = |pairs: &[(&'static str, &str)]| {
        let mut headers = HeaderMap::new();
        let known =
            [("ce-specversion", "1.0"), ("ce-id", "7"), ("ce-source", "s"), ("ce-type", "t")];
        for (name, value) in known.iter().chain(pairs) {
            headers.append(*name, value.parse().unwrap());
        }
        cloud::of_headers(&headers, Vec::new()).map_err(|problem| problem.detail.unwrap())
    };
    assert!(read(&[]).unwrap().data.is_none());
    let quoted = read(&[("ce-subject", "\"a \\\"b\\\" %E2%82%AC\"")]).unwrap();
    assert_eq!(quoted.subject.as_deref(), Some("a \"b\" €"));
    assert_eq!(read(&[("ce-id", "8")]).unwrap_err(), "ce-id comes twice");
    let wrong = read(&[("ce-subject", "%ff")]).unwrap_err();
    assert_eq!(wrong, "ce-subject is no percent-encoded text");
}

#[test]
fn lines_have_their_numbers_and_say_when_they_were() {
    let body = b"{\"a\": 1}\r\n\n  \n{\"b\": 2}";
    let found: Vec<_> = lines::lines(body).collect();
    assert_eq!(found, [(1, &b"{\"a\": 1}"[..]), (4, &b"{\"b\": 2}"[..])]);
    let about: About = serde_json::from_value(json!({})).unwrap();
    let read = |line: &str, about: &About| lines::read(line.as_bytes(), about, "/applications/erp");
    let row = read(r#"{"@timestamp": "2026-01-01T00:00:00Z", "time": 5}"#, &about).unwrap();
    assert_eq!((&*row.source, &*row.kind, row.id), ("/applications/erp", "json", None));
    assert_eq!(row.time.unwrap().to_string(), "2026-01-01T00:00:00.000000Z");
    let named = json!({"source": "/shop", "type": "order", "time_field": "when"});
    let named: About = serde_json::from_value(named).unwrap();
    let row = read(r#"{"when": "2026-01-01T00:00:00Z"}"#, &named).unwrap();
    assert_eq!((&*row.source, &*row.kind, row.time.is_some()), ("/shop", "order", true));
    let wrong = read(r#"{"when": 5}"#, &named).unwrap_err();
    assert_eq!(wrong.detail.as_deref(), Some("when is no time as in RFC 3339"));
    let event = read(r#"{"specversion": "1.0", "id": "1", "source": "s", "type": "t"}"#, &named);
    assert_eq!(event.unwrap().source, "s", "an event says it itself");
}

/// One resource with one scope and these records.
fn request(records: Vec<LogRecord>) -> ExportLogsServiceRequest {
    let mut request: ExportLogsServiceRequest = serde_json::from_value(json!({
        "resourceLogs": [{
            "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "billing"}}]},
            "scopeLogs": [{"scope": {"name": "lib"}, "logRecords": []}],
        }],
    }))
    .unwrap();
    request.resource_logs[0].scope_logs[0].log_records = records;
    request
}

fn text(text: &str) -> AnyValue {
    AnyValue { value: Some(Any::StringValue(text.to_owned())) }
}

#[test]
fn a_log_record_keeps_what_it_says() {
    let record = LogRecord {
        time_unix_nano: 1_700_000_000_123_456_789,
        observed_time_unix_nano: 1_700_000_001_000_000_000,
        severity_number: 14,
        body: Some(text("no room")),
        trace_id: vec![0xab; 16],
        span_id: vec![0; 8],
        ..LogRecord::default()
    };
    let named = LogRecord { event_name: "disk.full".to_owned(), ..record.clone() };
    let spoken = LogRecord { severity_text: "warning".to_owned(), ..record.clone() };
    let silent = LogRecord { severity_number: 0, time_unix_nano: 0, ..record.clone() };
    let rows: Vec<Row> = otlp::rows(request(vec![record, named, spoken, silent]))
        .map(|(_, row)| row.unwrap())
        .collect();
    let kinds: Vec<&str> = rows.iter().map(|row| &*row.kind).collect();
    assert_eq!(kinds, ["WARN", "disk.full", "warning", "UNSPECIFIED"]);
    let first = &rows[0];
    assert_eq!((&*first.source, first.service.as_deref()), ("billing", Some("billing")));
    assert_eq!(first.time.unwrap().as_micros(), 1_700_000_000_123_456);
    assert_eq!(rows[3].time.unwrap().as_micros(), 1_700_000_001_000_000);
    assert_eq!(first.trace, Some(Trace { trace: "ab".repeat(16), span: None }));
    let data: Value = serde_json::from_str(first.data.as_deref().unwrap()).unwrap();
    let expected = json!({
        "severity_number": 14, "body": "no room", "resource": {"service.name": "billing"},
        "scope": {"name": "lib"},
    });
    assert_eq!(data, expected);
}

#[test]
fn values_that_json_has_not_and_those_too_deep_cost_their_record_alone() {
    let nest = |depth: usize| {
        let wrap =
            |inner| AnyValue { value: Some(Any::ArrayValue(ArrayValue { values: vec![inner] })) };
        (0..depth).fold(text("x"), |inner, _| wrap(inner))
    };
    let body = |body| LogRecord { body: Some(body), ..LogRecord::default() };
    let value = |value| body(AnyValue { value: Some(value) });
    let records = vec![
        body(nest(15)),
        body(nest(16)),
        value(Any::DoubleValue(f64::NAN)),
        value(Any::BytesValue(vec![1, 2])),
        value(Any::IntValue(i64::MIN)),
    ];
    let rows: Vec<_> = otlp::rows(request(records)).map(|(_, row)| row).collect();
    let deep = rows[1].as_ref().unwrap_err();
    assert_eq!(deep.code, Code::BodyInvalid);
    let body = |row: &Result<Row, Problem>| {
        let data = row.as_ref().unwrap().data.as_deref().unwrap();
        serde_json::from_str::<Value>(data).unwrap()["body"].clone()
    };
    assert!(body(&rows[0]).is_array());
    let others = [body(&rows[2]), body(&rows[3]), body(&rows[4])];
    assert_eq!(others, [json!("NaN"), json!("AQI="), json!(i64::MIN)]);
    let many = request(vec![LogRecord::default(); ROWS_MAX + 1]);
    assert_eq!(otlp::check(&many).unwrap_err().code, Code::BodyTooLarge);
}

#[test]
fn json_loses_no_more_than_its_spaces() {
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    fn value(random: &mut fastrand::Rng, depth: u8) -> Value {
        match random.u8(..if depth == 0 { 4 } else { 6 }) {
            0 => json!(null),
            1 => json!(random.i64(..)),
            2 => json!(random.f64()),
            3 => {
                let chars = [' ', '"', '\\', '\n', '\t', 'ö', '{', ',', ':', 'x'];
                let text: String = (0..random.u8(..8)).map(|_| chars[random.usize(..10)]).collect();
                json!(text)
            }
            4 => (0..random.u8(..4)).map(|_| value(random, depth - 1)).collect(),
            _ => {
                let name = |n: u8| format!("{n} \\ \" name");
                let pairs = (0..random.u8(..4)).map(|n| (name(n), value(random, depth - 1)));
                Value::Object(pairs.collect())
            }
        }
    }
    for _ in 0..500 {
        let value = value(&mut random, 4);
        let pretty = serde_json::to_string_pretty(&value).unwrap();
        let json: &RawValue = serde_json::from_str(&pretty).unwrap();
        assert_eq!(compact(json), value.to_string(), "seed {seed}");
    }
}
