//! Real servers for Weir's tests, on free loopback ports.
//!
//! `tests/rig/install` installs them; a test starts the one it needs and drops
//! it. Nothing here is a stand-in: what a test meets is what a user runs.
//!
//! ```text
//! test process ── Kafka ── Guarded ══pipe══ sh (guard.sh) ── java kafka.Kafka
//!                                     │
//!                       ends with the test process,
//!                     and takes the server with it
//! ```
//!
//! Invariants:
//! - no server outlives the process that started it, even one killed by SIGKILL;
//! - a server is signalled by its own process id, never by a name;
//! - a started server is ready: the first request of a test is answered;
//! - an error says what to do, or carries the end of the server's log.
//!
//! Calls block, for seconds when a server starts: from asynchronous code, use
//! them on a thread where that is allowed.

mod activemq;
mod case;
mod driver;
mod flight;
mod flink;
mod guarded;
mod installed;
mod jdbc;
mod kafka;
mod lake;
mod ports;
mod proxy;
mod rabbitmq;
mod senders;
mod smtp;
pub mod victim;

pub use activemq::ActiveMq;
pub use case::run_case;
pub use driver::Driver;
pub use flight::flight;
pub use flink::Flink;
pub use guarded::Guarded;
pub use jdbc::jdbc;
pub use kafka::Kafka;
pub use lake::{duckdb, read_lake, time_duckdb};
pub use ports::free as free_ports;
pub use proxy::Proxy;
pub use rabbitmq::RabbitMq;
pub use senders::send;
pub use smtp::{Kept, Smtp};
