//! What happens to a message between its caller and its target: routes, and
//! reliable delivery.

pub mod endpoint;
pub mod message;
pub mod route;
mod step;

pub mod deliver;

mod config;
mod mediator;

pub use config::Config;
pub use mediator::{Mediator, Parts, StartError};
pub use route::deep_check;
