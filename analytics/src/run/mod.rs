//! Runs the continuous queries.
//!
//! ```text
//! History ─ rows since ─► each query ─ answers ─┐
//!                           └─ state ─► file ─► checkpoint ─► one transaction of the log
//! ```
//!
//! One node runs them: the member of the group `weir.queries` that has the one partition
//! of `weir.state`. It becomes the writer of that name before it reads where to go on
//! from, so what a former owner still commits is refused.
//!
//! What holds:
//! - An answer and the checkpoint behind it are in the log together or not at all, so
//!   each window answers once, over kills and from node to node.
//! - A checkpoint's file is on the disk before its record is in the log.
//! - A source that fell silent without a word is retired by a record of the log, so that
//!   windows close though a gateway was killed and does not come back.
//! - A query that fails is taken up again from its checkpoint after a while; others go
//!   on meanwhile, and [`Status`] says which failed and why.
//! - A query that was changed answers from the start of history, under a generation that
//!   is greater than all before: its table has the rows of the greatest alone. The alerts
//!   that its former self had open are resolved, and so are those of a query whose file
//!   is gone.
//! - A history that is long is taken in by event time, a slice at a time, and gives what it
//!   gives in the log's order; see `catch_up.rs`.
//! - What a detection decides is in the log before its alert is, and once; see `decider.rs`.
//! - Who takes over has read the registry as far as whoever wrote the checkpoints: what is new
//!   to it is not taken for what is gone.
//!
//! Topics: `weir.state` (compacted, a record per query), `weir.views.NAME` (a record per
//! row, as JSON, kept for 400 days) and `weir.alerts` (compacted, a record per alert).
//!
//! Limits: answers of at most 256 windows in a step, of fewer where those are larger than
//! 2 MiB, the next follow at once; a single window's answer of at most 15 MiB, beyond
//! which its query fails; files of checkpoints lie in the lake's directory, which all analytics nodes share.

mod catch_up;
mod checkpoint;
mod control;
mod decider;
mod findings;
mod foresee;
mod held;
mod librarian;
mod library;
mod output;
mod owner;
mod pauses;
mod running;
pub mod shipped;
mod sources;
mod status;
mod tables;
mod told;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ingest::emit::Emitter;
use ingest::log::{Error, EventLog, Partition, Polled, ReadLimit, TopicSpec};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::alert::{ACTS_TOPIC, OUTBOX_TOPIC};
use crate::compute::Threads;
use crate::lake::History;

pub use catch_up::SLICE_ROWS;
pub use control::{Control, Error as ControlError, Wish};
pub use decider::Decider;
pub use findings::ALERTS_TOPIC;
pub use foresee::{Fate, Foreseen};
pub use librarian::{Current, Librarian};
pub use library::{FileFaults, Given, Library, Listed, Origin};
pub(crate) use library::{check, check_table};
pub use pauses::{PAUSES_TOPIC, Pause, Pauses};
pub use status::{QueryState, QueryStatus, Status};
pub use tables::Tables;
pub use told::QueryTable;

/// The topic of checkpoints.
pub const STATE_TOPIC: &str = "weir.state";
/// Says how the queries fare, by name.
pub const QUERIES_TOPIC: &str = "weir.query-status";
/// The group whose one member runs the queries, and the writer's name.
pub const OWNER: &str = "weir.queries";

/// How often rows are taken in, usually.
pub const EPOCH: Duration = Duration::from_millis(250);
/// How often a checkpoint is written, usually, though no window closed.
pub const CHECKPOINT_EVERY: Duration = Duration::from_secs(30);

/// After how long a source that says nothing counts no longer, usually. One that is
/// idle says so every second.
pub const RETIRE_AFTER: Duration = Duration::from_secs(60);

/// How long one poll waits.
const POLL: Duration = Duration::from_millis(500);
/// The pause after the log failed.
const PAUSE: Duration = Duration::from_secs(1);

