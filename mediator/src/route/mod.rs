//! Routes: what happens to a message, step by step.
//!
//! ```text
//!  registry ─► Table (plans by method and path; swapped whole)
//!                 │ find
//!  request ─► Message ─► step ─► step ─► … ─► answer
//!                 │       └── each timed, a fault names it, with file and line
//!                 └─► one batch of events: a step each, and the run
//! ```
//!
//! A route is compiled once per change. What a deep check refuses never becomes an
//! entity; should a plan not compile all the same, the last good one of its name
//! stays, and the log of the process says so.
//!
//! What holds:
//! - A run that begins on one plan ends on it, whatever is changed meanwhile.
//! - The events of a run are in the spool before its answer is given.
//! - A caller learns a code; an operator learns step, file, line and reason.
//!
//! Limits: a run takes at most the route's `timeout_ms`; what a step began outside
//! may still arrive there.

mod check;
mod context;
mod plan;
mod run;
mod table;
mod told;

pub use check::deep_check;
pub(crate) use context::{Context, Shared};
pub(crate) use plan::Plan;
pub(crate) use run::{Request, run};
pub(crate) use table::{Found, Missed, Table};
