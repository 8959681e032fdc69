//! HTTP as clients speak it: listeners, connections, and the way of a request.
//!
//! ```text
//!  listener ─► connection ─► stack::serve ───────────────► upstream
//!  (SO_REUSEPORT, (hyper; Watched   │ one Record per request      │
//!   per thread)    tells who writes)└─► spool ◄── AnswerBody ◄────┘
//!                                       (before the answer's last part)
//! ```
//!
//! Everything that a request touches belongs to its thread.
//!
//! Invariants:
//! - A request has exactly one event, in the spool before its answer is complete. An
//!   answer whose event cannot be written is broken off. A request that is not
//!   admitted, since the spool is full, is answered and has none: it is counted there.
//! - One request in is one at the upstream, or a refusal and a closed connection.
//! - What an upstream breaks off is never ended cleanly.
//! - hyper's own bare answers to what it cannot parse never reach a client whose
//!   earlier answers are flushed; ours, with a code and an event, stand in.
//!
//! Limits are in [`crate::Config`]: connections and requests per thread, bytes of a
//! head and of an address, times. A head has 100 fields at most. Bodies are streamed:
//! a request holds what hyper reads at once, at most some 400 KiB each way. In events
//! User-Agent and Referer are cut to 1,024 bytes. Where an API keeps bodies, a request holds
//! up to 64 KiB more each way.

mod admission;
mod answer;
mod body;
mod capture;
mod connection;
mod forwarded;
mod record;
mod replay;
mod stack;
mod thread;
mod tls;
mod watch;

pub(crate) use body::RequestBody;
pub(crate) use thread::{BACKLOG_MAX, Bound, ThreadParts, run_thread};
pub(crate) use tls::Acceptor;
pub(crate) use watch::Busy;
