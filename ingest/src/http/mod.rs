//! HTTP: what every role that answers it has in common.
//!
//! The bounded server ([`Server`]), errors as problem details with codes that stay
//! ([`Code`], [`Problem`]), the ids of a journey ([`Correlation`]), and what guards a
//! secret ([`Door`], [`TokenHash`], [`Guesses`]).

mod basic;
mod connections;
mod correlation;
mod door;
mod failure;
mod guesses;
mod lingering;
mod problem;
mod server;
mod token;
mod users;
mod write_timeout;

pub use basic::basic;
pub use connections::{Connection, connections};
pub use correlation::{CORRELATION_HEADER, Correlation, TRACE_HEADER, TRACE_STATE_HEADER};
pub use door::{Door, tell_denied};
pub use failure::Failure;
pub use guesses::Guesses;
pub use lingering::Lingering;
pub use problem::{Code, PROBLEM_CONTENT_TYPE, Problem};
pub use server::{ONE_HOST, Peer, Place, Places, RequestBody, Server, Teller, has_one_host};
pub use token::TokenHash;
pub use users::Caller;
pub use write_timeout::WriteTimeout;
