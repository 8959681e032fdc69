//! Runs of routes: services, faults, events.

use std::sync::atomic::Ordering;
use std::time::Duration;

use ingest::event::{Clock as _, Event, Kind, Outcome, SystemClock, Timestamp};
use mediator::endpoint::soap::Version;
use reqwest::Method;
use serde_json::{Value, json};

use crate::service::{echo, silent, soap};
use crate::world::World;

/// An upstream, and a route of it, as a file has them.
fn yaml(url: &str, methods: &str, path: &str, timeout_ms: u64, steps: &str) -> String {
    format!(
        "kind: upstream\nname: orders\nspec: {{targets: [{{url: {url}}}]}}\n---\n\
         kind: route\nname: orders\nspec:\n  from: {{http: {{methods: [{methods}], path: '{path}'}}}}\n  \
         timeout_ms: {timeout_ms}\n  steps:\n{steps}"
    )
}

fn soap_yaml(url: &str, version: &str, timeout_ms: u64) -> String {
    let steps = format!(
        r#"    - id: ask
      soap:
        upstream: orders
        path: /soap
        version: "{version}"
        action: urn:orders:get
        body: <o:GetOrder xmlns:o="urn:orders"><o:Id>{{{{ path.id }}}}</o:Id></o:GetOrder>
    - id: shape
      transform: '.GetOrderResponse | {{id: .Id, skus: [.Line[].Sku]}}'
    - respond: {{status: 200, headers: {{x-route: orders}}}}
"#
    );
    yaml(url, "GET", "/orders/{id}", timeout_ms, &steps)
}

