use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use super::made::{Said, partition};
use super::{Decision, Lift};
use crate::event::Timestamp;
use crate::log::{Batch, Error, EventLog, Keeper, Partition, Record, Scan, TopicSpec, keep};

/// The topic of decisions: compacted.
pub const TOPIC: &str = "weir.decisions";
/// How long a decision that ended is kept.
pub const KEPT: Duration = Duration::from_hours(7 * 24);
/// How many are forgotten at once.
const FORGOTTEN_MAX: usize = 500;
/// How long to wait until what was written shows.
const SHOWN_WITHIN: Duration = Duration::from_secs(5);
/// How often to look whether it does.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// The decisions that there are, read from their topic. Cheap to clone; clones are the same.
#[derive(Debug, Clone)]
pub struct Decisions {
    now: Arc<Mutex<Now>>,
    changes: Arc<watch::Sender<()>>,
}

#[derive(Debug, Default)]
struct Now {
    made: BTreeMap<String, Decision>,
    lifted: BTreeMap<String, Lift>,
    /// What stands before this offset is known.
    next: u64,
}

impl Default for Decisions {
    /// None, until a topic is followed.
    fn default() -> Self {
        Self { now: Arc::default(), changes: Arc::new(watch::Sender::new(())) }
    }
}

impl Decisions {
    /// Those that the topic has now; it is made, if it is not there.
    ///
    /// # Errors
    /// Of the log.
    pub async fn open(log: &dyn EventLog) -> Result<Self, Error> {
        log.create_topic(&TopicSpec::compacted(TOPIC, 1)).await?;
        let decisions = Self::default();
        decisions.catch_up(log).await?;
        Ok(decisions)
    }

    /// Takes in all that the topic has now, at once.
    ///
    /// # Errors
    /// Of the log.
    pub async fn catch_up(&self, log: &dyn EventLog) -> Result<(), Error> {
        let mut scan = Scan::open(log, [partition()]).await?;
        let end = scan.ends().get(&partition()).copied().unwrap_or(0);
        let mut read = Now::default();
        while let Some(batch) = scan.next().await? {
            read.take(&batch.records);
        }
        read.next = read.next.max(end);
        {
            let mut now = self.now.lock();
            if now.next < read.next {
                *now = read;
            }
        }
        self.changes.send_replace(());
        Ok(())
    }

    /// Follows the topic until it is told to stop.
    pub async fn follow(self, log: Arc<dyn EventLog>, stop: watch::Receiver<bool>) {
        keep(self, log, stop).await;
    }

    /// A decision, and whether it was taken back.
    pub fn get(&self, id: &str) -> Option<(Decision, Option<Lift>)> {
        let now = self.now.lock();
        Some((now.made.get(id)?.clone(), now.lifted.get(id).cloned()))
    }

    /// All of them, with who took them back.
    pub fn all(&self) -> Vec<(Decision, Option<Lift>)> {
        let now = self.now.lock();
        now.made.iter().map(|(id, of)| (of.clone(), now.lifted.get(id).cloned())).collect()
    }

    /// Those that are neither lifted nor over, and that one asks for.
    pub fn held(&self, at: Timestamp, is_asked: impl Fn(&Decision) -> bool) -> Vec<Decision> {
        let now = self.now.lock();
        let holds = |(id, of): &(&String, &Decision)| {
            of.until > at && is_asked(of) && !now.lifted.contains_key(*id)
        };
        now.made.iter().filter(holds).map(|(_, of)| of.clone()).collect()
    }

    /// The ids of those that ended so long ago that they are to be forgotten, 500 at most. One that
    /// was lifted is kept until it would have ended.
    pub fn old(&self, at: Timestamp) -> Vec<String> {
        let now = self.now.lock();
        let old = now.made.iter().filter(|(_, of)| of.until.after(KEPT) <= at);
        old.map(|(id, _)| id.clone()).take(FORGOTTEN_MAX).collect()
    }

    /// Notes what this node has just written and had committed, before it is read.
    pub fn note(&self, decision: &Decision) {
        self.now.lock().made.insert(decision.id.clone(), decision.clone());
        self.changes.send_replace(());
    }

    /// Tells when they have changed.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Waits until the topic was read up to an offset, exclusive: for five seconds at most.
    /// Answers whether it was.
    pub async fn read_to(&self, end: u64) -> bool {
        let began = Instant::now();
        while self.now.lock().next < end {
            if began.elapsed() > SHOWN_WITHIN {
                return false;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        true
    }
}

impl Keeper for Decisions {
    const WHAT: &str = "decisions";

    fn partitions(&self) -> Vec<(Partition, Option<u64>)> {
        vec![(partition(), Some(self.now.lock().next))]
    }

    fn take(&self, batch: &Batch) {
        {
            let mut now = self.now.lock();
            now.take(&batch.records);
            now.next = now.next.max(batch.next);
        }
        self.changes.send_replace(());
    }
}

impl Now {
    fn take(&mut self, records: &[Record]) {
        for record in records.iter().filter(|record| record.offset >= self.next) {
            match Said::read(record) {
                Ok(Said::Made(id, Some(decision))) => drop(self.made.insert(id, *decision)),
                Ok(Said::Made(id, None)) => drop(self.made.remove(&id)),
                Ok(Said::Lifted(id, Some(lift))) => drop(self.lifted.insert(id, lift)),
                Ok(Said::Lifted(id, None)) => drop(self.lifted.remove(&id)),
                Err(error) => {
                    tracing::error!(offset = record.offset, error, "a record is no decision");
                }
            }
        }
    }
}
