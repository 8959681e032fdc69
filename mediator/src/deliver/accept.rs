//! Taking messages: durable first, then told of, then answered.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use fail::fail_point;
use ingest::emit::Emitter;
use ingest::event::{Clock, Kind, Outcome, Text, Timestamp};
use ingest::log::{Error, EventLog, partition_for};
use ingest::registry::kind::Queue;
use ingest::registry::{Name, View};
use parking_lot::Mutex;

use super::control::{self, Controls};
use super::message::{HEADERS_MAX, KEY_BYTES_MAX, MESSAGE_BYTES_MAX, MessageId, NewMessage};
use super::recent::Recent;
use super::schedule;
use super::topics::Topics;
use ingest::http::Code;

/// Takes messages for the queues of the registry. Cheap to clone.
#[derive(Clone)]
pub struct Queues(Arc<Inner>);

struct Inner {
    log: Arc<dyn EventLog>,
    view: View,
    emitter: Emitter,
    clock: Arc<dyn Clock>,
    /// The queues whose topics are there.
    prepared: Mutex<HashMap<Name, Topics>>,
    recent: Mutex<Recent>,
    /// What is decided of queues, once this node delivers.
    controls: OnceLock<Controls>,
}

/// A message that the log has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// Its id.
    pub id: MessageId,
    /// Its place in the partition.
    pub offset: u64,
    /// The partition of the queue.
    pub partition: u32,
    /// When it goes into the queue, if not at once; its offset is another one then.
    pub due: Option<Timestamp>,
}

/// Where a message is that was taken.
enum Place {
    /// In its queue, at this offset.
    Queue(u64),
    /// In the schedule, until then.
    Schedule(Timestamp),
}

/// Why a message was not taken, or may not have been.
#[derive(Debug, thiserror::Error)]
#[error("queue {queue}: {reason}")]
pub struct AcceptError {
    /// What the caller is told. With [`Code::QueueUnavailable`] the message may
    /// be in the queue all the same: the caller repeats it with the same id.
    pub code: Code,
    /// Which queue.
    pub queue: Name,
    /// What happened, for an operator.
    pub reason: String,
}

impl Queues {
    /// Takes messages into `log`, for the queues that `view` shows.
    pub fn new(
        log: Arc<dyn EventLog>,
        view: View,
        emitter: Emitter,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let (prepared, recent, controls) = <_>::default();
        Self(Arc::new(Inner { log, view, emitter, clock, prepared, recent, controls }))
    }

    /// Takes no message for a schedule of which is decided that it is full.
    pub(super) fn heed(&self, controls: Controls) {
        // The first delivery of a node tells the same as a later one.
        let _ = self.0.controls.set(controls);
    }

    /// Makes the topics of every queue that the registry has now, so that the
    /// first message of each does not wait for them.
    ///
    /// # Errors
    /// The first queue whose topics cannot be made; the others were tried.
    pub async fn prepare(&self) -> Result<(), AcceptError> {
        let snapshot = self.0.view.snapshot();
        let mut first = Ok(());
        for (name, queue) in snapshot.all::<Queue>() {
            first = first.and(self.topics(name, queue.partitions).await.map(|_| ()));
        }
        first
    }

    /// The time that messages are accepted at.
    pub(crate) fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    /// Takes a message: when this answers, it is durable, its event is written, and
    /// it will be delivered or be in the dead letters.
    ///
    /// # Errors
    /// [`Code::MessageTooLarge`] before anything is written; [`Code::MessageIdReused`] if its
    /// id is one of the last 10,000 that this node took, and had another key, also before;
    /// [`Code::EventsUnavailable`] if its event could not be kept, also before;
    /// [`Code::QueueUnavailable`] if there is no such queue, or the log did not
    /// confirm the message, which may be there all the same.
    pub async fn accept(&self, queue: &Name, message: NewMessage) -> Result<Accepted, AcceptError> {
        let fail = |code, reason: String| AcceptError { code, queue: queue.clone(), reason };
        let unavailable = |reason: String| fail(Code::QueueUnavailable, reason);
        let accepted_time = self.0.clock.now();
        let due = message.due.filter(|due| *due > accepted_time);
        let mut record = message.encode(accepted_time);
        if let Some(due) = due {
            record = schedule::record_of(&message.id, record, due);
        }
        check_size(&message, record.bytes()).map_err(|r| fail(Code::MessageTooLarge, r))?;
        let Some(partitions) = self.0.view.snapshot().get::<Queue>(queue).map(|q| q.partitions)
        else {
            return Err(unavailable("there is no such queue".to_owned()));
        };
        self.0.emitter.admit().map_err(|e| fail(Code::EventsUnavailable, e.to_string()))?;
        let topics = self.topics(queue, partitions).await?;
        if !self.0.recent.lock().take(queue, &message) {
            let reason = format!("{} came with another ordering key before", message.id);
            return Err(fail(Code::MessageIdReused, reason));
        }
        let partition = partition_of(message.key.as_ref(), message.id.as_str(), &topics);
        let to = match due {
            Some(_) if self.schedule_is_full(queue, partition) => {
                let reason = format!("the schedule of partition {partition} is full");
                return Err(unavailable(reason));
            }
            Some(_) => topics.scheduled(partition),
            None => topics.messages(partition),
        };
        let appended = self.0.log.append(vec![(to, record)]).await;
        let offset = match appended.map(|appended| appended[0].offset) {
            Ok(offset) => offset,
            Err(error @ Error::TooLarge { .. }) => {
                return Err(fail(Code::MessageTooLarge, error.to_string()));
            }
            Err(error) => return Err(unavailable(error.to_string())),
        };
        fail_point!("accept::kept");
        let place = due.map_or(Place::Queue(offset), Place::Schedule);
        self.tell(queue, &message, place, accepted_time).map_err(unavailable)?;
        fail_point!("accept::told");
        Ok(Accepted { id: message.id, offset, partition, due })
    }

