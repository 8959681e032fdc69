//! How a producer's events reach the log, each with its identity, none in silence.
//!
//! ```text
//!  threads ─► Emitter ─► spool (page cache, files) ─► Service ─► log: weir.events
//!              numbers,    kill: loses nothing          batches,    at least once,
//!              writes      power cut: the last second   retries     in order
//!                                                                      │
//!                                              lake, queries ◄─ Audit ─┘ once, gaps told
//! ```
//!
//! An event is emitted when its whole frame is written to the spool's file; a
//! caller answers its client after that. What a partition's events are numbered
//! by, the order in the file and the order in the log are one order, since the
//! lock that numbers an event also places it.
//!
//! Invariants:
//! - What [`Emitter::emit`] answered for is in the log after any number of kills
//!   and failures of the log, under one identity, or a loss event or a gap says
//!   that it is not.
//! - A producer's boots grow, a boot's sequences are 1, 2, 3 and so on, and what
//!   an earlier boot left reaches the log first, under its own boot.
//! - The spool forgets an event only after the log has acknowledged it.
//! - A heartbeat is written only once the log has everything older, and travels
//!   through the spool itself.
//! - The spool never grows past its bound but by the emitter's own few words.
//!
//! Limits: an event 1 MiB; a spool 1 GiB, of which 32 MiB are for work that was
//! let in; a power cut may lose the last `sync_interval` and what one sync takes.
//! What a full spool dropped in the second before a kill is in no loss event.
//!
//! Who shares an emitter? A gateway opens one per thread, each a producer of its
//! own (`edge-1.0`, `edge-1.1`) with its own spool: nothing is shared between
//! requests of different threads, and the lock is never waited for. The rest of a
//! program shares one. What it costs: `docs/benchmarks.md`.
//!
//! The boot is the last one plus one, or the time in milliseconds if that is
//! more: a spool that was lost with its disk must not repeat identities, since
//! readers would then drop new events as repetitions.

pub mod audit;
mod config;
mod drain;
mod emitter;
mod error;
mod metrics;
pub mod notice;
mod records;
mod spool;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use audit::Audit;
pub use config::{Config, Limits, WhenFull};
pub use drain::Service;
pub use emitter::{Emitted, Emitter};
pub use error::Error;
pub use metrics::Metrics;

use crate::event::Clock;
use crate::log::EventLog;

/// The topic of all events.
pub const TOPIC: &str = "weir.events";

/// Opens a producer under a new boot: the handle to emit by, and the task that
/// takes the events to the log. Blocks while it looks at what an earlier boot left.
///
/// The sources have joined when this answers; events may be emitted before the
/// task runs.
///
/// # Errors
/// [`Error::Config`], [`Error::Locked`] if another emitter has the directory,
/// [`Error::Damaged`], [`Error::Io`].
pub fn open(
    config: Config,
    log: Arc<dyn EventLog>,
    clock: Arc<dyn Clock>,
) -> Result<(Emitter, Service), Error> {
    let (spool, reader) = spool::open(config, clock)?;
    spool.join_sources()?;
    Ok((Emitter::new(spool.clone()), Service::new(spool, reader, log)))
}
