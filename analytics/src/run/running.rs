//! One query, as its owner runs it.

use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use datafusion::execution::SendableRecordBatchStream;
use futures_util::StreamExt as _;
use ingest::event::Timestamp;
use ingest::log::{BATCH_BYTES_MAX, NewRecord, Partition};
use tokio::time::Instant;

use super::catch_up::{CatchUp, rows_of_slice};
use super::checkpoint::{self, Checkpoint, File, Place};
use super::decider::{Decider, Verdicts};
use super::findings::{self, Findings};
use super::{Parts, output};
use crate::detect::{Change, Detection};
use crate::lake::{self, History, Since, Which};
use crate::query::{Act, Continuous, Plan};

/// How many windows close in one step, at most and at first: of these nobody knows how much
/// they answer.
const WINDOWS_MAX: i64 = 256;
const WINDOWS_FIRST: i64 = 1;
/// How many rows of state the windows have that close in one step, at most, unless it is one.
const WINDOW_ROWS: usize = 8 * 1024;
/// At how many bytes of answers a step is enough, and the next closes fewer windows.
const STEP_BYTES: usize = 2 * 1024 * 1024;
/// The most that one step may give: what the log takes at once, less what else comes with
/// it. Only a single window can be so large.
pub(super) const STEP_BYTES_MAX: usize = BATCH_BYTES_MAX - 1024 * 1024;

/// A query, how far it has come, and what it gave that is not committed.
#[derive(Debug)]
pub(super) struct Running {
    query: Continuous,
    reached: Vec<u64>,
    /// A long history behind there, while it is taken in.
    catch_up: Option<CatchUp>,
    generation: u64,
    /// How far the registry was read as it was taken up.
    revision: u64,
    /// How many windows the next step closes.
    windows: i64,
    /// Whether the present one has closed any.
    has_closed: bool,
    /// Whether it has no checkpoint.
    is_new: bool,
    /// Whether rows came since the last checkpoint.
    fed: bool,
    checkpointed: Instant,
    file: Option<File>,
    state_dir: PathBuf,
    detection: Option<Detection>,
    /// Of a detection; absent until it is known where a new one begins.
    findings: Option<Findings>,
    /// Those of the query that this one replaces.
    replaced: Option<Findings>,
    pub(super) answered: u64,
    /// Rows that it took in.
    pub(super) rows: u64,
    /// What all live sources had passed as it stepped last.
    pub(super) floor: Option<i64>,
    /// Records of the log that it had not reached as it was measured last.
    pub(super) behind: u64,
    /// When its last checkpoint was committed.
    pub(super) committed: Option<Timestamp>,
}

/// What a step gave.
#[derive(Debug, Default)]
pub(super) struct Step {
    /// Records to commit, with the checkpoint among them; none if there is nothing yet.
    pub(super) records: Vec<(Partition, NewRecord)>,
    /// How many rows of answers they are.
    pub(super) rows: usize,
    /// Whether there is more to do at once.
    pub(super) more: bool,
    /// Whether the checkpoint is among them.
    pub(super) has_checkpoint: bool,
    /// Whether it took in a slice of a long history.
    pub(super) has_slice: bool,
    /// What its findings have decided, to be committed before.
    pub(super) verdicts: Verdicts,
    /// The file of the checkpoint before, of no use once the records are committed.
    pub(super) old: Option<PathBuf>,
}

impl Step {
    /// What its records count in a batch of the log.
    pub(super) fn bytes(&self) -> usize {
        self.records.iter().map(|(_, record)| record.bytes() + 32).sum()
    }

    /// Alerts that have changed, each with what is decided by that.
    fn change(&mut self, mut changes: Vec<Change>, decider: &Decider, act: Option<&Act>) {
        decider.decide(act, &mut changes, &mut self.verdicts);
        self.records.extend(changes.iter().map(findings::record));
    }
}

/// What is known of the rows that a step has taken in.
struct Taken {
    /// By what its windows of live traffic close.
    floor: Option<i64>,
    /// The replays that have ended.
    ended: Vec<String>,
    /// Whether it was a slice of a long history.
    has_slice: bool,
}

