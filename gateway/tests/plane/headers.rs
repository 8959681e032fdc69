//! What headers say on their way through: who calls, and which journey it is.

use crate::world::{World, ask, get, said};

fn request(headers: &str) -> String {
    format!("GET /shop/1/x HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{headers}\r\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_trusted_proxy_names_the_client() {
    let named = "x-forwarded-for: 203.0.113.9, 198.51.100.7\r\nx-forwarded-proto: https\r\n\
                 x-forwarded-host: bank\r\nforwarded: for=203.0.113.9\r\nx-real-ip: 203.0.113.9\r\n\
                 x_forwarded_for: 203.0.113.9\r\nx-forwarded-ssl: on\r\n";
    for (trusts, client, chain, proto, host) in [
        (false, "127.0.0.1", "127.0.0.1", "http", "a"),
        (true, "198.51.100.7", "203.0.113.9, 198.51.100.7, 127.0.0.1", "https", "bank"),
    ] {
        let world = World::new().await;
        let networks = if trusts { vec!["127.0.0.0/8".parse().unwrap()] } else { Vec::new() };
        let gateway = world.start_with(|config| config.trusted_proxies = networks).await;
        assert_eq!(said(&ask(gateway.addresses()[0], request(named)).await), "200");
        let seen = &world.origin.seen()[0];
        assert_eq!(seen.header("x-forwarded-for"), Some(chain));
        assert_eq!(seen.header("x-forwarded-proto"), Some(proto));
        assert_eq!(seen.header("x-forwarded-host"), Some(host));
        for name in ["forwarded", "x-real-ip", "x_forwarded_for", "x-forwarded-ssl"] {
            assert_eq!(seen.header(name).is_some(), trusts, "{name}");
        }
        let events = world.stop(gateway).await;
        assert_eq!(events[0].client_address.as_deref(), Some(client));
        assert_eq!(events[0].network_peer_address.as_deref(), Some("127.0.0.1"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journey_goes_on_where_the_caller_began_it() {
    let world = World::new().await;
    let gateway = world.start().await;
    let address = gateway.addresses()[0];
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let brought = format!(
        "traceparent: 00-{trace}-00f067aa0ba902b7-01\r\ntracestate: a=1\r\nx-correlation-id: mine-7\r\n"
    );
    let answer = ask(address, request(&brought)).await;
    assert!(answer.contains("x-correlation-id: mine-7\r\n"), "{answer}");
    let answer = get(address, "/nowhere").await;
    assert!(answer.contains("x-correlation-id: "), "also a refusal has one: {answer}");
    let seen = &world.origin.seen()[0];
    assert_eq!(seen.header("x-correlation-id"), Some("mine-7"));
    assert_eq!(seen.header("tracestate"), Some("a=1"));
    let sent = seen.header("traceparent").unwrap();
    assert!(sent.starts_with(&format!("00-{trace}-")), "{sent}");
    assert!(!sent.contains("00f067aa0ba902b7"), "the span is the gateway's: {sent}");
    let events = world.stop(gateway).await;
    let event = events.iter().find(|event| event.correlation_id.as_deref() == Some("mine-7"));
    let event = event.unwrap();
    assert_eq!(event.trace_id.as_deref(), Some(trace));
    assert_eq!(event.parent_span_id.as_deref(), Some("00f067aa0ba902b7"));
    assert!(sent.contains(event.span_id.as_deref().unwrap()), "{sent}");
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_of_a_request_reach_the_upstream_but_no_event() {
    let world = World::new().await;
    let gateway = world.start().await;
    let secret = "authorization: Basic aHVzaA==\r\ncookie: session=hush\r\nuser-agent: ua\r\n\
                  referer: https://me:hush@b/c?key=hush#hush\r\n";
    assert_eq!(said(&ask(gateway.addresses()[0], request(secret)).await), "200");
    assert_eq!(said(&get(gateway.addresses()[0], "/shop/1//a;b/%ee%f0?code=hush").await), "200");
    let seen = world.origin.seen();
    assert_eq!(seen[0].header("cookie"), Some("session=hush"));
    assert_eq!(seen[1].line, "GET //a;b/%ee%f0?code=hush HTTP/1.1", "byte for byte");
    let events = world.stop(gateway).await;
    let said = format!("{events:?}");
    assert!(!said.contains("hush") && !said.contains("aHVzaA"), "{said}");
    let event = events.iter().find(|event| event.user_agent_original.as_deref() == Some("ua"));
    let referer = event.unwrap().http_request_header_referer.as_deref();
    assert_eq!(referer, Some("https://b/c?key=***"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_state_without_its_trace_goes_no_further() {
    let world = World::new().await;
    let gateway = world.start().await;
    for parent in ["", "traceparent: 00-nonsense-01\r\n"] {
        let stray = request(&format!("{parent}tracestate: a=1\r\n"));
        assert_eq!(said(&ask(gateway.addresses()[0], stray).await), "200");
    }
    for seen in world.origin.seen() {
        assert_eq!(seen.header("tracestate"), None);
        assert!(seen.header("traceparent").is_some(), "one is made");
    }
    world.stop(gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offer_to_upgrade_is_not_taken_and_not_passed_on() {
    let world = World::new().await;
    let gateway = world.start().await;
    let offer = "GET /shop/1/x HTTP/1.1\r\nhost: a\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n\
                 connection: upgrade, http2-settings, close\r\n\r\n";
    assert_eq!(said(&ask(gateway.addresses()[0], offer).await), "200");
    let seen = &world.origin.seen()[0];
    assert_eq!((seen.header("upgrade"), seen.header("http2-settings")), (None, None));
    assert_eq!(seen.header("connection"), None);
    world.stop(gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_answered_by_its_own_version() {
    let world = World::new().await;
    let gateway = world.start().await;
    let answer = get(gateway.addresses()[0], "/shop/1/old").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    let old = "GET /shop/1/x HTTP/1.0\r\nhost: a\r\n\r\n";
    let answer = ask(gateway.addresses()[0], old).await;
    assert!(answer.starts_with("HTTP/1.0 200 "), "{answer}");
    world.stop(gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_of_a_request_go_no_further() {
    let world = World::new().await;
    let gateway = world.start().await;
    let head = "POST /shop/1/echo HTTP/1.1\r\nhost: a\r\nconnection: close\r\ntrailer: x-forwarded-for\r\n\
                transfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nx-forwarded-for: 203.0.113.9\r\n\r\n";
    let answer = ask(gateway.addresses()[0], head).await;
    assert!(answer.ends_with("\r\n\r\nhi"), "{answer}");
    let seen = &world.origin.seen()[0];
    assert_eq!((seen.body.as_slice(), seen.header("trailer")), (&b"hi"[..], None));
    // A trailer would stand where the next request begins.
    assert_eq!(said(&get(gateway.addresses()[0], "/shop/1/x").await), "200");
    assert_eq!(world.origin.seen()[1].line, "GET /x HTTP/1.1");
    world.stop(gateway).await;
}
