//! Alerts: who is told of them, by email or webhook, and what people say of them.
//!
//! ```text
//! weir.alerts ────┐                       ┌─► one sending for each target ─► server
//! weir.alert-acts ┼─► Outbox ─► messages ─┤
//!        routes ──┘                       └─► weir.outbox: waiting, then sent
//! ```
//!
//! One node tells: the member that has the one partition of `weir.outbox`, and whose writer
//! has fenced the one before it. It reads the three topics, plans by the routes and the time
//! what is to be told to whom, writes that down, sends it, and writes down that it was sent.
//!
//! What holds: what is told, and to whom, is a key of the outbox, so each is told to each
//! once; it is sent until the server takes it or refuses it for good, to each target in the
//! order in which it was planned. Before each sending the owner writes to the outbox, so one
//! that is fenced, or cannot write, sends nothing. Whoever takes over sends again what was
//! under way, one for each target at most, with the same Message-ID or webhook-id, by which
//! receivers know it. Nothing else repeats. A target that is away holds no other up.
//!
//! Limits: 8 emails at once, 60 s for each, and 10 s for the answer to a post; between
//! attempts 1 to 60 s, doubled; what no attempt within 24 h brought out is given up and told of.

mod act;
mod compose;
mod config;
mod desk;
mod mailer;
mod note;
mod outbox;
mod owner;
mod picture;
mod route;
mod senders;
mod table;
mod transport;
mod webhook;

pub use act::{ACTS_TOPIC, Acknowledgement, Silence};
pub use config::{Mail, Security};
pub use desk::{Desk, Error as DeskError, Wish};
pub use outbox::OUTBOX_TOPIC;
pub use owner::{Parts, run};
pub use picture::Pictures;
pub use route::{Escalation, Quiet, Route};
pub use senders::Senders;
pub use table::AlertTable;
pub use webhook::Webhook;

pub(crate) use outbox::Routes;
pub(crate) use route::faults as route_faults;

#[cfg(test)]
mod tests;