impl Running {
    /// Takes a query up from its checkpoint; from the beginning of history, as
    /// `generation`, if there is none, or if it was another query's. `revision` says how far
    /// the registry was read that has it.
    ///
    /// # Errors
    /// Why it cannot run.
    pub(super) async fn take_up(
        plan: Plan,
        checkpoint: Option<&Checkpoint>,
        (generation, revision): (u64, u64),
        partitions: usize,
        state_dir: &Path,
    ) -> Result<Self, String> {
        // One that was a view has no findings to go on with, and one that was a detection has
        // alerts that are to end.
        let is_kept = |of: &&Checkpoint| {
            of.query.plan == plan.hash() && of.has_findings == plan.file().is_detection()
        };
        let kept = checkpoint.filter(is_kept);
        let (mut findings, mut replaced) = (None, None);
        let (query, reached) = match (kept, checkpoint) {
            (Some(kept), _) => {
                let (saved, of) = checkpoint::saved(kept, state_dir).await?;
                findings = of;
                let query = Continuous::restore(plan, &saved).map_err(|error| error.to_string())?;
                (query, kept.reached.clone())
            }
            (None, other) => {
                if let Some(other) = other {
                    replaced = findings_of(other, state_dir).await;
                }
                (Continuous::new(plan), vec![0; partitions])
            }
        };
        let detection =
            Detection::of(query.plan().file(), &query.plan().schema(), query.plan().order())
                .map_err(|faults| {
                    let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
                    faults.join("; ")
                })?;
        Ok(Self {
            query,
            detection,
            findings,
            replaced,
            reached,
            // Of one that had not begun the end is looked for anew.
            catch_up: kept.and_then(|of| of.catch_up.clone()).filter(CatchUp::has_begun),
            generation: kept.map_or(generation, |of| of.generation),
            revision,
            windows: WINDOWS_FIRST,
            has_closed: false,
            is_new: kept.is_none(),
            fed: false,
            checkpointed: Instant::now(),
            file: checkpoint.and_then(|of| of.file.clone()),
            state_dir: state_dir.to_owned(),
            answered: 0,
            rows: 0,
            floor: None,
            behind: 0,
            committed: None,
        })
    }

    /// Whether it runs by a plan, header and all.
    pub(super) fn is_of(&self, plan: &Plan) -> bool {
        let own = self.query.plan();
        own.hash() == plan.hash() && own.file().text == plan.file().text
    }

    /// How far it has come.
    pub(super) fn place(&self) -> Place {
        Place::of(&self.reached, self.catch_up.as_ref())
    }

    pub(super) fn query(&self) -> &Continuous {
        &self.query
    }

    /// Sees how far it is behind where the log ends, per partition.
    pub(super) fn measure(&mut self, ends: &[u64]) {
        self.behind = self.place().behind(ends);
    }

    /// Takes in what came since, closes what may be closed, and says what is to be
    /// committed: if windows gave an answer, or the last checkpoint is old. Of a long history it
    /// takes in a slice only if `may_take` says so.
    ///
    /// # Errors
    /// Why the query failed.
    pub(super) async fn step(
        &mut self,
        parts: &Parts,
        checkpoint_before: Instant,
        may_take: bool,
    ) -> Result<Step, String> {
        let (history, decider) = (&parts.history, &parts.decider);
        self.has_closed = false;
        let told = |error: crate::query::Error| error.to_string();
        if self.findings.is_none() {
            let closed = history.floor().await.map(|floor| self.query.plan().closes(floor));
            self.findings = Some(Findings::new(closed, history.ended_replays().await));
        }
        let Taken { floor, ended, has_slice } = self.take_in(parts, may_take).await?;
        let more = self.catch_up.is_some();
        let mut step = Step { has_slice, more, ..Step::default() };
        if let Some(replaced) = self.replaced.take() {
            step.change(replaced.leave(), decider, None);
        }
        if let Some(findings) = &mut self.findings {
            for replay in self.query.given_up() {
                step.change(findings.end(replay), decider, None);
            }
        }
        // Behind it, as one may be given up by the very rows that end it.
        self.query.forget_given_up(&ended);
        if let Some(floor) = floor {
            let (rows, more) = self.close(None, floor).await.map_err(told)?;
            self.answer(None, rows, decider, &mut step)?;
            let more = self.correct(None, floor, &mut step).await? || more;
            step.more |= more;
            if let Some(catch_up) = &mut self.catch_up {
                catch_up.is_closing = more;
            }
        }
        if let Some((detection, findings)) = self.detection.as_ref().zip(self.findings.as_mut())
            && let Some(until) = self.query.answered_until(None)
        {
            step.change(findings.pass(detection, until), decider, None);
        }
        let open: Vec<String> = self.query.timelines().flatten().map(str::to_owned).collect();
        for replay in open.iter().filter(|replay| ended.contains(replay)) {
            if step.bytes() > STEP_BYTES {
                step.more = true;
                break;
            }
            let (rows, more) = self.close(Some(replay), i64::MAX).await.map_err(told)?;
            self.answer(Some(replay), rows, decider, &mut step)?;
            let more = more || self.correct(Some(replay), i64::MAX, &mut step).await?;
            step.more |= more;
            if !more {
                let rows = self.query.end(Some(replay)).await.map_err(told)?;
                self.answer(Some(replay), rows, decider, &mut step)?;
                if let Some(findings) = &mut self.findings {
                    step.change(findings.end(replay), decider, None);
                }
            }
        }
        self.windows = match step.bytes() {
            bytes if bytes > STEP_BYTES => (self.windows / 2).max(1),
            // It says nothing of how much they answer.
            _ if !self.has_closed => self.windows,
            _ => (self.windows * 2).min(WINDOWS_MAX),
        };
        if step.bytes() > STEP_BYTES_MAX {
            return Err(format!(
                "its answer for a window is {} bytes, at most {STEP_BYTES_MAX} are written at \
                 once; group by fewer values, or make the window shorter",
                step.bytes()
            ));
        }
        // A new query has a checkpoint at once: it stands from when it is told of.
        let due = self.is_new || has_slice || self.fed && self.checkpointed < checkpoint_before;
        if due || !step.records.is_empty() {
            self.checkpoint(&mut step).await?;
        }
        Ok(step)
    }

