//! Reliable delivery: what was accepted is delivered, or is in the dead letters.
//!
//! ```text
//!  route ─► Queues::accept ─► weir.queue.<name> ─► worker ─► owner per partition
//!   202 ◄──── durable ◄──────────┘ (kept)          (member     │ window, per key in order
//!                                                   of group)  ├─► attempts ─► target
//!                                                              │      └─► events, before ▼
//!                 one transaction per partition and 20 ms:  ◄──┘
//!         .progress (compacted) + .dead, .parked (kept) + the group's offset
//! ```
//!
//! What holds:
//! 1. [`Queues::accept`] answers after the log has the message and its event is
//!    written. It is then delivered, or in `.dead`, or held; never less.
//! 2. Messages of one key are attempted one after another, in the order in which
//!    they were accepted. A key that waits, or is held, holds back only itself.
//!    Messages without a key have no order.
//! 3. What completed ahead of the committed offset is written down in the same
//!    transaction as that offset, so that an orderly restart delivers nothing twice,
//!    but what was under way for longer than the 2 s that a stop waits.
//!    A kill repeats the attempts that ended since the last commit, with the same
//!    `Idempotency-Key`.
//! 4. An owner fences the one before it, and only then reads how far it came. A
//!    fenced owner commits nothing, and starts no attempt after it was told so. A
//!    request that a killed owner had sent may still arrive late; the target tells
//!    it by `Weir-Owner-Epoch`, the lower of two, and `Weir-Sequence`, which grows
//!    within a key.
//! 5. An attempt counts from its start, which the next commit writes down; in the
//!    first second of an owner it is written down before it is made. So a message
//!    that kills the process is counted too, even one that does so at once: after
//!    the first kill its next attempts are within that second, or what comes before
//!    them is committed. It reaches the dead letters after `attempts_max`, or one
//!    more where the first kill came before the commit.
//! 6. The events of an attempt are written before its end is committed. A kill
//!    between repeats them, dead letters' too: readers count distinct message ids.
//! 7. Nothing of a message but its id, key and place is in an event or a log line.
//! 8. A message that is scheduled is in the log from its 202 on, and goes into its queue when
//!    it is due (module `schedule`).
//!
//! Limits, and what happens at them: a message [`MESSAGE_BYTES_MAX`] with a key of
//! [`KEY_BYTES_MAX`] and [`HEADERS_MAX`] headers, refused beyond. Per partition
//! 10,000 offsets and 32 MiB above the committed offset, and up to three reads of
//! 256 KiB more (on Kafka without headers): then its reading pauses, and the member
//! goes on polling. If nothing in it could be attempted, blocked keys are parked
//! (module `parking`), up to 1,000 of them. Attempts under way: the queue's
//! `concurrency_max` on each node, and its upstream's of all queues (module `turns`); while
//! the target takes no connection, one each 100 ms on each node (module `breaker`). A
//! spool of events that is full holds attempts back, in their turns, until it takes their
//! events. An answer's body 8 MiB; a
//! larger one counts as a failure. A partition that is given up gives its attempts
//! 2 s. A progress record over 16 KiB is written less often, at least once a
//! second. Records are trimmed in steps of 1,000.
//!
//! Reading goes through the group's member, paused where there is no room, and not
//! through a reader for each partition: on Kafka that would be a client with its
//! own threads and connections for each, while the member fetches the same
//! records once more, since it has to poll in any case.

mod accept;
mod attempt;
mod breaker;
mod config;
mod control;
mod dead;
mod delivery;
mod gap;
mod history;
mod limit;
mod message;
mod owner;
mod parking;
mod partition;
mod recent;
mod retry;
mod schedule;
mod status;
mod stored;
mod take_over;
mod tell;
#[cfg(test)]
mod tests;
mod topics;
mod trim;
mod turns;
mod worker;

pub use accept::{AcceptError, Accepted, Queues};
pub use attempt::{
    ATTEMPT_HEADER, IDEMPOTENCY_KEY_HEADER, ORDERING_KEY_HEADER, OWNER_EPOCH_HEADER,
    SEQUENCE_HEADER,
};
pub use config::Config;
pub use control::{
    Control, ControlError, Overview, Pause, REASON_BYTES_MAX, WAITING_MAX, Waiting, WaitingState,
    WhichWaiting,
};
pub use dead::{
    By, DeadLetter, DeadLetterError, DeadLetters, Decision, LETTERS_MAX, Listing, Which,
};
pub use delivery::Delivery;
pub use history::{
    History, HistoryError, PAST_MAX, Past, RESENT_IDS_MAX, RESENT_MAX, Resend, WhichPast,
};
pub use message::{
    BadMessageId, HEADERS_MAX, KEY_BYTES_MAX, MESSAGE_BYTES_MAX, MessageId, NewMessage,
};
pub use schedule::{DAYS_MAX as SCHEDULE_DAYS_MAX, Scheduled};
pub use status::{PartitionStatus, QueueStatus};
pub use worker::Parts;
