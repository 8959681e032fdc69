//! The collector: takes events of other systems into the log.
//!
//! ```text
//!  CloudEvents ─┐                                      ┌─ refused rows ─► the answer
//!  NDJSON      ─┼─► sender ─► body ─► rows, each alone ┤
//!  OTLP logs   ─┘   Basic     bounded                  └─ events ─► spool ─► weir.events
//! ```
//!
//! `POST /v1/events` takes CloudEvents 1.0 over HTTP, structured, binary and batched, and
//! lines of JSON; `POST /v1/logs`, and a gRPC service beside it, OTLP logs. A sender is an
//! application of the registry that has the scope [`SCOPE`].
//!
//! What holds:
//! - What was answered as accepted is in the spool, as every event of Weir: a kill does not
//!   lose it.
//! - A row that cannot be taken is named by its place, with why, and costs the others
//!   nothing.
//! - Who may not send, or has to wait since the spool is full or too much is under way, is
//!   told so before the body is read.
//! - An event's `event_time` is when it was taken, since a sender's clock would decide when
//!   everybody's windows close; what the sender says is its `external_time`.
//!
//! A sender that has no answer sends again, so an event may be there twice: it has the same
//! `external_source` and `external_id` then (CloudEvents 1.0.2, section "id").
//!
//! Limits: a body 8 MiB, also unpacked; 10,000 rows of a request; the data of a row
//! 256 KiB; 16 requests at a time, of which one of OTLP counts as 4.

mod answer;
mod api;
mod cloud;
mod config;
mod grpc;
mod lines;
mod otlp;
mod row;
mod sender;
mod server;
#[cfg(test)]
mod tests;
mod unpack;

pub use self::config::Config;
pub use self::sender::SCOPE;
pub use self::server::{Collector, Parts, StartError};

/// As `service_name` of the collector's own events.
const SERVICE: &str = "weir-collector";
/// The largest body of a request, also when it is unpacked.
const BODY_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The most rows of a request.
const ROWS_MAX: usize = 10_000;
/// How long a sender that is refused for now is to wait.
const WAIT_S: i64 = 1;
