//! The dead letters of a queue: what is there, and what somebody decides of it.
//!
//! ```text
//!  weir.queue.<name>        …  message ◄─── put back, durable before its letter is settled
//!  weir.queue.<name>.dead   letter  letter  letter  settles 1st  letter  settles 3rd …
//! ```
//!
//! What holds:
//! 1. A letter that is put back is in the queue at least once: the message is durable
//!    there before the record that settles its letter. A kill between the two leaves the
//!    letter listed, and who puts it back again sends its message once more, under the
//!    same id. One decision at a time is carried out on a node; of two nodes the later
//!    one fences the other, which stops at its next record: of letters that one node
//!    puts back while another drops them, up to 500 may still be delivered.
//! 2. A message that is put back keeps its id, key, headers and body, unless the body is
//!    replaced. It comes behind what was accepted of its key meanwhile, its age and
//!    attempts begin anew, and its target knows it by the same `Idempotency-Key`.
//! 3. Each letter that is settled has an event that says by whom, and one that is put
//!    back an `accept` event besides. A kill between the commit and these leaves the log
//!    alone to tell.
//!
//! Limits: 1,000 letters in a listing and 1,000 ids in a request; letters are settled 500
//! or 4 MiB at a time, so a kill amid many leaves the rest as they were. What is
//! at the beginning of the topic and settled is trimmed.

mod read;
mod settle;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;
use ingest::emit::Emitter;
use ingest::event::{Clock, Event, Kind, Outcome, Timestamp};
use ingest::log::{Error, EventLog, Headers, NewRecord, RECORD_BYTES_MAX};
use ingest::registry::kind::Queue;
use ingest::registry::{Name, View};
use tokio::sync::Mutex;

use self::read::{OpenLetters, Settled};
use self::settle::Settling;
use super::message::{ACCEPTED_TIME, CONTENT_TYPE, EXPIRES_TIME, ID, MESSAGE_BYTES_MAX};
use super::stored::Message;
use super::topics::Topics;
use ingest::http::{Code, Correlation};

/// The most letters of a listing, and the most ids of a request.
pub const LETTERS_MAX: usize = 1_000;

/// The headers that a letter has besides its message's.
const REASON: &str = "weir_dead_reason";
const ATTEMPTS: &str = "weir_attempts";
const DEAD_TIME: &str = "weir_dead_time";
const STATUS: &str = "weir_dead_status";
const ERROR: &str = "weir_dead_error";
const QUEUE_OFFSET: &str = "weir_queue_offset";

/// The headers of a record that settles a letter: the letter's offset, and how.
const SETTLES: &str = "weir_settles";
const SETTLED_AS: &str = "weir_settled_as";
/// What only Weir writes: of a message that has one of these it says nothing.
const RESERVED: [&str; 8] =
    [REASON, ATTEMPTS, DEAD_TIME, STATUS, ERROR, QUEUE_OFFSET, SETTLES, SETTLED_AS];
/// The largest message that goes back as it was: besides what a queue takes it says when
/// it was accepted first, and its next letter has to fit into a record again.
pub(super) const PUT_BACK_BYTES_MAX: usize = RECORD_BYTES_MAX - 1_024;
/// When the message was accepted first, of one that was put back.
pub(super) const FIRST_ACCEPTED_TIME: &str = "weir_first_accepted_time";

/// The dead letters of all queues. Cheap to clone.
#[derive(Clone)]
pub struct DeadLetters {
    log: Arc<dyn EventLog>,
    view: View,
    emitter: Emitter,
    clock: Arc<dyn Clock>,
    /// Held while a decision is carried out.
    turn: Arc<Mutex<()>>,
}

/// A message that could not be delivered, and of which nobody has decided yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The message's id.
    pub id: String,
    /// The partition of the queue, and of its dead letters.
    pub partition: u32,
    /// The letter's place there.
    pub offset: u64,
    /// The ordering key; what of it is no UTF-8 is replaced.
    pub key: Option<String>,
    /// Why there was no further attempt: `refused`, `attempts_used_up` or `too_old`.
    pub reason: String,
    /// How many attempts were made.
    pub attempts: u64,
    /// What the target answered last, if it did.
    pub status: Option<u16>,
    /// The code of why it did not, such as `upstream_unreachable`.
    pub error: Option<String>,
    /// When the message was accepted.
    pub accepted: Timestamp,
    /// When it was given up.
    pub died: Option<Timestamp>,
    /// The journey that it is part of.
    pub correlation_id: Option<String>,
    /// The media type of the body.
    pub content_type: Option<String>,
    /// The size of the body.
    pub body_bytes: usize,
}

