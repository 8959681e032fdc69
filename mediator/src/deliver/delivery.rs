//! The workers of all queues, started and stopped as the registry says.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use ingest::log::{EventLog, Partition};
use ingest::registry::kind::{Queue, Upstream};
use ingest::registry::{Name, Snapshot};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::control::{self, Controls};
use super::limit::Limit;
use super::status::QueueStatus;
use super::tell::tell;
use super::turns::Turns;
use super::{Config, Parts, worker};

/// Delivers the messages of every queue of the registry, until it is shut down.
/// Dropped without, it breaks off; nothing is lost, some is attempted again.
pub struct Delivery {
    parts: Parts,
    workers: Arc<Mutex<BTreeMap<Name, Worker>>>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
    telling: JoinHandle<()>,
    controlling: JoinHandle<()>,
}

#[derive(Debug)]
pub(super) struct Worker {
    turns: Turns,
    status: Arc<Mutex<QueueStatus>>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Delivery {
    /// Starts a worker for each queue, now and when the registry gets one. What
    /// changes in a queue or its upstream counts from the next attempt on; the
    /// worker of a queue that is removed stops, and its messages stay.
    pub fn start(config: Config, parts: Parts) -> Self {
        let workers = Arc::new(Mutex::new(BTreeMap::new()));
        let (stop, stopping) = watch::channel(false);
        let telling = tokio::spawn(tell(parts.clone(), workers.clone(), stopping.clone()));
        let (decided, controls) = watch::channel(None);
        parts.queues.heed(controls.clone());
        let controlling = tokio::spawn(control::follow(parts.log.clone(), decided));
        let with = (config, parts.clone(), controls);
        let task = tokio::spawn(follow(with, workers.clone(), stopping));
        Self { parts, workers, stop, task, telling, controlling }
    }

    /// Starts no more attempts, gives those under way their time, commits, and
    /// hands the partitions over.
    pub async fn shutdown(mut self) {
        self.stop.send_replace(true);
        // It ends with its workers; a panic of it has ended them already.
        let _ = (&mut self.task).await;
    }

    /// How far every queue is on this node.
    pub async fn status(&self) -> Vec<QueueStatus> {
        statuses(&self.parts.log, &self.workers).await
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.task.abort();
        self.telling.abort();
        self.controlling.abort();
        self.workers.lock().clear();
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery").field("workers", &*self.workers.lock()).finish_non_exhaustive()
    }
}

pub(super) type Workers = Arc<Mutex<BTreeMap<Name, Worker>>>;

/// How far every queue is on this node, with where its partitions end.
pub(super) async fn statuses(log: &Arc<dyn EventLog>, workers: &Workers) -> Vec<QueueStatus> {
    let mut all: Vec<QueueStatus> =
        workers.lock().values().map(|worker| worker.status.lock().clone()).collect();
    for QueueStatus { queue, partitions, .. } in &mut all {
        for (index, status) in partitions {
            let partition = Partition::new(format!("weir.queue.{queue}"), *index);
            let bounds = log.bounds(&partition).await;
            status.end = bounds.map_or(0, |bounds| bounds.end);
        }
    }
    all
}

/// What a worker is started with.
type With = (Config, Parts, Controls);

async fn follow(with: With, workers: Workers, mut stop: watch::Receiver<bool>) {
    let parts = &with.1;
    let mut changes = parts.view.changes();
    let mut limits = BTreeMap::new();
    loop {
        changes.mark_unchanged();
        let snapshot = parts.view.snapshot();
        limit(&mut limits, &snapshot);
        let removed = adjust(&with, &workers, &limits, &snapshot);
        end(removed).await;
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            changed = changes.changed() => if changed.is_err() {
                break;
            },
        }
    }
    let all = std::mem::take(&mut *workers.lock());
    end(all.into_values().collect()).await;
}

/// What upstreams take of all queues together, by their names.
type Limits = BTreeMap<Name, Limit>;

/// Makes the limits what the upstreams say.
fn limit(limits: &mut Limits, snapshot: &Snapshot) {
    let limited =
        |name: &Name| snapshot.get::<Upstream>(name).is_some_and(|of| of.deliveries.is_some());
    limits.retain(|name, _| limited(name));
    for (name, upstream) in snapshot.all::<Upstream>() {
        let Some(deliveries) = &upstream.deliveries else { continue };
        let queues = snapshot.all::<Queue>().filter(|(_, queue)| queue.deliver.upstream == *name);
        let queues: BTreeMap<_, _> =
            queues.map(|(name, queue)| (name.clone(), queue.partitions)).collect();
        let limit = limits.entry(name.clone()).or_insert_with(|| Limit::new(BTreeMap::new()));
        limit.set_queues(queues);
        limit.set_max(deliveries.concurrency_max);
        limit.set_rate(deliveries.rate);
    }
}

/// Starts what is missing, and takes out what is to end.
fn adjust(with: &With, workers: &Workers, limits: &Limits, snapshot: &Snapshot) -> Vec<Worker> {
    let (config, parts, controls) = with;
    let mut workers = workers.lock();
    for (name, queue) in snapshot.all::<Queue>() {
        let target = limits.get(&queue.deliver.upstream).cloned();
        if let Some(worker) = workers.get(name) {
            worker.turns.set(queue, target);
            continue;
        }
        let turns = Turns::new(name.clone());
        turns.set(queue, target);
        let (partitions, scheduled) = (BTreeMap::new(), BTreeMap::new());
        let status = QueueStatus { queue: name.clone(), partitions, scheduled, fault: None };
        let status = Arc::new(Mutex::new(status));
        let (stop, stopping) = watch::channel(false);
        let (with, shown) = ((parts.clone(), config.clone()), (turns.clone(), status.clone()));
        let controls = controls.clone();
        let run = worker::run(name.clone(), queue.partitions, with, shown, controls, stopping);
        let task = tokio::spawn(run);
        workers.insert(name.clone(), Worker { turns, status, stop, task });
    }
    let gone: Vec<Name> =
        workers.keys().filter(|name| snapshot.get::<Queue>(name).is_none()).cloned().collect();
    gone.iter().filter_map(|name| workers.remove(name)).collect()
}

/// Waits until workers have ended in order.
async fn end(mut workers: Vec<Worker>) {
    for worker in &workers {
        worker.stop.send_replace(true);
    }
    for worker in &mut workers {
        // One that panicked has ended too.
        let _ = (&mut worker.task).await;
    }
}
