//! Events of other systems, as these send them.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::time::Duration;

use base64::Engine as _;
use serde_json::{Value, json};

use crate::replay::{rows, until};
use crate::weir::{PATIENCE, Weir};

const EVENT: &str = "application/cloudevents+json";
const BATCH: &str = "application/cloudevents-batch+json";
const LINES: &str = "application/x-ndjson";

/// A node with the application `erp`, which may send, and `guest`, which may not: the secret
/// of both.
async fn with_senders() -> (Weir, String) {
    let mut weir = Weir::new();
    weir.start(&[]);
    let secret = let_in(&weir);
    (weir, secret)
}

fn let_in(weir: &Weir) -> String {
    let (code, said) = weir.run(&["secret", "--json"]);
    assert_eq!(code, 0, "{said}");
    let made: Value = serde_json::from_str(&said).unwrap();
    let application = |name: &str, scopes: &str| {
        let sha256 = made["sha256"].as_str().unwrap();
        let secrets = format!("[{{sha256: \"{sha256}\"}}]");
        format!(
            "kind: application\nname: {name}\nspec: {{owner: ada@example.org, \
             secrets: {secrets}, scopes: [{scopes}]}}\n"
        )
    };
    let files = [application("erp", "events.write"), application("guest", "orders.write")];
    let dir = weir.write("senders", &[("erp.yaml", &files[0]), ("guest.yaml", &files[1])]);
    let (code, said) = weir.run(&["apply", &dir]);
    assert_eq!(code, 0, "{said}");
    made["secret"].as_str().unwrap().to_owned()
}

/// Sends as `erp`; status, and what was answered.
async fn send(
    weir: &Weir,
    (path, content_type): (&str, &str),
    secret: &str,
    body: impl Into<reqwest::Body>,
) -> (u16, Value) {
    let request = weir.client.post(weir.collector(path)).basic_auth("erp", Some(secret));
    answer(request.header("content-type", content_type).body(body)).await
}

