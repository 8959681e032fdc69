//! Routes over real sockets: a mediator, its callers, and the services that it calls.

#![expect(clippy::unwrap_used, reason = "a test fails by it")]

mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::header::CONTENT_TYPE;
use ingest::event::{Event, Kind, Outcome};
use ingest::log::Partition;
use serde_json::{Value, json};

use crate::world::{Service, World};

fn upstream(name: &str, address: std::net::SocketAddr) -> String {
    format!("kind: upstream\nname: {name}\nspec: {{targets: [{{url: 'http://{address}'}}]}}\n---\n")
}

/// The second line from the end is the SOAP step's.
const STOCK: &str = "kind: route
name: stock
spec:
  from: {http: {methods: [POST], path: '/stock/{shop}', body_bytes_max: 1000}}
  timeout_ms: 20000
  steps:
  - id: only-known-keys
    transform: '{article: .article, shop: $path.shop}'
  - id: ask
    soap:
      upstream: stock
      path: /services/stock
      action: urn:stock/Get
      timeout_ms: 300
      body: '<s:Get xmlns:s=\"urn:stock\"><s:article>{{ body.article }}</s:article></s:Get>'
  - transform: '{pieces: (.pieces | tonumber), places: .place}'
  - set_header: {name: X-Shop, expression: $path.shop}
";

async fn stock(service: &Service) -> World {
    let text = format!("{}{STOCK}", upstream("stock", service.address));
    World::start(&[("stock.yaml", text)]).await
}

fn of_kind(events: &[Box<Event>], kind: Kind) -> Vec<&Event> {
    events.iter().map(|event| &**event).filter(|event| event.kind == kind).collect()
}

fn text(text: &Option<ingest::event::Text>) -> &str {
    text.as_ref().map_or("", |text| text.as_str())
}

