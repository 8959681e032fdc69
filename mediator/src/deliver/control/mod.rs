//! What people decide of queues while they run: pauses, and what becomes of messages
//! that wait.
//!
//! ```text
//!  weir.delivery.control, compacted:  orders/paused ─► every node's owners start nothing
//!                                     orders/waiting/3/1207/… ─► the owner of partition 3
//!                                                                obeys, and forgets it in
//!                                                                the commit that shows it
//! ```
//!
//! What holds:
//! 1. A decision is durable before it is answered, and outlives every node. It counts
//!    once: the owner takes it out of the topic in the same transaction that writes
//!    down what came of it.
//! 2. An owner starts no attempt before it knows what was decided. While a queue is
//!    paused attempts that are under way end, none begins, and messages are accepted.
//! 3. To retry makes the next attempt at once, and counts attempts anew. To give up
//!    makes none: the message goes to the dead letters in its turn within its key.
//!
//! 4. Of several orders for a message the last counts. Who decides while a decision of
//!    the same kind is not obeyed yet decides nothing new.
//! 5. Each decision has its event, but where the spool refuses it, which is logged.
//!
//! Limits: 1,000 messages in a listing and 1,000 ids in a request; what waits is known of
//! messages that had an attempt, as of the owners' last commits (20 ms to 1 s ago). On
//! Kafka the transaction of an owner that was killed hides what was decided after it
//! began, for 10 s at most.

mod follow;
mod orders;
mod state;
mod waiting;

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use ingest::emit::Emitter;
use ingest::event::{Clock, Outcome, Timestamp};
use ingest::log::{Error, EventLog};
use ingest::registry::kind::Queue;
use ingest::registry::{Name, View};

pub(super) use self::follow::{Controls, follow, read_through};
pub(super) use self::orders::Orders;
pub use self::state::Pause;
use self::state::{CONTROL, Order, order_record, orders_for, pause_record, prepare};
pub(super) use self::state::{full_record, is_full};
pub(super) use self::waiting::written_down;
pub use self::waiting::{Waiting, WaitingState};
use super::By;
use super::schedule::{self, Scheduled};
use super::topics::Topics;

/// The most messages of a listing, and the most ids of a request.
pub const WAITING_MAX: usize = 1_000;
/// The longest reason of a pause, in bytes.
pub const REASON_BYTES_MAX: usize = 500;

/// Pauses queues, and decides of what waits in them. Cheap to clone.
#[derive(Clone)]
pub struct Control {
    log: Arc<dyn EventLog>,
    view: View,
    emitter: Emitter,
    clock: Arc<dyn Clock>,
}

/// Which messages that wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WhichWaiting {
    /// Those of these ids; all have to be there.
    Ids(BTreeSet<String>),
    /// All that are held.
    Held,
}

/// How far a queue is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overview {
    /// Which queue.
    pub queue: Name,
    /// Since when, by whom and why it is paused, if it is.
    pub pause: Option<Pause>,
    /// Accepted and neither delivered nor dead.
    pub waiting: u64,
    /// Of these, messages that wait for the time when they go into the queue.
    pub scheduled: u64,
    /// Of these, messages of keys that were blocked for so long that they are parked.
    pub parked: u64,
    /// Of these, messages that had an attempt and wait for the next.
    pub retrying: u64,
    /// Of these, messages that stay until somebody decides.
    pub held: u64,
    /// When the oldest of those that had an attempt was accepted.
    pub oldest: Option<Timestamp>,
}

/// Why a decision could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The registry has no such queue.
    #[error("there is no queue {0}")]
    NoQueue(Name),
    /// Nothing was decided.
    #[error(
        "of queue {queue} no message that had an attempt, or is scheduled, waits with the id {}",
        .ids.join(", ")
    )]
    Missing {
        /// Which queue.
        queue: Name,
        /// The ids, ten at most.
        ids: Vec<String>,
    },
    /// Nothing was decided.
    #[error("a reason has up to {REASON_BYTES_MAX} bytes")]
    LongReason,
    /// The log; decisions may have been written all the same.
    #[error("the log: {0}")]
    Log(#[from] Error),
}

