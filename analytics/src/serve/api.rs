use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::{QueryRejection, StringRejection};
use axum::extract::{DefaultBodyLimit, Query, Request, State};
use axum::http::header::ACCEPT;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use ingest::event::Timestamp;
use ingest::http::{Caller, Code, Failure};
use serde::Deserialize;
use serde_json::json;

use super::answer::{Format, POSITION_HEADER, encode};
use crate::alert::Desk;
use crate::follow::Status;
use crate::lake;
use crate::query::{QueryFile, Span};
use crate::run::{self, Control};
use crate::sql::{self, Sql};

/// For how long a backtest blocks a subject at most.
const BLOCK_MAX: Duration = Duration::from_hours(30 * 24);
/// How long the text of a query may be, in bytes.
const QUERY_BYTES_MAX: usize = 1024 * 1024;

/// What all requests share.
pub(super) struct Shared {
    pub(super) sql: Sql,
    pub(super) status: Status,
    pub(super) queries: run::Status,
    pub(super) desk: Desk,
    pub(super) control: Control,
}

pub(super) fn router(shared: Shared) -> Router {
    let of_admins = Router::new()
        .route("/v1/backtest", post(backtest))
        .route("/v1/status", get(status))
        .merge(super::alerts::router())
        .merge(super::queries::router())
        .merge(super::metrics::router())
        .merge(super::lake::router())
        .route_layer(from_fn(admins_only));
    Router::new()
        .route("/v1/sql", post(query))
        .route("/v1/search", get(search))
        .merge(of_admins)
        .fallback(async || Failure::new(Code::ResourceNotFound, "nothing is here"))
        .method_not_allowed_fallback(async || {
            Failure::new(Code::MethodNotAllowed, "the resource does not take this method")
        })
        .layer(DefaultBodyLimit::max(QUERY_BYTES_MAX))
        .with_state(Arc::new(shared))
}

/// Users ask; what is more is for who runs the node.
async fn admins_only(
    Extension(caller): Extension<Caller>,
    request: Request,
    next: Next,
) -> Result<Response, Failure> {
    match caller {
        Caller::Admin => Ok(next.run(request).await),
        Caller::User(_) => Err(Failure::new(Code::RightMissing, "it needs the admin token")),
    }
}

async fn query(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    text: Result<String, StringRejection>,
) -> Result<Response, Failure> {
    let text = body(text)?;
    let format = format(&headers)?;
    let sql = shared.sql.asked_by(&caller);
    let position = position_of(&headers)?;
    if position.is_some() && caller != Caller::Admin {
        let detail = "weir-position is for who may read every event";
        return Err(Failure::new(Code::RightMissing, detail));
    }
    let answer = match position {
        Some(offsets) => sql.query_before(&text, &offsets).await,
        None => sql.query(&text).await,
    };
    let answer = answer.map_err(|error| failure(&error))?;
    encoded(answer, format, caller).await
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
    /// What is answered.
    #[serde(default)]
    r#as: As,
    /// With alerts: for how many seconds each of their subjects would have been blocked.
    block_s: Option<u64>,
}

/// What a backtest answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum As {
    /// The rows that the query gives.
    #[default]
    Rows,
    /// The alerts that a detection would have raised by them.
    Alerts,
}

async fn backtest(
    State(shared): State<Arc<Shared>>,
    asked: Result<Query<Backtest>, QueryRejection>,
    headers: HeaderMap,
    text: Result<String, StringRejection>,
) -> Result<Response, Failure> {
    let invalid = |detail: &str| Failure::new(Code::QueryInvalid, detail);
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
    let (from_us, before_us) = (time(asked.from)?, time(asked.before)?);
    let span = Span { replay: asked.replay, from_us, before_us, ..Span::default() };
    let file = QueryFile::parse(&asked.name, &text).map_err(|faults| {
        let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
        invalid(&faults.join("\n"))
    })?;
    let block = asked.block_s.map(Duration::from_secs);
    if block.is_some_and(|block| block > BLOCK_MAX || block.is_zero()) {
        return Err(invalid("block_s: give 1 to 2592000, which is 30 days"));
    }
    if block.is_some() && asked.r#as == As::Rows {
        return Err(invalid("block_s: is for alerts; ask for them by as=alerts"));
    }
    let answer = match asked.r#as {
        As::Rows => shared.sql.backtest(file, span).await,
        As::Alerts => Box::pin(shared.sql.alerts_of(file, span, block)).await,
    };
    encoded(answer.map_err(|error| failure(&error))?, format, Caller::Admin).await
}

/// What is searched for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Searched {
    q: String,
    /// RFC 3339.
    from: Option<String>,
    /// RFC 3339.
    before: Option<String>,
    limit: Option<u32>,
}