    /// Takes in what came since; of a long history the next slice, once all windows have closed
    /// that end in those before it.
    async fn take_in(&mut self, parts: &Parts, may_take: bool) -> Result<Taken, String> {
        let told = |error: lake::Error| error.to_string();
        let history: &History = &parts.history;
        let memory_max = self.query.plan().memory_max();
        let slice_rows = rows_of_slice(parts.slice_rows, memory_max);
        if self.catch_up.is_none() {
            self.catch_up = CatchUp::begin(history, &self.reached, slice_rows).await;
        }
        let columns = self.query.plan().columns();
        let Some(mut catch_up) = self.catch_up.take() else {
            let since = history.since(&self.reached, Some(&columns)).await.map_err(told)?;
            let Since { at_rest, tail, reached, floor, ended } = since;
            if let Some(at_rest) = at_rest {
                self.feed_all(at_rest).await?;
            }
            for rows in &tail {
                self.feed(rows).await?;
            }
            for (partition, reached) in self.reached.iter_mut().zip(reached) {
                *partition = reached.max(*partition);
            }
            self.floor = floor;
            return Ok(Taken { floor, ended, has_slice: false });
        };
        let has_slice = may_take && !catch_up.is_closing;
        if has_slice {
            if let Some((from, which)) = catch_up.extend(history).await {
                let of = (&from[..], &catch_up.of);
                let rows = history.read_backlog(of, &which, &columns).await.map_err(told)?;
                self.feed_all(rows).await?;
            }
            // What it holds, for windows that reach back, is no room for a slice.
            let room =
                rows_of_slice(slice_rows, memory_max - self.query.state_bytes().min(memory_max));
            let rows = (slice_rows, room);
            let next = catch_up.next(history, &self.reached, rows).await.map_err(told)?;
            let of = (&self.reached[..], &catch_up.of);
            let rows = history.read_backlog(of, &next, &columns).await.map_err(told)?;
            self.feed_all(rows).await?;
            if next == Which::Replays {
                // All of it: their windows close by what is known of them now.
                self.floor = Some(catch_up.of.floor_us);
                self.reached = catch_up.of.to;
                return Ok(Taken { floor: self.floor, ended: Vec::new(), has_slice });
            }
        }
        let floor = catch_up.of.floor_us;
        self.floor = Some(floor);
        let floor = floor.min(self.query.plan().floor_at(catch_up.before_us));
        self.catch_up = Some(catch_up);
        Ok(Taken { floor: Some(floor), ended: Vec::new(), has_slice })
    }

    async fn feed_all(&mut self, mut rows: SendableRecordBatchStream) -> Result<(), String> {
        while let Some(rows) = rows.next().await {
            let rows = rows.map_err(|error| {
                lake::unreadable(&error).map_or_else(|| error.to_string(), |of| of.to_string())
            })?;
            self.feed(&rows).await?;
        }
        Ok(())
    }

    async fn feed(&mut self, rows: &RecordBatch) -> Result<(), String> {
        self.fed = true;
        self.rows += rows.num_rows() as u64;
        self.query.feed(rows).await.map_err(|error| error.to_string())
    }

