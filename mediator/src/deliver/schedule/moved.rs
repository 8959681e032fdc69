//! What a message becomes that has waited for its time: one of its queue, or a dead letter.

use ingest::emit::Emitter;
use ingest::event::{Event, Kind, Outcome, Timestamp};
use ingest::log::{Appended, Headers, NewRecord, Record};
use ingest::registry::Name;

use super::{DECIDED_BY, GIVEN_UP, ORDERING_KEY};
use crate::deliver::accept::key_text;
use crate::deliver::dead::{self, Death, FIRST_ACCEPTED_TIME};
use crate::deliver::message::{ACCEPTED_TIME, DUE_TIME};
use crate::deliver::stored::Message;

/// The place within its key of a message that died before it was in its queue.
const NEVER_QUEUED: i64 = -1;
const REASON: &str = "given_up";

/// A message that leaves the schedule.
#[derive(Debug)]
pub(super) struct Leaving {
    /// Its id.
    pub(super) id: String,
    /// As its queue has it, which it is accepted by at that moment.
    message: Message,
    /// Whether somebody has given it up: it becomes a dead letter.
    pub(super) is_given_up: bool,
    at: Timestamp,
}

impl Leaving {
    /// `scheduled` is the record's message, `now` the time.
    pub(super) fn of(scheduled: &Message, now: Timestamp) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let own =
            [DUE_TIME, ORDERING_KEY, DECIDED_BY, GIVEN_UP, ACCEPTED_TIME, FIRST_ACCEPTED_TIME];
        let (accepted, first) = (now.to_string(), scheduled.accepted().to_string());
        let kept = scheduled.all_headers().filter(|(name, _)| !own.contains(name));
        let set = [(ACCEPTED_TIME, &accepted), (FIRST_ACCEPTED_TIME, &first)];
        let set = set.into_iter().map(|(name, text)| (name, text.as_bytes()));
        let key = scheduled.header(ORDERING_KEY).map(|key| key.to_vec().into());
        let message = Message::of(&Record {
            offset: scheduled.offset(),
            time: ingest::log::LogTime(0),
            key,
            value: scheduled.value().cloned(),
            headers: Headers::new(kept.chain(set)),
        });
        let id = scheduled.key().map(|key| text(key)).unwrap_or_default();
        let is_given_up = scheduled.header(GIVEN_UP).is_some();
        Self { id, message, is_given_up, at: now }
    }

    /// The record of its queue, or of the dead letters.
    pub(super) fn record(&self) -> NewRecord {
        if self.is_given_up {
            let (reason, at) = (REASON, self.at);
            let death = Death { reason, attempts: 0, at, status: None, error: None };
            return dead::letter_of(&self.message, &death);
        }
        NewRecord {
            key: self.message.key().cloned(),
            value: self.message.value().cloned(),
            headers: Headers::new(self.message.all_headers()),
        }
    }

    /// The event that says where it went; `to` is the place of its new record.
    pub(super) fn event(&self, queue: &Name, emitter: &Emitter, to: &Appended) -> Event {
        let (kind, outcome) = match self.is_given_up {
            true => (Kind::DeadLetter, Outcome::Unknown),
            false => (Kind::Accept, Outcome::Success),
        };
        let mut event = emitter.event(kind, outcome);
        event.correlation_id = self.message.correlation_id().map(|id| id.to_owned().into());
        let trace = self.message.trace_parent().and_then(|text| text.get(3..35));
        event.trace_id = trace.map(|trace| trace.to_owned().into());
        event.messaging_message_id = Some(self.id.clone().into());
        event.delivery_queue = Some(queue.to_string().into());
        event.delivery_key = self.message.key().map(key_text);
        event.delivery_accepted_time = Some(self.at);
        if self.is_given_up {
            event.delivery_sequence = Some(NEVER_QUEUED);
            event.delivery_attempt = Some(0);
            event.delivery_outcome = Some("dead".into());
            event.fault_code = Some(REASON.into());
        } else {
            event.delivery_sequence = i64::try_from(to.offset).ok();
            event.delivery_outcome = Some("due".into());
        }
        event
    }
}
