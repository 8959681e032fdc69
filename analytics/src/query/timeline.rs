//! What is held of a timeline, by its panes; and what its windows answer as they close.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Included};

use arrow::array::{Array as _, ArrayRef, AsArray as _, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, filter_record_batch, take_record_batch};
use arrow::datatypes::{DataType, TimestampMicrosecondType};
use arrow::error::ArrowError;

use super::dialect::WINDOW_START;
use super::sessions::Sessions;
use super::{Error, Plan};

/// How many rows of partial aggregates a pane gathers before it is made smaller; then
/// twice as many as were left. The cost for a row stays the same, however many there are.
const PANE_ROWS_MIN: usize = 2_048;
/// By what sessions are held, all together, since they may yet be joined: behind all times.
pub(super) const TOGETHER: i64 = i64::MAX;
/// Rows of state of windows that overlap, which are put together at once; one window at least.
const ROWS_AT_ONCE: usize = 64 * 1_024;

/// What is held of a timeline.
#[derive(Debug)]
pub(super) struct Timeline {
    /// Windows that begin before it have given their answer, and sessions that end by then.
    pub(super) closed: i64,
    /// By when their windows begin: open ones, and closed ones within the horizon. Sessions
    /// are held together.
    pub(super) panes: BTreeMap<i64, Pane>,
    /// Of rows that came too late for their windows and may yet correct them.
    pub(super) late: BTreeMap<i64, Pane>,
    /// Windows that begin before it are corrected, and will not change any more.
    pub(super) corrected: i64,
    /// When rows of it were taken in last, by [`Continuous::feeds`].
    pub(super) fed: u64,
}

/// What windows answer once more, with the rows that came too late for them.
#[derive(Debug, Clone)]
pub struct Correction {
    /// When those windows begin, in microseconds since 1970, in order.
    pub windows: Vec<i64>,
    /// All rows of them, in order; of a window that has none any more, none.
    pub rows: RecordBatch,
}

/// Whose rows an answer is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rows {
    InTime,
    All,
}

/// Partial aggregates of one window.
#[derive(Debug, Default)]
pub(super) struct Pane {
    pub(super) state: Vec<RecordBatch>,
    /// Whether it is as small as it gets.
    is_reduced: bool,
    pub(super) rows: usize,
    /// At how many rows it is made smaller.
    pub(super) full: usize,
}

impl Default for Timeline {
    fn default() -> Self {
        let (panes, late) = (BTreeMap::new(), BTreeMap::new());
        Self { closed: i64::MIN, panes, late, corrected: i64::MIN, fed: 0 }
    }
}

impl Timeline {
    pub(super) fn state_bytes(&self) -> usize {
        let panes = self.panes.values().chain(self.late.values());
        let batches = panes.flat_map(|pane| &pane.state);
        batches.flat_map(|batch| batch.columns()).map(bytes_of).sum()
    }

    /// The answer of the windows that begin before `closes` and have not given it.
    pub(super) async fn close(
        &mut self,
        closes: i64,
        plan: &Plan,
    ) -> Result<Option<RecordBatch>, Error> {
        if let Some(sessions) = plan.sessions() {
            return self.close_sessions(closes, sessions, plan).await;
        }
        let first = self.first_open(plan).filter(|first| *first < closes);
        self.closed = closes;
        let Some(first) = first else { return Ok(None) };
        let ends = plan.answered_until(closes);
        for (_, pane) in self.panes.range_mut((Included(first), Excluded(ends))) {
            pane.reduce(plan).await?;
        }
        let mut answers = Vec::new();
        // A timeline that ends closes all; behind its last pane no window begins.
        let last = self.panes.last_key_value().map_or(first, |(last, _)| *last);
        let closes = closes.min(last.saturating_add(plan.slide_us()));
        let mut from = first;
        while from < closes {
            let before = self.some_windows(from, closes, plan);
            answers.push(self.answer(from, before, Rows::InTime, plan).await?);
            from = before;
        }
        let rows = concat_batches(&plan.schema(), &answers)?;
        Ok((rows.num_rows() > 0).then_some(rows))
    }

    /// The answer of the sessions that end by `closes`.
    async fn close_sessions(
        &mut self,
        closes: i64,
        sessions: &Sessions,
        plan: &Plan,
    ) -> Result<Option<RecordBatch>, Error> {
        self.closed = closes;
        let Some(pane) = self.panes.get_mut(&TOGETHER) else { return Ok(None) };
        if sessions.first_end(&pane.state).is_none_or(|end| end > closes) {
            return Ok(None);
        }
        pane.reduce(plan).await?;
        let (ended, open) = sessions.ended(&pane.state, closes)?;
        if ended.is_empty() {
            return Ok(None);
        }
        pane.keep(open);
        let rows = plan.finish(ended, i64::MIN..closes).await?;
        Ok((rows.num_rows() > 0).then_some(rows))
    }

