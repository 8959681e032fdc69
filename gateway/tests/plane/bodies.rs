//! Bodies: streamed, bounded, and never ended cleanly where they broke.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::world::{ANY, PATIENCE, World, ask, get, said, shop, told};

const BIG: usize = 100_000_000;
/// What sockets and the gateway may hold of a body, both ways of a connection.
const HELD_MAX: usize = 40_000_000;

async fn big_world() -> World {
    let world = World::empty().await;
    let upstream = world.upstream("");
    let shop = shop(r#""body_bytes_max": 200000000, "timeout_ms": 60000,"#, ANY);
    world.put("first", &[&upstream, &shop]).await;
    world
}

/// Waits until a count stands still: what there is room for has been written.
async fn settled(count: &AtomicUsize) -> usize {
    let mut last = usize::MAX;
    loop {
        let now = count.load(Ordering::Relaxed);
        if now > 0 && now == last {
            return now;
        }
        last = now;
        sleep(Duration::from_millis(300)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_answer_waits_for_a_client_that_does_not_read() {
    let world = big_world().await;
    let gateway = world.start().await;
    let mut stream = TcpStream::connect(gateway.addresses()[0]).await.unwrap();
    let request = format!("GET /shop/1/big-{BIG} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let held = timeout(PATIENCE, settled(&world.origin.written)).await.unwrap();
    assert!(held < HELD_MAX, "{held} bytes are under way to nobody");
    let (mut bytes, mut buffer) = (0, vec![0; 64 * 1024]);
    loop {
        match stream.read(&mut buffer).await.unwrap() {
            0 => break,
            read => bytes += read,
        }
    }
    assert!((BIG..BIG + 1_000).contains(&bytes), "{bytes}");
    let events = world.stop(gateway).await;
    assert_eq!(told(&events[0]), "success");
    assert_eq!(events[0].http_response_body_size, Some(BIG as i64));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_request_waits_for_an_origin_that_does_not_read() {
    let world = big_world().await;
    let gateway = world.start_with(|config| config.timeouts.drain_ms = 100).await;
    let head = |path: &str| {
        format!(
            "POST /shop/1/{path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {BIG}\r\n\r\n"
        )
    };
    let address = gateway.addresses()[0];
    let sending = async |path: &str, sent: Arc<AtomicUsize>| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(head(path).as_bytes()).await.unwrap();
        let part = vec![b'x'; 50_000];
        while sent.load(Ordering::Relaxed) < BIG {
            stream.write_all(&part).await.unwrap();
            sent.fetch_add(part.len(), Ordering::Relaxed);
        }
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let sent = Arc::<AtomicUsize>::default();
    tokio::select! {
        answer = sending("stuck", sent.clone()) => panic!("{answer}"),
        held = settled(&sent) => assert!(held < HELD_MAX, "{held} bytes are under way to nobody"),
    }
    let answer = timeout(PATIENCE, sending("sink", Arc::default())).await.unwrap();
    assert!(answer.ends_with(&format!("\r\n\r\n{BIG}")), "{answer}");
    let events = world.stop(gateway).await;
    let sink = events.iter().find(|event| told(event) == "success").unwrap();
    assert_eq!(sink.http_request_body_size, Some(BIG as i64));
}

/// As many programs do: it sends all of its request before it looks at the answer.
#[tokio::test(flavor = "multi_thread")]
async fn an_early_answer_does_not_stop_the_upload() {
    const UPLOAD: usize = 20_000_000;
    let world = big_world().await;
    let gateway = world.start().await;
    let mut stream = TcpStream::connect(gateway.addresses()[0]).await.unwrap();
    for (turn, answer) in [5, UPLOAD].into_iter().enumerate() {
        let head = format!(
            "POST /shop/1/early-{answer} HTTP/1.1\r\nhost: a\r\ncontent-length: {UPLOAD}\r\n\r\n"
        );
        let request = [head.into_bytes(), vec![b'x'; UPLOAD]].concat();
        let sent = timeout(PATIENCE / 4, stream.write_all(&request)).await;
        sent.unwrap_or_else(|_| panic!("the upload stands still, beside {answer} bytes")).unwrap();
        let (mut got, mut buffer) = (Vec::new(), vec![0; 64 * 1024]);
        let end = loop {
            if let Some(end) = got.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            let read = stream.read(&mut buffer).await.unwrap();
            assert!(read > 0, "it was cut off");
            got.extend_from_slice(&buffer[..read]);
        };
        assert!(got.starts_with(b"HTTP/1.1 403"), "{}", String::from_utf8_lossy(&got[..end]));
        while got.len() < end + answer {
            let read = stream.read(&mut buffer).await.unwrap();
            assert!(read > 0, "{} of {answer} bytes", got.len() - end);
            got.extend_from_slice(&buffer[..read]);
        }
        let begun = std::time::Instant::now();
        while world.origin.count() <= turn && begun.elapsed() < PATIENCE {
            sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(world.origin.seen()[turn].body_bytes, UPLOAD, "all of it came");
    }
    drop(stream);
    let events = world.stop(gateway).await;
    assert_eq!(events.iter().map(|event| told(event)).collect::<Vec<_>>(), ["client_error"; 2]);
}

/// What comes of it after the answer is no head that comes too slowly.
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_goes_on_after_its_answer() {
    let world = big_world().await;
    let gateway = world.start_with(|config| config.timeouts.header_read_ms = 200).await;
    let mut stream = TcpStream::connect(gateway.addresses()[0]).await.unwrap();
    let head = "POST /shop/1/early-5 HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut buffer = vec![0; 4096];
    assert!(stream.read(&mut buffer).await.unwrap() > 0);
    for part in [b"01234", b"56789"] {
        sleep(Duration::from_millis(300)).await;
        stream.write_all(part).await.unwrap();
    }
    let next = "GET /shop/1/x HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    stream.write_all(next.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("HTTP/1.1 200"), "{answer}");
    // The origin notes what it has read to the end, the upload perhaps after the other.
    let begun = std::time::Instant::now();
    while world.origin.count() < 2 && begun.elapsed() < PATIENCE {
        sleep(Duration::from_millis(10)).await;
    }
    assert!(world.origin.seen().iter().any(|seen| seen.body_bytes == 10));
    let events = world.stop(gateway).await;
    let told: Vec<_> = events.iter().map(|event| told(event)).collect();
    assert_eq!(told, ["client_error", "success"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_upstream_breaks_off_is_not_ended_cleanly() {
    let world = World::new().await;
    let gateway = world.start().await;
    let answer = get(gateway.addresses()[0], "/shop/1/broken").await;
    assert!(answer.contains("content-length: 100\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\n0123456789"), "{answer}");
    let answer = get(gateway.addresses()[0], "/shop/1/unchunked").await;
    assert!(answer.ends_with("0123456789\r\n"), "{answer}");
    let told: Vec<String> = world.stop(gateway).await.iter().map(|event| told(event)).collect();
    assert_eq!(told, ["upstream_error upstream_broken"; 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_has_an_event_that_says_so() {
    let world = World::new().await;
    let gateway = world.start().await;
    let address = gateway.addresses()[0];
    let begin = async |request: String| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    };
    let request = |path: &str| format!("GET /shop/1/{path} HTTP/1.1\r\nhost: a\r\n\r\n");
    let mut stream = begin(request(&format!("big-{BIG}"))).await;
    stream.read_exact(&mut [0; 1_000]).await.unwrap();
    drop(stream);
    let stream = begin(request("slow-20000")).await;
    let deadline = std::time::Instant::now() + PATIENCE;
    while world.origin.count() < 2 {
        assert!(std::time::Instant::now() < deadline, "it never came");
        sleep(Duration::from_millis(5)).await;
    }
    drop(stream);
    let half = "POST /shop/1/echo HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\nhalf";
    drop(begin(half.to_owned()).await);
    drop(begin("GET /shop/1/x HTTP/1.1\r\nho".to_owned()).await);
    let begun = std::time::Instant::now();
    let events = world.stop(gateway).await;
    assert!(begun.elapsed() < Duration::from_secs(10), "nothing waits for those who went");
    let told: Vec<String> = events.iter().map(|event| told(event)).collect();
    assert_eq!(told, ["client_closed client_closed"; 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_may_ask_before_it_sends() {
    let world = World::new().await;
    let gateway = world.start().await;
    let address = gateway.addresses()[0];
    let head = |path: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n"
        )
    };
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(head("/shop/1/echo").as_bytes()).await.unwrap();
    let mut go = [0; 25];
    timeout(PATIENCE, stream.read_exact(&mut go)).await.unwrap().unwrap();
    assert_eq!(&go, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"hi").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("\r\n\r\nhi"), "{answer}");
    // One that is refused is not asked for its body.
    assert_eq!(said(&ask(address, head("/none")).await), "404 api_not_found");
    let answer =
        ask(address, "HEAD /shop/1/x HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    assert!(answer.contains("content-length: 5\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
    assert_eq!(world.stop(gateway).await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_comes_slowly_is_waited_for() {
    let world = World::empty().await;
    let upstream = world.upstream(r#", "response_timeout_ms": 200"#);
    world.put("first", &[&upstream, &shop("", ANY)]).await;
    let gateway = world.start().await;
    let mut stream = TcpStream::connect(gateway.addresses()[0]).await.unwrap();
    let head =
        "POST /shop/1/x HTTP/1.1\r\nhost: a\r\ncontent-length: 6\r\nconnection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    for _ in 0..6 {
        // Three times as long in all as an answer may take.
        tokio::time::sleep(Duration::from_millis(100)).await;
        stream.write_all(b"x").await.unwrap();
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert_eq!(said(&answer), "200", "{answer}");
    world.stop(gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_too_slow_is_the_clients_fault() {
    let world = World::empty().await;
    let upstream = world.upstream(r#", "response_timeout_ms": 100"#);
    world.put("first", &[&upstream, &shop(r#""timeout_ms": 400,"#, ANY)]).await;
    let gateway = world.start().await;
    let stuck = "POST /shop/1/echo HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\n123";
    assert_eq!(said(&ask(gateway.addresses()[0], stuck).await), "408 request_timeout");
    let events = world.stop(gateway).await;
    assert_eq!(told(&events[0]), "client_error request_timeout");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_no_chunks_is_refused() {
    let world = World::new().await;
    let gateway = world.start().await;
    let head = "POST /shop/1/echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    let bodies = ["zz\r\n", "5\r\nhelloXX\r\n", "5\r\nhello\r\nfffffffffffffffff\r\n"];
    for body in bodies {
        let answer = ask(gateway.addresses()[0], format!("{head}{body}")).await;
        assert_eq!(said(&answer), "400 request_malformed", "{body:?}: {answer}");
    }
    let events = world.stop(gateway).await;
    let told: Vec<String> = events.iter().map(|event| told(event)).collect();
    assert_eq!(told, ["client_error request_malformed"; 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_two_lengths_is_not_passed_on() {
    let world = World::new().await;
    let gateway = world.start_with(|config| config.threads = 1).await;
    let answer = get(gateway.addresses()[0], "/shop/1/ambiguous").await;
    assert_eq!(said(&answer), "502 upstream_protocol", "{answer}");
    assert_eq!(said(&get(gateway.addresses()[0], "/shop/1/x").await), "200");
    assert_eq!(world.origin.connections(), 2, "the deceived connection is not used again");
    let told: Vec<String> = world.stop(gateway).await.iter().map(|event| told(event)).collect();
    assert_eq!(told, ["upstream_error upstream_protocol", "success"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_has_said_all_still_gets_its_answer() {
    let world = World::new().await;
    let gateway = world.start().await;
    let ask_and_close = async |request: &str| {
        let mut stream = TcpStream::connect(gateway.addresses()[0]).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
        String::from_utf8(answer).unwrap()
    };
    let get = |path: &str| format!("GET /shop/1/{path} HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(said(&ask_and_close(&get("slow-300")).await), "200");
    let answer = ask_and_close(&get("big-5000000")).await;
    assert!(answer.len() > 5_000_000, "{}", answer.len());
    let post = "POST /shop/1/echo HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi";
    assert!(ask_and_close(post).await.ends_with("\r\n\r\nhi"));
    let told: Vec<String> = world.stop(gateway).await.iter().map(|event| told(event)).collect();
    assert_eq!(told, ["success"; 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_takes_nothing_is_let_go() {
    let world = big_world().await;
    let gateway = world.start_with(|config| config.timeouts.write_idle_ms = 300).await;
    let mut stream = TcpStream::connect(gateway.addresses()[0]).await.unwrap();
    let request = format!("GET /shop/1/big-{BIG} HTTP/1.1\r\nhost: a\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    // With its connection its place is free, though the client keeps its own end open.
    let events = timeout(Duration::from_secs(20), world.stop(gateway)).await.unwrap();
    assert_eq!(told(&events[0]), "client_closed client_closed");
    drop(stream);
}
