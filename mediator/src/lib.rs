//! What happens to a message between its caller and its target: routes, and
//! reliable delivery.

mod config;
pub mod deliver;
pub mod endpoint;
pub mod message;
pub mod route;
pub mod step;

pub use config::Config;
pub use endpoint::http::{Mediator, Parts, StartError};
pub use route::deep_check;
