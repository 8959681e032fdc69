//! Reliable delivery: what was accepted is delivered, or is in the dead letters.

mod accept;
mod message;
#[cfg(test)]
mod tests;
mod topics;

pub use accept::{AcceptError, Accepted, Queues};
pub use message::{
    BadMessageId, HEADERS_MAX, KEY_BYTES_MAX, MESSAGE_BYTES_MAX, MessageId, NewMessage,
};
