use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, Cache};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::entity::END_KEY;
use super::load::{Loaded, load};
use super::replica::Replica;
use super::{Digest, Error, Snapshot, Topics};
use crate::log::{EventLog, Partition, ReadLimit, Record};

/// How long the follower waits before it reads everything anew after a failure;
/// doubled while what it reads is not whole, up to the second.
const RELOAD_AFTER: Duration = Duration::from_secs(1);
const RELOAD_AFTER_MAX: Duration = Duration::from_secs(30);
/// How often the follower asks, while nothing comes, whether there is something.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// A node's picture of the registry, in memory, kept up to date.
///
/// It always reads from the start of the topic, when it opens and after every
/// failure, so that no removal can have been compacted away unseen: a node
/// that was away longer than tombstones live starts anew like any other.
///
/// Following stops when the last clone is dropped.
#[derive(Debug, Clone)]
pub struct View {
    current: Arc<ArcSwap<Snapshot>>,
    status: watch::Receiver<Status>,
    _follower: Arc<Follower>,
}

/// What a view shows, and whether it is up to date.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The revision that is shown.
    pub revision: u64,
    /// Its hash.
    pub config_hash: Digest,
    /// Why nothing newer is shown, though there may be something: the log cannot
    /// be read, or what it holds is not whole. The last good snapshot stays.
    pub fault: Option<String>,
}

/// Reads the current snapshot at the cost of one atomic load and a comparison.
///
/// Each thread keeps its own. It holds on to the snapshot it read last, also when
/// a newer one is there, until it reads again.
#[derive(Debug, Clone)]
pub struct SnapshotReader(Cache<Arc<ArcSwap<Snapshot>>, Arc<Snapshot>>);

impl SnapshotReader {
    /// The current snapshot. One request reads it once, so that it sees one
    /// configuration from its beginning to its end.
    pub fn load(&mut self) -> &Arc<Snapshot> {
        self.0.load()
    }
}

impl View {
    /// Makes the topics, loads the registry and goes on following it.
    ///
    /// # Errors
    /// [`Error::Log`]; [`Error::Unread`] if the log does not give what it holds;
    /// [`Error::Damaged`] if what is there is not whole. A node does not start
    /// with less than there is, such as without its deny rules.
    pub async fn open(log: Arc<dyn EventLog>, topics: Topics) -> Result<Self, Error> {
        topics.create(&*log).await?;
        let mut loaded = load(&*log, &topics.entities).await?;
        let damaged = |detail| Error::damaged(&topics.entities, detail);
        let snapshot = loaded.replica.whole().map_err(damaged)?.clone();
        Ok(Self::following(log, topics, snapshot, None, Some(loaded)))
    }

    /// Shows what was kept from before, and says so as a fault, until the log can be
    /// read. The topics are there.
    pub fn resume(log: Arc<dyn EventLog>, topics: Topics, kept: Snapshot) -> Self {
        let fault = "the log was not reached yet; this is what it held before".to_owned();
        Self::following(log, topics, kept, Some(fault), None)
    }

    fn following(
        log: Arc<dyn EventLog>,
        topics: Topics,
        snapshot: Snapshot,
        fault: Option<String>,
        loaded: Option<Loaded>,
    ) -> Self {
        let (status_sender, status) = watch::channel(Status::of(&snapshot, fault));
        let current = Arc::new(ArcSwap::from_pointee(snapshot));
        let publisher = Publisher { current: current.clone(), status: status_sender };
        let task = tokio::spawn(follow(log, topics, publisher, loaded));
        Self { current, status, _follower: Arc::new(Follower(task)) }
    }

    /// The current snapshot.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// For a hot path: see [`SnapshotReader`].
    pub fn reader(&self) -> SnapshotReader {
        SnapshotReader(Cache::new(self.current.clone()))
    }

