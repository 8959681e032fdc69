use axum::response::{IntoResponse, Response};
use http::header::WWW_AUTHENTICATE;
use http::{HeaderValue, StatusCode};
use ingest::registry::{Error, Outcome, Refusal, Verdict, Written};
use mediator::endpoint::http::{Code, Problem};

/// A problem on its way out; its body is written where the correlation id is known.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub(super) problem: Problem,
}

impl From<Code> for Failure {
    fn from(code: Code) -> Self {
        Self { problem: code.into() }
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self { problem }
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
        response.extensions_mut().insert(self);
        response
    }
}

impl Failure {
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
