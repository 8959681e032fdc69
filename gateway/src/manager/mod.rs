//! The API manager: the admin API, by which people and programs change the
//! configuration.
//!
//! ```text
//!  weir apply DIR ──► POST /admin/v1/plan   ──► what would change      (reads a view)
//!                 └─► POST /admin/v1/apply  ──► a change set ──► applier ──► verdict
//!                                                                   └─► admin events
//!  weir deliveries ──► GET  /admin/v1/queues[/NAME]             ──► how far they are
//!                  ├─► POST /admin/v1/queues/NAME/pause | resume
//!                  ├─► GET  /admin/v1/queues/NAME/waiting         ──► what had an attempt
//!                  │   POST …/waiting/retry | give-up
//!                  ├─► GET  /admin/v1/queues/NAME/scheduled       ──► what waits for its time
//!                  ├─► GET  /admin/v1/queues/NAME/history         ──► what has ended
//!                  │   POST …/history/resend
//!                  └─► GET  /admin/v1/queues/NAME/dead            ──► the dead letters
//!                      POST …/dead/replay | drop
//!  weir decisions ──► GET  /admin/v1/decisions[?all=true]         ──► who is blocked or slowed
//!                 └─► POST /admin/v1/decisions, …/ID/lift
//! ```
//!
//! What a caller sends is what it wants, not how to get there: the plan is made
//! here, so that no secret has to leave. An apply names the revision that its plan
//! was made on, and is refused if there is a newer one.
//!
//! Callers prove themselves by a bearer token, of which only the SHA-256 is kept
//! here.
//!
//! What holds: an apply goes on though its caller has gone, and each has its events:
//! one for each entity that was written, or one that says why none was. A caller that
//! is not let in has one too. A kill between the verdict and its events leaves the
//! change set, with its author and message, on `weir.registry.log` alone.
//!
//! Limits: a body 4 MiB, a change set 1,000 changes; a verdict is waited for 10 s by
//! its caller, some 5 minutes for its events, and its snapshot 5 s. 256 connections, 32
//! of one address; ten wrong tokens of an address in a minute. A stop waits 10 s.

mod api;
mod apply;
mod asked;
mod config;
mod dead;
mod decisions;
mod failure;
mod history;
mod queues;
mod server;
#[cfg(test)]
mod tests;
mod wish;

pub use config::Config;
pub use server::{Manager, Parts, StartError};

/// Whose events they are.
pub const SERVICE: &str = "weir-manager";
/// Who is written down as the one who changed something: there is one token.
const ADMIN: &str = "admin";