/// What queries run with.
#[derive(Debug, Clone)]
pub struct Parts {
    /// Where answers and checkpoints go.
    pub log: Arc<dyn EventLog>,
    /// Where the queries compute.
    pub threads: Threads,
    /// Where rows come from.
    pub history: Arc<History>,
    /// What runs, now.
    pub library: watch::Receiver<Current>,
    /// And what of it rests.
    pub pauses: Pauses,
    /// Where the files of checkpoints lie.
    pub state_dir: PathBuf,
    /// Where it is told how they fare.
    pub status: Status,
    /// How often rows are taken in, and answers committed.
    pub epoch: Duration,
    /// How often a checkpoint is written though no window closed.
    pub checkpoint_every: Duration,
    /// How many rows of history are taken in at once.
    pub slice_rows: u64,
    /// What was told of them.
    pub told: QueryTable,
    /// What detections decide.
    pub decider: Decider,
    /// Says which sources fell silent.
    pub emitter: Emitter,
    /// After how long a silent source counts no longer.
    pub retire_after: Duration,
}

/// Makes the topics of all queries together.
///
/// # Errors
/// If the log refuses them.
pub async fn make_topics(log: &dyn EventLog) -> Result<(), Error> {
    log.create_topic(&TopicSpec::compacted(STATE_TOPIC, 1)).await?;
    log.create_topic(&TopicSpec::compacted(ALERTS_TOPIC, 1)).await?;
    log.create_topic(&TopicSpec::compacted(QUERIES_TOPIC, 1)).await?;
    log.create_topic(&TopicSpec::compacted(PAUSES_TOPIC, 1)).await?;
    log.create_topic(&TopicSpec::compacted(ACTS_TOPIC, 1)).await?;
    log.create_topic(&TopicSpec::compacted(OUTBOX_TOPIC, 1)).await?;
    Ok(())
}

/// Makes the topic that a view writes to.
///
/// # Errors
/// If the log refuses it.
pub(crate) async fn make_topic_of(log: &dyn EventLog, view: &str) -> Result<(), Error> {
    let topic = output::topic_of(view);
    log.create_topic(&TopicSpec::retained(topic, 1, output::KEPT)).await.map(drop)
}

/// Takes part in running the queries until it is told to stop: alone, or as one of
/// several of which one does. The topics are there.
pub async fn run(parts: Parts, mut stop: watch::Receiver<bool>) {
    let mut owning = None;
    loop {
        let ended = tokio::select! {
            ended = take_part(&parts, &mut owning) => ended,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let Err(error) = ended;
        tracing::warn!(%error, "the running of queries is taken up again");
        give_up(&mut owning).await;
        parts.status.elsewhere();
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            _ = stop.wait_for(|stop| *stop) => break,
        }
    }
    give_up(&mut owning).await;
}

/// Why taking part ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Log(#[from] Error),
    #[error("their owner broke off")]
    BrokeOff,
}

/// A running owner, and what tells it to stop.
struct Owning {
    stop: watch::Sender<bool>,
    running: JoinHandle<()>,
}

/// Ends by a failure alone.
async fn take_part(
    parts: &Parts,
    owning: &mut Option<Owning>,
) -> Result<std::convert::Infallible, Ended> {
    let mut member = parts.log.join(OWNER, &[STATE_TOPIC]).await?;
    loop {
        match member.poll(ReadLimit { wait: POLL, ..ReadLimit::default() }).await? {
            Polled::Assigned(partitions) if !partitions.is_empty() => {
                // Its records are read by a reader, from their first on.
                member.pause(&[Partition::new(STATE_TOPIC, 0)])?;
                let (stop, stopped) = watch::channel(false);
                let owner = owner::own(parts.clone(), stopped);
                *owning = Some(Owning { stop, running: parts.threads.spawn(owner) });
            }
            Polled::Revoked(_) => give_up(owning).await,
            Polled::Lost(_) => {
                if let Some(owning) = owning.take() {
                    owning.running.abort();
                }
            }
            Polled::Assigned(_) | Polled::Records(_) | Polled::Idle => {}
        }
        if owning.as_ref().is_some_and(|owning| owning.running.is_finished()) {
            // It ends when it is told to, and was not. A dead owner is none: begin anew.
            give_up(owning).await;
            return Err(Ended::BrokeOff);
        }
        if owning.is_none() {
            parts.status.elsewhere();
        }
    }
}

async fn give_up(owning: &mut Option<Owning>) {
    if let Some(Owning { stop, running }) = owning.take() {
        stop.send_replace(true);
        if let Err(error) = running.await
            && error.is_panic()
        {
            tracing::error!(%error, "the owner of the queries broke off");
        }
    }
}

#[cfg(test)]
mod tests;
