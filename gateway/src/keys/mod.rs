//! The key manager: gives applications their tokens, and everybody the keys to
//! check them by.
//!
//! ```text
//!  application ── POST /oauth2/token ──► client ► grant ► scope ► signature ─► token
//!                     │                    ▲ secrets' hashes       ▲ active key
//!                     ├─► event            └────── registry ───────┤
//!  gateways ◄──────── GET /oauth2/jwks ◄───── next, active, retired ┘
//! ```
//!
//! Keys are entities of the registry, of kind `key`; a key's name is its id
//! (`kid`). Of several active keys the last by name signs. A rotation is a change
//! of the registry: a key is published as `next`, signs as `active`, is still good
//! as `retired`, and what it signed is refused when it is removed. If there is no
//! active key at the start, one is made; managers that start at once propose it
//! under the same name, and those whose proposal is refused use the other's.
//!
//! The registry has private keys encrypted only, and refuses any other: whoever may read
//! the log, as gateways may, cannot sign. What opens them is a [`Passphrase`] that all nodes
//! of this role have; one whose passphrase opens no active key does not start.
//!
//! Invariants:
//! - A token is answered only when its event is in the spool; if the spool is full,
//!   no token is given.
//! - A secret is known by its SHA-256 only. All of an application's are compared, in
//!   constant time, and as many for a client that is not known.
//! - No secret and no token is in an event, an error or a log line. What looks like
//!   a secret in the place of a client's id is not written down either.
//! - A parameter that comes twice, or credentials in two places, are refused.
//!
//! Limits: a request's body 64 KiB, within 10 s, as is its head; 1,024 connections,
//! further ones wait. After 10 wrong secrets within a minute a client is answered
//! 429 until the minute is over, be its secret right or not; 10,000 clients are
//! watched, and at that bound the one with the fewest wrong secrets is forgotten.
//! An orderly stop waits 10 s for requests under way.
//!
//! Not yet: TLS, HTTP/2, other grants than client credentials, introspection, revocation.

mod client;
mod config;
mod error;
mod events;
mod first;
mod form;
mod manager;
mod metadata;
mod sealed;
mod secret;
mod signing;
#[cfg(test)]
pub(crate) mod tests;
mod token;

pub use config::Config;
pub use error::Error;
pub use manager::{KeyManager, Parts};
pub use sealed::Passphrase;
pub use secret::{new_secret, new_token};
pub(crate) use signing::unusable;
