//! The keeper of a queue's scheduled messages, on the node that owns their partitions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use fail::fail_point;
use ingest::event::{Event, Timestamp};
use ingest::log::{Error, ReadLimit, Reader, Record};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::calendar::{Calendar, Place, Taken};
use super::moved::Leaving;
use super::soonest::Soonest;
use super::{gone, read};
use crate::deliver::control;
use crate::deliver::stored::Message;
use crate::deliver::worker::Shared;

/// How many messages move at a time, and of how many bytes.
const MOVED_MAX: usize = 500;
const MOVED_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The longest wait, since the clock may be set.
const WAIT_MAX: Duration = Duration::from_millis(500);
/// How long a read waits, until everything that was there is read.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long reading has between two moves.
const READ_TIME: Duration = Duration::from_millis(5);
/// The pause while the spool of events is full.
const SPOOL_PAUSE: Duration = Duration::from_millis(100);

/// Keeps what is scheduled for the partitions that a worker owns.
#[derive(Debug)]
pub(in crate::deliver) struct Keeper {
    commands: mpsc::UnboundedSender<Command>,
    task: JoinHandle<Result<(), Error>>,
}

/// From now on these partitions, and no others; told when it is so.
type Command = (BTreeSet<u32>, oneshot::Sender<()>);

impl Keeper {
    pub(in crate::deliver) fn start(shared: Arc<Shared>) -> Self {
        let (commands, received) = mpsc::unbounded_channel();
        let keeping = Keeping { shared, partitions: BTreeMap::new(), reader: None };
        Self { commands, task: tokio::spawn(keeping.run(received)) }
    }

    /// Keeps these partitions from now on, and no others. What is answered ends when nothing
    /// moves any more of one that is given up.
    pub(in crate::deliver) fn keep(&self, partitions: BTreeSet<u32>) -> oneshot::Receiver<()> {
        let (done, receiver) = oneshot::channel();
        // One that has ended keeps nothing.
        let _ = self.commands.send((partitions, done));
        receiver
    }

