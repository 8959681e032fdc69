//! State of sessions. A row comes in as a session of its own; those that belong together
//! are joined as state is made smaller, and one is closed once nothing in time can join it.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray as _, BooleanArray, RecordBatch, TimestampMicrosecondArray, UInt64Array,
};
use arrow::compute::{cast, concat_batches, filter_record_batch, min, not, take_record_batch};
use arrow::datatypes::TimestampMicrosecondType;
use arrow::error::ArrowError;
use arrow::row::{RowConverter, Rows, SortField};

/// Where in state the columns of a session stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sessions {
    /// After how long without a row a session is over, in microseconds.
    pub(super) gap_us: i64,
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) keys: Vec<usize>,
}

impl Sessions {
    /// When the first session begins of those in state.
    pub(super) fn first_start(&self, state: &[RecordBatch]) -> Option<i64> {
        first(state, self.start)
    }

    /// When the first session ends at the earliest; rows that were not joined to it yet, and
    /// others to come, may put that off.
    pub(super) fn first_end(&self, state: &[RecordBatch]) -> Option<i64> {
        first(state, self.end)
    }

    /// State of which each row says of the whole session that it is of when it begins and
    /// ends, in the order of keys and time. A row belongs to the session before it, of the
    /// same keys, that has not ended by then.
    pub(super) fn join(&self, state: &[RecordBatch]) -> Result<Option<RecordBatch>, ArrowError> {
        let Some(schema) = state.first().map(RecordBatch::schema) else { return Ok(None) };
        let state = concat_batches(&schema, state)?;
        let keys = self.keys(&state)?;
        let is_same = |a: usize, b: usize| keys.as_ref().is_none_or(|of| of.row(a) == of.row(b));
        let (starts, ends) = (times(&state, self.start).clone(), times(&state, self.end).clone());
        let mut order: Vec<usize> = (0..state.num_rows()).collect();
        order.sort_unstable_by(|a, b| {
            let by_keys = keys.as_ref().map(|of| of.row(*a).cmp(&of.row(*b)));
            let by_keys = by_keys.unwrap_or(std::cmp::Ordering::Equal);
            by_keys.then_with(|| starts.value(*a).cmp(&starts.value(*b)))
        });
        let mut bounds = Vec::with_capacity(order.len());
        let mut left = order.as_slice();
        while let [first, ..] = left {
            let (start, mut end) = (starts.value(*first), ends.value(*first));
            let of_it = left.iter().take_while(|row| {
                let is_of_it =
                    is_same(*first, **row) && (starts.value(**row) < end || row == &first);
                if is_of_it {
                    end = end.max(ends.value(**row));
                }
                is_of_it
            });
            let count = of_it.count();
            bounds.extend(std::iter::repeat_n((start, end), count));
            left = &left[count..];
        }
        let order = UInt64Array::from_iter_values(order.into_iter().map(|row| row as u64));
        let sorted = take_record_batch(&state, &order)?;
        let mut columns = sorted.columns().to_vec();
        let (starts, ends): (Vec<i64>, Vec<i64>) = bounds.into_iter().unzip();
        for (column, times) in [(self.start, starts), (self.end, ends)] {
            let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from(times));
            columns[column] = cast(&times, sorted.column(column).data_type())?;
        }
        RecordBatch::try_new(schema, columns).map(Some)
    }

    /// The sessions that end at or before a time, and the others; all joined before.
    pub(super) fn ended(
        &self,
        state: &[RecordBatch],
        by: i64,
    ) -> Result<(Vec<RecordBatch>, Vec<RecordBatch>), ArrowError> {
        let (mut ended, mut open) = (Vec::new(), Vec::new());
        for batch in state {
            let is_over: BooleanArray =
                times(batch, self.end).values().iter().map(|end| Some(*end <= by)).collect();
            for (part, is_of) in [(&mut ended, is_over.clone()), (&mut open, not(&is_over)?)] {
                if is_of.true_count() > 0 {
                    part.push(filter_record_batch(batch, &is_of)?);
                }
            }
        }
        Ok((ended, open))
    }

    fn keys(&self, state: &RecordBatch) -> Result<Option<Rows>, ArrowError> {
        if self.keys.is_empty() {
            return Ok(None);
        }
        let columns: Vec<ArrayRef> = self.keys.iter().map(|at| state.column(*at).clone()).collect();
        let fields = columns.iter().map(|column| SortField::new(column.data_type().clone()));
        RowConverter::new(fields.collect())?.convert_columns(&columns).map(Some)
    }
}

fn first(state: &[RecordBatch], column: usize) -> Option<i64> {
    state.iter().filter_map(|batch| min(times(batch, column))).min()
}

fn times(state: &RecordBatch, column: usize) -> &TimestampMicrosecondArray {
    state.column(column).as_primitive::<TimestampMicrosecondType>()
}
