//! Passwords that are proved without being sent: SCRAM-SHA-256 (RFC 5802, RFC 7677).
//!
//! A [`Verifier`] is what is kept of a password; it lets nobody in by itself. An
//! [`Exchange`] is the server's part of a login. There is no channel binding.

mod exchange;
mod verifier;

pub use self::exchange::{Exchange, Refused};
pub use self::verifier::{ITERATIONS, ITERATIONS_MAX, ITERATIONS_MIN, Verifier};
