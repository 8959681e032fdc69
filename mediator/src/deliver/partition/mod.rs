//! A partition of a queue as its owner sees it: a state machine without clock,
//! log or network.
//!
//! ```text
//!  load ─► window ─► start ─► an attempt ─► complete ─► committed(), progress()
//!            ▲                     │
//!            └── retry, hold ◄─────┘
//! ```

mod progress;
mod ranges;
#[cfg(test)]
mod tests;
mod window;

pub(super) use progress::{Head, Progress};
pub(super) use ranges::Ranges;
pub(super) use window::{Ending, Limits, Obeyed, Start, Window};
