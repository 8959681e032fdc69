//! Every way in which a request is refused or fails, by its code, at the caller and on
//! the event.

use std::time::Duration;

use crate::world::{ANY, World, ask, get, said, shop, told};

const POST: &str = "POST /shop/1/echo HTTP/1.1\r\nhost: a\r\nconnection: close\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn each_problem_has_its_code_at_the_caller_and_on_the_event() {
    let world = World::empty().await;
    let small = shop(r#""body_bytes_max": 8, "timeout_ms": 2000,"#, ANY);
    let picky = shop("", r#"{"methods": ["GET"], "path": "/x"}"#).replace("shop", "picky");
    let old = shop("", ANY).replace("shop", "old").replace("published", "retired");
    let dead = shop("", ANY).replace("shop", "dead").replace(r#""u""#, r#""dead""#);
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nobody = format!(r#"upstream/dead {{"targets": [{{"url": "http://{closed}"}}]}}"#);
    let upstream = world.upstream(r#", "response_timeout_ms": 300, "retries_max": 0"#);
    world.put("first", &[&upstream, &nobody, &small, &picky, &old, &dead]).await;
    let gateway = world.start_with(|config| config.limits.url_bytes_max = 100).await;
    let address = gateway.addresses()[0];
    let mut expected = Vec::new();
    let mut check = |answer: String, code: &str, outcome: &str| {
        assert_eq!(said(&answer), code, "{answer}");
        if code.contains(' ') {
            assert!(answer.contains("content-type: application/problem+json\r\n"), "{answer}");
            assert!(answer.contains("x-correlation-id: "), "{answer}");
        }
        expected.push(outcome.to_owned());
    };
    check(get(address, "/none").await, "404 api_not_found", "client_error api_not_found");
    check(
        get(address, "/picky/1/y").await,
        "404 resource_not_found",
        "client_error resource_not_found",
    );
    let answer = ask(address, "DELETE /picky/1/x HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    let answer = answer.await;
    assert!(answer.contains("allow: GET, HEAD\r\n"), "{answer}");
    check(answer, "405 method_not_allowed", "client_error method_not_allowed");
    check(get(address, "/old/1").await, "410 api_retired", "client_error api_retired");
    check(
        get(address, "/dead/1").await,
        "503 upstream_unreachable",
        "unavailable upstream_unreachable",
    );
    check(
        get(address, "/shop/1/slow-1000").await,
        "504 upstream_timeout",
        "upstream_timeout upstream_timeout",
    );
    check(
        get(address, "/shop/1/closed").await,
        "502 upstream_broken",
        "upstream_error upstream_broken",
    );
    check(get(address, "/shop/1/status-503").await, "503", "upstream_error upstream_error");
    check(get(address, "/shop/1/status-404").await, "404", "client_error");
    let long = format!("/shop/1/{}", "x".repeat(100));
    check(get(address, &long).await, "414 url_too_long", "client_error url_too_long");
    check(
        get(address, "/shop/1/a/../b").await,
        "400 request_malformed",
        "client_error request_malformed",
    );
    let upgrade =
        "GET /shop/1/ HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n";
    check(ask(address, upgrade).await, "501 not_implemented", "client_error not_implemented");
    let connect = "CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\n";
    check(ask(address, connect).await, "501 not_implemented", "client_error not_implemented");
    let announced = format!("{POST}content-length: 9\r\n\r\n");
    check(ask(address, announced).await, "413 body_too_large", "refused body_too_large");
    let streamed = format!("{POST}transfer-encoding: chunked\r\n\r\n9\r\n123456789\r\n0\r\n\r\n");
    check(ask(address, streamed).await, "413 body_too_large", "refused body_too_large");
    let fits = format!("{POST}content-length: 8\r\n\r\n12345678");
    check(ask(address, fits).await, "200", "success");
    let mut told: Vec<String> = world.stop(gateway).await.iter().map(|event| told(event)).collect();
    told.sort();
    expected.sort();
    assert_eq!(told, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_head_and_a_slow_body_are_answered_408() {
    let world = World::new().await;
    let gateway = world
        .start_with(|config| {
            config.timeouts.header_read_ms = 200;
            config.timeouts.body_idle_ms = 200;
            config.timeouts.idle_ms = 300;
        })
        .await;
    let address = gateway.addresses()[0];
    assert_eq!(said(&ask(address, "GET /shop/1/ HTTP/1.1\r\nho").await), "408 request_timeout");
    let stuck = format!("{POST}content-length: 9\r\n\r\n123");
    assert_eq!(said(&ask(address, stuck).await), "408 request_timeout");
    assert_eq!(ask(address, "").await, "", "an idle connection is closed without a word");
    let begun = std::time::Instant::now();
    let kept = ask(address, "GET /shop/1/ HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(said(&kept), "200");
    assert!(begun.elapsed() >= Duration::from_millis(250), "it is kept for a while");
    let events = world.stop(gateway).await;
    let mut told: Vec<String> = events.iter().map(|event| told(event)).collect();
    told.sort();
    let slow = "client_error request_timeout";
    assert_eq!(told, [slow, slow, "success"]);
}
