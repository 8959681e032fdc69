//! The gateway: what clients call; with the key manager and the API manager.

pub mod auth;
mod config;
mod decisions;
mod gather;
mod http;
pub mod keys;
mod listen;
pub mod manager;
pub mod publish;
mod server;
pub mod throttle;
mod upstream;

pub use config::{Config, Limits, Listener, Telling, Timeouts, Tls};
pub use server::{Gateway, Parts, StartError};