impl Control {
    /// Decides of the queues in `log`.
    pub fn new(
        log: Arc<dyn EventLog>,
        view: View,
        emitter: Emitter,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { log, view, emitter, clock }
    }

    /// Lets no attempt of the queue begin, on any node, until [`Self::resume`]. One that
    /// is paused already gets the new reason.
    ///
    /// # Errors
    /// [`ControlError`]. Nodes hear of it within a second of the answer.
    pub async fn pause(&self, queue: &Name, reason: &str, by: &By) -> Result<(), ControlError> {
        self.topics(queue).await?;
        if reason.len() > REASON_BYTES_MAX {
            return Err(ControlError::LongReason);
        }
        let since = self.clock.now().to_string();
        let pause = Pause { since, by: by.actor.clone(), reason: reason.to_owned() };
        self.decide(queue, Some(&pause)).await?;
        self.tell("pause", "queue", queue, queue.as_str(), by);
        Ok(())
    }

    /// Lets attempts begin again.
    ///
    /// # Errors
    /// [`ControlError`].
    pub async fn resume(&self, queue: &Name, by: &By) -> Result<(), ControlError> {
        self.topics(queue).await?;
        self.decide(queue, None).await?;
        self.tell("resume", "queue", queue, queue.as_str(), by);
        Ok(())
    }

    async fn decide(&self, queue: &Name, pause: Option<&Pause>) -> Result<(), ControlError> {
        prepare(&*self.log).await?;
        self.log.append(vec![(CONTROL.clone(), pause_record(queue, pause))]).await?;
        Ok(())
    }

    /// Messages that had an attempt and wait, oldest first in each partition, and how
    /// many there are.
    ///
    /// # Errors
    /// [`ControlError`].
    pub async fn waiting(
        &self,
        queue: &Name,
        max: usize,
    ) -> Result<(Vec<Waiting>, u64), ControlError> {
        let topics = self.topics(queue).await?;
        let found = waiting::read(&*self.log, &topics).await?;
        let total = found.len() as u64;
        Ok((found.into_iter().take(max.min(WAITING_MAX)).collect(), total))
    }

    /// Messages that wait for the time when they go into the queue, the soonest first, and how
    /// many there are.
    ///
    /// # Errors
    /// [`ControlError`].
    pub async fn scheduled(
        &self,
        queue: &Name,
        max: usize,
    ) -> Result<(Vec<Scheduled>, u64), ControlError> {
        let topics = self.topics(queue).await?;
        let found = schedule::all(&*self.log, &topics).await?;
        let total = found.len() as u64;
        Ok((found.into_iter().take(max.min(WAITING_MAX)).collect(), total))
    }

    /// Orders the next attempts of messages that wait, at once and counted anew, and the
    /// first ones of messages that are scheduled; answers how many.
    ///
    /// # Errors
    /// [`ControlError`].
    pub async fn retry(
        &self,
        queue: &Name,
        which: &WhichWaiting,
        by: &By,
    ) -> Result<u64, ControlError> {
        self.order(queue, which, Order::Retry, by).await
    }

    /// Orders that messages that wait, or are scheduled, go to the dead letters; answers how
    /// many.
    ///
    /// # Errors
    /// [`ControlError`].
    pub async fn give_up(
        &self,
        queue: &Name,
        which: &WhichWaiting,
        by: &By,
    ) -> Result<u64, ControlError> {
        self.order(queue, which, Order::GiveUp, by).await
    }

