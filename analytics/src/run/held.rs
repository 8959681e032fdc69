//! The queries in the hands of their owner.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ingest::event::Timestamp;
use ingest::log::{Error, Transaction, Writer};
use tokio::time::Instant;

use super::checkpoint::{self, Checkpoint, Place};
use super::findings::{self, Findings};
use super::running::{self, Running};
use super::{Current, Library, Parts, Pause, QueryState, QueryStatus, pauses, told};
use crate::query::Plan;

/// When a query that failed is taken up again: twice as late each time that it failed since it
/// last had a checkpoint committed, up to the second.
const FAILED_PAUSE: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(3_600));

/// All queries of a library, as their owner has them.
pub(super) struct Queries {
    pub(super) current: Current,
    pub(super) held: BTreeMap<String, Held>,
    /// The library by which what is held was planned.
    planned: Option<Arc<Library>>,
    /// Who took in a slice of a long history last.
    pub(super) turn: String,
    /// How often each failed since it last had a checkpoint committed.
    failures: BTreeMap<String, u32>,
}

/// A query in the hands of its owner.
pub(super) enum Held {
    Runs(Box<Running>),
    /// It failed; taken up again then, where its last checkpoint is.
    Failed {
        until: Instant,
        place: Place,
    },
    /// It rests where its last checkpoint is.
    Paused {
        place: Place,
    },
}

/// Where queries are to be taken up.
pub(super) struct Kept {
    pub(super) checkpoints: BTreeMap<String, Checkpoint>,
    /// The generation of those that begin at the start of history.
    pub(super) generation: u64,
}

impl Kept {
    /// How far the registry was read that the checkpoints are of.
    pub(super) fn revision(&self) -> u64 {
        self.checkpoints.values().map(|of| of.revision).max().unwrap_or(0)
    }
}

impl Queries {
    /// Of a library, none of them held yet.
    pub(super) fn of(current: Current) -> Self {
        let (held, failures) = (BTreeMap::new(), BTreeMap::new());
        Self { current, held, planned: None, turn: String::new(), failures }
    }

    /// Brings what is held to what the library and the pauses say. What stays as it is runs on.
    pub(super) async fn hold(
        &mut self,
        parts: &Parts,
        writer: &mut dyn Writer,
        mut kept: Kept,
    ) -> Result<(), Error> {
        let Current { library, revision } = self.current.clone();
        let is_same = self.planned.as_ref().is_some_and(|of| Arc::ptr_eq(of, &library));
        let partitions = parts.history.partitions().await;
        for (name, listed) in library.queries() {
            let checkpoint = kept.checkpoints.remove(name);
            if let Some(pause) = parts.pauses.of(name) {
                rest(parts, name, pause, checkpoint.as_ref());
                let place = place(checkpoint.as_ref(), partitions);
                self.held.insert(name.clone(), Held::Paused { place });
                continue;
            }
            match self.held.get(name) {
                Some(Held::Runs(_)) if is_same => continue,
                Some(Held::Failed { until, .. }) if is_same && *until > Instant::now() => continue,
                _ => {}
            }
            let plan = library.plan(listed).await;
            match (self.held.get(name), &plan) {
                (Some(Held::Runs(running)), Ok(plan)) if running.is_of(plan) => {}
                _ => {
                    if !is_same {
                        self.failures.remove(name);
                    }
                    let begin = ((kept.generation, revision), partitions);
                    match take_up(parts, name, plan, checkpoint.as_ref(), begin).await {
                        Ok(running) => {
                            self.held.insert(name.clone(), Held::Runs(running));
                        }
                        Err(why) => {
                            self.fail(parts, name, why, place(checkpoint.as_ref(), partitions));
                        }
                    }
                }
            }
        }
        for (name, checkpoint) in kept.checkpoints {
            leave(parts, writer, &name, &checkpoint).await?;
        }
        self.planned = Some(library.clone());
        let is_there = |name: &String| library.queries().contains_key(name);
        self.held.retain(|name, _| is_there(name));
        self.failures.retain(|name, _| is_there(name));
        parts.status.retain(is_there);
        // Another one of that name begins awake.
        let ended = parts.pauses.queries().into_iter();
        let ended = ended.filter(|(name, of)| !is_there(name) && *of <= revision);
        let ended = ended.map(|(name, _)| pauses::ended(&name));
        // Of one that never had a checkpoint something may have been told too.
        let names = parts.told.names().into_iter().filter(|name| !is_there(name));
        let records: Vec<_> = ended.chain(names.map(|name| told::gone(&name))).collect();
        if !records.is_empty() {
            writer.commit(Transaction { records, offsets: Vec::new() }).await?;
        }
        Ok(())
    }

