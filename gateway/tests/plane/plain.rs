//! What every request has: its way to the origin and back, and its event.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::world::{World, get, told};

/// Whether a file below the directory holds the text.
fn holds(dir: &std::path::Path, text: &str) -> bool {
    std::fs::read_dir(dir).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            return holds(&path, text);
        }
        // A file may be removed between the two.
        let bytes = std::fs::read(path).unwrap_or_default();
        bytes.windows(text.len()).any(|part| part == text.as_bytes())
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_in_the_spool_before_its_answer_is_complete() {
    let world = World::new().await;
    let gateway = world.start_with(|config| config.threads = 1).await;
    let mut stream = TcpStream::connect(gateway.addresses()[0]).await.unwrap();
    let paths =
        ["/shop/1/x", "/shop/1/echo", "/nowhere", "/shop/1/status-204", "/shop/1/big-100000"];
    for i in 0..50 {
        let (path, id) = (paths[i % paths.len()], format!("answer-{i:03}"));
        let head = format!("GET {path} HTTP/1.1\r\nhost: a\r\nx-correlation-id: {id}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !is_complete(&answer) {
            assert!(stream.read_buf(&mut answer).await.unwrap() > 0);
        }
        assert!(holds(world.dir.path(), &id), "{i}: {path}");
    }
    assert_eq!(world.stop(gateway).await.len(), 50);
}

fn is_complete(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer).to_ascii_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.split_once("content-length: ").map_or("0", |(_, rest)| rest);
    let length: usize = length.lines().next().unwrap().parse().unwrap();
    body.len() >= length
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_goes_to_the_origin_and_has_one_event() {
    let world = World::new().await;
    let gateway = world.start().await;
    let answer = get(gateway.addresses()[0], "/shop/1/items/7?a=1&token=hush").await;
    assert!(answer.starts_with("HTTP/1.1 200 Fine\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nhello"), "{answer}");
    let lower = answer.to_ascii_lowercase();
    assert!(lower.contains("x-origin: yes") && lower.contains("x-correlation-id: "), "{answer}");
    assert!(!lower.contains("x-hop") && !lower.contains("keep-alive"), "{answer}");
    let seen = world.origin.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].line, "GET /items/7?a=1&token=hush HTTP/1.1");
    assert_eq!(seen[0].header("host"), Some(&*world.origin.address.to_string()));
    assert_eq!(seen[0].header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen[0].header("x-forwarded-proto"), Some("http"));
    assert_eq!(seen[0].header("x-forwarded-host"), Some("a"));
    assert_eq!(seen[0].header("connection"), None);
    let events = world.stop(gateway).await;
    assert_eq!(events.len(), 1);
    let event = &events[0];
    assert_eq!(told(event), "success");
    assert!(event.producer.as_str().starts_with("edge."), "{:?}", event.producer);
    let text = |text: &Option<ingest::event::Text>| text.as_deref().unwrap_or("-").to_owned();
    assert_eq!(text(&event.node), "edge");
    assert_eq!(text(&event.zone), "dmz");
    assert_eq!(text(&event.http_request_method), "GET");
    assert_eq!(text(&event.url_path), "/shop/1/items/7");
    assert_eq!(text(&event.url_query), "a=1&token=***");
    assert_eq!(text(&event.api_name), "shop");
    assert_eq!(text(&event.http_route), "/shop/*");
    assert_eq!(text(&event.client_address), "127.0.0.1");
    assert_eq!(text(&event.upstream_name), "u");
    assert_eq!(text(&event.upstream_address), world.origin.address.to_string());
    assert_eq!(event.http_response_status_code, Some(200));
    assert_eq!(event.upstream_attempts, Some(1));
    assert_eq!(event.http_response_body_size, Some(5));
    assert!(event.latency_total_us.unwrap() >= event.latency_upstream_us.unwrap());
    assert!(event.latency_ttfb_us.is_some() && event.latency_connect_us.is_some());
    let correlation = event.correlation_id.as_deref().unwrap();
    assert!(lower.contains(&format!("x-correlation-id: {correlation}")), "{answer}");
    assert_eq!(seen[0].header("x-correlation-id"), Some(correlation));
}
