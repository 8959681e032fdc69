//! How messages come in and go out: one folder per transport.

pub mod http;
pub mod soap;
