//! Routes: what happens to a message, step by step.
//!
//! ```text
//!  registry ─ change ─► compile ─► Plan (swapped whole) ◄─ one load ─ request
//!                                                                      │
//!   answer ◄─ events spooled ◄─ run: step, step, … within the timeout ◄┘
//! ```
//!
//! What holds:
//! - A route is compiled once for each change of it, all of it or not at all. One
//!   that does not compile keeps its last good plan; [`deep_check`] refuses it before
//!   it gets so far.
//! - A run uses one snapshot and one plan from its beginning to its end.
//! - A run ends though its caller has gone. It has one event of kind route, and one of
//!   kind step for each step that was begun; they are in the spool, as one batch,
//!   before the caller has its answer.
//! - A fault names route, step, file and line in the event. Its caller gets a code, and
//!   only such words as the route wrote for it or that tell what it sent wrong.
//! - A run whose time ended while it stored the message says `queue_unavailable`, as
//!   nobody knows whether the queue has it.
//!
//! Limits: 200 steps; a run `timeout_ms`; the rest stands with each step and with the
//! listener ([`crate::endpoint::http`]).

mod events;
mod plan;
mod run;

pub use self::plan::deep_check;
pub(crate) use self::plan::{Found, Plan};
pub(crate) use self::run::{Request, Runner};
