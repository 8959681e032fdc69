//! Errors as PostgreSQL's clients know them, by the codes of its documentation's appendix A.

use pgwire::error::{ErrorInfo, PgWireError};

use crate::sql::Error;

pub(super) const INVALID_PASSWORD: &str = "28P01";
pub(super) const PROTOCOL_VIOLATION: &str = "08P01";
pub(super) const SYNTAX_ERROR: &str = "42601";
pub(super) const UNDEFINED_OBJECT: &str = "42704";
pub(super) const FEATURE_NOT_SUPPORTED: &str = "0A000";
pub(super) const IN_FAILED_TRANSACTION: &str = "25P02";
pub(super) const INVALID_PARAMETER_VALUE: &str = "22023";
pub(super) const PROGRAM_LIMIT_EXCEEDED: &str = "54000";

/// An error of a statement.
pub(super) fn error(code: &str, message: impl Into<String>) -> PgWireError {
    let info = ErrorInfo::new("ERROR".to_owned(), code.to_owned(), message.into());
    PgWireError::UserError(Box::new(info))
}

/// An error that ends the connection.
pub(super) fn refusal(code: &str, message: impl Into<String>) -> PgWireError {
    let info = ErrorInfo::new("FATAL".to_owned(), code.to_owned(), message.into());
    PgWireError::UserError(Box::new(info))
}

/// Why a query has no answer.
pub(super) fn of(why: &Error) -> PgWireError {
    let text = why.to_string();
    let code = match why {
        Error::Query(_) if text.starts_with("there is no table") => "42P01",
        Error::Query(_) if text.starts_with("there is no column") => "42703",
        Error::Query(_) if text.contains("is not run here") => FEATURE_NOT_SUPPORTED,
        Error::Query(_) => SYNTAX_ERROR,
        Error::Time(_) => "57014",
        Error::Memory(_) => "53200",
        Error::TooMuch(_) => PROGRAM_LIMIT_EXCEEDED,
        Error::Busy => "53300",
        Error::Lake(_) => "58030",
        Error::Failed(_) => "XX000",
    };
    error(code, text)
}