    async fn order(
        &self,
        queue: &Name,
        which: &WhichWaiting,
        order: Order,
        by: &By,
    ) -> Result<u64, ControlError> {
        let topics = self.topics(queue).await?;
        let waiting = waiting::read(&*self.log, &topics).await?;
        let chosen: Vec<&Waiting> = match which {
            WhichWaiting::Held => {
                waiting.iter().filter(|of| of.state == WaitingState::Held).collect()
            }
            WhichWaiting::Ids(ids) => waiting.iter().filter(|of| ids.contains(&of.id)).collect(),
        };
        let scheduled = match which {
            WhichWaiting::Held => Vec::new(),
            WhichWaiting::Ids(ids) => {
                let found: BTreeSet<&str> = chosen.iter().map(|of| of.id.as_str()).collect();
                let others = ids.iter().filter(|id| !found.contains(id.as_str())).cloned();
                self.scheduled_of(queue, &topics, others.collect()).await?
            }
        };
        prepare(&*self.log).await?;
        // What is ordered already is not ordered again.
        let all = follow::read(&*self.log).await?;
        let mut ordered = HashMap::new();
        for partition in 0..topics.partitions.get() {
            let mut orders: Vec<_> = orders_for(&all, queue, partition).into_iter().collect();
            orders.sort_by_key(|(_, of)| of.at);
            let last = orders.into_iter().map(|((offset, _), of)| ((partition, offset), of.order));
            ordered.extend(last);
        }
        let count = (chosen.len() + scheduled.len()) as u64;
        let is_new = |of: &&Waiting| ordered.get(&(of.partition, of.offset)) != Some(&order);
        let chosen: Vec<&Waiting> = chosen.into_iter().filter(is_new).collect();
        for some in chosen.chunks(WAITING_MAX) {
            let given = self.clock.now().as_micros();
            let record =
                |of: &&Waiting| order_record(queue, of.partition, (of.offset, given), Some(order));
            let records = some.iter().map(|of| (CONTROL.clone(), record(of))).collect();
            self.log.append(records).await?;
            for of in some {
                self.tell(order.text(), "message", queue, &of.id, by);
            }
        }
        let how = (by.actor.as_str(), order == Order::GiveUp);
        schedule::decide(&*self.log, &topics, &scheduled, self.clock.now(), how).await?;
        for of in &scheduled {
            self.tell(order.text(), "message", queue, &of.id, by);
        }
        Ok(count)
    }

    /// The messages of these ids that are scheduled; all have to be.
    async fn scheduled_of(
        &self,
        queue: &Name,
        topics: &Topics,
        mut ids: BTreeSet<String>,
    ) -> Result<Vec<Scheduled>, ControlError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut found = schedule::all(&*self.log, topics).await?;
        found.retain(|of| ids.remove(&of.id));
        if !ids.is_empty() {
            let ids = ids.into_iter().take(10).collect();
            return Err(ControlError::Missing { queue: queue.clone(), ids });
        }
        Ok(found)
    }

    /// How far every queue of the registry is, or one.
    ///
    /// # Errors
    /// [`ControlError`].
    pub async fn overview(&self, of: Option<&Name>) -> Result<Vec<Overview>, ControlError> {
        let names: Vec<Name> = match of {
            Some(name) => vec![name.clone()],
            None => self.view.snapshot().all::<Queue>().map(|(name, _)| name.clone()).collect(),
        };
        prepare(&*self.log).await?;
        let pauses = follow::read(&*self.log).await?;
        let mut all = Vec::with_capacity(names.len());
        for queue in names {
            let topics = self.topics(&queue).await?;
            let pause = pauses.queues.get(&queue).and_then(|of| of.pause.clone());
            all.push(waiting::overview(&*self.log, queue, &topics, pause).await?);
        }
        Ok(all)
    }

    async fn topics(&self, queue: &Name) -> Result<Topics, ControlError> {
        let snapshot = self.view.snapshot();
        let spec = snapshot.get::<Queue>(queue);
        let spec = spec.ok_or_else(|| ControlError::NoQueue(queue.clone()))?;
        Ok(Topics::prepare(&*self.log, queue, spec.partitions).await?)
    }

    fn tell(&self, action: &'static str, kind: &'static str, queue: &Name, id: &str, by: &By) {
        let event = by.decided(&self.emitter, Outcome::Success, action, (kind, id), queue);
        if let Err(error) = self.emitter.emit(event) {
            tracing::error!(%queue, id, action, %error, "a decision is not told of");
        }
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").field("log", &self.log).finish_non_exhaustive()
    }
}
