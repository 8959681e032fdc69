//! Decisions against callers, as a gateway enforces them.
//!
//! ```text
//!  weir.decisions ─► Decisions ─┐
//!                               ├─► Enforcer ─compile─► Arc<Enforced> ─► one reader per thread
//!  registry: safeguards ────────┘   (one task)          (atomic swap)   (a load, a comparison)
//! ```
//!
//! What a decision is, is written in [`ingest::decision`]. Here it becomes the answer: a request
//! of a blocked subject is 403 `blocked`, one beyond what a slowed subject may make is 429
//! `throttled`, both with `Retry-After`; the event names the decision, but not the subject, which
//! a rule of redaction may have taken from it. Of one in dry run the event says the same, by
//! `decision_state`, and the request goes on. Every request of a slowed subject is counted, those
//! too that are refused for other reasons.
//!
//! What holds:
//! - A request costs no lock: the table of this moment is read through an atomic pointer, and
//!   where there is no decision nothing more is done.
//! - A change is in force when the task has compiled it, milliseconds after the record is read;
//!   an end by time needs no change, since each request looks at the time.
//! - Addresses that a safeguard protects, and those of trusted proxies, are refused by none: an
//!   address that many share because a proxy has it is nobody's.
//!
//! The key manager refuses by the same table: a blocked address may try no secrets, and a
//! blocked application is given no tokens. It knows of no trusted proxies.
//!
//! Limits: a slowed subject is slowed by each gateway by itself. The log away for a while
//! leaves a gateway with what it has read.

mod enforced;
mod enforcer;

pub(crate) use enforced::{Enforced, Stopped, Who};
pub(crate) use enforcer::{EnforcedReader, Enforcer};