struct Answer {
    status: u16,
    headers: reqwest::header::HeaderMap,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

async fn send(
    world: &World,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    let mut request = world.http.request(method, world.url(path)).body(body.to_owned());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = request.send().await.unwrap();
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    Answer { status, headers, body: answer.text().await.unwrap() }
}

async fn get(world: &World, path: &str) -> Answer {
    send(world, Method::GET, path, &[("x-correlation-id", "c-1"), ("authorization", "hush")], "")
        .await
}

fn of_kind(events: &[Event], kind: Kind) -> Vec<&Event> {
    events.iter().filter(|event| event.kind == kind).collect()
}

#[tokio::test]
async fn rest_goes_to_soap_and_comes_back_as_json() {
    for (version, text) in [(Version::V1_1, "1.1"), (Version::V1_2, "1.2")] {
        let service = soap(version).await;
        let world = World::new(&soap_yaml(&service.url, text, 60_000)).await;
        let answer = get(&world, "/orders/a%3C%26b").await;
        assert_eq!(
            (answer.status, answer.json()),
            (200, json!({"id": "a<&b", "skus": ["a", "b"]}))
        );
        assert_eq!(answer.headers["content-type"], "application/json");
        assert_eq!(
            (&answer.headers["x-route"], &answer.headers["x-correlation-id"]),
            (&"orders".parse().unwrap(), &"c-1".parse().unwrap())
        );
        assert!(!answer.headers.contains_key("authorization"));
        assert_eq!(service.requests.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test]
async fn a_run_has_one_event_and_one_for_each_step() {
    let service = soap(Version::V1_1).await;
    let world = World::new(&soap_yaml(&service.url, "1.1", 60_000)).await;
    let before = world.emitter.metrics().emitted;
    assert_eq!(get(&world, "/orders/7").await.status, 200);
    assert!(world.emitter.metrics().emitted >= before + 4, "spooled before the answer");
    let events = world.events(Kind::Route, 1).await;
    let (runs, steps) = (of_kind(&events, Kind::Route), of_kind(&events, Kind::Step));
    let ids: Vec<&str> = steps.iter().filter_map(|e| e.mediation_step_id.as_deref()).collect();
    assert_eq!((runs.len(), ids), (1, vec!["ask", "shape", "3"]));
    let kinds: Vec<&str> = steps.iter().filter_map(|e| e.mediation_step_kind.as_deref()).collect();
    assert_eq!(kinds, ["soap", "transform", "respond"]);
    let run = runs[0];
    assert_eq!(run.mediation_route.as_deref(), Some("orders"));
    assert_eq!((run.http_response_status_code, run.outcome), (Some(200), Outcome::Success));
    assert!(
        run.latency_total_us.is_some() && run.config_hash.is_some() && run.fault_code.is_none()
    );
    for step in &steps {
        assert_eq!(step.correlation_id.as_deref(), Some("c-1"));
        assert_eq!(step.parent_span_id, run.span_id);
        assert_eq!(step.trace_id, run.trace_id);
        assert!(step.mediation_step_duration_us.is_some());
    }
    assert_eq!((steps[0].upstream_status_code, steps[0].upstream_attempts), (Some(200), Some(1)));
    assert_eq!(steps[0].upstream_name.as_deref(), Some("orders"));
    assert!(steps[0].latency_upstream_us.is_some());
}

/// What a caller is told, and what the event says; never the one in the other.
async fn check_fault(
    world: &World,
    path: &str,
    code: &str,
    status: u16,
    step: &str,
    line: i64,
    reason: &str,
) {
    let answer = get(world, path).await;
    let problem = answer.json();
    assert_eq!((answer.status, problem["code"].as_str()), (status, Some(code)), "{problem}");
    assert_eq!(answer.headers["content-type"], "application/problem+json");
    assert_eq!(problem["correlation_id"], "c-1");
    assert_eq!(problem["detail"], Value::Null, "nothing internal");
    let events = world.events(Kind::Route, 1).await;
    let run = of_kind(&events, Kind::Route)[0];
    assert_eq!(run.fault_code.as_deref(), Some(code));
    assert_eq!(
        (run.fault_step.as_deref(), run.mediation_step_id.as_deref()),
        (Some(step), Some(step))
    );
    assert_eq!((run.fault_file.as_deref(), run.fault_line), (Some("routes.yaml"), Some(line)));
    assert_eq!(
        (run.error_type.as_deref(), run.http_response_status_code),
        (Some(code), Some(status.into()))
    );
    let message = run.fault_message.as_deref().unwrap();
    assert!(message.contains(reason), "{message}");
    assert!(!answer.body.contains(message), "{}", answer.body);
    let last = *of_kind(&events, Kind::Step).last().unwrap();
    assert_eq!(
        (last.fault_code.as_deref(), last.mediation_step_id.as_deref()),
        (Some(code), Some(step))
    );
}

#[tokio::test]
async fn a_soap_fault_is_502_and_its_words_are_in_the_event_only() {
    for (version, text, code) in
        [(Version::V1_1, "1.1", "Client"), (Version::V1_2, "1.2", "Sender")]
    {
        let service = soap(version).await;
        let world = World::new(&soap_yaml(&service.url, text, 60_000)).await;
        let reason = format!("upstream orders: {code}: no order for account …");
        check_fault(&world, "/orders/missing", "soap_fault", 502, "ask", 11, &reason).await;
    }
}

#[tokio::test]
async fn a_service_that_refuses_or_speaks_otherwise_is_an_upstream_error() {
    let service = soap(Version::V1_2).await;
    let world = World::new(&soap_yaml(&service.url, "1.1", 60_000)).await;
    check_fault(&world, "/orders/7", "upstream_error", 502, "ask", 11, "answered 400").await;
    let service = echo().await;
    let world = World::new(&soap_yaml(&service.url, "1.1", 60_000)).await;
    check_fault(&world, "/orders/7", "upstream_error", 502, "ask", 11, "is not taken as XML").await;
}

#[tokio::test]
async fn a_service_that_is_slow_or_away_is_told_as_such() {
    let service = silent().await;
    let world = World::new(&soap_yaml(&service.url, "1.1", 300)).await;
    check_fault(&world, "/orders/7", "route_timeout", 504, "ask", 11, "300 ms").await;

    let steps = "    - call: {upstream: orders, method: GET, path: /a, timeout_ms: 200}\n";
    let world = World::new(&yaml(&service.url, "GET", "/orders/{id}", 60_000, steps)).await;
    check_fault(&world, "/orders/7", "upstream_timeout", 504, "1", 11, "in time").await;

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let world = World::new(&soap_yaml(&url, "1.1", 60_000)).await;
    check_fault(&world, "/orders/7", "upstream_unreachable", 503, "ask", 11, "refused").await;
}

#[tokio::test]
async fn a_call_sends_what_the_steps_have_made() {
    let service = echo().await;
    let steps = r#"    - set_header: {name: x-mark, expression: '"\(.a) \($query.q) \($path.id)"'}
    - remove_header: {name: x-removed}
    - template: {content_type: application/json, text: '{"n": {{ body.n }}, "a": {{ body.a }}}'}
    - call: {upstream: orders, method: PUT, path: '/o/{{ path.id }}?q={{ query.q }}', headers: {x-more: "1"}}
"#;
    let world = World::new(&yaml(&service.url, "POST", "/orders/{id}", 60_000, steps)).await;
    let headers =
        [("content-type", "application/json"), ("x-removed", "1"), ("x-correlation-id", "c-2")];
    let body = r#"{"a":"x\"y","n":12345678901234567}"#;
    let answer = send(&world, Method::POST, "/orders/a%2Fb?q=1+2", &headers, body).await;
    let said = answer.json();
    assert_eq!(answer.status, 200, "{said}");
    assert_eq!(
        (&said["target"], &said["mark"]),
        (&json!("/o/a%2Fb?q=1%202"), &json!("x\"y 1 2 a/b"))
    );
    assert_eq!((&said["removed"], &said["correlation"]), (&Value::Null, &json!("c-2")));
    assert_eq!(said["body"], r#"{"n": 12345678901234567, "a": "x\"y"}"#);
    assert_eq!(answer.headers["x-answer"], "1", "the answer became the message");
    let events = world.events(Kind::Route, 1).await;
    let call = of_kind(&events, Kind::Step)[3];
    let span = call.span_id.as_deref().unwrap();
    assert!(
        said["traceparent"].as_str().unwrap().contains(span),
        "the service is the step's child"
    );
}

#[tokio::test]
async fn a_status_that_is_accepted_is_no_fault() {
    let service = echo().await;
    let steps =
        "    - call: {upstream: orders, method: GET, path: /teapot, accept_status: [418]}\n";
    let world = World::new(&yaml(&service.url, "GET", "/orders/{id}", 60_000, steps)).await;
    let answer = get(&world, "/orders/7").await;
    assert_eq!((answer.status, answer.body.as_str()), (418, "short and stout"));
    let steps = "    - call: {upstream: orders, method: GET, path: /teapot}\n";
    let world = World::new(&yaml(&service.url, "GET", "/orders/{id}", 60_000, steps)).await;
    check_fault(&world, "/orders/7", "upstream_error", 502, "1", 11, "answered 418").await;
}

#[tokio::test]
async fn a_route_fails_on_purpose_with_its_own_words() {
    let steps = "    - fault: {code: body_invalid, message: 'order {{ path.id }} is closed'}\n";
    let world = World::new(&yaml("http://127.0.0.1:1", "GET", "/orders/{id}", 60_000, steps)).await;
    let answer = get(&world, "/orders/77777").await;
    assert_eq!((answer.status, &answer.json()["detail"]), (400, &json!("order 77777 is closed")));
    let events = world.events(Kind::Route, 1).await;
    let run = of_kind(&events, Kind::Route)[0];
    assert_eq!(run.fault_message.as_deref(), Some("order … is closed"));
}

/// What an expression makes of the body as it was sent is the caller's to mend; of what the
/// route has made itself it is the route's.
#[tokio::test]
async fn a_body_that_an_expression_cannot_take_is_the_callers_fault() {
    let check = async |steps: &str, content_type: &str, expected: (u16, &str, Value)| {
        let world = World::new(&yaml("http://127.0.0.1:1", "POST", "/in", 60_000, steps)).await;
        let headers = [("content-type", content_type)];
        let answer = send(&world, Method::POST, "/in", &headers, r#"{"n":"seven"}"#).await;
        let problem = answer.json();
        let found = (answer.status, problem["code"].as_str().unwrap(), problem["detail"].clone());
        assert_eq!(found, expected, "{steps}");
        let events = world.events(Kind::Route, 1).await;
        let outcome = of_kind(&events, Kind::Route)[0].outcome;
        let told_as_callers = matches!(outcome, Outcome::Refused | Outcome::ClientError);
        assert_eq!(told_as_callers, expected.0 < 500, "{steps}: {outcome:?}");
    };
    let json = "application/json";
    let detail: Value = "the body is not as the route takes it: cannot index … with …".into();
    check("    - transform: .n.a\n", json, (400, "body_invalid", detail.clone())).await;
    let header = "    - set_header: {name: x-n, expression: .n.a}\n";
    check(header, json, (400, "body_invalid", detail)).await;
    let why = "the body is neither JSON nor XML by its content type".into();
    let fails = "    - set_header: {name: x-n, expression: 'if . == null then error else . end'}\n";
    check(fails, "text/plain", (415, "content_type_unsupported", why)).await;
    let made = "    - transform: '{n: [1]}'\n    - transform: .n.a\n";
    check(made, json, (500, "step_failed", Value::Null)).await;
    check("    - transform: empty\n", json, (500, "step_failed", Value::Null)).await;
}

#[tokio::test]
async fn bombs_are_the_callers_fault_and_end_in_time() {
    let steps = "    - transform: .\n";
    let world = World::new(&yaml("http://127.0.0.1:1", "POST", "/in", 60_000, steps)).await;
    let laughs = r#"<!DOCTYPE l [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]><l>&b;</l>"#;
    let xml = "text/xml";
    let bombs = [
        (xml, laughs.to_owned(), "a document type"),
        (xml, "<a>".repeat(10_000), "64 levels"),
        (xml, "<!DOCTYPE a SYSTEM \"file:///etc/passwd\"><a/>".to_owned(), "a document type"),
        ("application/json", "[".repeat(200_000), "128 levels"),
        ("application/json", "{".to_owned(), "not JSON"),
    ];
    for (content_type, body, part) in bombs {
        let answer =
            send(&world, Method::POST, "/in", &[("content-type", content_type)], &body).await;
        let problem = answer.json();
        assert_eq!((answer.status, &problem["code"]), (400, &json!("body_invalid")), "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains(part), "{problem}");
    }
    let answer = send(&world, Method::POST, "/in", &[("content-type", "image/png")], "x").await;
    assert_eq!(answer.status, 415);
}

#[tokio::test]
async fn a_stored_message_is_answered_202_with_its_id() {
    let steps = "    - set_header: {name: x-kept, value: '1'}\n    - store: {queue: orders, key: .customer, expires_after_ms: .ttl}\n";
    let queue = "\n---\nkind: queue\nname: orders\nspec: {partitions: 1, deliver: {upstream: orders, path: /in}}\n";
    let world =
        World::new(&(yaml("http://127.0.0.1:1", "POST", "/in", 60_000, steps) + queue)).await;
    let json_type = ("content-type", "application/json");
    let body = r#"{"customer": 7,  "n":1.10}"#;
    let headers = [json_type, ("idempotency-key", "mine-1"), ("authorization", "hush")];
    let answer = send(&world, Method::POST, "/in", &headers, body).await;
    assert_eq!((answer.status, answer.body.as_str()), (202, r#"{"id":"mine-1"}"#));
    assert!(!answer.headers.contains_key("location"));
    // By another id in its place, a repetition would be another message.
    for bad in ["a b", "", &"x".repeat(129)] {
        let headers = [json_type, ("idempotency-key", bad)];
        let refused = send(&world, Method::POST, "/in", &headers, body).await;
        assert_eq!(
            (refused.status, refused.json()["code"].as_str()),
            (400, Some("request_malformed")),
            "{bad}"
        );
    }
    let twice = [json_type, ("idempotency-key", "one"), ("idempotency-key", "two")];
    assert_eq!(send(&world, Method::POST, "/in", &twice, body).await.status, 400);
    let made = send(&world, Method::POST, "/in", &[json_type], body).await;
    let made = made.json()["id"].as_str().unwrap().to_owned();
    assert_eq!((made.len(), made.as_bytes()[14]), (36, b'7'), "a UUID of version 7");

    let records = world.records("weir.queue.orders").await;
    assert_eq!(records.len(), 2);
    assert_eq!(
        (records[0].key.as_deref(), &records[0].value.as_deref()),
        (Some(&b"7"[..]), &Some(body.as_bytes()))
    );
    let stored = format!("{:?}", records[0].headers);
    assert!(stored.contains("header_x-kept") && !stored.contains("hush"), "{stored}");
    let events = world.events(Kind::Route, 2).await;
    let steps = of_kind(&events, Kind::Step);
    assert_eq!(steps[1].messaging_message_id.as_deref(), Some("mine-1"));
    assert!(records.iter().all(|record| record.headers.get("weir_expires_time").is_none()));
    for (ttl, status) in [("60000", 202), ("0", 400), ("\"soon\"", 400), ("1.5", 400)] {
        let body = format!(r#"{{"customer": 7, "ttl": {ttl}}}"#);
        let answer = send(&world, Method::POST, "/in", &[json_type], &body).await;
        assert_eq!(answer.status, status, "{ttl}: {}", answer.body);
    }
    let records = world.records("weir.queue.orders").await;
    let time = |name| -> Timestamp {
        let text = records[2].headers.get(name).and_then(|text| std::str::from_utf8(text).ok());
        text.unwrap().parse().unwrap()
    };
    let micros = time("weir_expires_time").micros_since(time("weir_accepted_time"));
    assert_eq!((records.len(), micros), (3, 60_000_000));
}

#[tokio::test]
async fn a_key_that_orders_nothing_is_the_callers_fault_and_an_event() {
    let queue = "\n---\nkind: queue\nname: orders\nspec: {partitions: 1, deliver: {upstream: orders, path: /in}}\n";
    let steps = "    - store: {queue: orders, key: .customer}\n";
    let world =
        World::new(&(yaml("http://127.0.0.1:1", "POST", "/in", 60_000, steps) + queue)).await;
    let none = "the message cannot be stored: it has no text where its key is taken from";
    let empty = "the message cannot be stored: the ordering key that it gives is empty";
    let long = "a key of 1025 bytes is larger than the limit of 1024";
    let cases = [
        (json!({}), 400, "body_invalid", none),
        (json!({"customer": null}), 400, "body_invalid", none),
        (json!({"customer": ["c-1"]}), 400, "body_invalid", none),
        (json!({"customer": ""}), 400, "body_invalid", empty),
        (json!({"customer": "k".repeat(1_025)}), 413, "message_too_large", long),
        (json!({"customer": "k".repeat(1_024)}), 202, "", ""),
    ];
    for (body, status, code, told) in &cases {
        let headers = [("content-type", "application/json")];
        let answer = send(&world, Method::POST, "/in", &headers, &body.to_string()).await;
        assert_eq!(answer.status, *status, "{body}: {}", answer.body);
        if *status != 202 {
            let problem = answer.json();
            assert_eq!(&problem["code"], code, "{body}");
            assert!(problem["detail"].as_str().unwrap().ends_with(told), "{problem}");
        }
    }
    assert_eq!(world.records("weir.queue.orders").await.len(), 1);
    let events = world.events(Kind::Route, cases.len()).await;
    let told = of_kind(&events, Kind::Route);
    let told: Vec<_> = told.iter().map(|of| of.error_type.as_deref().unwrap_or_default()).collect();
    assert_eq!(told, cases.map(|(_, _, code, _)| code));
}

#[tokio::test]
async fn a_message_is_stored_for_a_later_time() {
    let route = |steps: &str| {
        let queue = "\n---\nkind: queue\nname: orders\nspec: {partitions: 1, deliver: {upstream: orders, path: /in}}\n";
        yaml("http://127.0.0.1:1", "POST", "/in", 60_000, steps) + queue
    };
    let steps =
        "    - store: {queue: orders, key: .key, expires_after_ms: .ttl, deliver_at: .at}\n";
    let world = World::new(&route(steps)).await;
    let headers = [("content-type", "application/json"), ("idempotency-key", "m")];
    let in_an_hour = SystemClock.now().after(Duration::from_secs(3_600)).to_string();
    let in_a_year = SystemClock.now().after(Duration::from_secs(367 * 86_400)).to_string();
    let late = "the message cannot be stored: its deliver_at is more than 366 days ahead";
    let no_time = "the message cannot be stored: its deliver_at is not an RFC 3339 time, such as \
                   2026-12-01T06:00:00Z";
    let expires =
        format!("the message cannot be stored: it would expire before it is due, {in_an_hour}");
    for (at, ttl, told) in [
        (in_a_year.as_str(), "null", late),
        ("tomorrow", "null", no_time),
        ("", "null", no_time),
        (in_an_hour.as_str(), "3000000", expires.as_str()),
    ] {
        let body = format!(r#"{{"key": "k", "at": "{at}", "ttl": {ttl}}}"#);
        let answer = send(&world, Method::POST, "/in", &headers, &body).await;
        assert_eq!((answer.status, &answer.json()["detail"]), (400, &json!(told)), "{body}");
    }
    let body = format!(r#"{{"key": "k", "at": "{in_an_hour}", "ttl": 7200000}}"#);
    let answer = send(&world, Method::POST, "/in", &headers, &body).await;
    assert_eq!((answer.status, answer.json()), (202, json!({"id": "m", "due": in_an_hour})));
    // What is past is due at once, and so is what says no time.
    for at in ["\"2026-01-01T00:00:00+01:00\"", "null"] {
        let body = format!(r#"{{"key": "k", "at": {at}}}"#);
        let answer = send(&world, Method::POST, "/in", &headers, &body).await;
        assert_eq!((answer.status, answer.json()), (202, json!({"id": "m"})), "{at}");
    }
    assert_eq!(world.records("weir.queue.orders").await.len(), 2);
    let waits = world.records("weir.queue.orders.scheduled").await;
    let header = |name| waits[0].headers.get(name).map(|text| String::from_utf8_lossy(text));
    assert_eq!((waits.len(), waits[0].key.as_deref()), (1, Some(&b"m"[..])));
    assert_eq!(waits[0].value.as_deref(), Some(body.as_bytes()));
    assert_eq!(header("weir_ordering_key").as_deref(), Some("k"));
    assert_eq!(header("weir_due_time").as_deref(), Some(in_an_hour.as_str()));

    let world =
        World::new(&route("    - store: {queue: orders, deliver_after_ms: .after}\n")).await;
    for (after, status) in [("60000", 202), ("0", 202), ("-1", 400), ("31622400001", 400)] {
        let body = format!(r#"{{"after": {after}}}"#);
        let answer = send(&world, Method::POST, "/in", &headers, &body).await;
        assert_eq!(answer.status, status, "{after}: {}", answer.body);
        let is_later = answer.json()["due"].is_string();
        assert_eq!(is_later, after == "60000", "{after}: {}", answer.body);
    }
}

/// An evaluation that takes long holds up neither its caller nor anybody else.
#[tokio::test]
async fn a_long_evaluation_ends_with_its_route() {
    let steps = "    - transform: 'last(range(3000000))'\n";
    let world = World::new(&yaml("http://127.0.0.1:1", "GET", "/orders/{id}", 50, steps)).await;
    check_fault(&world, "/orders/7", "route_timeout", 504, "1", 11, "50 ms").await;
}

#[tokio::test]
async fn an_answer_without_a_body_has_none() {
    let steps =
        "    - template: {content_type: text/plain, text: x}\n    - respond: {status: 204}\n";
    let world = World::new(&yaml("http://127.0.0.1:1", "GET", "/orders/{id}", 60_000, steps)).await;
    let answer = get(&world, "/orders/7").await;
    assert_eq!((answer.status, answer.body.as_str()), (204, ""));
}
