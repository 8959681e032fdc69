//! A partition of a queue as its owner sees it: a state machine without clock,
//! log or network.
//!
//! ```text
//!  load ─► window ─► start ─► an attempt ─► complete ─► committed(), progress()
//!            ▲                     │
//!            ├── retry, hold ◄─────┘
//!            └─► park ─► the parked topic ─► load_parked ─► the window
//! ```

mod parked;
mod progress;
mod ranges;
#[cfg(test)]
mod tests;
mod window;

pub(super) use parked::{Id, Need, Stored as ParkedKey};
pub(super) use progress::{Head, Progress};
pub(super) use ranges::Ranges;
pub(super) use window::{Ending, Limits, Obeyed, Start, Window};