    /// Tells when the snapshot or its status has changed. What is told of is
    /// already to be had from [`View::snapshot`]; who is slow is told of the last.
    pub fn changes(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// What is shown, and whether it is up to date.
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// Waits until a revision is shown, as a verdict names it. That may be never:
    /// the caller sets a timeout, and finds the reason in [`View::status`].
    ///
    /// # Errors
    /// If following has stopped, as the runtime is going down.
    pub async fn wait_for(&self, revision: u64) -> Result<Arc<Snapshot>, watch::error::RecvError> {
        self.changes().wait_for(|status| status.revision >= revision).await?;
        Ok(self.snapshot())
    }
}

impl Status {
    fn of(snapshot: &Snapshot, fault: Option<String>) -> Self {
        Self { revision: snapshot.revision, config_hash: snapshot.config_hash, fault }
    }
}

/// Ends the task with the last view.
#[derive(Debug)]
struct Follower(JoinHandle<()>);

impl Drop for Follower {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Publisher {
    current: Arc<ArcSwap<Snapshot>>,
    status: watch::Sender<Status>,
}

impl Publisher {
    /// Shows a snapshot. Never goes back: an older one means that not everything
    /// could be read yet, or that the log is an older copy and nodes must restart.
    fn publish(&self, snapshot: &Snapshot) {
        let (found, shown) = (snapshot.revision, self.status.borrow().revision);
        if found < shown {
            return self.keep(format!("the log shows revision {found}, older than {shown}"));
        }
        self.current.store(Arc::new(snapshot.clone()));
        self.status.send_replace(Status::of(snapshot, None));
    }

    /// Shows it if there was a fault until now.
    fn recover(&self, snapshot: &Snapshot) {
        let was_at_fault = self.status.borrow().fault.is_some();
        if was_at_fault {
            self.publish(snapshot);
        }
    }

