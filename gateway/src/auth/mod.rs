//! Who calls: bearer tokens, and what a caller may do.
//!
//! ```text
//!  issuers ─JWKS─► KeyFetcher ─► KeySets (swapped whole) ─┐
//!                      ▲ unknown kid                      ▼
//!  Authorization ──────┴───────────────► Verifier (one per thread) ─► Arc<Caller>
//!                                          token cache                  │
//!  registry snapshot ─► DenyRules, Subscriptions, Networks ─────────────┴─► verdict
//! ```
//!
//! Tokens are JWTs of RFC 9068, signed by ES256, RS256 or EdDSA. Per request there
//! is no lock and no await: a thread reads the keys through an atomic pointer and
//! has a cache of its own.
//!
//! Invariants:
//! - The algorithm is the key's: one that the token names beside it, `none` or a
//!   symmetric one among them, is refused. A key that is not for signatures, of
//!   another algorithm or too short, is never taken.
//! - A token is good for the issuer whose key signed it, at one of its audiences.
//! - A cached token is the whole token, to the byte, and its times are checked each
//!   time. The cache is emptied whenever a key comes or goes. Only good tokens are
//!   in it, so that bad ones cannot drive good ones out.
//! - The last good keys stay while an issuer cannot be reached.
//! - An unknown key id has its issuer asked at once, but not more often than every
//!   `jwks_min_interval_s`, whoever sends it.
//! - No token, key or claim is in an error or a log line.
//!
//! Limits: 10 issuers; a token 16 KiB; a JWKS 1 MiB and 100 keys, fetched within
//! 10 s; 10,000 cached tokens and 16 MiB of them a thread, the older half dropped at
//! the bound; leeway 300 s.

mod caller;
mod config;
mod deny;
mod fetcher;
mod key_sets;
mod networks;
mod subscriptions;
#[cfg(test)]
pub(crate) mod tests;
mod token_cache;
mod verifier;

pub use caller::{Caller, Denied, challenge};
pub use config::{Algorithm, Config, Issuer};
pub use deny::{DenyRules, Facts, Rule};
pub use fetcher::{Error, KeyFetcher};
pub use key_sets::KeySets;
pub use networks::Networks;
pub(crate) use networks::{ByNetwork, range};
pub use subscriptions::{Held, Subscriptions};
pub use verifier::Verifier;
pub(crate) use verifier::token_id;