    fn schedule_is_full(&self, queue: &Name, partition: u32) -> bool {
        let known = self.0.controls.get().and_then(|controls| controls.borrow().clone());
        known.is_some_and(|all| control::is_full(&all, queue, partition))
    }

    /// Writes the event that the log has the message.
    fn tell(
        &self,
        queue: &Name,
        message: &NewMessage,
        place: Place,
        accepted: Timestamp,
    ) -> Result<(), String> {
        let mut event = self.0.emitter.event(Kind::Accept, Outcome::Success);
        event.correlation_id = Some(message.correlation.id.to_string().into());
        event.trace_id = Some(format!("{:032x}", message.correlation.trace).into());
        event.span_id = Some(format!("{:016x}", message.correlation.span).into());
        event.messaging_message_id = Some(message.id.to_string().into());
        event.delivery_queue = Some(queue.to_string().into());
        event.delivery_key = message.key.as_ref().map(key_text);
        match place {
            Place::Queue(offset) => event.delivery_sequence = Some(offset as i64),
            Place::Schedule(due) => {
                event.delivery_outcome = Some("scheduled".into());
                event.delivery_next_attempt_time = Some(due);
            }
        }
        event.delivery_accepted_time = Some(accepted);
        event.http_request_body_size = Some(message.body.len() as i64);
        // Only a defect of the disk leads here; the caller repeats, and the target
        // knows the message by its id.
        self.0.emitter.emit(event).map(|_| ()).map_err(|error| error.to_string())
    }

    /// The topics of a queue, made with the first call.
    pub(crate) async fn topics(
        &self,
        queue: &Name,
        partitions: u32,
    ) -> Result<Topics, AcceptError> {
        if let Some(topics) = self.0.prepared.lock().get(queue) {
            return Ok(topics.clone());
        }
        let topics = Topics::prepare(&*self.0.log, queue, partitions).await.map_err(|error| {
            let (code, queue) = (Code::QueueUnavailable, queue.clone());
            AcceptError { code, queue, reason: error.to_string() }
        })?;
        self.0.prepared.lock().insert(queue.clone(), topics.clone());
        Ok(topics)
    }
}

impl fmt::Debug for Queues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queues").field("log", &self.0.log).finish_non_exhaustive()
    }
}

/// Where in a queue a message belongs. Without a key every message is its own; its id spreads
/// it, and brings it back to the same place when it is sent again.
pub(super) fn partition_of(key: Option<&Bytes>, id: &str, topics: &Topics) -> u32 {
    partition_for(key.map_or(id.as_bytes(), |key| key), topics.partitions)
}

/// An ordering key as events show it.
pub(crate) fn key_text(key: &Bytes) -> Text {
    String::from_utf8_lossy(key).into_owned().into()
}

fn check_size(message: &NewMessage, bytes: usize) -> Result<(), String> {
    let key_bytes = message.key.as_ref().map_or(0, Bytes::len);
    if bytes > MESSAGE_BYTES_MAX {
        Err(format!("a message of {bytes} bytes is larger than the limit of {MESSAGE_BYTES_MAX}"))
    } else if key_bytes > KEY_BYTES_MAX {
        Err(format!("a key of {key_bytes} bytes is larger than the limit of {KEY_BYTES_MAX}"))
    } else if message.headers.len() > HEADERS_MAX {
        let headers = message.headers.len();
        Err(format!("{headers} headers are more than the limit of {HEADERS_MAX}"))
    } else {
        Ok(())
    }
}
