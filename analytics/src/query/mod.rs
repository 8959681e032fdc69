//! Continuous queries: SQL over what has no end.
//!
//! ```text
//! rows ─ in time? ─► partial aggregates ─► a pane per window ─ watermark ─► answer
//!          └ late: counted                    └ fewer of more, as they grow
//! ```
//!
//! A query is a file of SQL with a header ([`QueryFile`]). It is planned once ([`Plan`])
//! and runs to its end over each batch of rows; between the runs a [`Continuous`] holds
//! partial aggregates, per timeline and window. When the watermark has passed a window's
//! end, its answer is given, once.
//!
//! What holds:
//! - The answer is that of the same text over all rows at once whose lag is at most the
//!   lateness ([`backtest`]), whatever the batches, the order of the partitions, or
//!   restarts. What could not hold this is refused when the query is planned.
//! - Live traffic and each replay are timelines of their own.
//! - Of a query with corrections, windows that late rows came for answer once more: what the
//!   text gives over all rows whose lag is at most those.
//! - A query that needs more than its memory fails alone, and says so.

mod act;
mod aggregate;
mod backtest;
mod continuous;
mod dialect;
mod error;
mod fault;
mod file;
mod plan;
mod reference;
mod saved;
mod sessions;
mod shape;
mod slot;
mod sources;
mod timeline;

pub use act::Act;
pub use backtest::{Span, backtest};
pub use continuous::Continuous;
pub use dialect::{WINDOW_END, WINDOW_START, register};
pub use error::Error;
pub use fault::Fault;
pub use file::{Header, QueryFile, Severity};
pub(crate) use plan::with_replay;
pub use plan::{Order, Plan};
pub use reference::Reference;
pub use saved::{Meta, Saved};
pub use sources::Sources;
pub(crate) use sources::{REPLAY_ID, REVISION};
pub use timeline::Correction;

/// The table that continuous queries read.
const EVENTS: &str = "events";

#[cfg(test)]
mod tests;