/// The letters of a queue, oldest first in each partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// The first of them.
    pub letters: Vec<DeadLetter>,
    /// How many there are.
    pub total: u64,
}

/// Which letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// Those of these messages; all have to be there.
    Ids(BTreeSet<String>),
    /// Those of these messages that are there.
    AnyOf(BTreeSet<String>),
    /// Those that were given up from a time on, and before another.
    Died(Timestamp, Timestamp),
    /// All that are there at the beginning.
    All,
}

/// What becomes of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Back into the queue.
    Replay,
    /// Back into the queue with another body, and another media type if one is given;
    /// for one letter only.
    ReplayWith(Bytes, Option<HeaderValue>),
    /// Nothing more: it stays dead in every account, and is listed no more.
    Drop,
}

impl Decision {
    const fn text(&self) -> &'static str {
        match self {
            Self::Replay | Self::ReplayWith(..) => "replay",
            Self::Drop => "drop",
        }
    }

    /// Refuses a message that would be too large in the queue.
    fn check_size(
        &self,
        letter: &Message,
        id: &str,
        now: Timestamp,
    ) -> Result<(), DeadLetterError> {
        let limit = match self {
            Self::Replay => PUT_BACK_BYTES_MAX,
            Self::ReplayWith(..) => MESSAGE_BYTES_MAX,
            Self::Drop => return Ok(()),
        };
        let bytes = put_back(letter, id, self, now).bytes();
        if bytes > limit {
            return Err(DeadLetterError::TooLarge { id: id.to_owned(), bytes, limit });
        }
        Ok(())
    }
}

/// Who decides, for the events.
#[derive(Debug, Clone)]
pub struct By {
    /// The person or program.
    pub actor: String,
    /// The service that was asked.
    pub service: &'static str,
    /// The journey of the decision.
    pub correlation: Correlation,
}

impl By {
    /// The event of a decision about an entity of a queue: a message, or the queue itself.
    pub(super) fn decided(
        &self,
        emitter: &Emitter,
        outcome: Outcome,
        action: &'static str,
        (kind, id): (&'static str, &str),
        queue: &Name,
    ) -> Event {
        let mut event = emitter.event(Kind::Admin, outcome);
        self.correlation.note(&mut event);
        event.service_name = Some(self.service.into());
        event.admin_action = Some(action.into());
        event.admin_actor = Some(self.actor.clone().into());
        event.admin_entity_kind = Some(kind.into());
        event.admin_entity_id = Some(id.to_owned().into());
        event.delivery_queue = Some(queue.to_string().into());
        event
    }
}

/// Why letters could not be shown or settled.
#[derive(Debug, thiserror::Error)]
pub enum DeadLetterError {
    /// The registry has no such queue, and the log has no letters of one.
    #[error("there is no queue {0}")]
    NoQueue(Name),
    /// It is no longer in the registry; its letters are still there. Nothing was done.
    #[error(
        "queue {0} is no longer in the configuration, so nobody would deliver what is put back; \
         apply it again first"
    )]
    Removed(Name),
    /// Nothing was done.
    #[error("no dead letter of queue {queue} has the id {}", .ids.join(", "))]
    Missing {
        /// Which queue.
        queue: Name,
        /// The ids, ten at most.
        ids: Vec<String>,
    },
    /// A body can replace that of one letter only. Nothing was done.
    #[error("{0} dead letters have this id: a body replaces that of one only")]
    NotOne(usize),
    /// The message would be larger than a queue takes. Nothing was done.
    #[error("message {id} would have {bytes} bytes; the limit is {limit}")]
    TooLarge {
        /// Its id.
        id: String,
        /// Its size, with key and headers.
        bytes: usize,
        /// The most that it may have.
        limit: usize,
    },
    /// The log; what was settled before stays so, the rest is as it was.
    #[error("the log: {0}; {1} were settled before that, the rest is as it was")]
    Log(Error, u64),
}

impl From<Error> for DeadLetterError {
    fn from(error: Error) -> Self {
        Self::Log(error, 0)
    }
}

impl DeadLetters {
    /// The letters of the queues in `log`.
    pub fn new(
        log: Arc<dyn EventLog>,
        view: View,
        emitter: Emitter,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { log, view, emitter, clock, turn: Arc::default() }
    }

