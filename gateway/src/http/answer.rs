//! What the gateway says itself: problems.

use http::Response;
use http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue};
use ingest::http::{CORRELATION_HEADER, Correlation, PROBLEM_CONTENT_TYPE, Problem};

use super::body::AnswerBody;

/// What becomes of the connection after an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    Keep,
    Close,
}

pub(super) fn problem_answer(
    problem: &Problem,
    correlation: &Correlation,
    headers: Vec<(HeaderName, HeaderValue)>,
    after: After,
) -> (Response<AnswerBody>, u64) {
    let body = problem.body(&correlation.id);
    let bytes = body.len() as u64;
    let mut answer = Response::new(AnswerBody::Own(Some(body)));
    *answer.status_mut() = problem.code.status();
    let found = answer.headers_mut();
    found.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_CONTENT_TYPE));
    found.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    found.insert(CORRELATION_HEADER, correlation.id_header());
    for (name, value) in headers {
        found.insert(name, value);
    }
    if after == After::Close {
        found.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    (answer, bytes)
}
