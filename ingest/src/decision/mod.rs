//! Decisions: whom gateways refuse or slow down, by whose word, and until when.
//!
//! ```text
//!  finding of a detection ─► analytics ─┐                     ┌─► each gateway: 403, 429, an event
//!  somebody ─► admin API ─► Desk ───────┴─► weir.decisions ───┤
//!                                           (compacted)       └─► admin API, SQL, console
//! ```
//!
//! A decision has two records: `made/ID`, the last word of who made it, and `lifted/ID`, once
//! somebody takes it back. So a detection that goes on finding prolongs what it has decided,
//! and never undoes what a person said of it.
//!
//! What holds:
//! 1. A decision ends by itself: at a time that is in it, by the clock of each gateway.
//! 2. What a detection decides refuses nobody unless a [`Safeguard`] of the registry has its
//!    mode be `enforce`; until then it is told of what would have been refused.
//! 3. A subject that a safeguard protects is refused by no decision, a person's neither, from
//!    when a gateway has read that safeguard on; and none is made against it.
//! 4. The safeguards' numbers hold over all detections together: a detection that runs wild
//!    cannot shut everybody out.
//! 5. Decisions are of live traffic: a replay makes none, and none refuses a replayed request.
//!
//! Limits: 10,000 decisions in force that people made; a decision of 30 days; a network of 256
//! IPv4 addresses (/24) or of a /48 of IPv6. What ended is kept for 7 days.
//!
//! [`Safeguard`]: crate::registry::kind::Safeguard

mod decisions;
mod desk;
mod made;
mod safeguards;
mod subject;

pub use decisions::{Decisions, KEPT, TOPIC};
pub use desk::{Desk, Error, Wish, Word};
pub use made::{
    Action, Decision, LASTS_MAX, Lift, MADE_MAX, Maker, Mode, State, gone, lifted, made,
};
pub use safeguards::Safeguards;
pub use subject::{Network, Subject, SubjectKind};

#[cfg(test)]
mod tests;
