//! Follows the log into the lake.
//!
//! ```text
//! log ─► read ─► stamp ─► History in memory ─► queries, within a second
//!                             └─ every 30 s, or at 128 MB ─► commit to the table;
//!                                a day's small files become large ones
//! ```
//!
//! Every node that runs this reads the whole log and answers queries; whoever is due
//! first commits for all. Another's commit only lets a node forget rows: see
//! [`crate::lake`]. Nothing is told to the log: where to go on from stands in the table.
//!
//! Failures of the log or of storage are tried again, from the table's boundary, after
//! [`Config::retry_ms`]; queries answer meanwhile by what was read, and [`Status`] says
//! that it is not going on.

mod status;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow::error::ArrowError;
use ingest::emit::TOPIC;
use ingest::log::{Batch, EventLog, Partition, ReadLimit};
use jiff::SignedDuration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::intake::{Decoder, Stamped, Stamps};
use crate::lake::{self, History, Position};

pub use status::{Counters, State, Status};

/// How much one read takes, in bytes: what one run of the decoder turns to columns.
const READ_BYTES: usize = 4 * 1024 * 1024;
/// How many times as long heartbeats wait for a commit as other rows do.
const QUIET_COMMITS: u32 = 20;
/// How long a read waits for a first record.
const READ_WAIT: Duration = Duration::from_millis(200);

/// The settings.
#[derive(Debug, Clone)]
pub struct Config {
    /// The directory of the lake; of this node alone, or one that all share.
    pub lake_dir: PathBuf,
    /// How often rows are committed to the table, in milliseconds; twenty times as long
    /// while there are only heartbeats.
    pub commit_ms: u64,
    /// At how many bytes in memory they are committed earlier. At twice as many, nothing
    /// is read until a commit has succeeded.
    pub tail_bytes_max: usize,
    /// How long to wait after a failure, in milliseconds.
    pub retry_ms: u64,
    /// For how many days events stay in the table; for ever, if it is left out.
    pub keep_days: Option<u32>,
}

impl Config {
    /// The usual settings, for a lake in a directory.
    pub fn new(lake_dir: impl Into<PathBuf>) -> Self {
        Self {
            lake_dir: lake_dir.into(),
            commit_ms: 30_000,
            tail_bytes_max: 128 * 1024 * 1024,
            retry_ms: 1_000,
            keep_days: None,
        }
    }
}