    /// Closes some windows of a timeline, and says whether more may be closed.
    async fn close(
        &mut self,
        timeline: Option<&str>,
        floor: i64,
    ) -> Result<(Option<RecordBatch>, bool), crate::query::Error> {
        let Some(first) = self.query.first_open(timeline) else {
            return Ok((self.query.advance(timeline, floor).await?, false));
        };
        let windows = self.query.windows_within(timeline, WINDOW_ROWS).min(self.windows);
        let step = self.query.plan().floor_of(first, windows);
        let rows = self.query.advance(timeline, floor.min(step)).await?;
        let left = self.query.first_open(timeline);
        self.has_closed |= left != Some(first);
        if left.is_some() {
            return Ok((rows, step < floor));
        }
        // No window is left to answer; those that have are to be corrected as far.
        let behind = self.query.advance(timeline, floor).await?;
        let all: Vec<RecordBatch> = rows.into_iter().chain(behind).collect();
        let rows = match all.first() {
            Some(first) => Some(concat_batches(&first.schema(), &all)?),
            None => None,
        };
        Ok((rows, false))
    }

    fn answer(
        &mut self,
        timeline: Option<&str>,
        rows: Option<RecordBatch>,
        decider: &Decider,
        step: &mut Step,
    ) -> Result<(), String> {
        let Some(rows) = rows else { return Ok(()) };
        step.rows += rows.num_rows();
        let told = |error: arrow::error::ArrowError| error.to_string();
        match self.detection.as_ref().zip(self.findings.as_mut()) {
            Some((detection, findings)) => {
                let changes = findings.take(detection, timeline, &rows).map_err(told)?;
                step.change(changes, decider, detection.act());
            }
            None => {
                let records = output::records(self.query.plan(), self.generation, timeline, &rows);
                step.records.extend(records.map_err(told)?);
            }
        }
        Ok(())
    }

    /// Corrects some windows of a timeline, and says whether there are more.
    async fn correct(
        &mut self,
        timeline: Option<&str>,
        floor: i64,
        step: &mut Step,
    ) -> Result<bool, String> {
        // A window that has just answered may be as large as a step.
        if step.bytes() > STEP_BYTES {
            return Ok(true);
        }
        let corrected = self.query.correct(timeline, floor, self.windows).await;
        let (correction, more) = corrected.map_err(|error| error.to_string())?;
        self.has_closed |= correction.is_some();
        if let Some(correction) = correction {
            step.rows += correction.rows.num_rows();
            let plan = self.query.plan();
            let records = output::corrected(plan, self.generation, timeline, &correction);
            step.records.extend(records.map_err(|error| error.to_string())?);
        }
        Ok(more)
    }

    async fn checkpoint(&mut self, step: &mut Step) -> Result<(), String> {
        let saved = self.query.save().await.map_err(|error| error.to_string())?;
        let (dir, name) = (self.state_dir.clone(), self.query.plan().file().name.clone());
        let query = name.clone();
        let findings = self.findings.as_ref().filter(|_| self.detection.is_some());
        let findings = findings.map(|of| serde_json::to_vec(of).expect("findings are JSON"));
        let has_findings = findings.is_some();
        let state: Vec<Vec<u8>> = findings.into_iter().chain(saved.state).collect();
        let writing = tokio::task::spawn_blocking(move || File::write(&dir, &query, &state));
        let file = writing.await.map_err(|error| error.to_string())?;
        let file = file.map_err(|error| {
            format!("its state cannot be written to {}: {error}", self.state_dir.display())
        })?;
        let checkpoint = Checkpoint {
            generation: self.generation,
            revision: self.revision,
            reached: self.reached.clone(),
            catch_up: self.catch_up.clone(),
            query: saved.meta,
            file: file.clone(),
            has_findings,
        };
        step.records.push(checkpoint.record(&name));
        step.has_checkpoint = true;
        let old = std::mem::replace(&mut self.file, file);
        step.old = old.map(|old| old.path(&self.state_dir));
        (self.is_new, self.fed, self.checkpointed) = (false, false, Instant::now());
        Ok(())
    }
}

/// The findings of a query that runs no more, for its alerts to be resolved.
pub(super) async fn findings_of(checkpoint: &Checkpoint, dir: &Path) -> Option<Findings> {
    match checkpoint::saved(checkpoint, dir).await {
        Ok((_, findings)) => findings,
        Err(error) => {
            tracing::warn!(error, "alerts of a query that runs no more may stay open");
            None
        }
    }
}
