//! HTTP: what every role that speaks it has in common, the client, and the
//! listener.

mod call;
mod correlation;
mod hop_by_hop;
mod listen;
mod problem;
mod server;
mod targets;
mod write_timeout;

pub use call::{ANSWER_BYTES_MAX, Answer, CallError, Caller, Request, Sent};
pub use correlation::{CORRELATION_HEADER, Correlation, TRACE_HEADER, TRACE_STATE_HEADER};
pub use hop_by_hop::{is_hop_by_hop, remove_hop_by_hop};
pub use listen::{Mediator, Parts, StartError};
pub use problem::{Code, PROBLEM_CONTENT_TYPE, Problem};
pub use server::{Peer, Server, Teller};
pub(crate) use targets::check_path;
pub use write_timeout::WriteTimeout;
