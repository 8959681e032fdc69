use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use arrow::array::{
    Array as _, ArrayRef, AsArray as _, BooleanArray, RecordBatch, RecordBatchOptions, UInt32Array,
};
use arrow::compute::{cast, filter_record_batch, take_record_batch};
use arrow::datatypes::{DataType, Int64Type, SchemaRef};
use arrow::error::ArrowError;

use super::plan::of_timeline;
use super::timeline::{Correction, TOGETHER, Timeline, by_pane};
use super::{Error, Order, Plan};

/// How many timelines are followed at once: the live one, and replays that have not
/// ended. For one more, the replay that was silent for longest is given up.
pub(super) const TIMELINES_MAX: usize = 64;
/// How many replays are known to be given up; beyond it, the first by name is forgotten.
const GIVEN_UP_MAX: usize = 1_000;
/// How many windows of a view close at once for the query that reads it.
const BELOW_AT_ONCE: i64 = 16;

/// A query that is running. Rows go in as they come, answers come out as windows close.
#[derive(Debug)]
pub struct Continuous {
    pub(super) plan: Arc<Plan>,
    /// The view that it reads, which runs within it.
    pub(super) below: Option<Box<Continuous>>,
    /// Whether rows that come too late for their windows are kept to correct them.
    pub(super) corrects: bool,
    /// By replay, with the live one under nothing.
    pub(super) timelines: BTreeMap<Option<String>, Timeline>,
    /// Rows that came too late for their windows.
    pub(super) late: u64,
    /// Replays that give no answer, since too much was open: what comes of them is passed
    /// over until they end.
    pub(super) given_up: BTreeSet<String>,
    /// How often rows were taken in.
    pub(super) feeds: u64,
    /// The last revision of the registry that rows named, which they are joined by.
    pub(super) revision: u64,
}

impl Continuous {
    /// A query that has seen nothing.
    pub fn new(plan: Plan) -> Self {
        Self::of(Arc::new(plan))
    }

    pub(super) fn of(plan: Arc<Plan>) -> Self {
        // What reads a view has what it answered first.
        let of_below = |below: &Arc<Plan>| Self { corrects: false, ..Self::of(below.clone()) };
        let below = plan.below().map(|below| Box::new(of_below(below)));
        let (timelines, given_up) = (BTreeMap::new(), BTreeSet::new());
        let corrects = plan.corrections_us().is_some();
        Self { plan, below, corrects, timelines, late: 0, given_up, feeds: 0, revision: 0 }
    }

    /// What it runs.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// How many rows came too late for their windows, on all timelines.
    pub fn late(&self) -> u64 {
        self.late + self.below.as_ref().map_or(0, |below| below.late())
    }

    /// How much memory the partial aggregates take, in bytes.
    pub fn state_bytes(&self) -> usize {
        self.own_bytes() + self.below.as_ref().map_or(0, |below| below.state_bytes())
    }

    fn own_bytes(&self) -> usize {
        self.timelines.values().map(Timeline::state_bytes).sum()
    }

    /// The replays that were given up and have not ended.
    pub fn given_up(&self) -> impl ExactSizeIterator<Item = &str> {
        self.given_up.iter().map(String::as_str)
    }

    /// Forgets which replays were given up, of those that have ended: nothing of them is
    /// in time any more.
    pub fn forget_given_up(&mut self, ended: &[String]) {
        if !self.given_up.is_empty() {
            self.given_up.retain(|replay| !ended.contains(replay));
        }
        if let Some(below) = &mut self.below {
            below.forget_given_up(ended);
        }
    }

    /// The timelines of which something is held; nothing stands for live traffic.
    pub fn timelines(&self) -> impl Iterator<Item = Option<&str>> {
        let mut all: BTreeSet<Option<&str>> = self.timelines.keys().map(Option::as_deref).collect();
        let mut below = self.below.as_deref();
        while let Some(of) = below {
            all.extend(of.timelines.keys().map(Option::as_deref));
            below = of.below.as_deref();
        }
        all.into_iter()
    }

    /// Windows of a timeline that begin before it have given their answer; microseconds
    /// since 1970.
    pub fn closed(&self, timeline: Option<&str>) -> Option<i64> {
        let Some(of) = self.timelines.get(&timeline.map(str::to_owned)) else {
            // Nothing came of it that this query reads.
            let below = self.below.as_ref()?.closed(timeline)?;
            return Some(self.plan.closes_by(below));
        };
        let open = || self.plan.sessions()?.first_start(&of.panes.get(&TOGETHER)?.state);
        Some(of.closed.min(open().unwrap_or(i64::MAX)))
    }

