use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, StatusCode};

use super::{Peer, Teller};
use crate::endpoint::http::{CORRELATION_HEADER, Code, Correlation, PROBLEM_CONTENT_TYPE, Problem};

/// Makes a problem of an error that says nothing but its status, as a router answers
/// what it has no place for and its extractors what they cannot read; and tells of it.
pub(super) async fn complete(
    State(teller): State<Teller>,
    Extension(Peer(peer)): Extension<Peer>,
    request: Request,
    next: Next,
) -> Response {
    let correlation = Correlation::of(request.headers(), || fastrand::u64(..));
    let mut response = next.run(request).await;
    let status = response.status();
    if !(status.is_client_error() || status.is_server_error()) || says_what(response.headers()) {
        return response;
    }
    let problem = Problem::from(code_of(status));
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

/// Whether an answer has a body for programs.
fn says_what(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    content_type.is_some_and(|text| {
        text.starts_with(b"application/json") || text.starts_with(PROBLEM_CONTENT_TYPE.as_bytes())
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