#[tokio::test]
async fn json_goes_in_soap_is_called_and_json_comes_out() {
    let service = Service::soap().await;
    let world = stock(&service).await;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let response = world
        .client
        .post(world.url("/stock/north%20pole"))
        .header(CONTENT_TYPE, "application/json")
        .header("traceparent", trace)
        .header("x-correlation-id", "c-1")
        .header("authorization", "Bearer hush")
        .body(r#"{"article": "bolt & nut", "secret": "hush"}"#)
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["x-correlation-id"], "c-1");
    assert_eq!(response.headers()["x-shop"], "north pole");
    assert_eq!(response.headers()["content-type"], "application/json");
    assert_eq!(response.text().await.unwrap(), r#"{"pieces":12,"places":["A","B"]}"#);

    let asked = service.asked();
    assert_eq!((asked.len(), asked[0].path.as_str()), (1, "/services/stock"));
    assert!(asked[0].body.contains("bolt &amp; nut"), "{}", asked[0].body);
    assert!(!asked[0].headers.contains_key("authorization"));
    assert_eq!(asked[0].headers["x-correlation-id"], "c-1");
    let called = asked[0].headers["traceparent"].to_str().unwrap().to_owned();
    assert!(called.starts_with(&trace[..36]) && called[36..52] != trace[36..52], "{called}");

    let events = world.stop().await;
    let (routes, steps) = (of_kind(&events, Kind::Route), of_kind(&events, Kind::Step));
    assert_eq!((routes.len(), steps.len()), (1, 4));
    let run = routes[0];
    assert_eq!((run.outcome, text(&run.mediation_route)), (Outcome::Success, "stock"));
    assert_eq!((text(&run.correlation_id), text(&run.trace_id)), ("c-1", &trace[3..35]));
    assert_eq!(text(&run.parent_span_id), &trace[36..52]);
    let ids: Vec<&str> = steps.iter().map(|step| text(&step.mediation_step_id)).collect();
    assert_eq!(ids, ["only-known-keys", "ask", "3", "4"]);
    let kinds: Vec<&str> = steps.iter().map(|step| text(&step.mediation_step_kind)).collect();
    assert_eq!(kinds, ["transform", "soap", "transform", "set_header"]);
    assert!(steps.iter().all(|step| step.parent_span_id == run.span_id));
    assert!(steps.iter().all(|step| step.mediation_step_duration_us.is_some()));
    // The service is called under a span that is below that of its step.
    assert_ne!(text(&steps[1].span_id), text(&run.span_id));
    let json: Vec<u8> = events.iter().flat_map(|event| event.to_json()).collect();
    let all = String::from_utf8(json).unwrap();
    assert!(!all.contains("hush"), "{all}");
}

#[tokio::test]
async fn a_fault_of_the_service_is_a_problem_and_an_event_with_its_line() {
    let service = Service::soap().await;
    let world = stock(&service).await;
    let (status, headers, problem) = world.post("/stock/a", r#"{"article": "gear"}"#).await;
    assert_eq!((status, &problem["code"]), (502, &json!("soap_fault")));
    assert_eq!(headers["content-type"], "application/problem+json");
    assert!(!problem.to_string().contains("no such article"), "{problem}");

    let events = world.stop().await;
    let run = of_kind(&events, Kind::Route)[0];
    assert_eq!((run.outcome, text(&run.fault_code)), (Outcome::UpstreamError, "soap_fault"));
    assert_eq!(text(&run.correlation_id), problem["correlation_id"]);
    let line = 1 + STOCK.lines().position(|line| line.contains("id: ask")).unwrap() + 4;
    assert_eq!(run.fault_line, Some(i64::try_from(line).unwrap()));
    assert_eq!((text(&run.fault_file), text(&run.fault_step)), ("stock.yaml", "ask"));
    let expected = "upstream stock answered a fault: e:Client: no such article";
    assert_eq!(text(&run.fault_message), expected);
    let steps = of_kind(&events, Kind::Step);
    let outcomes: Vec<Outcome> = steps.iter().map(|step| step.outcome).collect();
    assert_eq!(outcomes, [Outcome::Success, Outcome::UpstreamError], "the rest did not run");
}

#[tokio::test]
async fn a_service_that_is_slow_or_away_is_told_from_one_that_refuses() {
    let silent = Service::silent().await;
    let world = stock(&silent).await;
    let (status, _, problem) = world.post("/stock/a", r#"{"article": "gear"}"#).await;
    assert_eq!((status, &problem["code"]), (504, &json!("upstream_timeout")));

    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let away = format!("{}{STOCK}", upstream("stock", nobody));
    world.apply("away", &[("stock.yaml", away)]).await;
    let (status, headers, problem) = world.post("/stock/a", r#"{"article": "gear"}"#).await;
    assert_eq!((status, &problem["code"]), (503, &json!("upstream_unreachable")));
    assert_eq!(headers["retry-after"], "1");

    let hurried = STOCK.replace("timeout_ms: 20000", "timeout_ms: 100");
    let hurried = format!("{}{hurried}", upstream("stock", silent.address));
    world.apply("hurried", &[("stock.yaml", hurried)]).await;
    let (status, _, problem) = world.post("/stock/a", r#"{"article": "gear"}"#).await;
    assert_eq!((status, &problem["code"]), (504, &json!("route_timeout")));

    let events = world.stop().await;
    let outcomes: Vec<Outcome> =
        of_kind(&events, Kind::Route).iter().map(|run| run.outcome).collect();
    let timeout = Outcome::UpstreamTimeout;
    assert_eq!(outcomes, [timeout, Outcome::Unavailable, timeout]);
}

#[tokio::test]
async fn a_request_that_no_route_takes_is_refused_with_its_code() {
    let service = Service::soap().await;
    let world = stock(&service).await;
    let check = async |path: &str, body: &str, expected: (u16, &str)| {
        let (status, _, problem) = world.post(path, body).await;
        assert_eq!((status, problem["code"].as_str().unwrap()), expected, "{path}");
    };
    check("/nothing", "{}", (404, "route_not_found")).await;
    check("/stock/a", "{", (400, "body_invalid")).await;
    check("/stock/a", &format!("\"{}\"", "x".repeat(1_000)), (413, "body_too_large")).await;
    check("/stock/a", r#"{"article": {"b": 1}}"#, (502, "soap_fault")).await;
    let wrong = world.client.get(world.url("/stock/a")).send().await.unwrap();
    assert_eq!(
        (wrong.status().as_u16(), &wrong.headers()["allow"]),
        (405, &"POST".parse().unwrap())
    );
    let (_, _, problem) = world.post("/stock/a", "{").await;
    let detail = "the body is not JSON: EOF while parsing an object at line 1 column 1";
    assert_eq!(problem["detail"], detail);
    world.stop().await;
}

const ORDER: &str = "kind: upstream
name: nobody
spec: {targets: [{url: 'http://127.0.0.1:1'}]}
---
kind: queue
name: orders
spec: {partitions: 2, deliver: {upstream: nobody, path: /orders}}
---
kind: route
name: order
spec:
  from: {http: {methods: [POST], path: /orders}}
  steps:
  - {id: keep, store: {queue: orders, key: .customer}}
";

#[tokio::test]
async fn a_stored_message_is_in_the_log_when_202_is_answered() {
    let world = World::start(&[("order.yaml", ORDER.to_owned())]).await;
    let body = r#"{"customer": "ada", "n": 1.10}"#;
    let (status, _, answer) = world.post("/orders", body).await;
    assert_eq!(status, 202);
    let id = answer["id"].as_str().unwrap().to_owned();
    let mut stored = Vec::new();
    for partition in 0..2 {
        let partition = Partition::new("weir.queue.orders", partition);
        let end = world.log.bounds(&partition).await.unwrap().end;
        if end > 0 {
            let mut reader = world.log.reader(vec![(partition, 0)]).await.unwrap();
            let batch = reader.next(ingest::log::ReadLimit::default()).await.unwrap().unwrap();
            stored.extend(batch.records);
        }
    }
    assert_eq!(stored.len(), 1);
    assert_eq!(stored[0].value.as_deref(), Some(body.as_bytes()), "as it came");
    assert_eq!(stored[0].key.as_deref(), Some(&b"ada"[..]));
    assert_eq!(stored[0].headers.get("weir_message_id"), Some(id.as_bytes()));

    // The caller's own id is taken, or refused as the caller's fault.
    let post = async |key: &str| {
        let request = world.client.post(world.url("/orders")).header("idempotency-key", key);
        let response = request.header(CONTENT_TYPE, "application/json").body(body);
        let response = response.send().await.unwrap();
        (response.status().as_u16(), response.json::<Value>().await.unwrap())
    };
    assert_eq!(post("order-7").await, (202, json!({"id": "order-7"})));
    let (status, problem) = post("order 8").await;
    assert_eq!((status, &problem["code"]), (400, &json!("body_invalid")));
    let (status, _, problem) = world.post("/orders", r#"{"customer": null}"#).await;
    assert_eq!((status, &problem["code"]), (400, &json!("body_invalid")));
    assert_eq!(problem["detail"], "the message's key is no text or number");

    let events = world.stop().await;
    let accepted = of_kind(&events, Kind::Accept);
    let ids: Vec<&str> = accepted.iter().map(|event| text(&event.messaging_message_id)).collect();
    assert_eq!(ids, [id.as_str(), "order-7"]);
    let runs = of_kind(&events, Kind::Route);
    assert_eq!(runs.len(), 4);
    assert_eq!(accepted[0].correlation_id, runs[0].correlation_id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_routes_under_load_loses_no_request() {
    let route = |answer: u32| {
        format!(
            "kind: route\nname: r\nspec:\n  from: {{http: {{methods: [POST], path: /r}}}}\n  \
             steps:\n  - transform: '{answer}'\n  - respond: {{}}\n"
        )
    };
    let world = Arc::new(World::start(&[("r.yaml", route(0))]).await);
    let is_over = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let (world, is_over) = (world.clone(), is_over.clone());
            tokio::spawn(async move {
                let mut answers = Vec::new();
                while !is_over.load(Ordering::Relaxed) {
                    let (status, _, body) = world.post("/r", "{}").await;
                    assert_eq!(status, 200, "{body}");
                    answers.push(body.as_u64().unwrap());
                }
                answers
            })
        })
        .collect();
    for revision in 1..=20 {
        world.apply(&format!("r{revision}"), &[("r.yaml", route(revision))]).await;
        let (_, _, body) = world.post("/r", "{}").await;
        assert_eq!(body, json!(revision), "a change counts once it is shown");
    }
    tokio::time::sleep(Duration::from_millis(20)).await;
    is_over.store(true, Ordering::Relaxed);
    let mut count = 0;
    for caller in callers {
        let answers = caller.await.unwrap();
        assert!(answers.is_sorted(), "a caller never goes back to an older route");
        count += answers.len();
    }
    let world = Arc::into_inner(world).unwrap();
    let events = world.stop().await;
    assert_eq!(of_kind(&events, Kind::Route).len(), count + 20);
}
