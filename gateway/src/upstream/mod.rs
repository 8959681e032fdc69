//! The services behind: who is next, a connection to it, and at most one retry.
//!
//! ```text
//!  stack ─► Upstreams::send ─► pick a target ─► idle connection, last in first out
//!           (one per thread)        ▲               │ none: connect (TCP, TLS)
//!                └── at most one retry, elsewhere ◄─┴─► request ─► head of the answer
//! ```
//!
//! Each data-plane thread has its own connections, turns and suspensions; nothing is
//! shared and nothing is locked. A connection is no task of its own: the request that has
//! it reads and writes on it.
//!
//! What is tried again:
//! - An idle connection that turns out to be closed gives the request back unsent, so
//!   the next one is taken; that is no retry, and no attempt.
//! - After a connect failure the next target is tried, once, if `retries_max` is not 0.
//!   Nothing was sent.
//! - A request without a body, of an idempotent method (RFC 9110, section 9.2.2), whose
//!   connection broke before any answer came, is sent once more if `retries_max` is not 0.
//! - All else is never sent twice. A timeout is not retried.
//!
//! A target that could not be connected to is passed over for a second, by the thread
//! that found out, as long as another one is left.
//!
//! Of a name with several addresses, up to 8 are tried, the next one when one fails or
//! says nothing for 250 ms, within the connect timeout.
//!
//! Limits: 64 idle connections per target and thread, each for 30 s; what is more is
//! closed. The registry refuses `least_requests` and
//! `consistent_hash` for now.

mod connect;
mod connection;
mod group;
mod pool;
mod send;
#[cfg(test)]
mod tests;

pub(crate) use connect::Connector;
pub(crate) use group::{Group, Target};
pub(crate) use pool::{Lease, Upstreams};
pub(crate) use send::{Calls, Forward};
