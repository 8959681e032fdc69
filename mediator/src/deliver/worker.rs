//! The worker of a queue: one member of its group, and an owner for each partition
//! that the group gives it.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ingest::emit::Emitter;
use ingest::event::Clock;
use ingest::log::{Error, EventLog, Member, Membership, Partition, Polled, ReadLimit};
use ingest::registry::{Name, View};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::control::Controls;
use super::owner::{Command, Owning, own};
use super::schedule::Keeper;
use super::status::QueueStatus;
use super::topics::Topics;
use super::turns::Turns;
use super::{Config, Queues};
use crate::endpoint::http::Caller;

/// How many batches may wait for their owner. With the one that is loaded as the window
/// becomes full, and the one that the worker has in hand, a window overruns its bound by
/// three.
const BATCHES_MAX: usize = 1;
/// After how long it is a fault that what was decided is not read.
const TELL_UNREAD_AFTER: Duration = Duration::from_secs(5);
/// How long a release may take besides the attempts: its commit.
const RELEASE_PATIENCE: Duration = Duration::from_secs(12);

/// What deliveries work with.
#[derive(Clone)]
pub struct Parts {
    /// The log of the queues.
    pub log: Arc<dyn EventLog>,
    /// The queues and upstreams.
    pub view: View,
    /// Who calls the targets.
    pub caller: Caller,
    /// Who tells of attempts. It refuses when full; one that drops would let
    /// deliveries go untold.
    pub emitter: Emitter,
    /// What attempts are due by.
    pub clock: Arc<dyn Clock>,
    /// Who takes messages on this node, and is told where no more are.
    pub queues: Queues,
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").field("log", &self.log).finish_non_exhaustive()
    }
}

/// What a queue's worker, owners and attempts share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) queue: Name,
    pub(super) topics: Topics,
    pub(super) parts: Parts,
    pub(super) config: Config,
    pub(super) turns: Turns,
    pub(super) status: Arc<Mutex<QueueStatus>>,
    pub(super) controls: Controls,
}

/// A partition that was given to this worker.
#[derive(Debug)]
struct Owned {
    commands: mpsc::Sender<Command>,
    has_room: Arc<AtomicBool>,
    is_paused: bool,
    task: JoinHandle<Result<(), Error>>,
}

impl Drop for Owned {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Works until it is told to stop. A failure of the log ends the membership and
/// all attempts; what was not committed is attempted again.
pub(super) async fn run(
    queue: Name,
    partitions: u32,
    (parts, config): (Parts, Config),
    (turns, status): (Turns, Arc<Mutex<QueueStatus>>),
    mut controls: Controls,
    mut stop: watch::Receiver<bool>,
) {
    let mut pause = config.retry_delay_min;
    // Nothing is attempted before it is known what was decided.
    loop {
        tokio::select! {
            _ = controls.wait_for(Option::is_some) => break,
            _ = stop.wait_for(|stop| *stop) => return,
            () = sleep(TELL_UNREAD_AFTER) => {
                let fault = "what was decided of queues cannot be read";
                status.lock().fault = Some(fault.to_owned());
            }
        }
    }
    while !*stop.borrow() {
        let worked = async {
            let topics = Topics::prepare(&*parts.log, &queue, partitions).await?;
            let (queue, parts, config) = (queue.clone(), parts.clone(), config.clone());
            let (turns, status, controls) = (turns.clone(), status.clone(), controls.clone());
            let shared = Shared { queue, topics, parts, config, turns, status, controls };
            work(Arc::new(shared), &stop, &mut pause).await
        };
        let Err(error) = Box::pin(worked).await else { return };
        tracing::warn!(%queue, %error, ?pause, "deliveries stopped; starting them anew");
        {
            let mut status = status.lock();
            status.fault = Some(error.to_string());
            status.partitions.clear();
        }
        // Others have its partitions, and its part of the rates.
        turns.set_owned(0);
        let _ = timeout(pause, stop.wait_for(|stop| *stop)).await;
        pause = (2 * pause).min(config.retry_delay_max);
    }
}

async fn work(
    shared: Arc<Shared>,
    stop: &watch::Receiver<bool>,
    pause: &mut Duration,
) -> Result<(), Error> {
    let topics = &shared.topics;
    let member = shared.parts.log.join(topics.group(), &[&topics.messages]).await?;
    let (membership, _) = watch::channel(member.membership());
    let (owned, keeper) = (HashMap::new(), Keeper::start(shared.clone()));
    let mut worker = Worker { shared: shared.clone(), member, membership, owned, keeper };
    let worked = worker.poll_until(stop, pause).await;
    if worked.is_ok() {
        worker.release(None).await;
    }
    // Attempts end before somebody else may begin.
    worker.owned.clear();
    let left = worker.member.leave().await;
    worked.and(left)
}

struct Worker {
    shared: Arc<Shared>,
    member: Box<dyn Member>,
    membership: watch::Sender<Membership>,
    owned: HashMap<u32, Owned>,
    /// Of what is scheduled for the partitions that are owned.
    keeper: Keeper,
}

impl Worker {
    async fn poll_until(
        &mut self,
        stop: &watch::Receiver<bool>,
        pause: &mut Duration,
    ) -> Result<(), Error> {
        let Config { read_bytes, poll_wait, retry_delay_min, .. } = self.shared.config;
        let limit = ReadLimit { bytes: read_bytes, wait: poll_wait };
        while !*stop.borrow() {
            self.look_after_owners().await?;
            let polled = self.member.poll(limit).await?;
            // Before anything is released: its last commit needs the membership that
            // the rebalance has made.
            self.membership.send_replace(self.member.membership());
            match polled {
                Polled::Assigned(assigned) => self.take(assigned)?,
                Polled::Revoked(revoked) => self.release(Some(&revoked)).await,
                Polled::Lost(lost) => {
                    for partition in &lost {
                        self.owned.remove(&partition.index);
                        self.shared.status.lock().partitions.remove(&partition.index);
                    }
                    // Nobody waits for it: the partitions are another's already.
                    drop(self.keep());
                }
                Polled::Records(batch) => {
                    let (index, next) = (batch.partition.index, batch.next);
                    let records = Command::Records { records: batch.records, next };
                    if let Some(owned) = self.owned.get(&index) {
                        // One that has ended is found with the next look.
                        let _ = owned.commands.send(records).await;
                    }
                    *pause = retry_delay_min;
                }
                Polled::Idle => {}
            }
            let Shared { turns, status, .. } = &*self.shared;
            turns.set_owned(self.owned.len());
            status.lock().fault = None;
        }
        Ok(())
    }

