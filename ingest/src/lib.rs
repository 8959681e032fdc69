//! Weir's heart: the event schema, the log that events live in, and the
//! registry of what Weir is configured to do.

pub mod emit;
pub mod event;
pub mod log;
pub mod registry;