    /// Until when windows of a timeline have answered, by when they end; microseconds since
    /// 1970.
    pub fn answered_until(&self, timeline: Option<&str>) -> Option<i64> {
        match self.plan.order() {
            // The next may have begun long before.
            Order::End => match self.timelines.get(&timeline.map(str::to_owned)) {
                Some(of) => Some(of.closed),
                None => self.closed(timeline),
            },
            Order::Begin { .. } => Some(self.plan.answered_until(self.closed(timeline)?)),
        }
    }

    /// When the first window of a timeline begins that has given no answer, in
    /// microseconds since 1970.
    pub fn first_open(&self, timeline: Option<&str>) -> Option<i64> {
        let of = self.timelines.get(&timeline.map(str::to_owned));
        let own = of.and_then(|of| of.first_open(&self.plan));
        // A row of the view below is in windows that overlap, of which the first are open.
        let below = self.below.as_ref().and_then(|below| below.first_open(timeline));
        let below = below.map(|first| self.plan.closes_by(first).max(self.closed_below(timeline)));
        own.into_iter().chain(below).min()
    }

    /// How many of the first windows of a timeline that have given no answer have so many rows of
    /// state together, one at least; a great number of sessions, and of what reads a view.
    pub fn windows_within(&self, timeline: Option<&str>, rows: usize) -> i64 {
        let of = self.timelines.get(&timeline.map(str::to_owned));
        match (of, self.plan.order(), &self.below) {
            (Some(of), Order::Begin { .. }, None) => of.windows_within(rows, &self.plan),
            _ => i64::MAX,
        }
    }

    fn closed_below(&self, timeline: Option<&str>) -> i64 {
        let of = self.timelines.get(&timeline.map(str::to_owned));
        of.map_or(i64::MIN, |of| of.closed)
    }

    /// Takes rows of [`crate::intake::stamped_schema`], of any timelines, in the order of
    /// their partition's log.
    ///
    /// # Errors
    /// The query has failed then, and may have taken some of the rows.
    pub async fn feed(&mut self, rows: &RecordBatch) -> Result<(), Error> {
        if let Some(below) = &mut self.below {
            Box::pin(below.feed(rows)).await?;
            self.agree();
            return Ok(());
        }
        let lags = column(rows, "lag_us", &DataType::Int64)?;
        let lags = lags.as_primitive::<Int64Type>();
        let lateness = self.plan.lateness_us();
        let in_time: BooleanArray =
            lags.values().iter().map(|lag| Some(*lag <= lateness)).collect();
        self.late += in_time.false_count() as u64;
        self.feeds += 1;
        let mut fed = self.feed_some(rows, &in_time, false).await?;
        if let Some(corrections) = self.plan.corrections_us().filter(|_| self.corrects) {
            let corrects = |lag: &i64| lateness < *lag && *lag <= corrections;
            let late: BooleanArray = lags.values().iter().map(|lag| Some(corrects(lag))).collect();
            if late.true_count() > 0 {
                fed |= self.feed_some(rows, &late, true).await?;
            }
        }
        if fed && self.own_bytes() > self.plan.memory_max() {
            self.shrink().await?;
        }
        Ok(())
    }

    /// Takes some of the rows: those in time, or those that are late and correct. Answers
    /// whether there were any.
    async fn feed_some(
        &mut self,
        rows: &RecordBatch,
        some: &BooleanArray,
        are_late: bool,
    ) -> Result<bool, Error> {
        let timelines = split(rows, some)?;
        let rows = columns(rows, self.plan.reads())?;
        let mut fed = false;
        for (timeline, part) in timelines {
            if timeline.as_ref().is_some_and(|replay| self.given_up.contains(replay)) {
                continue;
            }
            let part = match part {
                Part::All if some.false_count() == 0 => rows.clone(),
                Part::All => filter_record_batch(&rows, some)?,
                Part::Some(places) => take_record_batch(&rows, &UInt32Array::from(places))?,
            };
            if part.num_rows() > 0 {
                self.feed_timeline(timeline, part, are_late).await?;
                fed = true;
            }
        }
        Ok(fed)
    }

    /// Takes what the view below gave for a timeline.
    async fn take(&mut self, timeline: Option<&str>, rows: RecordBatch) -> Result<(), Error> {
        let rows = columns(&of_timeline(&rows, timeline)?, self.plan.reads())?;
        self.feeds += 1;
        self.feed_timeline(timeline.map(str::to_owned), rows, false).await?;
        if self.own_bytes() > self.plan.memory_max() {
            self.shrink().await?;
        }
        self.agree();
        Ok(())
    }

