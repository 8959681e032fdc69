//! The client: one request to an upstream, and its answer held in memory.
//!
//! ```text
//!  Request ─► targets in turn ─► connect ─► send ─► head ─► body ─► Answer
//!                  ▲                │ fails           │ fails, or too late
//!                  └── the next ◄───┘                 └──► CallError, maybe sent
//! ```
//!
//! What holds:
//! - A request that may have been sent is never sent again. Only a target that took
//!   no connection is followed by the next; each is tried once.
//! - [`CallError::sent`] says which of the two it was. Where nobody can tell, as
//!   when the time of the whole call ended while connecting, it may have been.
//! - No redirect is followed, no proxy is taken from the environment, no body is
//!   decompressed, and no cookie is kept.
//! - A reason names hosts and what the system said, never a path, a header or a body.
//!
//! Limits: an answer's body [`ANSWER_BYTES_MAX`] unless the request says otherwise,
//! beyond it the connection is closed; 64 idle connections for each host, for 60 s;
//! 32 different connect timeouts: at the bound the clients of the others are
//! dropped, and their connections are opened anew.

use std::collections::HashMap;
use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, HOST, HeaderMap};
use http::{Method, StatusCode};
use ingest::registry::Name;
use ingest::registry::kind::Upstream;
use parking_lot::Mutex;
use reqwest::{Client, redirect, retry};
use tokio::time::{Instant, timeout_at};

use super::remove_hop_by_hop;
use super::targets::{Turns, address};
use ingest::http::{CORRELATION_HEADER, Code, Correlation, TRACE_HEADER};

/// The largest body of an answer, unless the request says otherwise: 8 MiB.
pub const ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;

const CLIENTS_MAX: usize = 32;
const IDLE_PER_HOST_MAX: usize = 64;
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Calls upstreams. One per process; a clone shares its connections.
#[derive(Clone, Debug, Default)]
pub struct Caller(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// By connect timeout, which a client has but a request has not.
    clients: Mutex<HashMap<u64, Client>>,
    turns: Turns,
}

/// What is sent.
#[derive(Debug, Clone)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The path below the target's own, with the query, as `/orders?id=1`. It may
    /// not step upwards.
    pub path_and_query: String,
    /// The headers. What belongs to one connection only is left out, and `Host` and
    /// `Content-Length` are made.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// How long all of it may take, also if the upstream would allow more.
    pub timeout: Duration,
    /// The largest body of the answer, in bytes.
    pub answer_bytes_max: usize,
    /// The place of this call in its journey: a child of the span that calls.
    pub correlation: Option<Correlation>,
}

impl Request {
    /// A request without headers, of at most 30 s.
    pub fn new(method: Method, path_and_query: impl Into<String>, body: Bytes) -> Self {
        Self {
            method,
            path_and_query: path_and_query.into(),
            headers: HeaderMap::new(),
            body,
            timeout: Duration::from_secs(30),
            answer_bytes_max: ANSWER_BYTES_MAX,
            correlation: None,
        }
    }
}

/// What came back, whatever its status.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers, without those that belong to one connection only.
    pub headers: HeaderMap,
    /// The body, whole.
    pub body: Bytes,
    /// Host and port of the target that answered.
    pub address: String,
    /// How many targets were tried, 1 if the first took it.
    pub attempts: u32,
    /// From the request to the head of the answer.
    pub time_to_head: Duration,
    /// From the request to the end of the answer.
    pub duration: Duration,
}

/// Whether the target may have got a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// It was not sent: sending it again repeats nothing.
    NotSent,
    /// It may have been sent, and may have been acted upon.
    MaybeSent,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {reason}", code.text())]
pub struct CallError {
    /// What went wrong, as callers see it.
    pub code: Code,
    /// What went wrong, for operators.
    pub reason: String,
    /// Whether the target may have got it.
    pub sent: Sent,
    /// Host and port of the target that was tried last; empty if there was none.
    pub address: String,
    /// How many targets were tried.
    pub attempts: u32,
}