    /// The names of those that are held, of which the first has the turn to take in a slice.
    pub(super) fn in_turn(&self) -> Vec<String> {
        let (before, behind): (Vec<_>, Vec<_>) =
            self.held.keys().cloned().partition(|name| *name <= self.turn);
        [behind, before].concat()
    }

    /// Those that failed, and are to be taken up again.
    pub(super) fn due(&self) -> bool {
        let now = Instant::now();
        self.held.values().any(|held| matches!(held, Held::Failed { until, .. } if *until <= now))
    }

    /// Sees how far each is behind where the log ends, per partition.
    pub(super) fn measure(&mut self, parts: &Parts, ends: &[u64]) {
        for (name, held) in &mut self.held {
            match held {
                Held::Runs(running) => running.measure(ends),
                Held::Paused { place } | Held::Failed { place, .. } => {
                    let behind = place.behind(ends);
                    parts.status.change(name, |status| status.behind = behind);
                }
            }
        }
    }

    /// Notes that one failed, which had come so far in its last checkpoint.
    pub(super) fn fail(&mut self, parts: &Parts, name: &str, why: String, place: Place) {
        let times = self.failures.entry(name.to_owned()).or_default();
        let (first, longest) = FAILED_PAUSE;
        let pause = first.saturating_mul(1 << (*times).min(10)).min(longest);
        *times += 1;
        tracing::error!(
            query = name,
            error = why,
            after_s = pause.as_secs(),
            "a query failed; it is taken up again"
        );
        // What was known of it is still so: what it counts does not go back.
        let before = parts.status.now().remove(name).unwrap_or_default();
        let (state, error) = (QueryState::Failed, Some(why));
        parts.status.put(name, QueryStatus { state, error, pause: None, ..before });
        self.held.insert(name.to_owned(), Held::Failed { until: Instant::now() + pause, place });
    }

    /// Notes that one had a checkpoint committed.
    pub(super) fn stands(&mut self, name: &str) {
        self.failures.remove(name);
    }
}

fn place(checkpoint: Option<&Checkpoint>, partitions: usize) -> Place {
    checkpoint.map_or_else(|| Place::of(&vec![0; partitions], None), Checkpoint::place)
}

async fn take_up(
    parts: &Parts,
    name: &str,
    plan: Result<Plan, String>,
    checkpoint: Option<&Checkpoint>,
    (begin, partitions): ((u64, u64), usize),
) -> Result<Box<Running>, String> {
    let running = Running::take_up(plan?, checkpoint, begin, partitions, &parts.state_dir).await?;
    let starting = QueryStatus { state: QueryState::Starting, ..running.status() };
    parts.status.put(name, starting);
    Ok(Box::new(running))
}

/// What it had taken in since its last checkpoint, it takes in again once it rests no more.
fn rest(parts: &Parts, name: &str, pause: Pause, checkpoint: Option<&Checkpoint>) {
    let before = parts.status.now().remove(name).unwrap_or_default();
    if before.pause.as_ref() != Some(&pause) {
        tracing::info!(query = name, by = pause.by, "a query rests");
    }
    let late = checkpoint.map_or(0, |of| of.query.late);
    let paused = QueryStatus {
        state: QueryState::Paused,
        error: None,
        pause: Some(pause),
        late,
        // What it keeps, on the disk.
        state_bytes: checkpoint.map_or(0, Checkpoint::state_bytes),
        ..before
    };
    parts.status.put(name, paused);
}

/// Resolves the alerts of a query that is gone, and forgets where it was.
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
    records.push(checkpoint::gone(name));
    records.push(told::gone(name));
    writer.commit(Transaction { records, offsets: Vec::new() }).await?;
    if let Some(file) = &checkpoint.file {
        // One that stays costs room, and nothing else.
        let _ = tokio::fs::remove_file(file.path(&parts.state_dir)).await;
    }
    Ok(())
}

impl Running {
    /// How it fares.
    pub(super) fn status(&self) -> QueryStatus {
        let until = self.query().answered_until(None).filter(|of| *of > i64::MIN);
        QueryStatus {
            state: QueryState::Running,
            error: None,
            pause: None,
            rows: self.rows,
            late: self.query().late(),
            state_bytes: self.query().state_bytes(),
            closed_until: until.map(Timestamp::from_micros),
            watermark: self.floor.map(Timestamp::from_micros),
            behind: self.behind,
            committed: self.committed,
            given_up: self.query().given_up().len(),
            answered: self.answered,
        }
    }
}