    /// Why it has ended, if it has.
    pub(in crate::deliver) async fn failure(&mut self) -> Option<Error> {
        if !self.task.is_finished() {
            return None;
        }
        let ended = (&mut self.task).await;
        Some(ended.map_or(Error::Closed, |ended| ended.err().unwrap_or(Error::Closed)))
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Keeping {
    shared: Arc<Shared>,
    partitions: BTreeMap<u32, Kept>,
    /// None while nothing is kept.
    reader: Option<Box<dyn Reader>>,
}

/// What is kept of a partition.
struct Kept {
    /// Where its reading goes on.
    next: u64,
    /// Where the partition ended when it came to be kept.
    end: u64,
    is_loaded: bool,
    calendar: Calendar,
    soonest: Soonest,
    /// Decisions that came too late, which are taken out of the topic.
    late: Vec<String>,
    /// What all nodes were told; none before they were by this keeper.
    is_full: Option<bool>,
}

impl Kept {
    fn take(&mut self, record: &Record) {
        let Some((id, said)) = read(record) else {
            tracing::error!(offset = record.offset, "a record schedules nothing");
            return;
        };
        let message = Message::of(record);
        match self.calendar.take(id, (record.offset, message.bytes()), said) {
            Taken::Waits(due) => self.soonest.keep((due, record.offset), message),
            Taken::Late => self.late.push(id.to_owned()),
            Taken::Gone => {}
        }
    }

    fn due(&self, now: Timestamp) -> Vec<Place> {
        let soonest = self.calendar.soonest(MOVED_MAX, MOVED_BYTES_MAX);
        soonest.take_while(|(due, _)| *due <= now).collect()
    }
}

impl Keeping {
    /// Until nobody commands any more.
    async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>) -> Result<(), Error> {
        loop {
            // However much is due, reading goes on: what is due sooner may be there.
            let wait = self.wait().max(READ_TIME);
            // What ends in no record is seen to end when nothing comes.
            let is_loaded = self.partitions.values().all(|kept| kept.is_loaded);
            let longest = if is_loaded { WAIT_MAX } else { LOOK_EVERY };
            let limit = ReadLimit { wait: longest, ..ReadLimit::default() };
            tokio::select! {
                biased;
                command = commands.recv() => {
                    let Some((partitions, done)) = command else { return Ok(()) };
                    self.keep(&partitions).await?;
                    // Who has asked may have gone.
                    let _ = done.send(());
                }
                batch = next(&mut self.reader, limit) => {
                    let batch = batch?;
                    if let Some(batch) = &batch
                        && let Some(kept) = self.partitions.get_mut(&batch.partition.index)
                    {
                        batch.records.iter().for_each(|record| kept.take(record));
                        kept.next = batch.next;
                    }
                }
                () = sleep(wait) => {}
            }
            self.look_for_ends();
            self.move_due().await?;
        }
    }

    async fn keep(&mut self, partitions: &BTreeSet<u32>) -> Result<(), Error> {
        let Shared { topics, parts, .. } = &*self.shared;
        self.partitions.retain(|index, _| partitions.contains(index));
        for index in partitions {
            if !self.partitions.contains_key(index) {
                let bounds = parts.log.bounds(&topics.scheduled(*index)).await?;
                let (next, end) = (bounds.first, bounds.end);
                let (calendar, soonest) = (Calendar::default(), Soonest::default());
                let kept = Kept {
                    next,
                    end,
                    is_loaded: false,
                    calendar,
                    soonest,
                    late: Vec::new(),
                    is_full: None,
                };
                self.partitions.insert(*index, kept);
            }
        }
        let from: Vec<_> = self
            .partitions
            .iter()
            .map(|(index, kept)| (topics.scheduled(*index), kept.next))
            .collect();
        self.reader = match from.is_empty() {
            true => None,
            false => Some(parts.log.reader(from).await?),
        };
        self.show();
        Ok(())
    }

    /// Finds out which partitions have been read to their end.
    fn look_for_ends(&mut self) {
        let Some(reader) = &self.reader else { return };
        for (index, kept) in self.partitions.iter_mut().filter(|(_, kept)| !kept.is_loaded) {
            let scheduled = self.shared.topics.scheduled(*index);
            kept.is_loaded = kept.next >= kept.end || reader.has_reached(&scheduled, kept.end);
        }
        self.show();
    }

    /// How long until something is due.
    fn wait(&self) -> Duration {
        let loaded = self.partitions.values().filter(|kept| kept.is_loaded);
        let Some(next) = loaded.filter_map(|kept| kept.calendar.next()).min() else {
            return WAIT_MAX;
        };
        let micros = next.as_micros() - self.shared.parts.clock.now().as_micros();
        Duration::from_micros(u64::try_from(micros).unwrap_or(0)).min(WAIT_MAX)
    }

    async fn move_due(&mut self) -> Result<(), Error> {
        let shared = self.shared.clone();
        for (index, kept) in &mut self.partitions {
            if kept.is_loaded {
                move_due_of(&shared, *index, kept).await?;
                tell_whether_full(&shared, *index, kept).await?;
            }
        }
        self.show();
        Ok(())
    }

    fn show(&self) {
        let loaded = self.partitions.iter().filter(|(_, kept)| kept.is_loaded);
        let counts = loaded.map(|(index, kept)| (*index, kept.calendar.len() as u64)).collect();
        self.shared.status.lock().scheduled = counts;
    }
}

async fn next(
    reader: &mut Option<Box<dyn Reader>>,
    limit: ReadLimit,
) -> Result<Option<ingest::log::Batch>, Error> {
    match reader {
        Some(reader) => reader.next(limit).await,
        None => std::future::pending().await,
    }
}

/// Into the queue first, then told of, then out of the topic: what is killed between does it
/// again, under the same ids.
async fn move_due_of(shared: &Shared, index: u32, kept: &mut Kept) -> Result<(), Error> {
    let Shared { queue, topics, parts, .. } = shared;
    let (log, from) = (&parts.log, topics.scheduled(index));
    let due = kept.due(parts.clock.now());
    let mut messages = BTreeMap::new();
    for place in &due {
        if kept.soonest.take(*place).map(|of| messages.insert(*place, of)).is_none() {
            kept.soonest.fill(&kept.calendar, &**log, &from).await?;
            let Some(message) = kept.soonest.take(*place) else {
                let detail = "a scheduled message is gone".to_owned();
                return Err(Error::Damaged { file: from.to_string(), position: place.1, detail });
            };
            messages.insert(*place, message);
        }
    }
    let now = parts.clock.now();
    let leaving: Vec<Leaving> = messages.values().map(|of| Leaving::of(of, now)).collect();
    let mut out: Vec<_> = leaving.iter().map(|of| (from.clone(), gone(&of.id))).collect();
    if !leaving.is_empty() {
        let to = |of: &Leaving| match of.is_given_up {
            true => topics.dead(index),
            false => topics.messages(index),
        };
        let appended = log.append(leaving.iter().map(|of| (to(of), of.record())).collect()).await?;
        fail_point!("schedule::moved");
        let told = leaving.iter().zip(&appended);
        let mut events: Vec<Event> =
            told.map(|(of, to)| of.event(queue, &parts.emitter, to)).collect();
        let mut is_told = false;
        while let Err(error) = parts.emitter.emit_all(&mut events) {
            if !std::mem::replace(&mut is_told, true) {
                tracing::warn!(%queue, %error, "scheduled messages wait for the events' spool");
            }
            sleep(SPOOL_PAUSE).await;
        }
    }
    if !leaving.is_empty() {
        fail_point!("schedule::told");
    }
    kept.late.retain(|id| !kept.calendar.knows(id));
    out.extend(kept.late.iter().map(|id| (from.clone(), gone(id))));
    if !out.is_empty() {
        log.append(out).await?;
        kept.late.clear();
    }
    messages.into_keys().for_each(|place| kept.calendar.end(place));
    Ok(())
}

/// Tells all nodes that a partition is full, and that it has room again once a tenth has gone.
async fn tell_whether_full(shared: &Shared, index: u32, kept: &mut Kept) -> Result<(), Error> {
    let (queue, max) = (&shared.queue, shared.config.scheduled_max);
    let told = kept.is_full.unwrap_or_else(|| {
        let known = shared.controls.borrow().clone();
        known.is_some_and(|all| control::is_full(&all, queue, index))
    });
    let count = kept.calendar.len();
    let is_full = if told { count > max - max / 10 } else { count >= max };
    if is_full != told {
        shared.parts.log.append(vec![control::full_record(queue, index, is_full)]).await?;
        tracing::warn!(%queue, partition = index, count, is_full, "a schedule's room has changed");
    }
    kept.is_full = Some(is_full);
    Ok(())
}
