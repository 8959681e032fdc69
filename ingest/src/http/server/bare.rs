use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, StatusCode};

use super::slow::Timed;
use super::{ONE_HOST, Peer, Teller, has_one_host};
use crate::http::{CORRELATION_HEADER, Code, Correlation, PROBLEM_CONTENT_TYPE, Problem};

/// How long the body of a request may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Makes a problem of an error that says nothing but its status, as a router answers
/// what it has no place for and its extractors what they cannot read; and tells of it.
pub(super) async fn complete(
    State(teller): State<Teller>,
    Extension(Peer(peer)): Extension<Peer>,
    request: Request,
    next: Next,
) -> Response {
    let correlation = Correlation::of(request.headers(), || fastrand::u64(..));
    let is_late = Arc::new(AtomicBool::new(false));
    let timed = |body| Body::new(Timed::new(body, BODY_TIMEOUT, is_late.clone()));
    let has_one_host = has_one_host(request.version(), request.headers());
    let mut response = match has_one_host {
        true => next.run(request.map(timed)).await,
        false => {
            let mut refused = Response::new(Body::empty());
            *refused.status_mut() = StatusCode::BAD_REQUEST;
            refused.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            refused
        }
    };
    let status = response.status();
    let is_late = is_late.load(Ordering::Relaxed);
    if !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    if says_what(response.headers()) && !is_late {
        return response;
    }
    let problem = match has_one_host {
        true => Problem::from(if is_late { Code::RequestTimeout } else { code_of(status) }),
        false => Problem::new(Code::RequestMalformed, ONE_HOST),
    };
    // Whoever answered may have named the journey already.
    let named = response.headers().contains_key(CORRELATION_HEADER);
    let correlation = match named {
        true => Correlation::of(response.headers(), || fastrand::u64(..)),
        false => correlation,
    };
    teller.refused(peer.ip(), &correlation, problem.code);
    *response.body_mut() = Body::from(problem.body(&correlation.id));
    *response.status_mut() = problem.code.status();
    let headers = response.headers_mut();
    headers.remove(CONTENT_LENGTH);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_CONTENT_TYPE));
    headers.insert(CORRELATION_HEADER, correlation.id_header());
    response
}

/// Whether an answer has a body for programs, or a page for people.
fn says_what(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    content_type.is_some_and(|text| {
        let known: [&[u8]; 4] = [
            b"application/json",
            b"application/x-protobuf",
            PROBLEM_CONTENT_TYPE.as_bytes(),
            b"text/html",
        ];
        known.iter().any(|known| text.starts_with(known))
    })
}

fn code_of(status: StatusCode) -> Code {
    match status {
        StatusCode::NOT_FOUND => Code::ResourceNotFound,
        StatusCode::METHOD_NOT_ALLOWED => Code::MethodNotAllowed,
        StatusCode::REQUEST_TIMEOUT => Code::RequestTimeout,
        StatusCode::PAYLOAD_TOO_LARGE => Code::BodyTooLarge,
        StatusCode::UNSUPPORTED_MEDIA_TYPE => Code::ContentTypeUnsupported,
        _ if status.is_client_error() => Code::RequestMalformed,
        _ => Code::InternalError,
    }
}