    /// Keeps what is shown, and says why.
    fn keep(&self, fault: String) {
        if self.status.borrow().fault.as_ref() == Some(&fault) {
            return;
        }
        tracing::error!(fault, "registry not up to date; the last good configuration stays");
        self.status.send_modify(|status| status.fault = Some(fault));
    }
}

/// Follows for ever, from what was loaded on. After a failure everything is read anew.
async fn follow(
    log: Arc<dyn EventLog>,
    topics: Topics,
    publisher: Publisher,
    mut loaded: Option<Loaded>,
) {
    let mut pause = RELOAD_AFTER;
    loop {
        if let Some(loaded) = &mut loaded {
            let Err(fault) = follow_reader(&*log, &topics.entities, loaded, &publisher).await;
            publisher.keep(fault);
        }
        tokio::time::sleep(pause).await;
        pause = (2 * pause).min(RELOAD_AFTER_MAX);
        match load(&*log, &topics.entities).await {
            Ok(mut anew) => {
                if let Ok(snapshot) = anew.replica.whole() {
                    pause = RELOAD_AFTER;
                    publisher.publish(snapshot);
                }
                loaded = Some(anew);
            }
            Err(error) => {
                publisher.keep(error.to_string());
                loaded = None;
            }
        }
    }
}

/// Publishes a snapshot where a change set ends and the content is whole; of the
/// sets that end in one batch the last. While nothing comes it looks whether that
/// is so because there is nothing.
async fn follow_reader(
    log: &dyn EventLog,
    partition: &Partition,
    loaded: &mut Loaded,
    publisher: &Publisher,
) -> Result<std::convert::Infallible, String> {
    let mut looked = Instant::now();
    let mut is_behind = false;
    loop {
        let limit = ReadLimit::default();
        if let Some(batch) = loaded.reader.next(limit).await.map_err(|error| error.to_string())? {
            take(&mut loaded.replica, &batch.records, publisher).await;
            // A mark may follow, which no reader sees.
            loaded.end = loaded.end.max(batch.next + 1);
            is_behind = false;
            continue;
        }
        // Everything is read: what is not whole now does not become so by reading on.
        let snapshot = loaded.replica.whole()?;
        if looked.elapsed() < LOOK_EVERY {
            continue;
        }
        looked = Instant::now();
        match log.bounds(partition).await {
            Err(error) => publisher.keep(format!("the log cannot be reached: {error}")),
            Ok(bounds) if bounds.end <= loaded.end => {
                is_behind = false;
                publisher.recover(snapshot);
            }
            // Loading anew tells a reader that is stuck from marks and what was aborted.
            Ok(bounds) if is_behind => {
                return Err(format!("nothing comes from the log, which ends at {}", bounds.end));
            }
            Ok(_) => is_behind = true,
        }
    }
}

async fn take(replica: &mut Replica, records: &[Record], publisher: &Publisher) {
    let is_end = |record: &Record| record.key.as_deref() == Some(END_KEY);
    let ended = records.iter().rposition(is_end).map_or(0, |last| last + 1);
    let (ended, begun) = records.split_at(ended);
    for record in ended {
        replica.take(record);
    }
    if !ended.is_empty() {
        replica.hash().await;
        if let Ok(snapshot) = replica.whole() {
            publisher.publish(snapshot);
        }
    }
    for record in begun {
        replica.take(record);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::embedded::EmbeddedLog;
    use crate::registry::Applier;
    use crate::registry::flaky::{FlakyLog, Stall};
    use crate::registry::tests::set_called;

    #[tokio::test(start_paused = true)]
    async fn a_view_tells_that_its_log_is_out_of_reach_or_stuck_and_recovers() {
        let log: Arc<dyn EventLog> = Arc::new(EmbeddedLog::in_memory());
        let topics = Topics::default();
        let mut applier = Applier::open(&log, topics.clone()).await.unwrap();
        let flaky = FlakyLog::stalling(log.clone(), Stall::default());
        let view = View::open(Arc::new(flaky.clone()), topics.clone()).await.unwrap();
        let mut changes = view.changes();

        flaky.set_out_of_reach(true);
        changes.wait_for(|status| status.fault.is_some()).await.unwrap();
        flaky.set_out_of_reach(false);
        changes.wait_for(|status| status.fault.is_none()).await.unwrap();

        flaky.stall(Stall { after: 0, reads: usize::MAX });
        let set = set_called("s1", r#"+ tier/gold {"burst_requests_max": 5}"#);
        log.append(vec![(topics.proposals.clone(), set.encode())]).await.unwrap();
        applier.step(LOOK_EVERY).await.unwrap();
        let stuck = changes.wait_for(|status| status.fault.is_some()).await.unwrap().clone();
        assert!(stuck.fault.unwrap().starts_with("nothing comes from the log"));
        assert_eq!(view.status().revision, 0);
        flaky.stall(Stall::default());
        let shown = view.wait_for(1).await.unwrap();
        assert_eq!((shown.revision(), view.status().fault), (1, None));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_kept_is_shown_until_the_log_is_reached() {
        let log: Arc<dyn EventLog> = Arc::new(EmbeddedLog::in_memory());
        let topics = Topics::default();
        let mut applier = Applier::open(&log, topics.clone()).await.unwrap();
        let mut apply = async |id, change| {
            let set = set_called(id, change);
            log.append(vec![(topics.proposals.clone(), set.encode())]).await.unwrap();
            applier.step(LOOK_EVERY).await.unwrap();
        };
        apply("s1", r#"+ tier/gold {"burst_requests_max": 5}"#).await;
        let kept = View::open(log.clone(), topics.clone()).await.unwrap().snapshot();
        apply("s2", r#"+ tier/silver {"burst_requests_max": 5}"#).await;

        let flaky = FlakyLog::stalling(log.clone(), Stall::default());
        flaky.set_out_of_reach(true);
        let view = View::resume(Arc::new(flaky.clone()), topics.clone(), (*kept).clone());
        tokio::time::sleep(Duration::from_secs(120)).await;
        assert_eq!(view.snapshot(), kept);
        assert!(view.status().fault.is_some());
        flaky.set_out_of_reach(false);
        let shown = view.wait_for(2).await.unwrap();
        assert_eq!((shown.entities().len(), view.status().fault), (2, None));
    }
}
