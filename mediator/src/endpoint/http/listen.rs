//! Requests to routes.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request as HttpRequest, State as Shown};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use http::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use percent_encoding::percent_decode_str;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::{CORRELATION_HEADER, Code, Correlation, PROBLEM_CONTENT_TYPE, Problem, is_hop_by_hop};
use crate::message::{Message, Value, json};
use crate::route::{Missed, Request, Shared, Table, run};

/// What requests are answered with.
pub(crate) struct State {
    pub(crate) table: Arc<ArcSwap<Table>>,
    pub(crate) shared: Shared,
    pub(crate) room: Arc<Semaphore>,
    pub(crate) body_timeout: Duration,
}

/// Everything goes to the routes: paths are the table's to know.
pub(crate) fn router(state: State) -> Router {
    Router::new().fallback(answer).with_state(Arc::new(state))
}

/// A refusal or fault, with headers for the answer.
struct Failure {
    problem: Problem,
    allow: Option<HeaderValue>,
}

impl From<Code> for Failure {
    fn from(code: Code) -> Self {
        Problem::from(code).into()
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self { problem, allow: None }
    }
}

async fn answer(Shown(state): Shown<Arc<State>>, request: HttpRequest) -> Response {
    let correlation = Correlation::of(request.headers(), || fastrand::u64(..));
    let is_head = request.method() == Method::HEAD;
    let result = Box::pin(serve(&state, &correlation, request)).await;
    let mut response = match result {
        Ok(message) => of_message(message),
        Err(failure) => of_problem(failure, &correlation),
    };
    response.headers_mut().insert(CORRELATION_HEADER, correlation.id_header());
    if is_head {
        *response.body_mut() = Body::empty();
    }
    response
}

async fn serve(
    state: &State,
    correlation: &Correlation,
    request: HttpRequest,
) -> Result<Message, Failure> {
    let _place = state.room.try_acquire().map_err(|_| Code::Overloaded)?;
    let table = state.table.load_full();
    let (parts, body) = request.into_parts();
    let found = table.find(&parts.method, parts.uri.path()).map_err(|missed| match missed {
        Missed::Path => Failure::from(Code::RouteNotFound),
        Missed::Method(allow) => {
            Failure { allow: allow.parse().ok(), ..Code::MethodNotAllowed.into() }
        }
    })?;
    let bytes_max = found.plan.from.body_bytes_max;
    let deadline = Instant::now() + state.body_timeout;
    let body = match timeout_at(deadline, read(body, bytes_max)).await {
        Ok(body) => body?,
        Err(_) => return Err(Code::RequestTimeout.into()),
    };
    let query = query(parts.uri.query().unwrap_or_default());
    let request = Request { headers: parts.headers, body, query, correlation: correlation.clone() };
    let answered = run(&state.shared, table.snapshot.clone(), &found, request).await;
    answered.map_err(|fault| {
        tracing::debug!(route = %found.plan.name, %fault, "a run failed");
        fault.problem().into()
    })
}

/// The whole body, if it is no larger than the route takes.
async fn read(mut body: Body, bytes_max: u64) -> Result<Bytes, Failure> {
    let too_large = || {
        let detail = format!("at most {bytes_max} bytes are taken here");
        Failure::from(Problem::new(Code::BodyTooLarge, detail))
    };
    use http_body::Body as _;
    if body.size_hint().lower() > bytes_max {
        return Err(too_large());
    }
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Code::ClientClosed)?;
        if let Some(data) = frame.data_ref() {
            if (whole.len() + data.len()) as u64 > bytes_max {
                return Err(too_large());
            }
            whole.extend_from_slice(data);
        }
    }
    Ok(whole.freeze())
}

/// The parameters of a query as an object of texts; of a name that comes twice the
/// first. What is no UTF-8 is left out.
fn query(query: &str) -> Value {
    let decode = |text: &str| {
        let text = text.replace('+', " ");
        percent_decode_str(&text).decode_utf8().map(|text| text.into_owned()).ok()
    };
    let pairs = query.split('&').filter(|pair| !pair.is_empty()).filter_map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Some((decode(name)?, decode(value)?))
    });
    let pairs: Vec<(String, String)> = pairs.collect();
    json::object(pairs.iter().map(|(name, value)| (name.as_str(), value.clone())))
}

fn of_message(mut message: Message) -> Response {
    let status = message.status.unwrap_or(StatusCode::OK);
    let mut headers = HeaderMap::new();
    for (name, value) in &message.answer_headers() {
        if !is_hop_by_hop(name) && name != CONTENT_LENGTH {
            headers.append(name, value.clone());
        }
    }
    let body = message.bytes().unwrap_or_default();
    if body.is_empty() {
        headers.remove(CONTENT_TYPE);
    }
    (status, headers, body).into_response()
}

fn of_problem(Failure { problem, allow }: Failure, correlation: &Correlation) -> Response {
    let status = problem.code.status();
    let body = problem.body(&correlation.id);
    let content_type = HeaderValue::from_static(PROBLEM_CONTENT_TYPE);
    let mut response = (status, [(CONTENT_TYPE, content_type)], body).into_response();
    if let Some(allow) = allow {
        response.headers_mut().insert(ALLOW, allow);
    }
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}
