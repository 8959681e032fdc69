//! The data plane over real sockets: a real registry, log, spool and origin.

#![allow(clippy::unwrap_used)] // the helpers of tests are tests as well

mod bodies;
mod callers;
mod change;
mod decisions;
mod headers;
mod origin;
mod plain;
mod problems;
mod replays;
mod retries;
mod smuggling;
mod tls;
mod world;
