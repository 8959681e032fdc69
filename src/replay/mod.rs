//! Sends what a web server's access log tells of again, as real traffic through a gateway.
//!
//! ```text
//!  file ─► lines ─► batches, each of one minute ─► requests, at most `connections` at once
//!  (gz, zst)         the next begins when all        ├─► answered: counted by status
//!                    of one are over                 └─► not: tried again if nothing of it
//!                                                        was sent, or if asked to
//!  then: every gateway is flushed, and one is told of the end
//! ```
//!
//! A request keeps its client's address, time, method, target, referrer, user agent,
//! status and size; the gateway believes them by the replay credential. Its correlation
//! id is `<replay>-<line>`, the same each time that it is sent.
//!
//! Limits: a line 64 KiB; 10,000 lines in a batch, so a minute of more goes in several;
//! of lines that went wrong the first 1,000 are named and 20 are shown, all are counted.

mod client;
mod input;
mod line;
mod send;
mod summary;

pub(crate) use input::{Bar, NoLog, Source};
pub(crate) use line::Line;
pub(crate) use send::{Refused, Speed, Wish, check_id, end, replay};
pub(crate) use summary::Summary;

/// The innermost cause of a failure, which is what the system said.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}
