//! Weir's heart: the event schema, the log that events live in, the registry of what
//! Weir is configured to do, decisions against callers, what is taken out of events before they are written, the
//! HTTP that every role answers by, passwords, and the collector of other systems' events.

pub mod decision;
pub mod directory;
pub mod emit;
pub mod event;
pub mod http;
pub mod log;
pub mod receive;
pub mod redact;
pub mod registry;
pub mod scram;