    /// The first letters of a queue that nobody has decided of.
    ///
    /// # Errors
    /// [`DeadLetterError::NoQueue`], [`DeadLetterError::Log`].
    pub async fn list(&self, queue: &Name, max: usize) -> Result<Listing, DeadLetterError> {
        let topics = self.topics(queue).await?;
        let settled = Settled::read(&*self.log, &topics).await?;
        let mut open = OpenLetters::of(&*self.log, &settled).await?;
        let (mut letters, mut total) = (BTreeMap::new(), 0);
        while let Some((index, message)) = open.next().await? {
            total += 1;
            letters.insert((index, message.offset()), letter(&topics, index, &message));
            if letters.len() > max.min(LETTERS_MAX) {
                letters.pop_last();
            }
        }
        Ok(Listing { letters: letters.into_values().collect(), total })
    }

    /// The letters of a message, with their bodies; mostly one.
    ///
    /// # Errors
    /// [`DeadLetterError::Missing`] besides those of [`Self::list`].
    pub async fn show(
        &self,
        queue: &Name,
        id: &str,
    ) -> Result<Vec<(DeadLetter, Bytes)>, DeadLetterError> {
        let topics = self.topics(queue).await?;
        let settled = Settled::read(&*self.log, &topics).await?;
        let mut open = OpenLetters::of(&*self.log, &settled).await?;
        let mut found = Vec::new();
        while let Some((index, message)) = open.next().await? {
            if id_of(&topics, index, &message) == id {
                found.push((letter(&topics, index, &message), message.body()));
            }
        }
        if found.is_empty() {
            return Err(missing(queue, [id]));
        }
        Ok(found)
    }

    /// Settles letters, and answers how many.
    ///
    /// # Errors
    /// Any of [`DeadLetterError`]: nothing was done then, but as [`DeadLetterError::Log`]
    /// says. Who settles letters of the same queue on two nodes at the same time is
    /// [`Error::Fenced`] on one, and may ask again there.
    pub async fn settle(
        &self,
        queue: &Name,
        which: &Which,
        decision: &Decision,
        by: &By,
    ) -> Result<u64, DeadLetterError> {
        let _turn = self.turn.lock().await;
        let topics = self.topics(queue).await?;
        let puts_back = !matches!(decision, Decision::Drop);
        if puts_back && self.view.snapshot().get::<Queue>(queue).is_none() {
            self.tell_refused(queue, decision, by);
            return Err(DeadLetterError::Removed(queue.clone()));
        }
        // First fenced, then read: nobody settles what is read here meanwhile.
        let writer = self.log.writer(&format!("{}.dead", topics.messages)).await?;
        let settled = Settled::read(&*self.log, &topics).await?;
        self.check(queue, &topics, &settled, which, decision).await?;
        let settling = Settling::new(self, (queue, &topics), (decision, by), writer);
        settling.settle(which, &settled).await
    }

    /// Whether all of it can be done.
    async fn check(
        &self,
        queue: &Name,
        topics: &Topics,
        settled: &Settled,
        which: &Which,
        decision: &Decision,
    ) -> Result<(), DeadLetterError> {
        let (mut found, mut count) = (HashSet::new(), 0);
        let mut open = OpenLetters::of(&*self.log, settled).await?;
        while let Some((index, message)) = open.next().await? {
            let Some(id) = chosen(which, topics, index, &message) else { continue };
            count += 1;
            decision.check_size(&message, &id, self.clock.now())?;
            if matches!(which, Which::Ids(_)) {
                found.insert(id);
            }
        }
        if let Which::Ids(ids) = which
            && ids.iter().any(|id| !found.contains(id))
        {
            let ids = ids.iter().filter(|id| !found.contains(*id));
            return Err(missing(queue, ids.map(String::as_str)));
        }
        if matches!(decision, Decision::ReplayWith(..)) && count != 1 {
            return Err(DeadLetterError::NotOne(count));
        }
        Ok(())
    }

    fn tell_refused(&self, queue: &Name, decision: &Decision, by: &By) {
        let about = ("queue", queue.as_str());
        let event = by.decided(&self.emitter, Outcome::Refused, decision.text(), about, queue);
        if let Err(error) = self.emitter.emit(event) {
            tracing::error!(%queue, %error, "a refused decision is not told of");
        }
    }

    async fn topics(&self, queue: &Name) -> Result<Topics, DeadLetterError> {
        let snapshot = self.view.snapshot();
        if let Some(spec) = snapshot.get::<Queue>(queue) {
            return Ok(Topics::prepare(&*self.log, queue, spec.partitions).await?);
        }
        // What a queue left behind that is removed.
        match Topics::existing(&*self.log, queue).await {
            Ok(topics) => Ok(topics),
            Err(Error::UnknownTopic(_)) => Err(DeadLetterError::NoQueue(queue.clone())),
            Err(error) => Err(error.into()),
        }
    }
}

impl fmt::Debug for DeadLetters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLetters").field("log", &self.log).finish_non_exhaustive()
    }
}

