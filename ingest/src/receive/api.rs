use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, Query, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::value::RawValue;

use super::answer::{Rejected, RequestId, Taken, take};
use super::lines::{self, About};
use super::otlp::{self, Encoding};
use super::sender::Sender;
use super::server::{PLACES_OF_LOGS, Shared};
use super::unpack::{too_large, unpack};
use super::{BODY_BYTES_MAX, ROWS_MAX, cloud};
use crate::http::{Code, Correlation, Failure, Peer};

const CHALLENGE: HeaderValue = HeaderValue::from_static("Basic realm=\"weir collector\"");
/// What the content types of CloudEvents begin with, in whatever format.
const CLOUD_EVENTS: &str = "application/cloudevents";
const EVENT: &str = "application/cloudevents+json";
const BATCH: &str = "application/cloudevents-batch+json";
const LINES: [&str; 3] = ["application/x-ndjson", "application/ndjson", "application/jsonl"];
const LOGS: &str = "/v1/logs";

/// What is taken: `POST /v1/events` and `POST /v1/logs`, each by who may send.
pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/v1/events", post(events))
        .route(LOGS, post(logs))
        .layer(from_fn_with_state(shared.clone(), admit))
        .with_state(shared)
}

/// Lets in who may send, before anything of the body is read.
async fn admit(
    State(shared): State<Arc<Shared>>,
    Extension(Peer(peer)): Extension<Peer>,
    mut request: Request,
    next: Next,
) -> Response {
    let correlation = Correlation::of(request.headers(), || fastrand::u64(..));
    request.extensions_mut().insert(correlation.clone());
    let logs = (request.uri().path() == LOGS).then(|| Encoding::of(request.headers()).ok());
    let admitted = shared.senders.admit(request.headers(), peer.ip(), &correlation);
    let places = if logs.is_some() { PLACES_OF_LOGS } else { 1 };
    let mut response = match admitted.and_then(|sender| Ok((sender, shared.room(places)?))) {
        Ok((sender, _place)) => {
            request.extensions_mut().insert(sender);
            next.run(request).await
        }
        Err(failure) => failure.into_response(),
    };
    let failed = response.extensions().get::<Failure>().map(|failure| failure.problem.clone());
    Failure::complete(&mut response, &correlation);
    if let (Some(Some(encoding)), Some(problem)) = (logs, failed) {
        *response.body_mut() = encoding.write_status(&problem).into();
        response.headers_mut().insert(CONTENT_TYPE, encoding.content_type());
    }
    if response.status() == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(WWW_AUTHENTICATE, CHALLENGE);
    }
    response
}

async fn events(
    State(shared): State<Arc<Shared>>,
    Extension(sender): Extension<Sender>,
    Query(parameters): Query<Vec<(String, String)>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let body = read(&headers, body).await?;
    let (emitter, id) = (&shared.emitter, RequestId::of(&sender, &body));
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = content_type.unwrap_or_default().split(';').next().unwrap_or_default();
    let media_type = media_type.trim().to_ascii_lowercase();
    // An event that is one by its content type may have its attributes as headers besides
    // (HTTP binding, section 3).
    let is_structured = media_type.starts_with(CLOUD_EVENTS);
    if !is_structured && headers.contains_key(cloud::VERSION_HEADER) {
        let row = cloud::of_headers(&headers, body.into());
        return one(take(emitter, &sender, &id, [(0, row)]).await);
    }
    match &*media_type {
        EVENT => {
            let row = cloud::of_json(json::<&RawValue>(&body)?);
            one(take(emitter, &sender, &id, [(0, row)]).await)
        }
        BATCH => {
            let batch = json::<Vec<&RawValue>>(&body)?;
            count(batch.len())?;
            let rows: Vec<_> = batch.into_iter().map(cloud::of_json).enumerate().collect();
            Ok(take(emitter, &sender, &id, rows).await.into_response())
        }
        lines_of if LINES.contains(&lines_of) => {
            let about = about(parameters)?;
            count(lines::lines(&body).take(ROWS_MAX + 1).count())?;
            let source = format!("/applications/{}", sender.name);
            let rows: Vec<_> = lines::lines(&body)
                .map(|(number, line)| (number, lines::read(line, &about, &source)))
                .collect();
            Ok(take(emitter, &sender, &id, rows).await.into_response())
        }
        _ => {
            let lines = LINES[0];
            let detail = format!(
                "send {EVENT}, {BATCH} or {lines}, or an event's attributes as ce- headers"
            );
            Err(Failure::new(Code::ContentTypeUnsupported, detail))
        }
    }
}

/// The answer to one event: nothing more is to be said of one that was taken.
fn one(taken: Taken) -> Result<Response, Failure> {
    let Some(Rejected { code, detail, .. }) = taken.rejected.into_iter().next() else {
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    Err(match code {
        Code::EventsUnavailable => Failure::waiting(code, super::WAIT_S),
        _ => Failure::new(code, detail),
    })
}

async fn logs(
    State(shared): State<Arc<Shared>>,
    Extension(sender): Extension<Sender>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let encoding = Encoding::of(&headers)?;
    let body = read(&headers, body).await?;
    let request = encoding.read(&body)?;
    otlp::check(&request)?;
    let id = RequestId::of(&sender, &body);
    let taken = take(&shared.emitter, &sender, &id, otlp::rows(request)).await;
    if taken.is_in_part_refused_for_now() {
        return Err(Failure::waiting(Code::EventsUnavailable, super::WAIT_S));
    }
    let body = encoding.write(&otlp::response(&taken));
    Ok(([(CONTENT_TYPE, encoding.content_type())], body).into_response())
}

/// The body, unpacked.
async fn read(headers: &HeaderMap, body: Body) -> Result<Bytes, Failure> {
    // Only one that is too long fails so: one that breaks off has nobody to be told.
    let body = axum::body::to_bytes(body, BODY_BYTES_MAX).await.map_err(|_| too_large())?;
    if !headers.contains_key(CONTENT_ENCODING) {
        return Ok(body);
    }
    let headers = headers.clone();
    let unpacked = tokio::task::spawn_blocking(move || unpack(&headers, body)).await;
    Ok(unpacked.map_err(|_| Code::InternalError)??)
}

fn json<'a, T: serde::Deserialize<'a>>(body: &'a [u8]) -> Result<T, Failure> {
    serde_json::from_slice(body).map_err(|error| {
        Failure::new(Code::BodyInvalid, format!("it is not what its content type says: {error}"))
    })
}

fn count(rows: usize) -> Result<(), Failure> {
    let detail = || format!("up to {ROWS_MAX} events are taken at a time");
    (rows <= ROWS_MAX).then_some(()).ok_or_else(|| Failure::new(Code::BodyTooLarge, detail()))
}

/// What the address says of lines.
fn about(parameters: Vec<(String, String)>) -> Result<About, Failure> {
    let parameters = parameters.into_iter().map(|(name, value)| (name, value.into()));
    let object = serde_json::Value::Object(parameters.collect());
    serde_json::from_value(object).map_err(|error| {
        Failure::new(Code::RequestMalformed, format!("the address's parameters: {error}"))
    })
}
