//! What happened, as a record: the event schema and everything made from it.
//!
//! Every request, step, delivery attempt, decision and administrative act is one
//! [`Event`]. Its fields are rows of one table, in `schema.rs`, and everything else is
//! generated from that table, so that nothing can disagree with it:
//!
//! ```text
//!                      ┌─► struct Event ─► encode ─► flat JSON ─► cloudevents ─► record
//!  schema.rs (table) ──┤                   decode ◄───────────────────────────── of the log
//!                      └─► generate ─► Arrow schema, JSON Schema, Flink DDL, docs/events.md
//! ```
//!
//! Invariants:
//! - Only the envelope, the kind and the outcome are mandatory. A field that is
//!   missing never costs an event, and an absent field takes no byte.
//! - Fields are only ever added. A reader passes over names that it does not know,
//!   and `golden/fields.txt` refuses a removal, a new name or a new type.
//! - Durations are integers in microseconds, sizes integers in bytes. There are no
//!   floats, so that a sum is the same in every engine and in every order.
//! - The identity (producer, boot, sequence) names an event once and for all; it is
//!   what loss and repetition are counted by.
//! - The partition is a function of the event alone ([`Event::partition`]).
//! - An error names the field and the types, never a value that might be personal.
//!
//! Writing is on the path of each request: it appends to a buffer that the caller
//! keeps, in one pass, without allocation.

mod clock;
pub mod cloudevents;
mod decode;
mod encode;
mod error;
pub mod generate;
#[cfg(test)]
mod golden;
mod id;
mod kind;
mod partition;
#[cfg(test)]
mod sample;
mod schema;
mod table;
#[cfg(test)]
mod tests;
mod text;
mod time;
mod value;

pub use clock::{Clock, ManualClock, SystemClock};
pub use error::Error;
pub use id::{EventId, Producer};
pub use kind::{Kind, Outcome};
pub use schema::{Event, GROUPS, SCHEMA_VERSION};
pub use table::{Field, Group, Personal, Type, field, fields};
pub use text::Text;
pub use time::Timestamp;