/// The columns that tell what happened; all others are for SQL.
const FOUND: &str = "event_time, kind, outcome, node, api_name, http_request_method, url_path, \
                     http_response_status_code, error_type, fault_message, mediation_route, \
                     delivery_queue, external_type, correlation_id, score";
/// How many rows a search answers, and how many it does if nothing is said.
const FOUND_MAX: u32 = 1_000;
const FOUND_USUALLY: u32 = 50;

async fn search(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    asked: Result<Query<Searched>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let invalid = |detail: String| Failure::new(Code::QueryInvalid, detail);
    let Query(asked) = asked.map_err(|refused| invalid(refused.body_text()))?;
    let format = format(&headers)?;
    let limit = asked.limit.unwrap_or(FOUND_USUALLY);
    if !(1..=FOUND_MAX).contains(&limit) {
        return Err(invalid(format!("limit: {limit} is out of range; use 1 to {FOUND_MAX}")));
    }
    let bounds = [(asked.from, ">="), (asked.before, "<")].into_iter().filter_map(|(text, is)| {
        let text = text?;
        Some(match text.parse::<Timestamp>() {
            Ok(time) => Ok(format!(" AND event_time {is} TIMESTAMP '{time}'")),
            Err(error) => Err(invalid(format!("{text}: {error}"))),
        })
    });
    let bounds = bounds.collect::<Result<String, _>>()?;
    let text = asked.q.replace('\'', "''");
    let sql = format!(
        "SELECT {FOUND} FROM search('{text}') WHERE true{bounds} \
         ORDER BY score DESC, event_time DESC LIMIT {limit}"
    );
    let answer = shared.sql.asked_by(&caller).query(&sql).await.map_err(|error| failure(&error))?;
    encoded(answer, format, caller).await
}

fn body(text: Result<String, StringRejection>) -> Result<String, Failure> {
    text.map_err(|refused| {
        let code = match refused.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Code::BodyTooLarge,
            _ => Code::BodyInvalid,
        };
        Failure::new(code, refused.body_text())
    })
}

/// The events that an earlier answer was of, if a caller asks for the same.
fn position_of(headers: &HeaderMap) -> Result<Option<Vec<u64>>, Failure> {
    let Some(position) = headers.get(POSITION_HEADER) else { return Ok(None) };
    let offsets = position.to_str().ok().and_then(|text| {
        text.split(',').map(|offset| offset.trim().parse().ok()).collect::<Option<Vec<u64>>>()
    });
    let why = "weir-position: give what an earlier answer had there, as 17,4,0,25";
    offsets.map(Some).ok_or_else(|| Failure::new(Code::QueryInvalid, why))
}

fn format(headers: &HeaderMap) -> Result<Format, Failure> {
    let accept = headers.get(ACCEPT).map_or("", |value| value.to_str().unwrap_or("?"));
    Format::of(accept).ok_or_else(|| {
        Failure::new(Code::NotAcceptable, format!("ask for {}", Format::TYPES.join(", ")))
    })
}

/// Writes the rows on a thread that may be busy for so long.
async fn encoded(answer: sql::Answer, format: Format, caller: Caller) -> Result<Response, Failure> {
    let unwritten = |why: String| {
        Failure::new(Code::QueryFailed, format!("the rows could not be written: {why}"))
    };
    let written = tokio::task::spawn_blocking(move || encode(&answer, format, &caller)).await;
    let written = written.map_err(|error| unwritten(error.to_string()))?;
    written.map_err(|error| unwritten(error.to_string()))
}

async fn status(State(shared): State<Arc<Shared>>) -> Response {
    let state = shared.status.now();
    Json(json!({
        "failing": state.failing,
        "rows": state.rows,
        "repeated": state.repeated,
        "gaps": state.gaps,
        "unreadable": state.unreadable,
        "unkept": state.unkept,
        "committed": state.committed,
        "failures": state.failures,
        "queries": shared.queries.now(),
    }))
    .into_response()
}

fn failure(error: &sql::Error) -> Failure {
    let code = match error {
        sql::Error::Query(_) | sql::Error::Lake(lake::Error::NoPlace { .. }) => Code::QueryInvalid,
        sql::Error::Time(_) => Code::QueryTime,
        sql::Error::Memory(_) | sql::Error::TooMuch(_) => Code::QueryMemory,
        sql::Error::Busy => Code::Overloaded,
        sql::Error::Failed(_) => Code::QueryFailed,
        sql::Error::Lake(_) => Code::LakeUnavailable,
    };
    Failure::new(code, error.to_string())
}