    /// Finds out whether an owner has failed, and whose window has room.
    async fn look_after_owners(&mut self) -> Result<(), Error> {
        if let Some(error) = self.keeper.failure().await {
            return Err(error);
        }
        for (index, owned) in &mut self.owned {
            if owned.task.is_finished() {
                let ended = (&mut owned.task).await;
                let error =
                    ended.map_or(Error::Closed, |ended| ended.err().unwrap_or(Error::Closed));
                return Err(error);
            }
            let partition = [self.shared.topics.messages(*index)];
            let has_room = owned.has_room.load(Ordering::Acquire);
            if has_room == owned.is_paused {
                match has_room {
                    true => self.member.resume(&partition)?,
                    false => self.member.pause(&partition)?,
                }
                owned.is_paused = !has_room;
            }
        }
        Ok(())
    }

    fn take(&mut self, assigned: Vec<(Partition, u64)>) -> Result<(), Error> {
        // Nothing is read before its owner knows where to begin.
        let partitions: Vec<_> = assigned.iter().map(|(partition, _)| partition.clone()).collect();
        self.member.pause(&partitions)?;
        for (partition, from) in assigned {
            let (sender, commands) = mpsc::channel(BATCHES_MAX);
            let has_room = Arc::new(AtomicBool::new(false));
            let owning = Owning {
                shared: self.shared.clone(),
                partition: partition.index,
                from,
                commands,
                membership: self.membership.subscribe(),
                controls: self.shared.controls.clone(),
                has_room: has_room.clone(),
            };
            let task = tokio::spawn(own(owning));
            let owned = Owned { commands: sender, has_room, is_paused: true, task };
            self.owned.insert(partition.index, owned);
        }
        drop(self.keep());
        Ok(())
    }

    /// What is scheduled is kept for what is owned now; ends when it is so.
    fn keep(&self) -> oneshot::Receiver<()> {
        self.keeper.keep(self.owned.keys().copied().collect())
    }

    /// Gives partitions up, all of them if none are named: attempts end, and what
    /// they came to is committed.
    async fn release(&mut self, partitions: Option<&[Partition]>) {
        let indexes: Vec<u32> = match partitions {
            Some(partitions) => partitions.iter().map(|partition| partition.index).collect(),
            None => self.owned.keys().copied().collect(),
        };
        let going: Vec<Owned> =
            indexes.iter().filter_map(|index| self.owned.remove(index)).collect();
        let kept = self.keep();
        let mut released = Vec::with_capacity(going.len());
        for owned in &going {
            let (sender, receiver) = oneshot::channel();
            if owned.commands.send(Command::Release(sender)).await.is_ok() {
                released.push(receiver);
            }
        }
        let patience = self.shared.config.release_timeout + RELEASE_PATIENCE;
        let all = async {
            // One that failed answers nothing.
            let _ = kept.await;
            for receiver in released {
                let _ = receiver.await;
            }
        };
        if timeout(patience, all).await.is_err() {
            let queue = self.shared.queue.as_str();
            tracing::warn!(queue, "partitions were given up without their last commit");
        }
    }
}
