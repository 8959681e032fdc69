//! The client against real sockets that answer, refuse, break off and stay silent.

use std::sync::atomic::{AtomicUsize, Ordering};

use ingest::registry::kind::{Balance, RetryOn, Target};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

/// A server that reads a head, says `answer`, and closes; it counts connections and
/// keeps the last head.
struct Server {
    url: String,
    connections: Arc<AtomicUsize>,
    head: Arc<Mutex<String>>,
}

async fn server(answer: &'static str) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (connections, head) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(String::new())));
    let (count, kept) = (connections.clone(), head.clone());
    tokio::spawn(async move {
        let mut silent = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            count.fetch_add(1, Ordering::SeqCst);
            let mut bytes = Vec::new();
            while !bytes.windows(4).any(|end| end == b"\r\n\r\n") {
                assert_ne!(stream.read_buf(&mut bytes).await.unwrap(), 0);
            }
            *kept.lock() = String::from_utf8(bytes).unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            if answer.is_empty() {
                silent.push(stream);
            }
        }
    });
    Server { url, connections, head }
}

/// The address of a port that nobody listens on.
async fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

fn upstream(urls: &[&str]) -> Upstream {
    Upstream {
        targets: urls.iter().map(|url| Target { url: (*url).into(), weight: 1 }).collect(),
        balance: Balance::RoundRobin,
        connect_timeout_ms: 2_000,
        response_timeout_ms: 30_000,
        retries_max: 0,
        retry_on: RetryOn::default(),
        health_check: None,
        deliveries: None,
    }
}

fn name() -> Name {
    "orders".parse().unwrap()
}

fn get(path: &str) -> Request {
    Request::new(Method::GET, path, Bytes::new())
}

#[tokio::test]
async fn an_answer_comes_back_whole_whatever_its_status() {
    let answer = "HTTP/1.1 404 Nope\r\nx-a: 1\r\nx-b: 2\r\nconnection: close, x-b\r\n\
                  content-length: 2\r\n\r\nno";
    let server = server(answer).await;
    let mut request = get("/a?b=1");
    for (name, value) in [("te", "x"), ("connection", "x-mine"), ("x-mine", "1"), ("x-kept", "1")] {
        request.headers.insert(name, value.parse().unwrap());
    }
    request.headers.insert("host", "elsewhere".parse().unwrap());
    request.correlation = Some(Correlation::of(&HeaderMap::new(), || 7));
    let url = format!("{}/base", server.url);
    let answer = Caller::new().call(&name(), &upstream(&[&url]), request).await.unwrap();
    assert_eq!((answer.status.as_u16(), &answer.body[..], answer.attempts), (404, &b"no"[..], 1));
    assert_eq!(answer.headers["x-a"], "1");
    assert!(!answer.headers.contains_key("connection") && !answer.headers.contains_key("x-b"));

    let head = server.head.lock().to_lowercase();
    assert!(head.starts_with("get /base/a?b=1 http/1.1\r\n"), "{head}");
    let id = "00000000000000070000000000000007";
    assert!(head.contains(&format!("traceparent: 00-{id}-0000000000000007-01\r\n")), "{head}");
    assert!(head.contains(&format!("x-correlation-id: {id}\r\n")), "{head}");
    assert!(head.contains("x-kept: 1\r\n"), "{head}");
    for absent in ["te: ", "x-mine", "elsewhere"] {
        assert!(!head.contains(absent), "{absent} in {head}");
    }
}

#[tokio::test]
async fn a_target_that_takes_no_connection_is_followed_by_the_next() {
    let answer = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    let (server, nobody) = (server(answer).await, nobody().await);
    let caller = Caller::new();
    let both = upstream(&[&nobody, &server.url]);
    let mut attempts = Vec::new();
    for _ in 0..4 {
        attempts.push(caller.call(&name(), &both, get("/")).await.unwrap().attempts);
    }
    assert_eq!(attempts, [2, 1, 2, 1], "each has its turn");

    let error = caller.call(&name(), &upstream(&[&nobody, &nobody]), get("/")).await.unwrap_err();
    assert_eq!((error.code, error.sent), (Code::UpstreamUnreachable, Sent::NotSent));
    assert_eq!((error.attempts, format!("http://{}", error.address)), (2, nobody));
    assert!(error.reason.to_lowercase().contains("refused"), "{error}");
}

/// What a target answers, and what becomes of it; never a second connection.
async fn check(answer: &'static str, expected: Code, reason: &str) {
    let (first, second) = (server(answer).await, server(answer).await);
    let upstream = upstream(&[&first.url, &second.url]);
    let request = Request {
        timeout: Duration::from_millis(300),
        answer_bytes_max: 4,
        ..Request::new(Method::POST, "/secret-path", Bytes::from_static(b"secret"))
    };
    let error = Caller::new().call(&name(), &upstream, request).await.unwrap_err();
    assert_eq!((error.code, error.sent), (expected, Sent::MaybeSent), "{answer:?}: {error}");
    assert!(error.reason.contains(reason), "{answer:?}: {error}");
    assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
    let connections = [&first, &second].map(|server| server.connections.load(Ordering::SeqCst));
    assert_eq!(connections, [1, 0], "{answer:?}");
}

#[tokio::test]
async fn what_may_have_been_sent_is_never_sent_again() {
    check("", Code::UpstreamTimeout, "no answer began in time").await;
    check("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nab", Code::UpstreamBroken, "").await;
    check("SMTP?\r\n\r\n", Code::UpstreamBroken, "").await;
    let large = "larger than 4 bytes";
    check("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabcde", Code::UpstreamError, large).await;
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n";
    check(chunked, Code::UpstreamError, large).await;
}

#[tokio::test]
async fn an_answer_that_does_not_begin_is_not_waited_for() {
    let silent = server("").await;
    let impatient =
        Upstream { response_timeout_ms: 50, connect_timeout_ms: 50, ..upstream(&[&silent.url]) };
    let error = Caller::new().call(&name(), &impatient, get("/")).await.unwrap_err();
    assert_eq!((error.code, error.sent), (Code::UpstreamTimeout, Sent::MaybeSent));
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_a_bad_path_is_not_sent() {
    let server = server(
        "HTTP/1.1 302 Found\r\nlocation: /else\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
    )
    .await;
    let (caller, upstream) = (Caller::new(), upstream(&[&server.url]));
    let answer = caller.call(&name(), &upstream, get("/")).await.unwrap();
    assert_eq!(
        (answer.status.as_u16(), answer.headers["location"].as_bytes()),
        (302, &b"/else"[..])
    );
    let error = caller.call(&name(), &upstream, get("/../admin")).await.unwrap_err();
    assert_eq!((error.code, error.sent), (Code::StepFailed, Sent::NotSent));
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_server_that_speaks_no_tls_is_told_from_one_that_is_away() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let plain = format!("https://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad\r\n\r\n").await;
        }
    });
    let error = Caller::new().call(&name(), &upstream(&[&plain]), get("/")).await.unwrap_err();
    assert_eq!((error.code, error.sent), (Code::UpstreamTlsFailed, Sent::NotSent), "{error}");
}
