//! Why bytes are not an event.
//!
//! Each of these is the fault of whoever wrote the bytes, and reading them again
//! gives the same answer. Messages name the field and never repeat its value, but
//! for an unknown kind or outcome, whose texts are cut to a bound.

use super::value::Problem;

/// Why a text or a record could not be read as an event, or as a part of one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The bytes are not JSON.
    #[error("the event is not JSON at line {line}, column {column}")]
    Syntax {
        /// Line of the first byte that does not fit, from 1.
        line: usize,
        /// Column of it, from 1.
        column: usize,
    },
    /// The bytes are JSON, but not an object.
    #[error("the event is not a JSON object")]
    NotAnObject,
    /// A mandatory field is absent.
    #[error("field {field} is missing")]
    Missing {
        /// Name of the field.
        field: &'static str,
    },
    /// A field is there more than once, so that readers could disagree on it.
    #[error("field {field} is given twice")]
    Twice {
        /// Name of the field.
        field: &'static str,
    },
    /// A field holds a value of another type.
    #[error("field {field}: expected {expected}, found {found}")]
    WrongType {
        /// Name of the field.
        field: &'static str,
        /// What the table says.
        expected: &'static str,
        /// What was there.
        found: &'static str,
    },
    /// A field holds a value of the right type that it does not allow.
    #[error("field {field}: {reason}")]
    Refused {
        /// Name of the field.
        field: &'static str,
        /// The rule that the value breaks.
        reason: String,
    },
    /// A text that stands alone (a time, an identity, a kind) breaks its rule.
    #[error("{what}: {reason}")]
    Text {
        /// What the text should have been.
        what: &'static str,
        /// The rule that it breaks.
        reason: String,
    },
    /// A CloudEvents header is absent, or contradicts the event's value.
    #[error("header {name}: {reason}")]
    Header {
        /// Name of the header.
        name: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

impl Error {
    pub(super) fn in_field(field: &'static str, problem: Problem) -> Self {
        match problem {
            Problem::Type { expected, found } => Self::WrongType { field, expected, found },
            Problem::Rule(Self::Text { reason, .. }) => Self::Refused { field, reason },
            Problem::Rule(other) => other,
        }
    }
}

/// A text from outside, fit for a message: escaped, and cut after 40 characters.
pub(super) fn quoted(text: &str) -> String {
    const CHARACTERS_MAX: usize = 40;
    let cut: String = text.chars().take(CHARACTERS_MAX).collect();
    let more = if cut.len() < text.len() { "…" } else { "" };
    format!("\"{}{more}\"", cut.escape_debug())
}
