//! Weir's heart.

pub mod event;
