//! The event schema.
