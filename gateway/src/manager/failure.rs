use axum::response::{IntoResponse, Response};
use http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use ingest::registry::{Error, Outcome, Refusal, Verdict, Written};
use mediator::endpoint::http::{Code, Problem};

/// A problem on its way out; its body is written where the correlation id is known.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub(super) problem: Problem,
    /// After how many seconds it is worth another try, where that is known.
    retry_after_s: Option<i64>,
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
        let status = self.problem.code.status();
        let mut response = status.into_response();
        if status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer realm=\"weir admin\"");
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
        if let Some(wait_s) = self.retry_after_s {
            response.headers_mut().insert(RETRY_AFTER, wait_s.into());
        }
        response.extensions_mut().insert(self);
        response
    }
}

impl Failure {
    /// A failure that ends with time.
    pub(super) fn waiting(code: Code, wait_s: i64) -> Self {
        Self { problem: code.into(), retry_after_s: Some(wait_s) }
    }

    /// What a caller is told of the registry's error.
    pub(super) fn of(error: &Error) -> Self {
        match error {
            Error::Invalid { reasons, .. } => refused(reasons),
            Error::NoVerdict { id, .. } => {
                Problem::new(Code::VerdictMissing, format!("the id is {id}")).into()
            }
            _ => {
                tracing::error!(%error, "change set not proposed");
                Code::InternalError.into()
            }
        }
    }
}

/// The revision and what was written, of a change set that was accepted.
pub(super) fn accepted(verdict: &Verdict) -> Result<(u64, Vec<Written>), Failure> {
    match &verdict.outcome {
        Outcome::Accepted { revision, written } => Ok((*revision, written.clone())),
        Outcome::Refused { reasons } => Err(refused(reasons)),
    }
}

fn refused(reasons: &[Refusal]) -> Failure {
    let reasons: Vec<String> = reasons.iter().map(Refusal::to_string).collect();
    Problem::new(Code::ChangeRefused, reasons.join("\n")).into()
}
