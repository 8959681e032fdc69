//! Alerts: notices by email, sent or, for a trial, written to files.
//!
//! ```text
//! weir.notices ─► member of weir.alert-mail ─► one email per recipient ─► offset committed
//! ```
//!
//! A notice is written in the transaction that opens its alert, so there is one for each.
//! One node sends: the member that has the topic's one partition.
//!
//! What holds: an email is sent until the server takes it or refuses it for good, in the
//! order of the notices, then the offset is committed. A process that ends between the
//! server's answer and that commit sends it again, with the same Message-ID, by which
//! mailboxes know it; nothing else repeats.
//!
//! Limits: 10 s for a step of SMTP; between attempts 1 to 60 s, doubled; a notice that no
//! attempt of 24 h brought out is given up and told of. One email at a time.

mod compose;
mod config;
mod sender;
mod table;
mod transport;

pub use compose::{Email, compose};
pub use config::{Mail, Security};
pub use sender::{Parts, Sender, run};
pub use table::AlertTable;

#[cfg(test)]
mod tests;
