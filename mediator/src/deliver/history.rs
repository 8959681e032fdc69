//! Messages that have ended, delivered or dead, as long as their queue keeps them; and sending
//! them again.
//!
//! What holds:
//! 1. A queue with `history_ms` keeps a message for so long after it was accepted there, and
//!    until it has ended; some longer, since the topic is trimmed in steps.
//! 2. What is sent again is accepted anew, as it was: id, key, headers and body; behind what
//!    its key has by then. A receiver that remembers the id drops it. With a new id it is a
//!    new message, whose events name the old one.
//! 3. What waits is not in the history, and an id is there once, as it was accepted last.
//!
//! Limits: 1,000 messages in a listing and 10,000 ids in a request; 100,000 messages of a time
//! are listed or sent at once, 500 or 4 MiB at a time: a kill amid them leaves the rest.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use ingest::emit::Emitter;
use ingest::event::{Clock, Event, Kind, Outcome, Timestamp};
use ingest::http::Code;
use ingest::log::{Error, EventLog, Headers, LogTime, NewRecord, Partition, Scan};
use ingest::registry::kind::Queue;
use ingest::registry::{Name, View};

use super::By;
use super::accept::{key_text, partition_of};
use super::control::written_down;
use super::dead::{FIRST_ACCEPTED_TIME, PUT_BACK_BYTES_MAX};
use super::message::{ACCEPTED_TIME, EXPIRES_TIME, ID};
use super::partition::{Id, Progress};
use super::stored::Message;
use super::topics::Topics;

/// The most messages of a listing.
pub const PAST_MAX: usize = 1_000;
/// The most ids of a request.
pub const RESENT_IDS_MAX: usize = 10_000;
/// The most messages that are sent again at once.
pub const RESENT_MAX: usize = 100_000;
/// How much is sent at a time.
const SENT_MAX: usize = 500;
const SENT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How far the clocks of a node and of the log may be apart.
const CLOCKS_DIFFER_MS: i64 = 60_000;
/// The header of a message that was sent again under a new id: the old one.
const REPLAY_OF: &str = "weir_replay_of";

/// The history of all queues. Cheap to clone.
#[derive(Clone)]
pub struct History {
    log: Arc<dyn EventLog>,
    view: View,
    emitter: Emitter,
    clock: Arc<dyn Clock>,
}

/// A message that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Past {
    /// Its id.
    pub id: String,
    /// The partition of the queue.
    pub partition: u32,
    /// Its place there.
    pub offset: u64,
    /// The ordering key; what of it is no UTF-8 is replaced.
    pub key: Option<String>,
    /// When it was accepted.
    pub accepted: Timestamp,
    /// The journey that it is part of.
    pub correlation_id: Option<String>,
    /// The size of the body.
    pub body_bytes: usize,
}

/// Which messages that have ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WhichPast {
    /// Those of these ids; all have to be there.
    Ids(BTreeSet<String>),
    /// Those of these ids that are there.
    AnyOf(BTreeSet<String>),
    /// Those that were accepted from a time on, and before another.
    Accepted(Timestamp, Timestamp),
}

impl WhichPast {
    /// No earlier message is meant.
    fn since(&self) -> Timestamp {
        match self {
            Self::Accepted(since, _) => *since,
            Self::Ids(_) | Self::AnyOf(_) => Timestamp::MIN,
        }
    }
}

/// How messages are sent again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resend {
    /// Into which queue.
    pub to: Name,
    /// As new messages, each under an id of its own.
    pub under_new_ids: bool,
}

