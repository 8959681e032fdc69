//! Alerts: notices by email, sent or, for a trial, written to files; and by webhook.
//!
//! ```text
//! weir.notices ─► member of weir.alert-mail ─► one email per recipient ─► offset committed
//!             └─► member of weir.alert-webhook.NAME ─► one post ─► offset committed
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
//! Of a webhook the same holds, its id in the place of the Message-ID. Each channel has a
//! group of its own: one that is away holds no other up.
//!
//! Limits: 10 s for a step of SMTP, and for the answer to a post; between attempts 1 to 60 s, doubled; a notice that no
//! attempt of 24 h brought out is given up and told of. One at a time on each channel.

mod compose;
mod config;
mod mailer;
mod sender;
mod table;
mod transport;
mod webhook;

pub use compose::{Email, compose};
pub use config::{Mail, Security};
pub use sender::{Parts, Sender, run};
pub use table::AlertTable;
pub use webhook::Webhook;

#[cfg(test)]
mod tests;
