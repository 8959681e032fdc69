//! The owner of the queries: one task, on one node.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt as _;
use ingest::event::Timestamp;
use ingest::log::{Error, GroupOffsets, NewRecord, Partition, ReadLimit, Transaction, Writer};
use tokio::sync::watch;
use tokio::time::Instant;

use super::checkpoint::{self, Checkpoint};
use super::findings::{self, Findings};
use super::running::{self, Running, STEP_BYTES_MAX, Step};
use super::sources::{self, Sources};
use super::told::{self, TELL_EVERY, Told};
use super::{OWNER, Parts, QueryState, QueryStatus};
use crate::query::{Plan, QueryFile};

/// When a query that failed is taken up again.
const FAILED_PAUSE: Duration = Duration::from_secs(60);
/// The pause after the log failed.
const PAUSE: Duration = Duration::from_secs(1);
/// How much one read of checkpoints takes, in bytes, and how long it waits for them.
const READ: ReadLimit = ReadLimit { bytes: 4 * 1024 * 1024, wait: Duration::from_secs(10) };

/// A query in the hands of its owner.
enum Held {
    Runs(Box<Running>),
    /// It failed; taken up again then.
    Failed {
        until: Instant,
    },
}

/// Owns the queries until it is told to stop.
pub(super) async fn own(parts: Parts, mut stop: watch::Receiver<bool>) {
    loop {
        let ended = tokio::select! {
            ended = run(&parts) => ended,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        let Err(error) = ended;
        // Nobody knows what of the last commit is there: the log says it.
        tracing::warn!(%error, "queries go on from their checkpoints");
        parts.status.fail(&format!("the log did not take what the queries gave: {error}"));
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}

/// Ends by a failure of the log alone.
async fn run(parts: &Parts) -> Result<std::convert::Infallible, Error> {
    let mut writer = parts.log.writer(OWNER).await?;
    let mut kept = take_over(parts, &mut *writer).await?;
    let mut held = BTreeMap::new();
    for file in parts.library.files() {
        let query = take_up(parts, file, &kept).await;
        held.insert(file.name.clone(), query);
        kept.checkpoints.remove(&file.name);
    }
    for (name, checkpoint) in kept.checkpoints {
        leave(parts, &mut *writer, &name, &checkpoint).await?;
    }
    tracing::info!(queries = held.len(), "the continuous queries run on this node");
    let mut timer = tokio::time::interval(parts.epoch);
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut sources = Sources::new(parts.retire_after);
    let mut told: Option<Instant> = None;
    loop {
        timer.tick().await;
        for (partition, producer) in
            sources.look(parts.history.live_sources().await, Instant::now())
        {
            sources::retire(&parts.emitter, partition, &producer);
        }
        let mut more = true;
        while more {
            let states = parts.status.states();
            more = epoch(parts, &mut *writer, &mut held).await?;
            let is_due = told.is_none_or(|told| told.elapsed() >= TELL_EVERY);
            if is_due || parts.status.states() != states {
                tell(parts, &mut *writer, &mut held).await?;
                told = Some(Instant::now());
            }
        }
    }
}

/// Says to all nodes how the queries fare.
async fn tell(
    parts: &Parts,
    writer: &mut dyn Writer,
    held: &mut BTreeMap<String, Held>,
) -> Result<(), Error> {
    let mut ends = Vec::new();
    for partition in 0..parts.history.partitions().await {
        let partition = Partition::new(ingest::emit::TOPIC, partition as u32);
        ends.push(parts.log.bounds(&partition).await?.end);
    }
    let mut records = Vec::new();
    for file in parts.library.files() {
        if let Some(Held::Runs(running)) = held.get_mut(&file.name) {
            running.measure(&ends);
        }
        let statuses = parts.status.now();
        if let Some(of) = statuses.get(&file.name) {
            let producer = parts.emitter.producer().to_string();
            let at = Timestamp::from_micros(now());
            records.push(Told::new(file, &producer, at, of.clone()).record());
        }
    }
    writer.commit(Transaction { records, offsets: Vec::new() }).await.map(drop)
}

/// Where the queries are to be taken up.
struct Kept {
    checkpoints: BTreeMap<String, Checkpoint>,
    /// The generation of those that begin at the start of history.
    generation: u64,
}

/// Fences former owners, and reads where the queries are to be taken up.
async fn take_over(parts: &Parts, writer: &mut dyn Writer) -> Result<Kept, Error> {
    let partition = checkpoint::partition();
    let mark = writer.commit(mark_of_owner(&partition)).await?;
    // Greater for each owner, since the log's offsets are.
    let generation = mark.first().map_or(0, |mark| mark.offset);
    let end = generation + 1;
    let first = parts.log.bounds(&partition).await?.first;
    let mut reader = parts.log.reader(vec![(partition, first)]).await?;
    let (mut checkpoints, mut next) = (BTreeMap::new(), first);
    while next < end {
        let Some(batch) = reader.next(READ).await? else { continue };
        next = batch.next;
        for record in batch.records {
            let Some(key) = record.key else { continue };
            let name = String::from_utf8_lossy(&key).into_owned();
            if name == OWNER {
                continue;
            }
            let Some(value) = record.value else {
                checkpoints.remove(&name);
                continue;
            };
            match serde_json::from_slice(&value) {
                Ok(checkpoint) => {
                    checkpoints.insert(name, checkpoint);
                }
                Err(error) => {
                    tracing::error!(query = name, offset = record.offset, %error, "a checkpoint cannot be read: the query answers anew");
                    checkpoints.remove(&name);
                }
            }
        }
    }
    Ok(Kept { checkpoints, generation })
}

/// By this node's clock, in microseconds since 1970.
fn now() -> i64 {
    jiff::Timestamp::now().as_microsecond()
}

/// Resolves the alerts of a query whose file is gone, and forgets where it was.
async fn leave(
    parts: &Parts,
    writer: &mut dyn Writer,
    name: &str,
    checkpoint: &Checkpoint,
) -> Result<(), Error> {
    tracing::info!(query = name, "a query is gone");
    let findings = running::findings_of(checkpoint, &parts.state_dir).await;
    let changes = findings.map(Findings::leave).unwrap_or_default();
    let mut records: Vec<_> = changes.iter().map(findings::record).collect();
    records.push((checkpoint::partition(), NewRecord::tombstone(name.to_owned())));
    records.push(told::gone(name));
    writer.commit(Transaction { records, offsets: Vec::new() }).await?;
    if let Some(file) = &checkpoint.file {
        // One that stays costs room, and nothing else.
        let _ = tokio::fs::remove_file(file.path(&parts.state_dir)).await;
    }
    Ok(())
}

/// A record that says where the checkpoints of former owners end.
fn mark_of_owner(partition: &Partition) -> Transaction {
    let headers = ingest::log::Headers::default();
    let (key, value) = (Some(OWNER.into()), Some("{}".into()));
    let record = NewRecord { key, value, headers };
    Transaction { records: vec![(partition.clone(), record)], offsets: Vec::<GroupOffsets>::new() }
}

async fn take_up(parts: &Parts, file: &QueryFile, kept: &Kept) -> Held {
    let partitions = parts.history.partitions().await;
    let (checkpoint, dir) = (kept.checkpoints.get(&file.name), &parts.state_dir);
    let running = match Plan::new(file.clone(), parts.library.sources()).await {
        Ok(plan) => Running::take_up(plan, checkpoint, kept.generation, partitions, dir).await,
        Err(fault) => Err(fault.to_string()),
    };
    match running {
        Ok(running) => {
            let starting = QueryStatus { state: QueryState::Starting, ..status(&running) };
            parts.status.put(&file.name, starting);
            Held::Runs(Box::new(running))
        }
        Err(why) => fail(parts, &file.name, why),
    }
}

fn fail(parts: &Parts, name: &str, why: String) -> Held {
    tracing::error!(query = name, error = why, "a query failed; it is taken up again");
    let failed =
        QueryStatus { state: QueryState::Failed, error: Some(why), ..QueryStatus::default() };
    parts.status.put(name, failed);
    Held::Failed { until: Instant::now() + FAILED_PAUSE }
}

fn status(running: &Running) -> QueryStatus {
    let closed = running.query().closed(None).filter(|of| *of > i64::MIN);
    let until = closed.map(|closed| running.query().plan().answered_until(closed));
    QueryStatus {
        state: QueryState::Running,
        error: None,
        rows: running.rows,
        late: running.query().late(),
        state_bytes: running.query().state_bytes(),
        closed_until: until.map(Timestamp::from_micros),
        watermark: running.floor.map(Timestamp::from_micros),
        behind: running.behind,
        committed: running.committed,
        given_up: running.query().given_up().len(),
        answered: running.answered,
    }
}

/// One step of each query, and what they gave in as few transactions as the log takes.
/// Answers whether there is more to do at once.
async fn epoch(
    parts: &Parts,
    writer: &mut dyn Writer,
    held: &mut BTreeMap<String, Held>,
) -> Result<bool, Error> {
    let checkpoint_before = Instant::now() - parts.checkpoint_every;
    let mut steps: Vec<(String, Step)> = Vec::new();
    let mut failed = Vec::new();
    for (name, query) in held.iter_mut() {
        match query {
            Held::Runs(running) => {
                // What breaks off in one query is no matter of the others.
                let step = AssertUnwindSafe(running.step(&parts.history, checkpoint_before));
                match step.catch_unwind().await {
                    Ok(Ok(step)) => steps.push((name.clone(), step)),
                    Ok(Err(why)) => *query = fail(parts, name, why),
                    Err(_) => *query = fail(parts, name, "it broke off; see the log".to_owned()),
                }
            }
            Held::Failed { until } if *until <= Instant::now() => failed.push(name.clone()),
            Held::Failed { .. } => {}
        }
    }
    let (mut records, mut bytes) = (Vec::new(), 0);
    for (_, step) in &mut steps {
        let of_step = step.bytes();
        if bytes + of_step > STEP_BYTES_MAX {
            let records = std::mem::take(&mut records);
            writer.commit(Transaction { records, offsets: Vec::new() }).await?;
            bytes = 0;
        }
        bytes += of_step;
        records.append(&mut step.records);
    }
    if !records.is_empty() {
        writer.commit(Transaction { records, offsets: Vec::new() }).await?;
    }
    for (name, step) in &steps {
        if let Some(Held::Runs(running)) = held.get_mut(name) {
            running.answered += step.rows as u64;
            if step.has_checkpoint {
                running.committed = Some(Timestamp::from_micros(now()));
            }
            parts.status.put(name, status(running));
        }
        if let Some(old) = &step.old {
            // One that stays costs room, and nothing else.
            let _ = tokio::fs::remove_file(old).await;
        }
    }
    if !failed.is_empty() {
        let kept = take_over(parts, writer).await?;
        for file in parts.library.files().iter().filter(|file| failed.contains(&file.name)) {
            let query = take_up(parts, file, &kept).await;
            held.insert(file.name.clone(), query);
        }
    }
    Ok(steps.iter().any(|(_, step)| step.more))
}
