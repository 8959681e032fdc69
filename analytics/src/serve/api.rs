use std::sync::Arc;

use axum::extract::rejection::{QueryRejection, StringRejection};
use axum::extract::{DefaultBodyLimit, Query, Request, State};
use axum::http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use ingest::emit::Emitter;
use ingest::event::{Kind, Outcome, Timestamp};
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::answer::{Format, encode};
use crate::follow::Status;
use crate::query::{QueryFile, Span};
use crate::run;
use crate::sql::{self, Sql};

/// How long the text of a query may be, in bytes.
const QUERY_BYTES_MAX: usize = 1024 * 1024;

/// The header of the id that joins the events of a journey, and the longest id.
const CORRELATION_HEADER: HeaderName = HeaderName::from_static("x-correlation-id");
const CORRELATION_BYTES_MAX: usize = 128;

/// What all requests share.
pub(super) struct Shared {
    pub(super) sql: Sql,
    pub(super) status: Status,
    pub(super) queries: run::Status,
    /// SHA-256 of the token.
    pub(super) token: [u8; 32],
    /// Where it is told who was refused.
    pub(super) emitter: Emitter,
}

pub(super) fn router(shared: Shared) -> Router {
    let shared = Arc::new(shared);
    Router::new()
        .route("/v1/sql", post(query))
        .route("/v1/backtest", post(backtest))
        .route("/v1/status", get(status))
        .fallback(async || {
            Problem::new(StatusCode::NOT_FOUND, "resource_not_found", "nothing is here")
        })
        .method_not_allowed_fallback(async || {
            let detail = "the resource does not take this method";
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
        })
        .layer(DefaultBodyLimit::max(QUERY_BYTES_MAX))
        .layer(from_fn_with_state(shared.clone(), admit))
        .layer(from_fn(correlate))
        .with_state(shared)
}

/// The id of a request's journey: what its caller brought, or a new one.
#[derive(Debug, Clone)]
struct CorrelationId(String);

/// Gives the request its id, and puts it on the answer, in a problem's body too.
async fn correlate(mut request: Request, next: Next) -> Response {
    let brought = request.headers().get(CORRELATION_HEADER).and_then(|id| id.to_str().ok());
    let is_id = |id: &&str| {
        (1..=CORRELATION_BYTES_MAX).contains(&id.len())
            && id.bytes().all(|of| of.is_ascii_graphic())
    };
    let id = brought.filter(is_id).map_or_else(|| uuid::Uuid::now_v7().to_string(), str::to_owned);
    request.extensions_mut().insert(CorrelationId(id.clone()));
    let mut answer = next.run(request).await;
    if let Some(problem) = answer.extensions_mut().remove::<Problem>() {
        let headers = std::mem::take(answer.headers_mut());
        answer = problem.answer(&id);
        answer.headers_mut().extend(
            headers
                .into_iter()
                .filter(|(name, _)| name.as_ref().is_some_and(|name| name == WWW_AUTHENTICATE)),
        );
    }
    if let Ok(id) = HeaderValue::try_from(id) {
        answer.headers_mut().insert(CORRELATION_HEADER, id);
    }
    answer
}

/// Lets in who has the token. Digests are compared, so that the time says nothing of it.
async fn admit(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let value = request.headers().get(AUTHORIZATION).map(|value| value.as_bytes());
    let token = value.and_then(|value| value.strip_prefix(b"Bearer "));
    let digest = token.map(|token| <[u8; 32]>::from(Sha256::digest(token)));
    if digest == Some(shared.token) {
        return next.run(request).await;
    }
    let code = if value.is_none() { "token_missing" } else { "token_malformed" };
    refused(&shared, request.extensions().get(), code);
    let detail = "send the admin token as a bearer token";
    let problem = Problem::new(StatusCode::UNAUTHORIZED, code, detail);
    ([(WWW_AUTHENTICATE, "Bearer")], problem).into_response()
}

/// Writes the event of a refusal. One that cannot be kept is in the process's log: the
/// refusal stands.
fn refused(shared: &Shared, id: Option<&CorrelationId>, code: &'static str) {
    let mut event = shared.emitter.event(Kind::Refusal, Outcome::Denied);
    event.service_name = Some("weir-analytics".into());
    event.network_protocol_name = Some("http".into());
    event.correlation_id = id.map(|CorrelationId(id)| id.clone().into());
    event.http_response_status_code = Some(StatusCode::UNAUTHORIZED.as_u16().into());
    event.error_type = Some(code.into());
    if let Err(error) = shared.emitter.emit(event) {
        tracing::warn!(%error, code, "the event of a refusal was not kept");
    }
}