    /// Up to where windows are put together at once, from one on: the panes of those that
    /// overlap are several times what is held.
    fn some_windows(&self, from: i64, closes: i64, plan: &Plan) -> i64 {
        if plan.overlap_us() == 0 && !plan.holds_rows() {
            return closes;
        }
        let (mut before, mut rows) = (from, 0);
        while before < closes && (rows < ROWS_AT_ONCE || before == from) {
            let panes = self.panes.range(before..before.saturating_add(plan.width_us()));
            rows += panes.map(|(_, pane)| pane.rows).sum::<usize>();
            before += plan.slide_us();
        }
        before
    }

    /// What the windows answer once more that begin before a time, have answered, and read rows
    /// that came too late for them.
    pub(super) async fn correct(
        &mut self,
        corrects: i64,
        plan: &Plan,
    ) -> Result<Option<Correction>, Error> {
        let corrects = corrects.min(self.closed).max(self.corrected);
        let windows = self.late_windows(corrects, plan);
        self.corrected = corrects;
        let (Some(first), Some(last)) = (windows.first(), windows.last()) else { return Ok(None) };
        let reads = first.saturating_sub(plan.horizon_us());
        let ends = plan.answered_until(last.saturating_add(plan.slide_us()));
        for panes in [&mut self.panes, &mut self.late] {
            for (_, pane) in panes.range_mut((Included(reads), Excluded(ends))) {
                pane.reduce(plan).await?;
            }
        }
        let (mut answers, mut left) = (Vec::new(), windows.iter().copied().peekable());
        while let Some(start) = left.next() {
            // Those behind it, as many as are put together at once.
            let (mut before, mut rows) = (start + plan.slide_us(), self.rows_of(start, plan));
            while rows < ROWS_AT_ONCE && left.next_if_eq(&before).is_some() {
                rows += self.rows_of(before, plan);
                before += plan.slide_us();
            }
            answers.push(self.answer(start, before, Rows::All, plan).await?);
        }
        let rows = concat_batches(&plan.schema(), &answers)?;
        Ok(Some(Correction { windows: windows.into_iter().collect(), rows }))
    }

    /// When the first window begins that is to be corrected.
    pub(super) fn first_late(&self, plan: &Plan) -> Option<i64> {
        let first = |pane: &i64| self.late_from(*pane, plan).next();
        self.late.keys().filter_map(first).min().filter(|first| *first < self.closed)
    }

    /// When the windows begin that are not corrected, begin before a time, and read a row that
    /// came too late: their own, or one of those before them.
    fn late_windows(&self, before: i64, plan: &Plan) -> BTreeSet<i64> {
        let mut windows = BTreeSet::new();
        for pane in self.late.keys() {
            windows.extend(self.late_from(*pane, plan).take_while(|start| *start < before));
        }
        // One that has no rows of its own answers nothing, whatever it reads besides.
        windows.retain(|start| self.rows_of(*start, plan) > 0);
        windows
    }

    /// How many of the first windows that have given no answer have so many rows of state
    /// together; one at least.
    pub(super) fn windows_within(&self, rows: usize, plan: &Plan) -> i64 {
        let Some(first) = self.first_open(plan) else { return i64::MAX };
        let mut left = rows;
        for (start, pane) in self.panes.range(first..) {
            match left.checked_sub(pane.rows) {
                Some(rest) => left = rest,
                // The windows that begin before it.
                None => return ((start - first) / plan.slide_us()).max(1),
            }
        }
        i64::MAX
    }

    /// How many rows of state a window has, late ones among them.
    fn rows_of(&self, start: i64, plan: &Plan) -> usize {
        let within = start..start.saturating_add(plan.width_us());
        let panes = self.panes.range(within.clone()).chain(self.late.range(within));
        panes.map(|(_, pane)| pane.rows).sum()
    }

    /// When the windows begin that are not corrected and read a pane, in order.
    fn late_from(&self, pane: i64, plan: &Plan) -> impl Iterator<Item = i64> {
        let first = pane.saturating_sub(plan.overlap_us()).max(self.corrected);
        let (last, slide) = (pane.saturating_add(plan.horizon_us()), plan.slide_us());
        std::iter::successors(Some(first), move |start| start.checked_add(slide))
            .take_while(move |start| *start <= last)
    }

