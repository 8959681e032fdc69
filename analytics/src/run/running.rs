//! One query, as its owner runs it.

use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use futures_util::StreamExt as _;
use ingest::log::{NewRecord, Partition};
use tokio::time::Instant;

use super::checkpoint::{self, Checkpoint, File};
use super::findings::{self, Findings};
use super::output;
use crate::detect::{Change, Detection};
use crate::lake::{History, Since};
use crate::query::{Continuous, Plan, QueryFile};

/// How many windows close in one step.
const WINDOWS_MAX: i64 = 256;

/// A query, how far it has come, and what it gave that is not committed.
#[derive(Debug)]
pub(super) struct Running {
    query: Continuous,
    reached: Vec<u64>,
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
    pub(super) answered: u64,
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
    /// The file of the checkpoint before, of no use once the records are committed.
    pub(super) old: Option<PathBuf>,
}

impl Step {
    fn change(&mut self, changes: &[Change]) {
        self.records.extend(changes.iter().flat_map(findings::records));
    }
}

impl Running {
    /// Takes a query up from its checkpoint; from the beginning of history if there is
    /// none, or if it was another query's.
    ///
    /// # Errors
    /// Why it cannot run.
    pub(super) async fn take_up(
        file: &QueryFile,
        checkpoint: Option<&Checkpoint>,
        partitions: usize,
        state_dir: &Path,
    ) -> Result<Self, String> {
        let plan = Plan::new(file.clone()).await.map_err(|fault| fault.to_string())?;
        let kept = checkpoint.filter(|of| of.query.plan == plan.hash());
        let (query, reached) = match kept {
            None => (Continuous::new(plan), vec![0; partitions]),
            Some(kept) => {
                let saved = checkpoint::saved(kept, state_dir)?;
                let query = Continuous::restore(plan, &saved).map_err(|error| error.to_string())?;
                (query, kept.reached.clone())
            }
        };
        let detection = Detection::of(file, &query.plan().schema()).map_err(|faults| {
            let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
            faults.join("; ")
        })?;
        Ok(Self {
            query,
            detection,
            findings: kept.and_then(|of| of.findings.clone()),
            reached,
            is_new: kept.is_none(),
            fed: false,
            checkpointed: Instant::now(),
            file: checkpoint.and_then(|of| of.file.clone()),
            state_dir: state_dir.to_owned(),
            answered: 0,
        })
    }

    pub(super) fn query(&self) -> &Continuous {
        &self.query
    }

    /// Takes in what came since, closes what may be closed, and says what is to be
    /// committed: if windows gave an answer, or the last checkpoint is old.
    ///
    /// # Errors
    /// Why the query failed.
    pub(super) async fn step(
        &mut self,
        history: &History,
        checkpoint_before: Instant,
    ) -> Result<Step, String> {
        let since = history.since(&self.reached).await.map_err(|error| error.to_string())?;
        let told = |error: crate::query::Error| error.to_string();
        let Since { at_rest, tail, reached, floor, ended } = since;
        if let Some(mut at_rest) = at_rest {
            while let Some(rows) = at_rest.next().await {
                let rows = rows.map_err(|error| error.to_string())?;
                self.feed(&rows).await?;
            }
        }
        for rows in &tail {
            self.feed(rows).await?;
        }
        for (partition, reached) in self.reached.iter_mut().zip(reached) {
            *partition = reached.max(*partition);
        }

        if self.findings.is_none() {
            let closed = floor.map(|floor| self.query.plan().closes(floor));
            self.findings = Some(Findings::new(closed, ended.clone()));
        }
        let mut step = Step::default();
        if let Some(floor) = floor {
            let (rows, more) = self.close(None, floor).await.map_err(told)?;
            self.answer(None, rows, &mut step)?;
            step.more |= more;
        }
        if let Some((detection, findings)) = self.detection.as_ref().zip(self.findings.as_mut())
            && let Some(closed) = self.query.closed(None)
        {
            step.change(&findings.pass(detection, closed));
        }
        let open: Vec<String> = self.query.timelines().flatten().map(str::to_owned).collect();
        for replay in open.iter().filter(|replay| ended.contains(replay)) {
            let (rows, more) = self.close(Some(replay), i64::MAX).await.map_err(told)?;
            self.answer(Some(replay), rows, &mut step)?;
            step.more |= more;
            if !more {
                let rows = self.query.end(Some(replay)).await.map_err(told)?;
                self.answer(Some(replay), rows, &mut step)?;
                if let Some(findings) = &mut self.findings {
                    step.change(&findings.end(replay));
                }
            }
        }
        // A new query has a checkpoint at once: it stands from when it is told of.
        let due = self.is_new || self.fed && self.checkpointed < checkpoint_before;
        if due || !step.records.is_empty() {
            self.checkpoint(&mut step).await?;
        }
        Ok(step)
    }

    async fn feed(&mut self, rows: &RecordBatch) -> Result<(), String> {
        self.fed = true;
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
        let step = self.query.plan().floor_of(first, WINDOWS_MAX);
        let rows = self.query.advance(timeline, floor.min(step)).await?;
        let left = self.query.first_open(timeline);
        Ok((rows, step < floor && left.is_some()))
    }

    fn answer(
        &mut self,
        timeline: Option<&str>,
        rows: Option<RecordBatch>,
        step: &mut Step,
    ) -> Result<(), String> {
        let Some(rows) = rows else { return Ok(()) };
        step.rows += rows.num_rows();
        let told = |error: arrow::error::ArrowError| error.to_string();
        match self.detection.as_ref().zip(self.findings.as_mut()) {
            Some((detection, findings)) => {
                step.change(&findings.take(detection, timeline, &rows).map_err(told)?);
            }
            None => {
                let records = output::records(self.query.plan(), timeline, &rows);
                step.records.extend(records.map_err(told)?);
            }
        }
        Ok(())
    }

    async fn checkpoint(&mut self, step: &mut Step) -> Result<(), String> {
        let saved = self.query.save().await.map_err(|error| error.to_string())?;
        let (dir, name) = (self.state_dir.clone(), self.query.plan().file().name.clone());
        let query = name.clone();
        let writing = tokio::task::spawn_blocking(move || File::write(&dir, &query, &saved.state));
        let file = writing.await.map_err(|error| error.to_string())?;
        let file = file.map_err(|error| {
            format!("its state cannot be written to {}: {error}", self.state_dir.display())
        })?;
        let (reached, query) = (self.reached.clone(), saved.meta);
        let findings = self.findings.clone().filter(|_| self.detection.is_some());
        let checkpoint = Checkpoint { reached, query, file: file.clone(), findings };
        step.records.push(checkpoint.record(&name));
        let old = std::mem::replace(&mut self.file, file);
        step.old = old.map(|old| old.path(&self.state_dir));
        (self.is_new, self.fed, self.checkpointed) = (false, false, Instant::now());
        Ok(())
    }
}