/// Why there is no further attempt of a message.
#[derive(Debug)]
pub(super) struct Death {
    pub(super) reason: &'static str,
    pub(super) attempts: u64,
    pub(super) at: Timestamp,
    /// What the target answered last, if it did.
    pub(super) status: Option<http::StatusCode>,
    /// Why it did not.
    pub(super) error: Option<Code>,
}

/// The letter of a message of a queue.
pub(super) fn letter_of(message: &Message, death: &Death) -> NewRecord {
    let set = [
        (REASON, Some(death.reason.to_owned())),
        (ATTEMPTS, Some(death.attempts.to_string())),
        (DEAD_TIME, Some(death.at.to_string())),
        (QUEUE_OFFSET, Some(message.offset().to_string())),
        (STATUS, death.status.map(|status| status.as_str().to_owned())),
        (ERROR, death.error.map(|error| error.text().to_owned())),
    ];
    let set = set.iter().filter_map(|(name, text)| Some((*name, text.as_ref()?.as_bytes())));
    let kept = message.all_headers().filter(|(name, _)| !RESERVED.contains(name));
    NewRecord {
        key: message.key().cloned(),
        value: message.value().cloned(),
        headers: Headers::new(kept.chain(set)),
    }
}

/// The message of a letter, as the queue gets it.
fn put_back(letter: &Message, id: &str, decision: &Decision, now: Timestamp) -> NewRecord {
    let now = now.to_string();
    let first = letter.text(FIRST_ACCEPTED_TIME).map(str::to_owned);
    let first = first.unwrap_or_else(|| letter.accepted().to_string());
    let (body, content_type) = match decision {
        Decision::ReplayWith(body, content_type) => (body.clone(), content_type.as_ref()),
        _ => (letter.body(), None),
    };
    let kept = letter.all_headers().filter(|(name, _)| {
        // Who puts it back wants it: it does not expire again.
        let is_set = matches!(*name, ID | ACCEPTED_TIME | EXPIRES_TIME | FIRST_ACCEPTED_TIME)
            || (*name == CONTENT_TYPE && content_type.is_some());
        !is_set && !RESERVED.contains(name)
    });
    let set = [(ID, id), (ACCEPTED_TIME, &now), (FIRST_ACCEPTED_TIME, &first)];
    let set = set.into_iter().map(|(name, text)| (name, text.as_bytes()));
    let set = set.chain(content_type.map(|of| (CONTENT_TYPE, of.as_bytes())));
    NewRecord {
        key: letter.key().cloned(),
        value: Some(body),
        headers: Headers::new(kept.chain(set)),
    }
}

/// The id of a letter, if it is one of those.
fn chosen(which: &Which, topics: &Topics, index: u32, letter: &Message) -> Option<String> {
    let id = id_of(topics, index, letter);
    let is_chosen = match which {
        Which::All => true,
        Which::Ids(ids) | Which::AnyOf(ids) => ids.contains(&id),
        Which::Died(since, until) => {
            let died = letter.text(DEAD_TIME).and_then(|text| text.parse::<Timestamp>().ok());
            died.is_some_and(|died| (*since..*until).contains(&died))
        }
    };
    is_chosen.then_some(id)
}

/// The id of a letter's message, as its target knows it: what was not written by Weir
/// has one by its place in the queue.
fn id_of(topics: &Topics, index: u32, letter: &Message) -> String {
    let place = letter.text(QUEUE_OFFSET).and_then(|text| text.parse().ok());
    letter.id_at(&topics.messages(index), place.unwrap_or(letter.offset())).into_owned()
}

fn letter(topics: &Topics, partition: u32, message: &Message) -> DeadLetter {
    let text = |name: &str| message.text(name).map(str::to_owned);
    DeadLetter {
        id: id_of(topics, partition, message),
        partition,
        offset: message.offset(),
        key: message.key().map(|key| String::from_utf8_lossy(key).into_owned()),
        reason: text(REASON).unwrap_or_default(),
        attempts: text(ATTEMPTS).and_then(|text| text.parse().ok()).unwrap_or(0),
        status: text(STATUS).and_then(|text| text.parse().ok()),
        error: text(ERROR),
        accepted: message.accepted(),
        died: text(DEAD_TIME).and_then(|text| text.parse().ok()),
        correlation_id: message.correlation_id().map(str::to_owned),
        content_type: text(CONTENT_TYPE),
        body_bytes: message.body().len(),
    }
}

fn missing<'a>(queue: &Name, ids: impl IntoIterator<Item = &'a str>) -> DeadLetterError {
    let ids = ids.into_iter().take(10).map(str::to_owned).collect();
    DeadLetterError::Missing { queue: queue.clone(), ids }
}