async fn query(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    text: Result<String, StringRejection>,
) -> Result<Response, Problem> {
    let text = body(text)?;
    let format = format(&headers)?;
    let answer = shared.sql.query(&text).await.map_err(|error| Problem::of(&error))?;
    encoded(&answer, format)
}

/// Which part of the history a query file is run over.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Backtest {
    /// The name of the file, without `.sql`.
    name: String,
    replay: Option<String>,
    /// RFC 3339.
    from: Option<String>,
    /// RFC 3339.
    before: Option<String>,
}

async fn backtest(
    State(shared): State<Arc<Shared>>,
    asked: Result<Query<Backtest>, QueryRejection>,
    headers: HeaderMap,
    text: Result<String, StringRejection>,
) -> Result<Response, Problem> {
    let invalid = |detail: &str| Problem::new(StatusCode::BAD_REQUEST, "query_invalid", detail);
    let Query(asked) = asked.map_err(|refused| invalid(&refused.body_text()))?;
    let text = body(text)?;
    let format = format(&headers)?;
    let time = |text: Option<String>| {
        let read = text.map(|text| match text.parse::<Timestamp>() {
            Ok(time) => Ok(time.as_micros()),
            Err(error) => Err(invalid(&format!("{text}: {error}"))),
        });
        read.transpose()
    };
    let span =
        Span { replay: asked.replay, from_us: time(asked.from)?, before_us: time(asked.before)? };
    let file = QueryFile::parse(&asked.name, &text).map_err(|faults| {
        let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
        invalid(&faults.join("\n"))
    })?;
    let answer = shared.sql.backtest(file, span).await.map_err(|error| Problem::of(&error))?;
    encoded(&answer, format)
}

fn body(text: Result<String, StringRejection>) -> Result<String, Problem> {
    text.map_err(|refused| {
        let code = match refused.status() {
            StatusCode::PAYLOAD_TOO_LARGE => "body_too_large",
            _ => "body_invalid",
        };
        Problem::new(refused.status(), code, &refused.body_text())
    })
}

fn format(headers: &HeaderMap) -> Result<Format, Problem> {
    let accept = headers.get(ACCEPT).map_or("", |value| value.to_str().unwrap_or("?"));
    Format::of(accept).ok_or_else(|| {
        let detail = format!("ask for {}", Format::TYPES.join(", "));
        Problem::new(StatusCode::NOT_ACCEPTABLE, "content_type_unsupported", &detail)
    })
}

fn encoded(answer: &sql::Answer, format: Format) -> Result<Response, Problem> {
    encode(answer, format).map_err(|error| {
        let detail = format!("the rows could not be written: {error}");
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "query_failed", &detail)
    })
}

async fn status(State(shared): State<Arc<Shared>>) -> Response {
    let state = shared.status.now();
    Json(json!({
        "failing": state.failing,
        "rows": state.rows,
        "repeated": state.repeated,
        "gaps": state.gaps,
        "unreadable": state.unreadable,
        "committed": state.committed,
        "failures": state.failures,
        "queries": shared.queries.now(),
    }))
    .into_response()
}

/// Problem details (RFC 9457). Its answer is made by [`correlate`], which knows the id.
#[derive(Debug, Clone)]
struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, detail: &str) -> Self {
        Self { status, code, detail: detail.to_owned() }
    }

    fn of(error: &sql::Error) -> Self {
        let (status, code) = match error {
            sql::Error::Query(_) => (StatusCode::BAD_REQUEST, "query_invalid"),
            sql::Error::Time(_) => (StatusCode::UNPROCESSABLE_ENTITY, "query_time"),
            sql::Error::Memory(_) => (StatusCode::UNPROCESSABLE_ENTITY, "query_memory"),
            sql::Error::Busy => (StatusCode::SERVICE_UNAVAILABLE, "overloaded"),
            sql::Error::Failed(_) => (StatusCode::UNPROCESSABLE_ENTITY, "query_failed"),
            sql::Error::Lake(_) => (StatusCode::SERVICE_UNAVAILABLE, "lake_unavailable"),
        };
        Self { status, code, detail: error.to_string() }
    }
}

impl Problem {
    fn answer(self, correlation_id: &str) -> Response {
        let title = self.status.canonical_reason().unwrap_or_default().to_lowercase();
        let body = json!({
            "type": format!("urn:weir:problem:{}", self.code),
            "title": title,
            "status": self.status.as_u16(),
            "code": self.code,
            "detail": self.detail,
            "correlation_id": correlation_id,
        });
        let mut response = (self.status, Json(body)).into_response();
        let content_type = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(CONTENT_TYPE, content_type);
        response
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}
