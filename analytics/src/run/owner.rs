//! The owner of the queries: one task, on one node.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use ingest::log::{Error, GroupOffsets, NewRecord, Partition, ReadLimit, Transaction, Writer};
use tokio::sync::watch;
use tokio::time::Instant;

use super::checkpoint;
use super::held::{Held, Kept, Queries};
use super::running::{STEP_BYTES_MAX, Step};
use super::sources::{self, Sources};
use super::told::{TELL_EVERY, Told};
use super::{OWNER, Parts};

/// The pause after the log failed.
const PAUSE: Duration = Duration::from_secs(1);
/// How much one read of checkpoints takes, in bytes, and how long it waits for them.
const READ: ReadLimit = ReadLimit { bytes: 4 * 1024 * 1024, wait: Duration::from_secs(10) };

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
    let (mut library, mut pauses) = (parts.library.clone(), parts.pauses.changes());
    pauses.borrow_and_update();
    let mut queries = Queries::of(library.borrow_and_update().clone());
    hold(parts, &mut *writer, &mut queries).await?;
    tracing::info!(queries = queries.held.len(), "the continuous queries run on this node");
    let mut timer = tokio::time::interval(parts.epoch);
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut sources = Sources::new(parts.retire_after);
    let (mut told, mut more) = (None::<Instant>, false);
    loop {
        if !more {
            timer.tick().await;
        }
        let current = library.borrow_and_update().clone();
        let has_other = !Arc::ptr_eq(&current.library, &queries.current.library);
        queries.current = current;
        if has_other || pauses.has_changed().unwrap_or(false) || queries.due() {
            pauses.borrow_and_update();
            hold(parts, &mut *writer, &mut queries).await?;
            // What has changed is told at once.
            told = None;
        }
        for (partition, producer) in
            sources.look(parts.history.live_sources().await, Instant::now())
        {
            sources::retire(&parts.emitter, partition, &producer);
        }
        let states = parts.status.states();
        more = epoch(parts, &mut *writer, &mut queries).await?;
        let is_due = told.is_none_or(|told| told.elapsed() >= TELL_EVERY);
        if is_due || parts.status.states() != states {
            tell(parts, &mut *writer, &mut queries).await?;
            told = Some(Instant::now());
        }
    }
}

/// Removes files of state that broken-off commits have left.
async fn sweep(parts: &Parts, kept: &Kept) {
    let files = kept.checkpoints.values().filter_map(|of| of.file.as_ref());
    let (dir, named) = (parts.state_dir.clone(), files.map(|file| file.name.clone()).collect());
    let sweeping = tokio::task::spawn_blocking(move || checkpoint::sweep(&dir, &named)).await;
    match sweeping.map_err(std::io::Error::other).flatten() {
        Ok(0) => {}
        Ok(files) => tracing::info!(files, "files of state that nobody names are removed"),
        Err(error) => tracing::debug!(%error, "files of state that nobody names stay"),
    }
}

/// Has what is held be what is to run.
async fn hold(parts: &Parts, writer: &mut dyn Writer, queries: &mut Queries) -> Result<(), Error> {
    let kept = take_over(parts, writer).await?;
    sweep(parts, &kept).await;
    parts.decider.catch_up(&*parts.log).await?;
    if queries.current.revision < kept.revision() {
        parts.status.fail("the registry is not read as far as where the queries are from");
        let mut library = parts.library.clone();
        let read = library.wait_for(|of| of.revision >= kept.revision()).await;
        let Some(current) = read.ok().map(|current| current.clone()) else {
            // The library is kept no more: the process is going down, and drops nothing before.
            return std::future::pending().await;
        };
        queries.current = current;
    }
    queries.hold(parts, writer, kept).await
}

/// Says to all nodes how the queries fare.
async fn tell(parts: &Parts, writer: &mut dyn Writer, queries: &mut Queries) -> Result<(), Error> {
    let mut ends = Vec::new();
    for partition in 0..parts.history.partitions().await {
        let partition = Partition::new(ingest::emit::TOPIC, partition as u32);
        ends.push(parts.log.bounds(&partition).await?.end);
    }
    queries.measure(parts, &ends);
    let (producer, at) = (parts.emitter.producer().to_string(), crate::time::now());
    let statuses = parts.status.now();
    let told = queries.current.library.queries().values().filter_map(|of| {
        Some(Told::new(of, &producer, at, statuses.get(&of.file.name)?.clone()).record())
    });
    let records = told.collect();
    writer.commit(Transaction { records, offsets: Vec::new() }).await.map(drop)
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

/// A record that says where the checkpoints of former owners end.
fn mark_of_owner(partition: &Partition) -> Transaction {
    let headers = ingest::log::Headers::default();
    let (key, value) = (Some(OWNER.into()), Some("{}".into()));
    let record = NewRecord { key, value, headers };
    Transaction { records: vec![(partition.clone(), record)], offsets: Vec::<GroupOffsets>::new() }
}

/// One step of each query, and what they gave in as few transactions as the log takes.
/// Answers whether there is more to do at once.
async fn epoch(
    parts: &Parts,
    writer: &mut dyn Writer,
    queries: &mut Queries,
) -> Result<bool, Error> {
    let checkpoint_before = Instant::now() - parts.checkpoint_every;
    let mut steps: Vec<(String, Step)> = Vec::new();
    let mut failed = Vec::new();
    // One takes in a slice of a long history, and the others do not wait for more than that.
    let mut has_slice = false;
    for name in queries.in_turn() {
        let Some(Held::Runs(running)) = queries.held.get_mut(&name) else { continue };
        let place = running.place();
        // What breaks off in one query is no matter of the others.
        let step = AssertUnwindSafe(running.step(parts, checkpoint_before, !has_slice));
        match step.catch_unwind().await {
            Ok(Ok(mut step)) => {
                if step.has_slice {
                    has_slice = true;
                    queries.turn.clone_from(&name);
                }
                let verdicts = std::mem::take(&mut step.verdicts);
                if !verdicts.is_empty() {
                    // Whom this one has found does not wait for what the others give.
                    parts.decider.commit(verdicts, writer).await?;
                }
                steps.push((name, step));
            }
            Ok(Err(why)) => failed.push((name, why, place)),
            Err(_) => failed.push((name, "it broke off; see the log".to_owned(), place)),
        }
    }
    for (name, why, place) in failed {
        queries.fail(parts, &name, why, place);
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
        if let Some(Held::Runs(running)) = queries.held.get_mut(name) {
            running.answered += step.rows as u64;
            if step.has_checkpoint {
                running.committed = Some(crate::time::now());
            }
            parts.status.put(name, running.status());
        }
        if step.has_checkpoint {
            queries.stands(name);
        }
        if let Some(old) = &step.old {
            // One that stays costs room, and nothing else.
            let _ = tokio::fs::remove_file(old).await;
        }
    }
    Ok(steps.iter().any(|(_, step)| step.more))
}
