//! What happens to a message between its caller and its target: routes, and
//! reliable delivery.

pub mod deliver;
pub mod endpoint;
