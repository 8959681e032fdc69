//! What the web site of the example does with requests of a replay: it answers as the
//! web site did that is told of, and counts.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap};
use http::{Method, StatusCode};
use parking_lot::Mutex;
use serde_json::{Value, json};

/// How many replays are counted; more are answered, but not counted.
const REPLAYS_MAX: usize = 64;
/// How many requests are told apart in each.
const REQUESTS_MAX: usize = 1_000_000;
/// How many that came more than once are named.
const NAMED_MAX: usize = 1_000;
/// What bodies are made of.
static PART: [u8; 64 * 1024] = [b'.'; 64 * 1024];

/// How often each request of each replay came, by its correlation id.
#[derive(Debug, Clone, Default)]
pub(super) struct Counts(Arc<Mutex<BTreeMap<String, BTreeMap<String, u32>>>>);

impl Counts {
    fn add(&self, replay: &str, request: &str) {
        let mut replays = self.0.lock();
        if replays.len() >= REPLAYS_MAX && !replays.contains_key(replay) {
            return;
        }
        let requests = replays.entry(replay.to_owned()).or_default();
        let is_full = requests.len() >= REQUESTS_MAX;
        match requests.entry(request.to_owned()) {
            Entry::Occupied(mut times) => *times.get_mut() += 1,
            Entry::Vacant(place) if !is_full => drop(place.insert(1)),
            Entry::Vacant(_) => {}
        }
    }
}

/// Answers a request of a replay, and hands on all others.
pub(super) async fn answer(
    State(counts): State<Counts>,
    request: Request,
    next: Next,
) -> Response<Body> {
    let text = |headers: &HeaderMap, name: &str| {
        headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
    };
    let headers = request.headers();
    let (replay, status) = (text(headers, "weir-replay-id"), text(headers, "weir-replay-status"));
    let (Some(replay), Some(status)) = (replay, status) else { return next.run(request).await };
    counts.add(&replay, &text(headers, "x-correlation-id").unwrap_or_default());
    let Ok(status) = StatusCode::from_bytes(status.as_bytes()) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let size = text(headers, "weir-replay-size").and_then(|size| size.parse::<u64>().ok());
    let size = size.unwrap_or(0);
    // These have no body, whatever their length (RFC 9110, sections 6.4.1 and 9.3.2).
    let is_bare = request.method() == Method::HEAD
        || status.is_informational()
        || [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&status);
    let mut answer = Response::new(if is_bare { Body::empty() } else { body_of(size) });
    *answer.status_mut() = status;
    if !is_bare {
        answer.headers_mut().insert(CONTENT_LENGTH, size.into());
        answer.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static("text/plain"));
    }
    answer
}

/// So many bytes.
fn body_of(size: u64) -> Body {
    let parts = stream::unfold(size, |left| async move {
        let next = usize::try_from(left).unwrap_or(usize::MAX).min(PART.len());
        let part = Ok::<_, std::convert::Infallible>(Bytes::from_static(&PART[..next]));
        (next > 0).then_some((part, left - next as u64))
    });
    Body::from_stream(parts)
}

/// How many requests of a replay came, and which came more than once.
pub(super) async fn count(State(counts): State<Counts>, Path(replay): Path<String>) -> Json<Value> {
    let replays = counts.0.lock();
    let nothing = BTreeMap::new();
    let requests = replays.get(&replay).unwrap_or(&nothing);
    let all: u64 = requests.values().map(|times| u64::from(*times)).sum();
    let again = requests.iter().filter(|(_, times)| **times > 1).take(NAMED_MAX);
    let again: BTreeMap<&String, &u32> = again.collect();
    Json(json!({"requests": all, "distinct": requests.len(), "repeated": again}))
}
