//! The listener: what it refuses, its limits, and its end.

use std::sync::atomic::Ordering;
use std::time::Duration;

use ingest::event::Kind;
use mediator::{Config, Mediator};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::service::silent;
use crate::world::{PATIENCE, World};

const YAML: &str = "kind: route\nname: a\nspec:\n  \
    from: {http: {methods: [POST, PUT], path: '/in/{id}', body_bytes_max: 4}}\n  steps:\n    - respond: {}\n";

#[tokio::test]
async fn what_no_route_takes_is_a_problem_with_a_correlation_id() {
    let world = World::new(YAML).await;
    let check = async |method: &str, path: &str, body: &'static str, status: u16, code: &str| {
        let method = method.parse().unwrap();
        let answer = world.http.request(method, world.url(path)).body(body).send().await.unwrap();
        assert_eq!(answer.status(), status, "{path}");
        assert!(answer.headers().contains_key("x-correlation-id"), "{path}");
        let allow = answer.headers().get("allow").cloned();
        assert_eq!(allow.is_some_and(|allow| allow == "POST, PUT"), status == 405);
        if status >= 400 {
            assert_eq!(answer.headers()["content-type"], "application/problem+json");
        }
        assert!(answer.text().await.unwrap().contains(code), "{path}");
    };
    check("POST", "/in/1", "abcd", 200, "abcd").await;
    check("POST", "/in", "", 404, "route_not_found").await;
    check("GET", "/in/1", "", 405, "method_not_allowed").await;
    check("PUT", "/in/1", "abcde", 413, "body_too_large").await;
    check("PUT", "/in/%ff", "", 400, "request_malformed").await;
    check("PUT", "/in/1?a=%ff", "", 400, "request_malformed").await;
    let events = world.events(Kind::Refusal, 5).await;
    let refused = events.iter().filter(|event| event.kind == Kind::Refusal);
    let told: Vec<_> = refused.filter_map(|event| event.error_type.as_deref()).collect();
    let malformed = "request_malformed";
    let refused = ["route_not_found", "method_not_allowed", "body_too_large", malformed, malformed];
    assert_eq!(told, refused, "what no route takes has an event too");
}

#[tokio::test]
async fn an_incomplete_body_is_the_callers_fault() {
    let world = World::new(YAML).await;
    let mut stream = tokio::net::TcpStream::connect(world.mediator.address()).await.unwrap();
    let request = "POST /in/1 HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nab";
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.contains("request_malformed"), "{answer}");
}

/// A body without a length is bounded too.
#[tokio::test]
async fn a_chunked_body_is_bounded() {
    let world = World::new(YAML).await;
    let mut stream = tokio::net::TcpStream::connect(world.mediator.address()).await.unwrap();
    let request = "POST /in/1 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\
                   transfer-encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[tokio::test]
async fn a_port_in_use_and_a_wrong_limit_are_told_at_the_start() {
    let world = World::new(YAML).await;
    let address = world.mediator.address();
    let config = Config { address, ..Config::default() };
    let error = Mediator::start(config, world.parts.clone()).await.unwrap_err().to_string();
    assert!(error.starts_with(&format!("mediator: cannot listen on {address}: ")), "{error}");
    let config = Config { in_flight_max: 0, ..Config::default() };
    let error = Mediator::start(config, world.parts.clone()).await.unwrap_err().to_string();
    assert_eq!(error, "mediator.in_flight_max: 0 is out of range; use 1 to 100000");
}

fn slow(url: &str) -> String {
    format!(
        "kind: upstream\nname: s\nspec: {{targets: [{{url: {url}}}]}}\n---\n\
         kind: route\nname: a\nspec:\n  timeout_ms: 500\n  \
         from: {{http: {{methods: [GET], path: /in}}}}\n  steps:\n    \
         - call: {{upstream: s, method: GET, path: /}}\n"
    )
}

async fn until(what: impl Fn() -> bool) {
    let waited = async {
        while !what() {
            tokio::task::yield_now().await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, waited).await.is_ok(), "it did not come so far");
}

#[tokio::test]
async fn beyond_the_limit_of_requests_the_answer_is_503() {
    let service = silent().await;
    let world = World::with(&slow(&service.url), |config| config.in_flight_max = 1).await;
    let first = tokio::spawn(world.http.get(world.url("/in")).send());
    until(|| service.requests.load(Ordering::SeqCst) == 1).await;
    let second = world.http.get(world.url("/in")).send().await.unwrap();
    assert_eq!(second.status(), 503);
    assert!(second.text().await.unwrap().contains("\"overloaded\""));
    assert_eq!(first.await.unwrap().unwrap().status(), 504);
}

#[tokio::test]
async fn a_run_whose_caller_goes_away_still_has_its_events() {
    let service = silent().await;
    let world = World::new(&slow(&service.url)).await;
    let caller = tokio::spawn(world.http.get(world.url("/in")).send());
    until(|| service.requests.load(Ordering::SeqCst) == 1).await;
    caller.abort();
    let events = world.events(Kind::Route, 1).await;
    let codes: Vec<_> = events.iter().filter_map(|event| event.fault_code.as_deref()).collect();
    assert_eq!(codes, ["route_timeout", "route_timeout"], "the step's and the run's");
}

#[tokio::test]
async fn a_stop_lets_what_is_under_way_end_and_takes_no_more() {
    let service = silent().await;
    let world = World::new(&slow(&service.url)).await;
    let url = world.url("/in");
    let under_way = tokio::spawn(world.http.get(&url).send());
    until(|| service.requests.load(Ordering::SeqCst) == 1).await;
    let http = world.http.clone();
    let stopped = tokio::time::timeout(PATIENCE, world.mediator.shutdown()).await;
    assert!(stopped.is_ok());
    let answer = under_way.await.unwrap().unwrap();
    assert_eq!(answer.status(), 504, "its route's own timeout, not the stop, ended it");
    assert!(http.get(&url).send().await.unwrap_err().is_connect());
}

#[tokio::test]
async fn a_stop_breaks_off_what_does_not_end_in_time() {
    let service = silent().await;
    let yaml = slow(&service.url).replace("timeout_ms: 500", "timeout_ms: 600000");
    let world = World::with(&yaml, |config| config.drain_ms = 100).await;
    let under_way = tokio::spawn(world.http.get(world.url("/in")).send());
    until(|| service.requests.load(Ordering::SeqCst) == 1).await;
    let limit = Duration::from_secs(20);
    assert!(tokio::time::timeout(limit, world.mediator.shutdown()).await.is_ok());
    assert!(under_way.await.unwrap().is_err());
}
