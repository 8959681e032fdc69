//! The data plane over real sockets: a real registry, log, spool and origin.

#![allow(clippy::unwrap_used)] // the helpers of tests are tests as well

mod callers;
mod origin;
mod plain;
mod problems;
mod retries;
mod smuggling;
mod world;