impl Caller {
    /// A caller without connections.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sends a request to the upstream `name`, and waits for the whole answer.
    ///
    /// # Errors
    /// [`CallError`], which says whether the request may have been sent. An answer
    /// of any status is no error.
    pub async fn call(
        &self,
        name: &Name,
        upstream: &Upstream,
        request: Request,
    ) -> Result<Answer, CallError> {
        let started = Instant::now();
        let end = started + request.timeout;
        let mut last = CallError {
            code: Code::UpstreamUnreachable,
            reason: "the upstream has no target".to_owned(),
            sent: Sent::NotSent,
            address: String::new(),
            attempts: 0,
        };
        let client = self.client(upstream.connect_timeout_ms).map_err(|error| CallError {
            code: Code::InternalError,
            reason: format!("the client cannot be made: {}", innermost(&error)),
            ..last.clone()
        })?;
        let headers = outgoing_headers(&request);
        for target in self.0.turns.order(name, upstream) {
            last.attempts += 1;
            let (url, shown) = address(target, &request.path_and_query)
                .map_err(|reason| CallError { code: Code::StepFailed, reason, ..last.clone() })?;
            last.address = shown;
            let sent = client
                .request(request.method.clone(), url)
                .headers(headers.clone())
                .body(request.body.clone())
                .send();
            // Connecting has its own timeout, within this one.
            let patience = upstream.connect_timeout_ms + upstream.response_timeout_ms;
            let head_end = end.min(Instant::now() + Duration::from_millis(patience));
            let response = match timeout_at(head_end, sent).await {
                Err(_) => return Err(too_late(last, "no answer began in time")),
                Ok(Ok(response)) => response,
                Ok(Err(error)) => {
                    last = explain(&error, last);
                    match last.sent {
                        Sent::NotSent => continue,
                        Sent::MaybeSent => return Err(last),
                    }
                }
            };
            let time_to_head = started.elapsed();
            let (status, mut headers) = (response.status(), response.headers().clone());
            let body = match timeout_at(end, read(response, request.answer_bytes_max)).await {
                Err(_) => return Err(too_late(last, "the answer did not end in time")),
                Ok(Err(unread)) => return Err(unread.explain(last)),
                Ok(Ok(body)) => body,
            };
            remove_hop_by_hop(&mut headers);
            return Ok(Answer {
                status,
                headers,
                body,
                address: last.address,
                attempts: last.attempts,
                time_to_head,
                duration: started.elapsed(),
            });
        }
        Err(last)
    }

    /// The client of a connect timeout. Making one reads the machine's certificates.
    fn client(&self, connect_timeout_ms: u64) -> Result<Client, reqwest::Error> {
        if let Some(client) = self.0.clients.lock().get(&connect_timeout_ms) {
            return Ok(client.clone());
        }
        let client = Client::builder()
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            .no_proxy()
            .referer(false)
            .connect_timeout(Duration::from_millis(connect_timeout_ms))
            .pool_max_idle_per_host(IDLE_PER_HOST_MAX)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .build()?;
        let mut clients = self.0.clients.lock();
        if clients.len() >= CLIENTS_MAX {
            clients.clear();
        }
        Ok(clients.entry(connect_timeout_ms).or_insert(client).clone())
    }
}

fn outgoing_headers(request: &Request) -> HeaderMap {
    let mut headers = request.headers.clone();
    remove_hop_by_hop(&mut headers);
    headers.remove(HOST);
    headers.remove(CONTENT_LENGTH);
    if let Some(correlation) = &request.correlation {
        headers.insert(TRACE_HEADER, correlation.trace_header());
        headers.insert(CORRELATION_HEADER, correlation.id_header());
    }
    headers
}

/// Why an answer's body was not read.
enum Unread {
    Broken(reqwest::Error),
    TooLarge(usize),
}

impl Unread {
    fn explain(self, last: CallError) -> CallError {
        match self {
            Self::Broken(error) => explain(&error, last),
            Self::TooLarge(max) => CallError {
                code: Code::UpstreamError,
                reason: format!("the answer's body is larger than {max} bytes"),
                sent: Sent::MaybeSent,
                ..last
            },
        }
    }
}

async fn read(mut response: reqwest::Response, max: usize) -> Result<Bytes, Unread> {
    if response.content_length().is_some_and(|bytes| bytes > max as u64) {
        return Err(Unread::TooLarge(max));
    }
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(Unread::Broken)? {
        if body.len() + chunk.len() > max {
            return Err(Unread::TooLarge(max));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

fn too_late(last: CallError, reason: &str) -> CallError {
    let (code, reason) = (Code::UpstreamTimeout, reason.to_owned());
    CallError { code, reason, sent: Sent::MaybeSent, ..last }
}

fn explain(error: &reqwest::Error, last: CallError) -> CallError {
    let (code, sent) = if !error.is_connect() {
        (Code::UpstreamBroken, Sent::MaybeSent)
    } else if error.is_timeout() {
        (Code::UpstreamConnectTimeout, Sent::NotSent)
    } else if is_tls(error) {
        (Code::UpstreamTlsFailed, Sent::NotSent)
    } else {
        (Code::UpstreamUnreachable, Sent::NotSent)
    };
    CallError { code, reason: innermost(error), sent, ..last }
}

/// The last cause, which is what the system or TLS said; it holds no address.
fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = match error.source() {
        Some(source) => source,
        None => return "the request could not be made".to_owned(),
    };
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

/// Whether TLS failed. An I/O error hides what it holds from `source`.
fn is_tls(error: &(dyn std::error::Error + 'static)) -> bool {
    let held = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    error.is::<rustls::Error>()
        || held.is_some_and(|held| is_tls(held))
        || error.source().is_some_and(is_tls)
}

#[cfg(test)]
mod tests;
