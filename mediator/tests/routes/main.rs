//! Routes from YAML to answers, events and queues, over real sockets.

#![allow(clippy::unwrap_used)] // the helpers of tests are tests as well

mod bad;
mod calls;
mod listener;
mod server;
mod service;
mod swap;
mod world;