    /// Takes what the view below gives as its windows close, a few of them at a time: all of
    /// them may be many times what is held.
    async fn take_from_below(
        &mut self,
        timeline: Option<&str>,
        floor_us: i64,
    ) -> Result<(), Error> {
        while let Some(below) = &mut self.below {
            let next =
                below.first_open(timeline).map(|first| below.plan.floor_of(first, BELOW_AT_ONCE));
            let step = next.map_or(floor_us, |next| next.min(floor_us));
            let rows = Box::pin(below.advance(timeline, step)).await?;
            if let Some(rows) = rows {
                self.take(timeline, rows).await?;
            }
            if step >= floor_us || next.is_none() {
                break;
            }
        }
        self.agree();
        Ok(())
    }

    /// Gives up what the view below has given up, and the other way round.
    fn agree(&mut self) {
        let Some(below) = &mut self.below else { return };
        for replay in below.given_up.difference(&self.given_up).cloned().collect::<Vec<_>>() {
            self.timelines.remove(&Some(replay.clone()));
            self.given_up.insert(replay);
        }
        for replay in self.given_up.difference(&below.given_up).cloned().collect::<Vec<_>>() {
            below.timelines.remove(&Some(replay.clone()));
            below.given_up.insert(replay);
        }
        below.agree();
    }

    async fn feed_timeline(
        &mut self,
        timeline: Option<String>,
        rows: RecordBatch,
        are_late: bool,
    ) -> Result<(), Error> {
        self.revision = self.revision.max(self.plan.revision_of(&rows));
        self.plan.wait_for(self.revision).await?;
        let partial = self.plan.partial(rows).await?;
        if !self.timelines.contains_key(&timeline) && self.timelines.len() >= TIMELINES_MAX {
            self.give_up(|of| std::cmp::Reverse(of.fed));
        }
        let of = self.timelines.entry(timeline).or_default();
        of.fed = self.feeds;
        for state in partial {
            for (pane, state) in by_pane(&state, &self.plan)? {
                let start = match self.plan.sessions() {
                    Some(sessions) => sessions.first_start(std::slice::from_ref(&state)),
                    None => Some(pane),
                };
                let done = if are_late { of.corrected } else { of.closed };
                if start.is_some_and(|start| start < done) {
                    return Err(Error::Closed { name: self.plan.file().name.clone() });
                }
                let pane = of.panes_mut(are_late).entry(pane).or_default();
                pane.add(state);
                if pane.rows > pane.full {
                    pane.reduce(&self.plan).await?;
                }
            }
        }
        Ok(())
    }

    /// Closes the windows that end at or before what a timeline has surely passed: the
    /// floor below which every row of it is late at no lateness ([`crate::intake::watermark`]),
    /// in microseconds. Answers what they give, if any closed, ordered by window.
    ///
    /// # Errors
    /// The query has failed then.
    pub async fn advance(
        &mut self,
        timeline: Option<&str>,
        floor_us: i64,
    ) -> Result<Option<RecordBatch>, Error> {
        let closes = match &self.below {
            None => self.plan.closes(floor_us),
            Some(_) => {
                self.take_from_below(timeline, floor_us).await?;
                let closed = self.below.as_ref().and_then(|below| below.closed(timeline));
                let Some(closed) = closed else { return Ok(None) };
                self.plan.closes_by(closed)
            }
        };
        let Some(of) = self.timelines.get_mut(&timeline.map(str::to_owned)) else {
            return Ok(None);
        };
        if closes <= of.closed {
            return Ok(None);
        }
        // What is held may have been taken in before this process began.
        self.plan.wait_for(self.revision).await?;
        let answer = of.close(closes, &self.plan).await?;
        if !self.corrects {
            of.forget(closes.saturating_sub(self.plan.horizon_us()));
        }
        Ok(answer)
    }

