//! Real servers for Weir's tests.
