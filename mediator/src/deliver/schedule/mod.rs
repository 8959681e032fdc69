//! Scheduled delivery: messages that are accepted now and put into their queue later.
//!
//! ```text
//!  route ─► Queues::accept ─► weir.queue.<name>.scheduled, compacted, by message id
//!                                  │ read by the keeper of the queue's worker
//!                                  ▼ when it is due: into the queue, then told of, then gone
//!                             weir.queue.<name>  …  owner, attempts
//! ```
//!
//! What holds:
//! 1. A message is answered 202 once the topic has it. From then on it is there, or in its
//!    queue, or in the dead letters. It goes to the queue before it is taken out of the topic:
//!    a kill between the two puts it there twice, under the same id.
//! 2. It waits in the partition of its ordering key, whose owner moves it: so those of one
//!    key get into the queue in the order in which they are due, and of the same time in the
//!    order of their acceptance. There it stands behind what was accepted before it was due;
//!    age and attempts begin then.
//! 3. An id that is scheduled again before it is due takes the place of the first, with its
//!    time. When it is due meanwhile, the first counts.
//! 4. A paused queue gets what is due all the same, and holds it. A queue that is removed has
//!    no worker; what waits stays, and is due at once when it is back.
//!
//! 5. An owner is not fenced here: one that was taken for dead, or whose append of several
//!    failed in part, may put some into the queue that another puts there too, behind what
//!    was due after them. They have the same ids.
//!
//! Limits: 366 days; 250,000 messages for each partition of the queue, told to all nodes by
//! the topic of what is decided, so that a node may take some more for about a second. An
//! owner holds an entry of some 200 bytes for each, and up to 8 MiB of the soonest records; for
//! each 4 MiB more it reads what lies between them in the topic, which is most of it where the
//! order of acceptance is not that of the times. It moves 500 at a time, or 4 MiB.

mod calendar;
mod keeper;
mod list;
mod moved;
mod soonest;

use ingest::event::Timestamp;
use ingest::log::{Headers, NewRecord, Record};

use self::calendar::Said;
pub(super) use self::keeper::Keeper;
pub use self::list::Scheduled;
pub(super) use self::list::{all, decide};
use super::message::{DUE_TIME, ID, MessageId};

/// How far ahead a message may be scheduled, in days.
pub const DAYS_MAX: u64 = 366;

/// The headers that a scheduled record has besides its message's: the ordering key, since the
/// record's key is its id; and, of a decision, who made it, and whether it gives the message up.
const ORDERING_KEY: &str = "weir_ordering_key";
const DECIDED_BY: &str = "weir_decided_by";
const GIVEN_UP: &str = "weir_given_up";

/// The record of a message that waits until `due`: that of its queue, with its id as the key.
pub(super) fn record_of(id: &MessageId, message: NewRecord, due: Timestamp) -> NewRecord {
    let due = due.to_string();
    let ordering = message.key.as_deref().map(|key| (ORDERING_KEY, key));
    let set = [(DUE_TIME, due.as_bytes())].into_iter().chain(ordering);
    let headers = Headers::new(message.headers.iter().chain(set));
    let key = Some(id.as_str().as_bytes().to_vec().into());
    NewRecord { key, value: Some(message.value.unwrap_or_default()), headers }
}

/// What takes a message out of the topic.
fn gone(id: &str) -> NewRecord {
    NewRecord { value: None, ..NewRecord::keyed(id.as_bytes().to_vec(), Vec::new()) }
}

/// What a record says, and of which message; none of one that nobody of Weir wrote.
fn read(record: &Record) -> Option<(&str, Said)> {
    let id = std::str::from_utf8(record.key.as_deref()?).ok()?;
    if record.value.is_none() {
        return Some((id, Said::Gone));
    }
    let text = |name| std::str::from_utf8(record.headers.get(name)?).ok();
    let due = text(DUE_TIME)?.parse().ok()?;
    MessageId::new(id).ok().filter(|_| text(ID) == Some(id))?;
    let said = match record.headers.get(DECIDED_BY) {
        Some(_) => Said::Decided(due),
        None => Said::Waits(due),
    };
    Some((id, said))
}