async fn answer(request: reqwest::RequestBuilder) -> (u16, Value) {
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    let text = answer.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

fn event(id: &str) -> Value {
    json!({"specversion": "1.0", "id": id, "source": "/erp", "type": "order.placed"})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_systems_send_by_their_own_sdks() {
    let (mut weir, secret) = with_senders().await;
    let (http, logs) = (weir.collector("/v1/events"), weir.collector("/v1/logs"));
    let said = rig::send("cloudevents", &http, "erp", &secret).unwrap();
    assert_eq!(said, ["204 ", "204 "]);
    assert_eq!(rig::send("otlp-http", &logs, "erp", &secret).unwrap(), ["sent"]);
    let grpc = weir.collector_grpc();
    assert_eq!(rig::send("otlp-grpc", &grpc, "erp", &secret).unwrap(), ["sent"]);
    // Each of them is told, in its own way, that it may not.
    let said = rig::send("cloudevents", &http, "guest", &secret).unwrap();
    assert!(said.iter().all(|line| line.starts_with("403 ")), "{said:?}");
    for (how, to, code) in [("otlp-http", &logs, "401"), ("otlp-grpc", &grpc, "UNAUTHENTICATED")] {
        let said = rig::send(how, to, "erp", "weirs_of-somebody-else").unwrap().join(" ");
        assert!(said.starts_with("failed") && said.contains(code), "{said}");
    }

    let count = "SELECT count(*) AS events FROM events WHERE kind = 'external'";
    until(&weir, count, |row| row["events"] == 6).await;
    let columns = "external_id, external_source, external_type, external_subject, external_time,
        external_data, external_attributes, app_id, app_owner, service_name, service_version";
    let sql = |of: &str| {
        format!(
            "SELECT {columns} FROM events WHERE kind = 'external' AND {of} ORDER BY external_id"
        )
    };
    let orders = rows(&weir, &sql("external_source = '/erp/orders'"));
    assert_eq!(orders.len(), 2);
    for (number, subject) in [(1, "order 1"), (2, "größer")] {
        let row = &orders[number - 1];
        let data: Value = serde_json::from_str(row["external_data"].as_str().unwrap()).unwrap();
        assert_eq!(data, json!({"pieces": number, "note": "größer"}));
        let expected = [
            ("external_id", json!(format!("sdk-{number}"))),
            ("external_type", json!("order.placed")),
            ("external_subject", json!(subject)),
            ("external_time", json!("2026-01-31T23:59:59Z")),
            ("app_id", json!("erp")),
            ("app_owner", json!("ada@example.org")),
        ];
        for (name, value) in expected {
            assert_eq!(row[name], value, "{name} of {row}");
        }
    }
    let content_type = json!(r#"{"datacontenttype":"application/json"}"#);
    assert_eq!(orders[1]["external_attributes"], content_type);
    let records = rows(&weir, &sql("external_source = 'billing'"));
    assert_eq!(records.len(), 4);
    for record in &records {
        assert_eq!(
            (&record["service_name"], &record["service_version"]),
            (&json!("billing"), &json!("1.4"))
        );
        let data: Value = serde_json::from_str(record["external_data"].as_str().unwrap()).unwrap();
        assert_eq!(data["resource"]["service.name"], "billing", "{data}");
        assert!(record["external_time"].is_string(), "{record}");
        match record["external_type"].as_str().unwrap() {
            "ERROR" => {
                assert_eq!(
                    (&data["body"], &data["severity_number"]),
                    (&json!("invoice refused"), &json!(17))
                );
                let attributes = &data["attributes"];
                assert_eq!(
                    (&attributes["invoice"], &attributes["why"]),
                    (&json!(77), &json!(["total", "date"]))
                );
            }
            "INFO" => assert!(data["body"].as_str().unwrap().starts_with("started by"), "{data}"),
            other => panic!("{other}"),
        }
    }
    weir.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_taken_is_named_and_the_rest_is_taken() {
    let (mut weir, secret) = with_senders().await;
    let events = |content_type| ("/v1/events", content_type);
    // A batch, of which three are none.
    let mut batch: Vec<Value> = (0..6).map(|number| event(&format!("b{number}"))).collect();
    batch[1].as_object_mut().unwrap().remove("source");
    batch[3]["time"] = json!("yesterday");
    batch[5]["data"] = json!("x".repeat(300_000));
    let (status, taken) = send(&weir, events(BATCH), &secret, json!(batch).to_string()).await;
    let rejected = json!([
        {"row": 1, "code": "body_invalid", "detail": "source is missing"},
        {"row": 3, "code": "body_invalid",
            "detail": "time \"yesterday\": time: expected a time as in 2026-01-31T23:59:59.000000Z"},
        {"row": 5, "code": "body_too_large", "detail": "data: 300002 bytes, 262144 are allowed"},
    ]);
    assert_eq!((status, taken), (207, json!({"accepted": 3, "rejected": rejected})));
    let (status, taken) = send(&weir, events(BATCH), &secret, json!([{}]).to_string()).await;
    assert_eq!((status, &taken["accepted"]), (422, &json!(0)), "{taken}");
    assert_eq!(send(&weir, events(BATCH), &secret, "[]").await.0, 200);

    // Lines, packed: two events of CloudEvents, two of no envelope, and what is none.
    let lines = [
        event("l1").to_string(),
        String::new(),
        r#"{"order": 5, "timestamp": "2026-02-03T04:05:06+01:00", "note": "a b"}"#.to_owned(),
        "no JSON".to_owned(),
        event("l2").to_string(),
        "[1]".to_owned(),
        r#"{"order": 12345678901234567890123}"#.to_owned(),
    ];
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(lines.join("\n").as_bytes()).unwrap();
    let packed = packed.finish().unwrap();
    let url = weir.collector("/v1/events?type=order.changed&source=/shop");
    let request = weir.client.post(url).basic_auth("erp", Some(&secret));
    let request = request.header("content-type", LINES).header("content-encoding", "gzip");
    let (status, taken) = answer(request.body(packed.clone())).await;
    assert_eq!((status, &taken["accepted"]), (207, &json!(4)), "{taken}");
    let places: Vec<&Value> =
        taken["rejected"].as_array().unwrap().iter().map(|of| &of["row"]).collect();
    assert_eq!(places, [&json!(4), &json!(6)], "{taken}");

    let sql = "SELECT external_id, external_source, external_type, external_time, external_data
        FROM events WHERE kind = 'external' AND external_source <> '/erp' ORDER BY external_data";
    until(&weir, "SELECT count(*) AS n FROM events WHERE kind = 'external'", |row| row["n"] == 7)
        .await;
    let plain = rows(&weir, sql);
    let about = |row: &Value| (row["external_source"].clone(), row["external_type"].clone());
    assert!(plain.iter().all(|row| about(row) == (json!("/shop"), json!("order.changed"))));
    // Numbers are as they were sent, and an event without an id has its place for one.
    assert_eq!(plain[0]["external_data"], r#"{"order":12345678901234567890123}"#);
    assert!(plain[0]["external_id"].as_str().unwrap().ends_with("/7"), "{plain:?}");
    assert_eq!(
        plain[1]["external_data"],
        r#"{"order":5,"timestamp":"2026-02-03T04:05:06+01:00","note":"a b"}"#
    );
    assert_eq!(plain[1]["external_time"], "2026-02-03T03:05:06Z");

    // And SQL looks into them.
    let within =
        "SELECT external_data ->> 'note' AS note, json_get_int(external_data, 'order') AS n
        FROM events WHERE external_source = '/shop' AND json_contains(external_data, 'note')";
    assert_eq!(rows(&weir, within), [json!({"note": "a b", "n": 5})]);

    // One event, in binary mode: what is no JSON is a text, what is no text is base64.
    let binary = |content_type: &'static str, body: Vec<u8>| {
        let request = weir.client.post(weir.collector("/v1/events"));
        let headers = [
            ("ce-specversion", "1.0"),
            ("ce-id", "x"),
            ("ce-source", "/bin"),
            ("ce-type", "blob"),
            ("ce-subject", "gr%C3%B6%C3%9Fer"),
            ("ce-lot", "7"),
        ];
        let request = headers.into_iter().fold(request, |of, (name, value)| of.header(name, value));
        answer(
            request
                .header("content-type", content_type)
                .basic_auth("erp", Some(&secret))
                .body(body),
        )
    };
    assert_eq!(binary("text/plain", b"plain \"text\"".to_vec()).await.0, 204);
    assert_eq!(binary("image/png", vec![0xff, 0xd8, 0]).await.0, 204);
    let (status, problem) = binary("application/json", b"{".to_vec()).await;
    assert_eq!((status, &problem["code"]), (400, &json!("body_invalid")), "{problem}");
    let of_binary = "SELECT external_data, external_subject, external_attributes FROM events
        WHERE external_source = '/bin' ORDER BY external_data";
    until(&weir, "SELECT count(*) AS n FROM events WHERE external_source = '/bin'", |row| {
        row["n"] == 2
    })
    .await;
    assert_eq!(
        rows(&weir, of_binary),
        [
            json!({"external_data": "\"/9gA\"", "external_subject": "größer", "external_attributes":
            r#"{"datacontenttype":"image/png","dataencoding":"base64","lot":"7"}"#}),
            json!({"external_data": r#""plain \"text\"""#, "external_subject": "größer",
            "external_attributes": r#"{"datacontenttype":"text/plain","lot":"7"}"#}),
        ]
    );

    // What is refused as a whole.
    let check = |(status, problem): (u16, Value), expected: (u16, &str)| {
        assert_eq!((status, problem["code"].as_str().unwrap_or("")), expected, "{problem}");
    };
    let one = event("one").to_string();
    check(
        send(&weir, events("application/json"), &secret, one.clone()).await,
        (415, "content_type_unsupported"),
    );
    // An event that says of itself that it is whole may have headers besides.
    let both = weir.client.post(weir.collector("/v1/events")).basic_auth("erp", Some(&secret));
    let both = both.header("ce-specversion", "1.0").header("ce-id", "other");
    let (status, _) =
        answer(both.header("content-type", EVENT).body(event("whole").to_string())).await;
    assert_eq!(status, 204);
    let whole =
        "SELECT count(*) AS n FROM events WHERE external_id = 'whole' AND external_data IS NULL";
    until(&weir, whole, |row| row["n"] == 1).await;
    check(send(&weir, events(EVENT), &secret, "{").await, (400, "body_invalid"));
    check(send(&weir, events(EVENT), "weirs_wrong", one.clone()).await, (401, "client_invalid"));
    let none = weir.client.post(weir.collector("/v1/events")).body(one.clone());
    check(answer(none).await, (401, "client_invalid"));
    let guest = weir.client.post(weir.collector("/v1/events")).basic_auth("guest", Some(&secret));
    check(answer(guest.header("content-type", EVENT).body(one)).await, (403, "scope_missing"));
    let large = vec![b'x'; 9 * 1024 * 1024];
    check(send(&weir, events(LINES), &secret, large.clone()).await, (413, "body_too_large"));
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    bomb.write_all(&large).unwrap();
    let request = weir.client.post(weir.collector("/v1/events")).basic_auth("erp", Some(&secret));
    let request = request.header("content-type", LINES).header("content-encoding", "gzip");
    check(answer(request.body(bomb.finish().unwrap())).await, (413, "body_too_large"));
    check(
        send(&weir, events(LINES), &secret, "{}\n".repeat(10_001)).await,
        (413, "body_too_large"),
    );
    check(
        send(&weir, ("/v1/events?kind=x", LINES), &secret, "{}").await,
        (400, "request_malformed"),
    );
    let (status, said) =
        send(&weir, ("/v1/logs", "application/json"), &secret, "{\"resourceLogs\": 1}").await;
    assert!(
        status == 400 && said["message"].as_str().unwrap().starts_with("body_invalid"),
        "{said}"
    );
    // Of OTLP what cannot be taken is counted, and the rest is taken, each time by the same id.
    let record = |body: &str| json!({"severityText": "odd", "body": {"stringValue": body}});
    let large = "x".repeat(300_000);
    let logs = json!({"resourceLogs": [{"scopeLogs": [
        {"logRecords": [record("small"), record(&large), record("small too")]}
    ]}]});
    for _ in 0..2 {
        let sent = send(&weir, ("/v1/logs", "application/json"), &secret, logs.to_string()).await;
        let partial = &sent.1["partialSuccess"];
        let rejected = partial["rejectedLogRecords"].clone();
        assert!(sent.0 == 200 && (rejected == 1 || rejected == "1"), "{sent:?}");
        assert!(
            partial["errorMessage"].as_str().unwrap().starts_with("row 1: data: 3000"),
            "{partial}"
        );
    }
    let odd = "SELECT count(*) AS n, count(DISTINCT external_id) AS ids FROM events
        WHERE external_type = 'odd'";
    until(&weir, odd, |row| row["n"] == 4 && row["ids"] == 2).await;
    // Who was not let in is in the events.
    let denied = "SELECT count(*) AS n FROM events WHERE kind = 'authentication'
        AND service_name = 'weir-collector' AND auth_method = 'basic'";
    until(&weir, denied, |row| row["n"] == 3).await;
    weir.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_taken_is_there_after_kill_9() {
    let (mut weir, secret) = with_senders().await;
    let url = weir.collector("/v1/events");
    let mut senders = tokio::task::JoinSet::new();
    // Four that send until nobody answers.
    for sender in 0..4 {
        let (client, url, secret) = (weir.client.clone(), url.clone(), secret.clone());
        senders.spawn(async move {
            let mut accepted = BTreeSet::new();
            for batch in 0.. {
                let ids: Vec<String> =
                    (0..50).map(|number| format!("k{sender}-{batch}-{number}")).collect();
                let events: Vec<Value> = ids.iter().map(|id| event(id)).collect();
                let request = client.post(&url).basic_auth("erp", Some(&secret));
                let request = request.header("content-type", BATCH);
                let Ok(answer) = request.body(json!(events).to_string()).send().await else {
                    break;
                };
                assert_eq!(answer.status(), 200);
                let Ok(text) = answer.text().await else { break };
                let answer: Value = serde_json::from_str(&text).unwrap();
                assert_eq!(answer["accepted"], 50);
                accepted.extend(ids);
            }
            accepted
        });
    }
    tokio::time::sleep(Duration::from_millis(700)).await;
    weir.kill();
    let mut accepted = BTreeSet::new();
    while let Some(of_one) = senders.join_next().await {
        accepted.append(&mut of_one.unwrap());
    }
    assert!(accepted.len() > 200, "{} were accepted", accepted.len());
    weir.start(&[]);
    // Those too whose answer was under way.
    let sql = "SELECT external_id AS id, count(*) AS n FROM events WHERE kind = 'external'
        GROUP BY external_id";
    let count = "SELECT count(*) AS n FROM events WHERE kind = 'external'";
    let expected = accepted.len();
    until(&weir, count, |row| row["n"].as_u64().unwrap() as usize >= expected).await;
    let found = rows(&weir, sql);
    assert!(found.iter().all(|row| row["n"] == 1), "some are there twice");
    let found: BTreeSet<String> =
        found.iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect();
    let lost: Vec<&String> = accepted.difference(&found).collect();
    assert!(lost.is_empty(), "{lost:?}");
    weir.stop();
}

/// Requests whose bodies do not come hold all places.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_finds_no_place_is_told_to_wait() {
    let (mut weir, secret) = with_senders().await;
    let login = base64::engine::general_purpose::STANDARD.encode(format!("erp:{secret}"));
    let address = weir.collector("").replace("http://", "");
    let head = format!(
        "POST /v1/events HTTP/1.1\r\nhost: {address}\r\nauthorization: Basic {login}\r\n\
         content-type: {EVENT}\r\ncontent-length: 1000\r\n\r\n"
    );
    let stall = || {
        let mut stream = std::net::TcpStream::connect(&address).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        stream
    };
    let mut waiting: Vec<_> = (0..16).map(|_| stall()).collect();
    let one = event("one").to_string();
    let began = std::time::Instant::now();
    let refused = loop {
        let request = weir.client.post(weir.collector("/v1/events"));
        let request = request.basic_auth("erp", Some(&secret)).header("content-type", EVENT);
        let answer = request.body(one.clone()).send().await.unwrap();
        if answer.status() == 503 {
            break answer;
        }
        assert!(began.elapsed() < PATIENCE, "there is a place for a 17th");
        // One of them may have come while this one had a place.
        waiting.push(stall());
    };
    assert_eq!(refused.headers()["retry-after"], "1");
    let problem: Value = refused.json().await.unwrap();
    assert_eq!(problem["code"], "overloaded");
    // OTLP's senders try again by what they are told, also by gRPC.
    let said = rig::send("otlp-grpc", &weir.collector_grpc(), "erp", &secret).unwrap().join(" ");
    assert!(said.starts_with("failed") && said.contains("UNAVAILABLE"), "{said}");
    drop(waiting);
    let began = std::time::Instant::now();
    while send(&weir, ("/v1/events", EVENT), &secret, one.clone()).await.0 != 204 {
        assert!(began.elapsed() < PATIENCE, "no place is free again");
    }
    weir.stop();
}

/// A log that takes nothing for want of room.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_of_others_wait_for_room_on_a_full_disk() {
    let mut weir = Weir::new();
    let taken = weir.start_on_small_disk(260, 70);
    let secret = let_in(&weir);
    let data = "x".repeat(200_000);
    let mut accepted = 0;
    let mut batch = 0;
    let mut send_batch = async |accepted: &mut usize| {
        batch += 1;
        let events: Vec<Value> = (0..20)
            .map(|number| {
                let mut event = event(&format!("d{batch}-{number}"));
                event["data"] = json!(data);
                event
            })
            .collect();
        let (status, said) =
            send(&weir, ("/v1/events", BATCH), &secret, json!(events).to_string()).await;
        *accepted += said["accepted"].as_u64().unwrap_or(0) as usize;
        (status, said)
    };
    let refused = loop {
        let (status, said) = send_batch(&mut accepted).await;
        if status != 200 {
            break (status, said);
        }
        assert!(accepted < 10_000, "the disk does not become full");
    };
    // In whole before it is read, or what came after the last that had room.
    let codes: BTreeSet<&str> = match refused.1["rejected"].as_array() {
        Some(rejected) => rejected.iter().map(|of| of["code"].as_str().unwrap()).collect(),
        None => BTreeSet::from([refused.1["code"].as_str().unwrap()]),
    };
    assert_eq!(codes, BTreeSet::from(["events_unavailable"]), "{refused:?}");
    assert!([503, 207].contains(&refused.0), "{refused:?}");
    std::fs::remove_file(taken).unwrap();
    let began = std::time::Instant::now();
    while send_batch(&mut accepted).await.0 != 200 {
        assert!(began.elapsed() < PATIENCE, "{}", weir.said());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let sql = "SELECT count(*) AS n FROM events WHERE kind = 'external'";
    until(&weir, sql, |row| row["n"] == accepted).await;
    weir.stop();
}