/// Why messages could not be shown or sent again.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The registry has no such queue. Nothing was sent.
    #[error("there is no queue {0}")]
    NoQueue(Name),
    /// Nothing was sent.
    #[error("queue {0} keeps no history; give it a history_ms, which counts from then on")]
    NotKept(Name),
    /// Nothing was sent.
    #[error("the history of queue {queue} has no message with the id {}", .ids.join(", "))]
    Missing {
        /// Which queue.
        queue: Name,
        /// The ids, ten at most.
        ids: Vec<String>,
    },
    /// Nothing was sent.
    #[error("these are more than {RESENT_MAX} messages; choose a shorter time")]
    TooMany,
    /// It would be larger than a queue takes. Nothing was sent.
    #[error("message {0} has no room for what is said of it besides; it cannot be sent again")]
    TooLarge(String),
    /// The log; what was sent before stays so.
    #[error("the log: {0}; {1} were sent before that, of the next {SENT_MAX} some may have been")]
    Log(Error, u64),
}

impl HistoryError {
    /// What a caller of the admin API is told.
    pub fn code(&self) -> Code {
        match self {
            Self::NoQueue(_) | Self::Missing { .. } => Code::EntityNotFound,
            Self::NotKept(_) => Code::ChangeRefused,
            Self::TooMany => Code::BodyInvalid,
            Self::TooLarge(_) => Code::MessageTooLarge,
            Self::Log(..) => Code::QueueUnavailable,
        }
    }
}

impl From<Error> for HistoryError {
    fn from(error: Error) -> Self {
        Self::Log(error, 0)
    }
}

impl History {
    /// The history of the queues in `log`.
    pub fn new(
        log: Arc<dyn EventLog>,
        view: View,
        emitter: Emitter,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { log, view, emitter, clock }
    }

    /// The messages that were accepted in a time and have ended, the latest first, and how
    /// many there are.
    ///
    /// # Errors
    /// [`HistoryError`].
    pub async fn list(
        &self,
        queue: &Name,
        (since, until): (Timestamp, Timestamp),
        max: usize,
    ) -> Result<(Vec<Past>, u64), HistoryError> {
        let topics = self.kept(queue).await?;
        let mut found = BTreeMap::new();
        let mut ended = Ended::open(&*self.log, &topics, since).await?;
        while let Some((index, message)) = ended.next().await? {
            if (since..until).contains(&message.accepted()) {
                let past = past(&topics, index, &message);
                found.insert(past.id.clone(), past);
                if found.len() > RESENT_MAX {
                    return Err(HistoryError::TooMany);
                }
            }
        }
        let total = found.len() as u64;
        let mut listed: Vec<Past> = found.into_values().collect();
        listed.sort_unstable_by(|one, other| {
            (other.accepted, &other.id).cmp(&(one.accepted, &one.id))
        });
        listed.truncate(max.min(PAST_MAX));
        Ok((listed, total))
    }

    /// Sends messages again, and answers how many.
    ///
    /// # Errors
    /// [`HistoryError`]: nothing was sent then, but as [`HistoryError::Log`] says.
    pub async fn resend(
        &self,
        queue: &Name,
        which: &WhichPast,
        how: &Resend,
        by: &By,
    ) -> Result<u64, HistoryError> {
        let from = self.kept(queue).await?;
        let to = self.topics(&how.to).await?;
        let places = self.choose(queue, &from, which).await?;
        let mut sending = Sending { with: self, queue, how, by, to, chunk: Vec::new(), sent: 0 };
        let mut bytes = 0;
        let sent = async {
            let mut ended = Ended::open(&*self.log, &from, which.since()).await?;
            while let Some((index, message)) = ended.next().await? {
                let id = message.id(&from.messages(index)).into_owned();
                if places.get(&id) != Some(&(index, message.offset())) {
                    continue;
                }
                bytes += message.bytes();
                sending.chunk.push((id, message));
                if sending.chunk.len() >= SENT_MAX || bytes >= SENT_BYTES_MAX {
                    bytes = 0;
                    sending.send().await?;
                }
            }
            sending.send().await
        };
        let sent = sent.await;
        sent.map_err(|error| HistoryError::Log(error, sending.sent))?;
        Ok(sending.sent)
    }

