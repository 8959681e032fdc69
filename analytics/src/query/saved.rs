//! What is kept of a running query, so that another process goes on from there.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Cursor;

use arrow::array::{RecordBatch, UInt64Array};
use arrow::compute::take_record_batch;
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use serde::{Deserialize, Serialize};

use super::timeline::{Timeline, by_pane};
use super::{Continuous, Error, Plan};

/// A running query at a moment.
#[derive(Debug, Clone)]
pub struct Saved {
    /// What it was of, and how far it had come.
    pub meta: Meta,
    /// Partial aggregates for each of [`Meta::timelines`], as Arrow IPC streams.
    pub state: Vec<Vec<u8>>,
}

/// What a [`Saved`] is of. Small, for a record of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Meta {
    /// [`Plan::hash`]; [`Plan::first_hash`] of a view that is read.
    pub plan: String,
    /// [`Continuous::late`].
    pub late: u64,
    /// The timelines of which something was held.
    pub timelines: Vec<Closed>,
    /// The replays that were given up.
    pub given_up: BTreeSet<String>,
    /// How often rows were taken in.
    pub feeds: u64,
    /// The last revision of the registry that rows named.
    #[serde(default, skip_serializing_if = "is_first")]
    pub revision: u64,
    /// Of the view that it reads; its timelines follow in [`Saved::state`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub below: Option<Box<Meta>>,
}

fn is_first(revision: &u64) -> bool {
    *revision == 0
}

/// How far a timeline had come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Closed {
    /// The replay; absent for live traffic.
    pub replay: Option<String>,
    /// Windows that begin before it have given their answer; microseconds since 1970.
    pub before_us: i64,
    /// Windows that begin before it are corrected for good, if any are. State of the rows that
    /// came too late then follows that of those in time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub corrected_us: Option<i64>,
    /// When rows of it were taken in last, by [`Meta::feeds`].
    pub fed: u64,
}

impl Continuous {
    /// What is to be kept of it.
    ///
    /// # Errors
    /// The query has failed then.
    pub async fn save(&mut self) -> Result<Saved, Error> {
        self.shrink().await?;
        let schema = self.plan.state_schema();
        let (mut timelines, mut state) = (Vec::new(), Vec::new());
        for (replay, of) in &self.timelines {
            let late = self.corrects.then_some(&of.late);
            for panes in [Some(&of.panes), late].into_iter().flatten() {
                let mut writer = StreamWriter::try_new(Vec::new(), &schema)?;
                for batch in panes.values().flat_map(|pane| &pane.state) {
                    writer.write(batch)?;
                }
                writer.finish()?;
                state.push(writer.into_inner()?);
            }
            let corrected_us = self.corrects.then_some(of.corrected);
            let (replay, before_us, fed) = (replay.clone(), of.closed, of.fed);
            timelines.push(Closed { replay, before_us, corrected_us, fed });
        }
        let (given_up, feeds) = (self.given_up.clone(), self.feeds);
        let plan = self.state_hash().to_owned();
        let (late, revision) = (self.late, self.revision);
        let mut meta = Meta { plan, late, timelines, given_up, feeds, revision, below: None };
        if let Some(below) = &mut self.below {
            let saved = Box::pin(below.save()).await?;
            meta.below = Some(Box::new(saved.meta));
            state.extend(saved.state);
        }
        Ok(Saved { meta, state })
    }

    /// Goes on from what was kept.
    ///
    /// # Errors
    /// [`Error::Saved`] if it was kept by another plan, or cannot be read.
    pub fn restore(plan: Plan, saved: &Saved) -> Result<Self, Error> {
        let query = Self::new(plan);
        query.go_on(&saved.meta, &saved.state)
    }

    fn go_on(self, meta: &Meta, state: &[Vec<u8>]) -> Result<Self, Error> {
        let plan = self.plan.clone();
        let unreadable = |why: String| Error::Saved { name: plan.file().name.clone(), why };
        let Meta { plan: hash, late, timelines, given_up, feeds, revision, below } = meta;
        if hash != self.state_hash() {
            return Err(unreadable("it was kept by another version of the query".to_owned()));
        }
        let states = timelines.iter().map(|of| 1 + usize::from(of.corrected_us.is_some())).sum();
        let Some((mut own, of_below)) = state.split_at_checked(states) else {
            return Err(unreadable(format!("{} states of {states}", state.len())));
        };
        let below = match (self.below, below) {
            (None, None) if of_below.is_empty() => None,
            (Some(below), Some(meta)) => Some(Box::new(below.go_on(meta, of_below)?)),
            _ => return Err(unreadable("it is not of the view that it reads".to_owned())),
        };
        let mut restored = BTreeMap::new();
        for Closed { replay, before_us, corrected_us, fed } in timelines {
            let mut of = Timeline { closed: *before_us, fed: *fed, ..Timeline::default() };
            of.corrected = corrected_us.unwrap_or(of.corrected);
            let late = corrected_us.map(|_| true);
            for are_late in [Some(false), late].into_iter().flatten() {
                let Some((bytes, rest)) = own.split_first() else { break };
                own = rest;
                let panes = of.panes_mut(are_late);
                for batch in read(bytes).map_err(|error| unreadable(error.to_string()))? {
                    if batch.schema() != plan.state_schema() {
                        return Err(unreadable("its columns are others".to_owned()));
                    }
                    for (start, state) in by_pane(&batch, &plan)? {
                        // A copy: what was read keeps all that was read with it.
                        let all = UInt64Array::from_iter_values(0..state.num_rows() as u64);
                        let state = take_record_batch(&state, &all);
                        let state = state.map_err(|error| unreadable(error.to_string()))?;
                        panes.entry(start).or_default().add(state);
                    }
                }
            }
            restored.insert(replay.clone(), of);
        }
        let (late, feeds, given_up) = (*late, *feeds, given_up.clone());
        let (timelines, corrects, revision) = (restored, self.corrects, *revision);
        Ok(Self { plan, below, corrects, timelines, late, given_up, feeds, revision })
    }

    /// What state is of: what reads a view has nothing of its corrections.
    fn state_hash(&self) -> &str {
        if self.corrects { self.plan.hash() } else { self.plan.first_hash() }
    }
}

fn read(bytes: &[u8]) -> Result<Vec<RecordBatch>, ArrowError> {
    StreamReader::try_new(Cursor::new(bytes), None)?.collect()
}