    /// Corrects windows that have answered, so many at most, as far as no row can correct them
    /// any more at a floor ([`Self::advance`]), in microseconds. Answers what they give now, if
    /// rows came too late for any, and whether there are more.
    ///
    /// # Errors
    /// The query has failed then.
    pub async fn correct(
        &mut self,
        timeline: Option<&str>,
        floor_us: i64,
        windows: i64,
    ) -> Result<(Option<Correction>, bool), Error> {
        let of = self.timelines.get_mut(&timeline.map(str::to_owned)).filter(|_| self.corrects);
        let Some(of) = of else { return Ok((None, false)) };
        let until = self.plan.corrects(floor_us).min(of.closed);
        let Some(first) = of.first_late(&self.plan).filter(|first| *first < until) else {
            of.corrected = until.max(of.corrected);
            of.forget(of.corrected.saturating_sub(self.plan.horizon_us()));
            return Ok((None, false));
        };
        self.plan.wait_for(self.revision).await?;
        let step = first.saturating_add(self.plan.slide_us().saturating_mul(windows));
        let correction = of.correct(step.min(until), &self.plan).await?;
        of.forget(of.corrected.saturating_sub(self.plan.horizon_us()));
        let more = of.first_late(&self.plan).is_some_and(|first| first < until);
        Ok((correction, more))
    }

    /// Closes all windows of a timeline that has ended, and forgets it.
    ///
    /// # Errors
    /// The query has failed then.
    pub async fn end(&mut self, timeline: Option<&str>) -> Result<Option<RecordBatch>, Error> {
        self.take_from_below(timeline, i64::MAX).await?;
        if let Some(below) = &mut self.below
            && let Some(rows) = Box::pin(below.end(timeline)).await?
        {
            self.take(timeline, rows).await?;
        }
        let Some(mut of) = self.timelines.remove(&timeline.map(str::to_owned)) else {
            return Ok(None);
        };
        self.plan.wait_for(self.revision).await?;
        of.close(i64::MAX, &self.plan).await
    }

    /// Gives up the replay of which `most` is greatest. Answers whether there was one.
    fn give_up<K: Ord>(&mut self, most: impl Fn(&Timeline) -> K) -> bool {
        let replays = self.timelines.iter().filter_map(|(id, of)| Some((id.as_ref()?, of)));
        let Some((replay, _)) = replays.max_by_key(|(_, of)| most(of)) else { return false };
        let replay = replay.clone();
        self.timelines.remove(&Some(replay.clone()));
        let query = &self.plan.file().name;
        tracing::warn!(query, replay, "too much is open: the query gives up a replay");
        self.given_up.insert(replay);
        if self.given_up.len() > GIVEN_UP_MAX {
            self.given_up.pop_first();
        }
        true
    }

    /// Makes all state as small as it gets. If it is still more than the query may hold,
    /// the largest replays are given up: live traffic is not stopped by them.
    ///
    /// # Errors
    /// If live traffic alone is more than the query may hold, or a run fails.
    pub(super) async fn shrink(&mut self) -> Result<(), Error> {
        for of in self.timelines.values_mut() {
            for pane in of.panes.values_mut().chain(of.late.values_mut()) {
                pane.reduce(&self.plan).await?;
            }
        }
        while self.own_bytes() > self.plan.memory_max() {
            if !self.give_up(Timeline::state_bytes) {
                return Err(self.plan.too_much());
            }
        }
        Ok(())
    }
}

/// Which of the rows are a timeline's.
enum Part {
    All,
    Some(Vec<u32>),
}

/// The rows in time by their timeline.
fn split(
    rows: &RecordBatch,
    in_time: &BooleanArray,
) -> Result<Vec<(Option<String>, Part)>, ArrowError> {
    let replays = column(rows, "replay_id", &DataType::Utf8)?;
    let replays = replays.as_string::<i32>();
    if replays.null_count() == replays.len() {
        return Ok(vec![(None, Part::All)]);
    }
    let mut places: HashMap<Option<&str>, Vec<u32>> = HashMap::new();
    for (place, replay) in
        (0..).zip(replays.iter()).filter(|(place, _)| in_time.value(*place as usize))
    {
        places.entry(replay).or_default().push(place);
    }
    let mut parts: Vec<_> = places
        .into_iter()
        .map(|(replay, places)| (replay.map(str::to_owned), Part::Some(places)))
        .collect();
    parts.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(parts)
}

/// The columns of `schema`, which the rows have.
fn columns(rows: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let columns = schema.fields().iter().map(|of| column(rows, of.name(), of.data_type()));
    let columns = columns.collect::<Result<_, _>>()?;
    let count = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    RecordBatch::try_new_with_options(schema.clone(), columns, &count)
}

/// A column by the type that it has in the log: the table at rest may give it by another,
/// such as views of texts.
fn column(rows: &RecordBatch, name: &str, data_type: &DataType) -> Result<ArrayRef, ArrowError> {
    let column = rows
        .column_by_name(name)
        .ok_or_else(|| ArrowError::SchemaError(format!("the rows have no column {name}")))?;
    if column.data_type() == data_type { Ok(column.clone()) } else { cast(column, data_type) }
}
