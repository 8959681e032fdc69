//! Errors as gRPC's clients know them.

use http::StatusCode;
use ingest::http::Failure;
use tonic::Status;

use crate::sql::Error;

/// Why somebody is not let in.
pub(super) fn of_failure(failure: &Failure) -> Status {
    let problem = &failure.problem;
    let message = problem.detail.as_deref().unwrap_or(problem.code.title());
    let message = format!("{}: {message}", problem.code.text());
    match problem.code.status() {
        StatusCode::UNAUTHORIZED => Status::unauthenticated(message),
        StatusCode::FORBIDDEN => Status::permission_denied(message),
        StatusCode::TOO_MANY_REQUESTS => Status::resource_exhausted(message),
        StatusCode::SERVICE_UNAVAILABLE => Status::unavailable(message),
        _ => Status::internal(message),
    }
}

/// Why a query has no answer.
pub(super) fn of(why: &Error) -> Status {
    let text = why.to_string();
    match why {
        Error::Query(_) => Status::invalid_argument(text),
        Error::Time(_) => Status::deadline_exceeded(text),
        Error::Memory(_) | Error::TooMuch(_) => Status::resource_exhausted(text),
        Error::Busy | Error::Lake(_) => Status::unavailable(text),
        Error::Failed(_) => Status::internal(text),
    }
}

/// What cannot be read of a request.
pub(super) fn malformed(what: impl std::fmt::Display) -> Status {
    Status::invalid_argument(format!("the request cannot be read: {what}"))
}

/// What could not be written of an answer.
pub(super) fn unwritten(what: impl std::fmt::Display) -> Status {
    Status::internal(format!("the answer could not be written: {what}"))
}
