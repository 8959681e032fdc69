//! The gateway: what clients call; with the key manager and the API manager.

pub mod auth;
pub mod keys;
pub mod manager;
pub mod throttle;
pub mod publish;
#[expect(dead_code, reason = "what forwards requests reads it")]
mod upstream;
