//! The API manager: the admin API, by which people and programs change the
//! configuration.
//!
//! ```text
//!  weir apply DIR ──► POST /admin/v1/plan   ──► what would change      (reads a view)
//!                 └─► POST /admin/v1/apply  ──► a change set ──► applier ──► verdict
//!                                                                   └─► admin events
//! ```
//!
//! What a caller sends is what it wants, not how to get there: the plan is made
//! here, so that no secret has to leave. An apply names the revision that its plan
//! was made on, and is refused if there is a newer one.
//!
//! Callers prove themselves by a bearer token, of which only the SHA-256 is kept
//! here. Limits: a body 4 MiB, a change set 1,000 changes, a verdict is waited for
//! 10 s and its snapshot 5 s.

mod api;
mod config;
mod failure;
mod server;
#[cfg(test)]
mod tests;
mod wish;

pub use config::Config;
pub use server::{Manager, Parts, StartError, TokenHash};
