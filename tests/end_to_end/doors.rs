//! What comes to any of the doors of a node and is no request that it could serve.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

use crate::weir::{PATIENCE, Weir};

/// More than sockets hold, in bytes.
const UNWANTED: usize = 32 * 1024 * 1024;

/// Sends bytes and reads to the end of the connection.
fn ask(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // Also what was answered before all of it was sent is taken to its end.
    stream.write_all(request).unwrap_or_else(|error| panic!("{address} takes no more: {error}"));
    let (mut answer, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => answer.extend_from_slice(&buffer[..read]),
            Err(error) => panic!("{address} is not closed: {error}"),
        }
    }
    String::from_utf8(answer).unwrap()
}

/// Status and code of an answer, which has to be a problem.
fn problem(answer: &str) -> (u16, String) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer:?}"));
    let head = head.to_lowercase();
    assert!(head.contains("content-type: application/problem+json"), "{answer}");
    assert!(head.contains("x-correlation-id: "), "{answer}");
    let body: Value = serde_json::from_str(body).unwrap_or_else(|_| panic!("{answer}"));
    (head[9..12].parse().unwrap(), body["code"].as_str().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_door_answers_what_is_no_request_and_tells_of_it() {
    let mut weir = Weir::new();
    weir.start(&[]);
    let doors = weir.doors();
    let waiting: Vec<_> = doors
        .iter()
        .map(|(name, address)| {
            let (name, address) = (*name, *address);
            std::thread::spawn(move || {
                let check = |request: &[u8], expected: (u16, &str)| {
                    let answer = ask(address, request);
                    let (status, code) = problem(&answer);
                    assert_eq!((status, code.as_str()), expected, "{name}: {answer}");
                };
                check(b"GET / HT\r\n\r\n", (400, "request_malformed"));
                // RFC 9112, section 3.2: one Host, whoever else would decide by it.
                check(b"GET / HTTP/1.1\r\n\r\n", (400, "request_malformed"));
                let two = b"GET / HTTP/1.1\r\nhost: localhost\r\nhost: other\r\n\r\n";
                check(two, (400, "request_malformed"));
                let large = "x".repeat(200 * 1024);
                let large = format!("GET / HTTP/1.1\r\nhost: localhost\r\nlarge: {large}\r\n\r\n");
                check(large.as_bytes(), (431, "header_too_large"));
                let wrong = "GET /boards/traffic HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
                             authorization: Bearer let-me-in\r\n\r\n";
                if ["weir-manager", "weir-analytics", "weir-console"].contains(&name) {
                    check(wrong.as_bytes(), (401, "token_malformed"));
                }
                // A body that nobody wants: who sends it has to be able to read why.
                let mut refused = format!(
                    "POST /nowhere HTTP/1.1\r\nhost: localhost\r\ncontent-length: {UNWANTED}\r\n\r\n"
                ).into_bytes();
                refused.resize(refused.len() + UNWANTED, b'x');
                let refusal = ask(address, &refused);
                assert!(refusal.starts_with("HTTP/1.1 4"), "{name}: {refusal}");
                // A head that does not end: the gateway says so, the others hang up.
                let slow = ask(address, b"GET / HTTP/1.1\r\nhost: local");
                match name {
                    "weir-gateway" => assert_eq!(problem(&slow).1, "request_timeout"),
                    _ => assert_eq!(slow, "", "{name}"),
                }
            })
        })
        .collect();
    for thread in waiting {
        thread.join().unwrap();
    }
    // Who keeps its connections knows which of them ends with such an answer.
    for (name, address) in weir.doors() {
        for _ in 0..10 {
            let url = format!("http://{address}/nowhere");
            let answer = weir.client.post(url).body(vec![b'x'; UNWANTED / 8]).send().await;
            let answer = answer.unwrap_or_else(|error| panic!("{name}: {error:?}"));
            assert!(answer.status().is_client_error(), "{name}: {answer:?}");
        }
    }
    let sql = "SELECT DISTINCT service_name, error_type FROM events \
               WHERE error_type IS NOT NULL AND client_address = '127.0.0.1'";
    let mut missing = Vec::new();
    for _ in 0..100 {
        let (code, said) = weir.run(&["query", sql, "--json"]);
        assert_eq!(code, 0, "{said}");
        let rows: Vec<Value> = serde_json::from_str(&said).unwrap();
        let has = |service: &str, error: &str| {
            rows.iter().any(|row| row["service_name"] == service && row["error_type"] == error)
        };
        missing.clear();
        for (service, _) in &doors {
            for error in ["request_malformed", "header_too_large"] {
                if !has(service, error) {
                    missing.push(format!("{service} {error}"));
                }
            }
        }
        for service in ["weir-manager", "weir-analytics", "weir-console"] {
            if !has(service, "token_malformed") {
                missing.push(format!("{service} token_malformed"));
            }
        }
        if missing.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(missing, Vec::<String>::new(), "events that nobody wrote");
    weir.stop();
}
