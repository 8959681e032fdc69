//! A running node: the log and what stands on it, then the roles, in an order in
//! which each finds what it needs.
//!
//! ```text
//!  settings ─► Ground: log, registry view, emitter ─► roles: keys, manager,
//!                                                     mediator, gateway
//!  signal   ─► roles stop, those that take work first ─► events drain ─► log closes
//! ```
//!
//! Everything that can be refused is looked at before the first port is bound. A
//! role that cannot start stops those before it, and the program ends.

#[cfg_attr(not(feature = "analytics"), path = "no_analysis.rs")]
pub(crate) mod analysis;
mod ground;
pub(crate) mod open_files;
mod passphrase;
pub(crate) mod pseudonyms;
mod roles;
mod signal;
pub(crate) mod surroundings;
mod token;

use ingest::registry::{EntityKey, Fault, Spec};

pub(crate) use ground::Ground;
pub(crate) use roles::{Role, Roles};
pub(crate) use signal::stop_asked;
pub(crate) use token::Token;

/// Finds what is wrong with an entity that only those can read who run by it.
pub(crate) fn deep_check(key: &EntityKey, spec: &Spec) -> Result<(), Vec<Fault>> {
    mediator::deep_check(key, spec)?;
    analysis::deep_check(key, spec)
}
