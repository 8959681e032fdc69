//! One request in is one at the origin, or a refusal and a closed connection.

use crate::world::{World, ask, said};

/// Sends bytes, and compares the answers' statuses and what the origin saw.
async fn check(bytes: &str, statuses: &[&str], seen: &[&str]) {
    let world = World::new().await;
    let gateway = world.start_with(|config| config.timeouts.idle_ms = 200).await;
    let answers = ask(gateway.addresses()[0], bytes).await;
    // Every answer begins with its version; no body holds it.
    let parts = answers.split("HTTP/1.1 ").skip(1).map(|part| said(&format!("HTTP/1.1 {part}")));
    assert_eq!(parts.collect::<Vec<_>>(), statuses, "{bytes:?}: {answers}");
    let lines = world.origin.seen().into_iter().map(|seen| {
        let body = String::from_utf8(seen.body).unwrap();
        format!("{} {body}", seen.line.trim_end_matches(" HTTP/1.1")).trim_end().to_owned()
    });
    assert_eq!(lines.collect::<Vec<_>>(), seen, "{bytes:?}");
    let events = world.stop(gateway).await;
    assert_eq!(events.len(), statuses.len(), "one event each: {bytes:?}");
}

const BAD: &str = "400 request_malformed";

#[tokio::test(flavor = "multi_thread")]
async fn lengths_that_contradict_each_other_are_refused() {
    let next = "GET /shop/1/smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
    let post = |headers: &str, body: &str| {
        format!("POST /shop/1/echo HTTP/1.1\r\nhost: a\r\n{headers}\r\n{body}")
    };
    check(&post("content-length: 3\r\ncontent-length: 4\r\n", "abcd"), &[BAD], &[]).await;
    check(&post("content-length: 3, 4\r\n", "abcd"), &[BAD], &[]).await;
    check(&post("content-length: +3\r\n", "abc"), &[BAD], &[]).await;
    check(&post("content-length: -1\r\n", ""), &[BAD], &[]).await;
    check(&post("content-length: 0x3\r\n", "abc"), &[BAD], &[]).await;
    check(&post("transfer-encoding: xchunked\r\n", "0\r\n\r\n"), &[BAD], &[]).await;
    check(&post("transfer-encoding: chunked, identity\r\n", "0\r\n\r\n"), &[BAD], &[]).await;
    check(&post("transfer-encoding : chunked\r\n", "0\r\n\r\n"), &[BAD], &[]).await;
    // Both: chunked counts, the length does not go on, and nothing after it is read
    // (RFC 9112, section 6.3).
    let both = post("content-length: 60\r\ntransfer-encoding: chunked\r\n", "0\r\n\r\n");
    check(&format!("{both}{next}"), &["200"], &["POST /echo"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_that_some_read_otherwise_are_refused() {
    let get = |line: &str, headers: &str| format!("{line}\r\n{headers}\r\n");
    let line = "GET /shop/1/x HTTP/1.1";
    check(&get(line, "host: a\r\nx-a: 1\r\n folded\r\n"), &[BAD], &[]).await;
    check(&get(line, "host: a\r\nx-a : 1\r\n"), &[BAD], &[]).await;
    check(&get(line, "host: a\r\nx-a: 1\rx-b: 2\r\n"), &[BAD], &[]).await;
    check(&get(line, "host: a\r\nx-a: 1\0\r\n"), &[BAD], &[]).await;
    check(&get(line, "host: a\r\nhost: b\r\n"), &[BAD], &[]).await;
    check(&get(line, "x-a: 1\r\n"), &[BAD], &[]).await;
    check(&get("GET  /shop/1/x HTTP/1.1", "host: a\r\n"), &[BAD], &[]).await;
    check(&get("GET /shop/1/x HTTP/2.0", "host: a\r\n"), &[BAD], &[]).await;
    check(&get("GET http://me:hush@b/shop/1/x HTTP/1.1", "host: b\r\n"), &[BAD], &[]).await;
    check(&get(line, "host: me@b\r\n"), &[BAD], &[]).await;
    check("nonsense\r\n\r\n", &[BAD], &[]).await;
    check("\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}", &[BAD], &[]).await;
    let absolute = get("GET http://b/shop/1/x HTTP/1.1", "host: a\r\nconnection: close\r\n");
    check(&absolute, &["200"], &["GET /x"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_follow_each_other_stay_apart() {
    let two = "POST /shop/1/echo HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc\
               POST /shop/1/echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nde\r\n0\r\n\r\n\
               GET /shop/1/x HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let seen = ["POST /echo abc", "POST /echo de", "GET /x"];
    check(two, &["200", "200", "200"], &seen).await;
    let bare = "GET /shop/1/x HTTP/1.1\nhost: a\nconnection: close\n\n";
    check(bare, &["200"], &["GET /x"]).await;
    let hidden = "POST /shop/1/echo HTTP/1.1\r\nhost: a\r\ncontent-length: 43\r\nconnection: content-length, close\r\n\r\n\
                  GET /shop/1/hidden HTTP/1.1\r\nhost: shop\r\n\r\n";
    check(hidden, &["200"], &["POST /echo GET /shop/1/hidden HTTP/1.1\r\nhost: shop"]).await;
    let after_bad = "GET /shop/1/x HTTP/1.1\r\nhost: a\r\n\r\nGET /shop/1/y HTTP/1.1\r\nhost : a\r\n\r\n\
                     GET /shop/1/z HTTP/1.1\r\nhost: a\r\n\r\n";
    check(after_bad, &["200", BAD], &["GET /x"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_that_are_too_large_are_refused_by_their_codes() {
    let large =
        format!("GET /shop/1/x HTTP/1.1\r\nhost: a\r\nx-a: {}\r\n\r\n", "x".repeat(100_000));
    check(&large, &["431 header_too_large"], &[]).await;
    let many = format!("GET /shop/1/x HTTP/1.1\r\nhost: a\r\n{}\r\n", "x-a: 1\r\n".repeat(200));
    check(&many, &["431 header_too_large"], &[]).await;
    let long = format!("GET /shop/1/{} HTTP/1.1\r\nhost: a\r\n\r\n", "x".repeat(9_000));
    check(&long, &["414 url_too_long"], &[]).await;
}