    /// Where each of them stands last.
    async fn choose(
        &self,
        queue: &Name,
        topics: &Topics,
        which: &WhichPast,
    ) -> Result<HashMap<String, (u32, u64)>, HistoryError> {
        let mut places = HashMap::new();
        let mut ended = Ended::open(&*self.log, topics, which.since()).await?;
        while let Some((index, message)) = ended.next().await? {
            let id = message.id(&topics.messages(index)).into_owned();
            let is_chosen = match which {
                WhichPast::Ids(ids) | WhichPast::AnyOf(ids) => ids.contains(&id),
                WhichPast::Accepted(since, until) => (*since..*until).contains(&message.accepted()),
            };
            if !is_chosen {
                continue;
            }
            if again(&id, &message, self.clock.now(), true).1.bytes() > PUT_BACK_BYTES_MAX {
                return Err(HistoryError::TooLarge(id));
            }
            places.insert(id, (index, message.offset()));
            if places.len() > RESENT_MAX {
                return Err(HistoryError::TooMany);
            }
        }
        if let WhichPast::Ids(ids) = which {
            let missing = ids.iter().filter(|id| !places.contains_key(*id));
            let ids: Vec<String> = missing.take(10).cloned().collect();
            if !ids.is_empty() {
                return Err(HistoryError::Missing { queue: queue.clone(), ids });
            }
        }
        Ok(places)
    }

    /// The topics of a queue that keeps a history.
    async fn kept(&self, queue: &Name) -> Result<Topics, HistoryError> {
        let snapshot = self.view.snapshot();
        let keeps = snapshot.get::<Queue>(queue).is_some_and(|queue| queue.history_ms > 0);
        let topics = self.topics(queue).await?;
        if keeps { Ok(topics) } else { Err(HistoryError::NotKept(queue.clone())) }
    }

    async fn topics(&self, queue: &Name) -> Result<Topics, HistoryError> {
        let snapshot = self.view.snapshot();
        let spec = snapshot.get::<Queue>(queue);
        let spec = spec.ok_or_else(|| HistoryError::NoQueue(queue.clone()))?;
        Ok(Topics::prepare(&*self.log, queue, spec.partitions).await?)
    }
}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("History").field("log", &self.log).finish_non_exhaustive()
    }
}

/// The messages of a queue that have ended, in the order of each partition.
struct Ended<'a> {
    scan: Scan<'a>,
    written: HashMap<u32, Progress>,
    read: std::vec::IntoIter<(u32, Message)>,
}

impl<'a> Ended<'a> {
    /// From those on that were accepted at a time, and maybe some before.
    async fn open(log: &'a dyn EventLog, topics: &Topics, since: Timestamp) -> Result<Self, Error> {
        // What ends while this is read may be told as one that waits, never the other way.
        let written = written_down(log, topics).await?;
        let mut spans = BTreeMap::new();
        for index in 0..topics.partitions.get() {
            let partition = topics.messages(index);
            // The log takes a message after it was accepted, by a clock of its own.
            let time = (since.as_micros() / 1_000).saturating_sub(CLOCKS_DIFFER_MS);
            let first = log.offset_at(&partition, LogTime(time.max(0))).await?;
            spans.insert(partition, (first, u64::MAX));
        }
        let scan = Scan::within(log, spans).await?;
        Ok(Self { scan, written, read: Vec::new().into_iter() })
    }

    async fn next(&mut self) -> Result<Option<(u32, Message)>, Error> {
        loop {
            for (index, message) in self.read.by_ref() {
                if self.written.get(&index).is_some_and(|of| has_ended(of, &message)) {
                    return Ok(Some((index, message)));
                }
            }
            let Some(batch) = self.scan.next().await? else { return Ok(None) };
            let index = batch.partition.index;
            let read: Vec<_> = batch.records.iter().map(|of| (index, Message::of(of))).collect();
            self.read = read.into_iter();
        }
    }
}

fn has_ended(progress: &Progress, message: &Message) -> bool {
    let offset = message.offset();
    let has_left = offset < progress.committed || progress.completed.contains(offset);
    let id = Id::of(message);
    has_left && !progress.parked.iter().any(|of| of.id == id && offset >= of.next)
}

