//! The registry: what Weir is configured to do, as a topic of the log.
//!
//! ```text
//!  weir apply, screens                                        every node
//!        │ propose                                                ▲ Arc<Snapshot>
//!    Proposer ──► weir.registry.log ──► Applier ──► weir.registry ──► View
//!        ▲         (proposals, kept)       │  one     (entities, compacted)
//!        └── weir.registry.verdicts ◄──────┘  transaction
//!             (one per proposal, 30 days)     with the offset, and the history
//! ```
//!
//! An *entity* has a kind, a name, a version and a spec ([`kind`]). A *change
//! set* is what is changed together: one proposal, one record. The applier judges
//! proposals in their order and writes, in one transaction, the entities, the end
//! of the set, the verdict and the offset to go on from. A *snapshot* is the whole
//! configuration after some change set. [`files`] reads a wanted state from a
//! directory and plans the way there.
//!
//! What holds:
//! 1. A proposal gets one verdict, is made once or not at all, whole.
//! 2. A refused proposal changes nothing; an accepted one was made on the very
//!    versions that it named. Versions of an entity grow by one; a name that
//!    comes back starts above every removed entity of its kind.
//! 3. A snapshot is the state after an accepted set, never between: a set's last
//!    record states the hash of everything, and only what has that hash is shown.
//!    This also passes over the holes that compaction leaves in older sets.
//! 4. What is not whole never replaces what is: a view keeps its last good
//!    snapshot, says why, and reads everything anew. It never goes back to an older
//!    revision, short of a restart. A node that cannot read all there is does not
//!    start, and an applier that cannot fences nobody.
//! 5. Nothing refers to what is not there, and what only a role can read was found
//!    right by the check that the role gives the applier.
//! 6. No secret is in an error, a verdict, a plan or a `Debug` output; a fault
//!    quotes no text value, but for a word where one of a few is asked for.
//!
//! Verdicts have a topic of their own. In `weir.registry` every view would read
//! them all, and a tombstone for each would have to be written in time; compacted
//! by id they would never go. So they are retained for 30 days, and a proposal
//! that is repeated gets its verdict written again, where its proposer looks.
//!
//! A hot path reads through [`SnapshotReader`], one per thread: an atomic load and
//! a comparison, no lock and no count that threads share.
//!
//! [`history`] has what some kinds were at each revision, in a topic that is kept.
//!
//! Limits: 1,000 changes and 900,000 bytes a set, 262,144 bytes a spec, 100,000
//! entities, 100 reasons a verdict. The last 10,000 verdicts are remembered, in at
//! most 64 MiB; a set that is repeated after that is judged anew, and refused by
//! the versions that it expects. A judgement and a publication cost time in
//! proportion to the number of entities.
//!
//! The topics hold signing keys as they are: whoever reads them can sign. DMZ
//! nodes get no key and no access to the log.

mod applier;
mod change;
mod conflicts;
mod deep_check;
mod entity;
mod error;
mod fault;
pub mod files;
#[cfg(test)]
mod flaky;
pub mod history;
mod json;
mod judge;
mod kept;
pub mod kind;
mod load;
mod memory;
#[cfg(test)]
mod model;
mod name;
mod proposer;
mod replica;
mod snapshot;
mod standby;
#[cfg(test)]
mod tests;
mod topics;
mod verdict;
mod view;

pub use applier::Applier;
pub use change::{CHANGES_MAX, Change, ChangeSet, SET_BYTES_MAX, SPEC_BYTES_MAX};
pub use deep_check::{DeepCheck, no_deep_check};
pub use entity::Entity;
pub use error::Error;
pub use fault::{Fault, Faults, nearest};
pub use json::{Digest, Json};
pub use kept::{KEPT_AGE_MAX, Kept, Recalled};
pub use kind::{Kind, Spec, explain};
pub use name::{BadName, EntityKey, Name};
pub use proposer::Proposer;
pub use snapshot::{ENTITIES_MAX, Snapshot};
pub use standby::run_applier;
pub use topics::Topics;
pub use verdict::{Outcome, Refusal, Verdict, Written};
pub use view::{SnapshotReader, Status, View};
