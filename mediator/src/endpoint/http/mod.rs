//! HTTP: what every role that speaks it has in common, and the client.

mod call;
mod correlation;
pub(crate) mod listen;
mod problem;
mod server;
mod targets;

pub use call::{ANSWER_BYTES_MAX, Answer, CallError, Caller, Request, Sent, is_hop_by_hop};
pub use correlation::{CORRELATION_HEADER, Correlation, TRACE_HEADER, TRACE_STATE_HEADER};
pub use problem::{Code, PROBLEM_CONTENT_TYPE, Problem};
pub use server::{Peer, Server};
