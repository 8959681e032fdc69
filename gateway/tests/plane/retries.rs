//! What is sent twice, and what never is, counted at the origin.

use crate::world::{ANY, World, ask, get, said, shop};

/// A second origin, so that the first of two targets can be dead.
#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_takes_no_connection_is_passed_over() {
    let world = World::empty().await;
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (live, more) = (world.origin.address, r#""retries_max": 1"#);
    let both = format!(
        r#"upstream/u {{"targets": [{{"url": "http://{closed}"}}, {{"url": "http://{live}"}}], {more}}}"#
    );
    world.put("first", &[&both, &shop("", ANY)]).await;
    let gateway = world.start_with(|config| config.threads = 1).await;
    let post =
        "POST /shop/1/echo HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 2\r\n\r\nhi";
    for _ in 0..4 {
        let answer = ask(gateway.addresses()[0], post).await;
        assert!(answer.ends_with("\r\n\r\nhi"), "{answer}");
    }
    assert_eq!(world.origin.count(), 4);
    let events = world.stop(gateway).await;
    let attempts: i64 = events.iter().filter_map(|event| event.upstream_attempts).sum();
    assert_eq!(attempts, 5, "only the first request met the dead target");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_may_be_repeated_is_sent_again() {
    let check = async |retries: u64, request: &str, expected: usize| {
        check_attempts(&format!(r#", "retries_max": {retries}"#), request, expected).await;
    };
    let request = |method: &str, more: &str| {
        format!("{method} /shop/1/closed HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{more}")
    };
    check(1, &request("GET", "\r\n"), 2).await;
    check(1, &request("DELETE", "\r\n"), 2).await;
    check(0, &request("GET", "\r\n"), 1).await;
    check(1, &request("POST", "content-length: 0\r\n\r\n"), 1).await;
    check(1, &request("PUT", "content-length: 2\r\n\r\nhi"), 1).await;
    let unsent = r#", "retries_max": 1, "retry_on": "unsent""#;
    check_attempts(unsent, &request("GET", "\r\n"), 1).await;
}

/// How often a request is sent to an origin that reads it and closes.
async fn check_attempts(retries: &str, request: &str, expected: usize) {
    let world = World::empty().await;
    let upstream = world.upstream(retries);
    world.put("first", &[&upstream, &shop("", ANY)]).await;
    let gateway = world.start().await;
    let answer = ask(gateway.addresses()[0], request).await;
    assert_eq!(said(&answer), "502 upstream_broken", "{request}");
    assert_eq!(world.origin.count(), expected, "{retries} {request}");
    let events = world.stop(gateway).await;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].upstream_attempts, Some(expected as i64));
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_kept_and_a_stale_one_costs_no_request() {
    let world = World::new().await;
    let gateway = world.start_with(|config| config.threads = 1).await;
    let address = gateway.addresses()[0];
    for _ in 0..5 {
        assert_eq!(said(&get(address, "/shop/1/").await), "200");
    }
    let head = "HEAD /shop/1/x HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    for _ in 0..3 {
        assert_eq!(said(&ask(address, head).await), "200");
    }
    assert_eq!(world.origin.connections(), 1, "also after an answer without a body");
    // The origin closes after this one, and says so to nobody.
    assert_eq!(said(&get(address, "/shop/1/last").await), "200");
    let post =
        "POST /shop/1/echo HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 2\r\n\r\nhi";
    for _ in 0..3 {
        assert_eq!(said(&ask(address, post).await), "200");
        assert_eq!(said(&get(address, "/shop/1/last").await), "200");
    }
    assert_eq!(world.origin.count(), 15);
    let events = world.stop(gateway).await;
    assert_eq!(events.len(), 15);
    assert!(events.iter().all(|event| event.upstream_attempts == Some(1)));
}
