use axum::response::{IntoResponse, Response};
use http::HeaderValue;
use http::header::{CONTENT_TYPE, RETRY_AFTER};

use super::{CORRELATION_HEADER, Code, Correlation, PROBLEM_CONTENT_TYPE, Problem};

/// A problem on its way out of a router's handler; its body is written by
/// [`Self::complete`], where the id of the journey is known, as [`super::Door`] does.
#[derive(Debug, Clone)]
pub struct Failure {
    /// What went wrong.
    pub problem: Problem,
    /// After how many seconds it is worth another try, where that is known.
    retry_after_s: Option<i64>,
}

impl Failure {
    /// A failure with a detail for the caller.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Problem::new(code, detail).into()
    }

    /// A failure that ends with time.
    pub fn waiting(code: Code, wait_s: i64) -> Self {
        Self { problem: code.into(), retry_after_s: Some(wait_s) }
    }

    /// Writes the body of the failure that a handler answered by, if it did, and the id
    /// of the journey in any case.
    pub fn complete(response: &mut Response, correlation: &Correlation) {
        if let Some(failure) = response.extensions_mut().remove::<Self>() {
            *response.body_mut() = failure.problem.body(&correlation.id).into();
            let content_type = HeaderValue::from_static(PROBLEM_CONTENT_TYPE);
            response.headers_mut().insert(CONTENT_TYPE, content_type);
        }
        response.headers_mut().insert(CORRELATION_HEADER, correlation.id_header());
    }
}

impl From<Code> for Failure {
    fn from(code: Code) -> Self {
        Problem::from(code).into()
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self { problem, retry_after_s: None }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = self.problem.code.status().into_response();
        if let Some(wait_s) = self.retry_after_s {
            response.headers_mut().insert(RETRY_AFTER, wait_s.into());
        }
        response.extensions_mut().insert(self);
        response
    }
}
