//! Detections: findings become alerts.
//!
//! ```text
//! rows of a closed window ─► Book ─► alert opens ─► further findings ─► quiet: resolved
//! ```
//!
//! Each row that a detection gives is a finding about a subject. A subject has one alert
//! at a time: its first finding opens it, further ones are counted in it, and when
//! nothing was found for the quiet time, in event time, it is resolved.
//!
//! What holds: no clock and no chance decide; the same rows give the same alerts, with
//! the same ids, whatever the batches and restarts.
//!
//! Limits: 50 alerts of a detection are open at once, on a timeline; what is found
//! beyond them is counted in one alert about all others.

mod alert;
mod book;
mod decided;
mod detection;
mod evidence;

pub use alert::{Alert, Column, State};
pub use book::{Book, Change};
pub use decided::{Decided, DecidedState};
pub use detection::Detection;
pub(crate) use evidence::grouped;

#[cfg(test)]
mod tests;
