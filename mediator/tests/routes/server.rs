//! The server that all roles but the data plane share: its limits, and what it says to
//! those who do not keep to HTTP.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use ingest::event::{Event, Kind};
use ingest::http::{Server, Teller};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::world::{PATIENCE, World};

const GET: &str = "GET /hello HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
const BIG: usize = 50_000_000;

/// A server on a free port, whose events go to the world's log.
async fn start(world: &World, change: impl FnOnce(&mut Server)) -> SocketAddr {
    let mut server = Server {
        name: "test",
        connections_max: 100,
        connections_per_address_max: 100,
        head_timeout: PATIENCE,
        write_timeout: PATIENCE,
        stop_timeout: Duration::from_secs(1),
    };
    change(&mut server);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new()
        .route("/hello", get(|| async { "hello" }))
        .route("/echo", post(|body: axum::body::Bytes| async { body }))
        .route("/big", get(|| async { vec![b'x'; BIG] }));
    let teller = Teller { emitter: world.emitter.clone(), service: "weir-test" };
    tokio::spawn(server.route(listener, router, teller, CancellationToken::new()));
    address
}

async fn world() -> World {
    World::new("kind: tier\nname: t\nspec: {burst_requests_max: 5}\n").await
}

/// Writes bytes and reads until the connection ends.
async fn ask(address: SocketAddr, request: &str) -> String {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // A reset says no more than what came before it.
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8(answer).unwrap()
    };
    timeout(PATIENCE, exchange).await.unwrap_or_else(|_| panic!("it does not end: {:.80}", request))
}

fn codes(events: &[Event]) -> Vec<&str> {
    let requests = events.iter().filter(|event| event.kind == Kind::Refusal);
    requests.filter_map(|event| event.error_type.as_deref()).collect()
}

#[tokio::test]
async fn what_is_not_understood_is_a_problem_and_has_an_event() {
    let world = world().await;
    let address = start(&world, |_| {}).await;
    let mut expected = Vec::new();
    let mut check = |answer: String, status: u16, code: &'static str| {
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
        let lower = answer.to_ascii_lowercase();
        assert!(lower.contains("content-type: application/problem+json\r\n"), "{answer}");
        assert!(lower.contains("x-correlation-id: "), "{answer}");
        assert!(answer.contains(&format!("\"code\":\"{code}\"")), "{answer}");
        expected.push(code);
    };
    check(ask(address, "nonsense\r\n\r\n").await, 400, "request_malformed");
    let two_lengths =
        "POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab";
    check(ask(address, two_lengths).await, 400, "request_malformed");
    let large = format!("GET / HTTP/1.1\r\nhost: a\r\nx-a: {}\r\n\r\n", "x".repeat(100_000));
    check(ask(address, &large).await, 431, "header_too_large");
    check(ask(address, &GET.replace("/hello", "/nowhere")).await, 404, "resource_not_found");
    let answer = ask(address, &GET.replace("GET", "PUT")).await;
    assert!(answer.to_ascii_lowercase().contains("allow: get,head\r\n"), "{answer}");
    check(answer, 405, "method_not_allowed");
    let post = |headers: &str, body: &str| {
        format!("POST /echo HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{headers}\r\n\r\n{body}")
    };
    let too_large = post("content-length: 3000000", &"x".repeat(3_000_000));
    check(ask(address, &too_large).await, 413, "body_too_large");
    assert!(ask(address, &post("content-length: 2", "hi")).await.ends_with("\r\n\r\nhi"));
    let events = world.events(Kind::Refusal, expected.len()).await;
    assert_eq!(codes(&events), expected);
    let first = events.iter().find(|event| event.kind == Kind::Refusal).unwrap();
    assert_eq!(first.service_name.as_deref(), Some("weir-test"));
    assert_eq!(first.client_address.as_deref(), Some("127.0.0.1"));
}

#[tokio::test]
async fn connections_that_say_nothing_make_place() {
    let world = world().await;
    let limits = |server: &mut Server| {
        (server.connections_max, server.head_timeout) = (2, Duration::from_millis(200));
    };
    let address = start(&world, limits).await;
    let _silent = TcpStream::connect(address).await.unwrap();
    let mut half = TcpStream::connect(address).await.unwrap();
    half.write_all(b"GET /hello HTTP/1.1\r\nho").await.unwrap();
    assert!(ask(address, GET).await.ends_with("hello"));
}

#[tokio::test]
async fn who_takes_nothing_of_its_answer_makes_place() {
    let world = world().await;
    let limits = |server: &mut Server| {
        (server.connections_max, server.write_timeout) = (1, Duration::from_millis(200));
    };
    let address = start(&world, limits).await;
    let mut stuck = TcpStream::connect(address).await.unwrap();
    stuck.write_all(GET.replace("hello", "big").as_bytes()).await.unwrap();
    assert!(ask(address, GET).await.ends_with("hello"));
}

#[tokio::test]
async fn one_address_cannot_take_all_places() {
    let world = world().await;
    let address = start(&world, |server| server.connections_per_address_max = 1).await;
    let held = TcpStream::connect(address).await.unwrap();
    // It may be reset before it can be read.
    let refused = ask(address, "").await;
    assert!(refused.is_empty() || refused.starts_with("HTTP/1.1 503 "), "{refused}");
    let events = world.events(Kind::Refusal, 1).await;
    assert_eq!(codes(&events), ["overloaded"]);
    drop(held);
    let served = async {
        while !ask(address, GET).await.ends_with("hello") {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, served).await.expect("the place is given back");
}

#[tokio::test]
async fn who_has_said_all_still_gets_its_answer() {
    let world = world().await;
    let address = start(&world, |_| {}).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(GET.replace("hello", "big").as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    assert!(answer.len() > BIG, "{}", answer.len());
}