/// Why following stopped for a moment.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log.
    #[error("events cannot be read from the log: {0}")]
    Log(#[from] ingest::log::Error),
    /// The lake.
    #[error(transparent)]
    Lake(#[from] lake::Error),
    /// A thread of the decoder.
    #[error("rows could not be made of records: {0}")]
    Decode(String),
    /// A task that commits.
    #[error("a commit broke off: {0}")]
    Commit(String),
}

/// Follows the log until it is told to stop. Made by [`open`].
#[derive(Debug)]
pub struct Service {
    config: Config,
    log: Arc<dyn EventLog>,
    history: Arc<History>,
    position: Position,
    decoder: Decoder,
    counters: Arc<Counters>,
    /// Whether anything but heartbeats was read since the last commit.
    has_news: bool,
    /// At most one commit is under way.
    committing: Option<JoinHandle<Result<usize, lake::Error>>>,
    /// At most one merge of files is, beside commits.
    merging: Option<JoinHandle<()>>,
    /// Whether the last commit failed.
    is_uncommitted: bool,
    /// When old events were looked for last.
    forgot: Option<Instant>,
}

/// How often old events are looked for.
const FORGET_EVERY: Duration = Duration::from_hours(1);
/// How often they are dropped again if others change files meanwhile.
const FORGET_ATTEMPTS: usize = 3;

/// Opens the lake, to be followed by the log's events. Answers the service, which does
/// so while it runs, and what queries read.
///
/// # Errors
/// If the lake or the log cannot be opened.
pub async fn open(
    config: Config,
    log: Arc<dyn EventLog>,
) -> Result<(Service, Arc<History>, Status), Error> {
    let partitions = log.topic(TOPIC).await?.partitions;
    let mut firsts = Vec::new();
    for index in 0..partitions {
        firsts.push(log.bounds(&Partition::new(TOPIC, index)).await?.first);
    }
    let (history, position) = History::open(&config.lake_dir, &firsts).await?;
    let (history, counters) = (Arc::new(history), Arc::new(Counters::default()));
    let status = Status::new(counters.clone());
    let decoder = Decoder::new();
    let service = Service {
        config,
        log,
        history: history.clone(),
        position,
        decoder,
        counters,
        has_news: false,
        committing: None,
        merging: None,
        is_uncommitted: false,
        forgot: None,
    };
    Ok((service, history, status))
}

impl Service {
    /// Follows the log, until `stop` says so; then commits what was read.
    ///
    /// # Errors
    /// If that last commit fails. The log still has those events.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) -> Result<(), Error> {
        loop {
            let ended = tokio::select! {
                ended = self.follow() => ended,
                () = told(&mut stop) => return self.finish().await,
            };
            let Err(error) = ended;
            tracing::error!(%error, "the lake does not follow the log");
            self.counters.fails();
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(self.config.retry_ms)) => {}
                () = told(&mut stop) => return self.finish().await,
            }
        }
    }

    /// Ends by a failure alone.
    async fn follow(&mut self) -> Result<std::convert::Infallible, Error> {
        let from = self.position.stamps.iter().enumerate().map(|(index, stamps)| {
            (Partition::new(TOPIC, u32::try_from(index).expect("it came of one")), stamps.next())
        });
        let mut reader = self.log.reader(from.collect()).await?;
        reader.need_values_alone();
        let every = Duration::from_millis(self.config.commit_ms);
        let mut last = Instant::now();
        loop {
            let (held, max) = (self.history.tail_bytes().await, self.config.tail_bytes_max);
            let is_full = held >= max.saturating_mul(2);
            if is_full || self.committing.as_ref().is_some_and(JoinHandle::is_finished) {
                self.committed().await?;
            }
            let wait = if self.has_news { every } else { every * QUIET_COMMITS };
            if self.committing.is_none() && (held >= max || last.elapsed() >= wait) {
                self.commit();
                last = Instant::now();
            }
            if is_full {
                continue;
            }
            let batch = reader.next(ReadLimit { bytes: READ_BYTES, wait: READ_WAIT }).await?;
            if let Some(batch) = batch {
                self.take(batch).await?;
            }
            if !self.is_uncommitted {
                self.counters.goes_on();
            }
        }
    }

    async fn take(&mut self, batch: Batch) -> Result<(), Error> {
        let index = batch.partition.index;
        let at = index as usize;
        // On a copy, so that a step that is broken off is taken again, whole.
        let mut stamps = self.position.stamps[at].clone();
        let (decoder, history) = (self.decoder.clone(), self.history.clone());
        let stamping = tokio::task::spawn_blocking(move || {
            let stamped = stamps.stamp(&decoder, index, &batch.records, batch.next)?;
            let poison = stamped.unreadable.iter().map(|(offset, why)| {
                let at = batch.records.partition_point(|record| record.offset < *offset);
                (&batch.records[at], *why)
            });
            let unkept = history.quarantine().keep(index, poison);
            Ok::<_, ArrowError>((stamps, stamped, unkept))
        });
        let stamped = stamping.await.map_err(|error| Error::Decode(error.to_string()))?;
        let (stamps, stamped, unkept): (Stamps, Stamped, usize) =
            stamped.map_err(|error| Error::Decode(error.to_string()))?;
        for (offset, why) in &stamped.unreadable {
            tracing::warn!(partition = index, offset, why, "a record of the log is no event");
        }
        self.counters.count(&stamped, unkept);
        self.has_news |= stamped.news > 0;
        self.history.push(index, &stamped, &stamps).await?;
        self.position.stamps[at] = stamps;
        Ok(())
    }

    /// Begins to commit what was read. Queries and reading go on.
    fn commit(&mut self) {
        let (history, position) = (self.history.clone(), self.position.clone());
        let commit = async move { history.commit(position).await };
        self.committing = Some(tokio::spawn(commit));
        self.has_news = false;
    }

    /// Waits for the commit that is under way, if one is.
    async fn committed(&mut self) -> Result<(), Error> {
        let Some(committing) = self.committing.take() else { return Ok(()) };
        self.is_uncommitted = true;
        match committing.await.map_err(|error| Error::Commit(error.to_string()))? {
            Ok(rows) => {
                self.counters.committed(rows);
                self.merge();
            }
            // Its rows are there, and what it did not have is still in memory.
            Err(lake::Error::Overtaken { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        self.is_uncommitted = false;
        Ok(())
    }

    /// Begins to merge small files, if they are many, and to drop what is old. Reading and
    /// commits go on.
    fn merge(&mut self) {
        if self.merging.as_ref().is_some_and(|merging| !merging.is_finished()) {
            return;
        }
        let is_due = self.forgot.is_none_or(|forgot| forgot.elapsed() >= FORGET_EVERY);
        let kept = self.config.keep_days.filter(|_| is_due);
        if kept.is_some() {
            self.forgot = Some(Instant::now());
        }
        let history = self.history.clone();
        self.merging = Some(tokio::spawn(async move {
            if let Some(days) = kept {
                let kept = SignedDuration::from_hours(24 * i64::from(days));
                for _ in 0..FORGET_ATTEMPTS {
                    match history.forget(jiff::Timestamp::now(), kept).await {
                        Ok(_) => break,
                        // It has the other's commit now.
                        Err(lake::Error::Overtaken { .. }) => {}
                        Err(error) => {
                            tracing::warn!(%error, "old events of the lake stay for another hour");
                            break;
                        }
                    }
                }
            }
            match history.merge().await {
                Ok(_) | Err(lake::Error::Overtaken { .. }) => {}
                // The next commit brings the next attempt.
                Err(error) => {
                    let check = "`weir lake check` says whether one is damaged";
                    tracing::warn!(%error, check, "small files of the lake stay");
                }
            }
        }));
    }

    async fn finish(mut self) -> Result<(), Error> {
        self.committed().await?;
        self.commit();
        let committed = self.committed().await;
        if let Some(merging) = self.merging.take() {
            merging.await.map_err(|error| Error::Commit(error.to_string()))?;
        }
        committed
    }
}

/// Ends when the stop is told of, or nobody is left to tell.
async fn told(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

#[cfg(test)]
mod tests;
