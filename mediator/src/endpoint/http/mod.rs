//! HTTP: the client, and the listener.

mod call;
mod hop_by_hop;
mod listen;
mod targets;

pub use call::{ANSWER_BYTES_MAX, Answer, CallError, Caller, Request, Sent};
pub use hop_by_hop::{is_hop_by_hop, remove_hop_by_hop};
pub use listen::{Mediator, Parts, StartError};
pub(crate) use targets::check_path;