fn past(topics: &Topics, partition: u32, message: &Message) -> Past {
    Past {
        id: message.id(&topics.messages(partition)).into_owned(),
        partition,
        offset: message.offset(),
        key: message.key().map(|key| String::from_utf8_lossy(key).into_owned()),
        accepted: message.accepted(),
        correlation_id: message.correlation_id().map(str::to_owned),
        body_bytes: message.body().len(),
    }
}

/// The id and the record of a message that is sent again.
fn again(id: &str, message: &Message, now: Timestamp, is_new: bool) -> (String, NewRecord) {
    let new = if is_new { uuid::Uuid::now_v7().to_string() } else { id.to_owned() };
    let now = now.to_string();
    let first = message.text(FIRST_ACCEPTED_TIME).map(str::to_owned);
    let first = first.unwrap_or_else(|| message.accepted().to_string());
    let own = [ID, ACCEPTED_TIME, FIRST_ACCEPTED_TIME, EXPIRES_TIME, REPLAY_OF];
    let kept = message.all_headers().filter(|(name, _)| !own.contains(name));
    let set = [(ID, &new), (ACCEPTED_TIME, &now), (FIRST_ACCEPTED_TIME, &first)];
    let set = set.into_iter().map(|(name, text)| (name, text.as_bytes()));
    let replay_of = is_new.then_some((REPLAY_OF, id.as_bytes()));
    let headers = Headers::new(kept.chain(set).chain(replay_of));
    let record =
        NewRecord { key: message.key().cloned(), value: message.value().cloned(), headers };
    (new, record)
}

/// Messages on their way.
struct Sending<'a> {
    with: &'a History,
    queue: &'a Name,
    how: &'a Resend,
    by: &'a By,
    to: Topics,
    chunk: Vec<(String, Message)>,
    sent: u64,
}

impl Sending<'_> {
    async fn send(&mut self) -> Result<(), Error> {
        let chunk = std::mem::take(&mut self.chunk);
        let now = self.with.clock.now();
        let mut ids = Vec::with_capacity(chunk.len());
        let mut records: Vec<(Partition, NewRecord)> = Vec::with_capacity(chunk.len());
        for (id, message) in &chunk {
            let (new, record) = again(id, message, now, self.how.under_new_ids);
            let index = partition_of(message.key(), &new, &self.to);
            records.push((self.to.messages(index), record));
            ids.push(new);
        }
        let appended = self.with.log.append(records).await?;
        for (((id, message), new), place) in chunk.iter().zip(&ids).zip(appended) {
            self.tell((id, new), message, now, place.offset);
            self.sent += 1;
        }
        Ok(())
    }

    fn tell(&self, (id, new): (&str, &str), message: &Message, now: Timestamp, offset: u64) {
        let (emitter, key) = (&self.with.emitter, message.key().map(key_text));
        let about = ("message", id);
        let mut decided = self.by.decided(emitter, Outcome::Success, "resend", about, self.queue);
        decided.messaging_message_id = Some(id.to_owned().into());
        decided.delivery_key.clone_from(&key);
        let mut accepted = emitter.event(Kind::Accept, Outcome::Success);
        accepted.messaging_message_id = Some(new.to_owned().into());
        accepted.delivery_replay_of = Some(id.to_owned().into());
        accepted.delivery_queue = Some(self.how.to.to_string().into());
        accepted.delivery_key = key;
        accepted.correlation_id = message.correlation_id().map(|id| id.to_owned().into());
        let trace = message.trace_parent().and_then(|text| text.get(3..35));
        accepted.trace_id = trace.map(|trace| trace.to_owned().into());
        accepted.delivery_sequence = i64::try_from(offset).ok();
        accepted.delivery_accepted_time = Some(now);
        accepted.delivery_outcome = Some("replayed".into());
        let mut events: Vec<Event> = vec![decided, accepted];
        if let Err(error) = emitter.emit_all(&mut events) {
            tracing::error!(queue = %self.queue, id, %error, "a message sent again is not told of");
        }
    }
}
