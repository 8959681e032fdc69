//! Weir's house rules: see `rules.rs`, where each is a test.
