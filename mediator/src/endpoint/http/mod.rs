//! HTTP: what every role that speaks it has in common.

mod correlation;
mod problem;

pub use correlation::{CORRELATION_HEADER, Correlation, TRACE_HEADER, TRACE_STATE_HEADER};
pub use problem::{Code, PROBLEM_CONTENT_TYPE, Problem};
