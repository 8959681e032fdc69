//! What every request has: its way to the origin and back, and its event.

use crate::world::{World, get, told};

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