    /// The answer of the windows that begin from one time on, and before another.
    async fn answer(
        &self,
        from: i64,
        before: i64,
        of: Rows,
        plan: &Plan,
    ) -> Result<RecordBatch, Error> {
        let reads = from.saturating_sub(plan.horizon_us());
        let rows = plan.finish(self.windows(reads, before, of, plan)?, reads..before).await?;
        let starts = rows.column_by_name(WINDOW_START).expect("the shape was checked");
        let starts = starts.as_primitive::<TimestampMicrosecondType>();
        let is_new = |start: i64| from <= start && start < before;
        let new: BooleanArray = starts.iter().map(|start| start.map(is_new)).collect();
        Ok(match new.true_count() == rows.num_rows() {
            true => rows,
            false => filter_record_batch(&rows, &new)?,
        })
    }

    /// When the first window begins that has given no answer, and has rows.
    pub(super) fn first_open(&self, plan: &Plan) -> Option<i64> {
        if let Some(sessions) = plan.sessions() {
            let end = sessions.first_end(&self.panes.get(&TOGETHER)?.state)?;
            return Some(end.saturating_sub(sessions.gap_us));
        }
        let (first, _) = self.panes.range(self.closed..).next()?;
        Some(first.saturating_sub(plan.overlap_us()).max(self.closed))
    }

    /// State of the windows that begin in a time: that of the panes of each, as its own.
    fn windows(
        &self,
        from: i64,
        before: i64,
        of: Rows,
        plan: &Plan,
    ) -> Result<Vec<RecordBatch>, ArrowError> {
        let within = (Included(from), Excluded(plan.answered_until(before)));
        let late = (of == Rows::All).then(|| self.late.range(within));
        let panes = self.panes.range(within).chain(late.into_iter().flatten());
        if plan.holds_rows() {
            return Ok(panes.flat_map(|(_, pane)| pane.state.iter().cloned()).collect());
        }
        let mut state = Vec::new();
        for (pane, of) in panes {
            let mut start = *pane;
            while start >= from && start >= pane.saturating_sub(plan.overlap_us()) {
                if start < before {
                    let moved = of.state.iter().map(|of| plan.as_window(of, start));
                    state.extend(moved.collect::<Result<Vec<_>, _>>()?);
                }
                start -= plan.slide_us();
            }
        }
        Ok(state)
    }

    /// Forgets the windows that begin before `start`, and have given their answer for good.
    pub(super) fn forget(&mut self, start: i64) {
        self.panes = self.panes.split_off(&start);
        self.late = self.late.split_off(&start);
    }

    /// The panes of rows in time, or of those that came too late.
    pub(super) fn panes_mut(&mut self, are_late: bool) -> &mut BTreeMap<i64, Pane> {
        if are_late { &mut self.late } else { &mut self.panes }
    }
}

impl Pane {
    pub(super) fn add(&mut self, state: RecordBatch) {
        self.full = self.full.max(PANE_ROWS_MIN);
        self.rows += state.num_rows();
        self.state.push(state);
        self.is_reduced = false;
    }

    pub(super) async fn reduce(&mut self, plan: &Plan) -> Result<(), Error> {
        if !self.is_reduced {
            self.keep(plan.reduce(self.state.clone()).await?);
        }
        Ok(())
    }

    /// Has this state alone from here on, which is as small as it gets.
    fn keep(&mut self, state: Vec<RecordBatch>) {
        self.rows = state.iter().map(RecordBatch::num_rows).sum();
        self.full = PANE_ROWS_MIN.max(self.rows * 2);
        (self.state, self.is_reduced) = (state, true);
    }
}

/// What an array takes: of what it shares with others, its part.
fn bytes_of(array: &ArrayRef) -> usize {
    let own = || array.to_data().get_slice_memory_size().unwrap_or(0);
    match array.data_type() {
        DataType::Utf8View => own() + array.as_string_view().total_buffer_bytes_used(),
        DataType::BinaryView => own() + array.as_binary_view().total_buffer_bytes_used(),
        of if of.is_nested() => array.get_array_memory_size(),
        _ => own(),
    }
}

/// State by the panes that it is held in.
pub(super) fn by_pane(state: &RecordBatch, plan: &Plan) -> Result<Vec<(i64, RecordBatch)>, Error> {
    if plan.sessions().is_some() {
        return Ok(vec![(TOGETHER, state.clone())]);
    }
    let (column, grain) = plan.pane_column();
    let times = state.column(column).as_primitive::<TimestampMicrosecondType>();
    let mut places: BTreeMap<i64, Vec<u32>> = BTreeMap::new();
    for (place, time) in (0..).zip(times.values()) {
        places.entry(time.div_euclid(grain) * grain).or_default().push(place);
    }
    if let Some((start, _)) = places.first_key_value().filter(|_| places.len() == 1) {
        return Ok(vec![(*start, state.clone())]);
    }
    let parts = places
        .into_iter()
        .map(|(start, places)| Ok((start, take_record_batch(state, &UInt32Array::from(places))?)));
    parts.collect()
}
