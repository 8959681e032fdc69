//! A part of the table that is read by event time.

use std::ops::Range;

use arrow::array::AsArray as _;
use arrow::datatypes::{DataType, Int64Type, TimestampMicrosecondType};
use datafusion::common::ScalarValue;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::functions::datetime::expr_fn::date_trunc;
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::Expr;
use datafusion::prelude::{DataFrame, SessionContext, col, lit};
use serde::{Deserialize, Serialize};

use super::rows::{EVENT_DATE, day_of, table_schema};
use super::{Error, History, Table};

/// The shortest time that a slice is of: rows are counted by it.
const SLICE_MIN: &str = "minute";

/// Rows of the table from where a reader is, up to offsets. Since its end is known, so is
/// which of the rows before it are in time for their windows: what is taken in by event time
/// gives what the log's order gives, and windows close on the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backlog {
    /// Per partition, the offset after the last of the rows.
    pub to: Vec<u64>,
    /// Below which event time every live row behind them is late, in microseconds: see
    /// [`watermark`](crate::intake::watermark).
    pub floor_us: i64,
}

/// Live rows of a backlog, from where the slice before it ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    /// Their event time is before it, in microseconds; `i64::MAX` of the last slice.
    pub before_us: i64,
    /// How many they are.
    pub rows: u64,
}

/// Which rows of a backlog are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// Those of live traffic with event times within a range, in microseconds.
    Live(Range<i64>),
    /// Those of replays.
    Replays,
}

impl History {
    /// What the table has beyond offsets, one for each partition, if that may be more than so
    /// many rows, and windows may be closed behind it.
    pub async fn backlog(&self, from: &[u64], more_than: u64) -> Option<Backlog> {
        let (ends, floor_us) = self.at_rest().await;
        let to: Vec<u64> = from.iter().zip(ends).map(|(from, end)| end.max(*from)).collect();
        let rows: u64 = from.iter().zip(&to).map(|(from, to)| to - from).sum();
        floor_us.filter(|_| rows > more_than).map(|floor_us| Backlog { to, floor_us })
    }

    /// The slices of a backlog from an event time on, each of `rows` rows at most, unless one
    /// minute has more; and how many rows of replays it has.
    ///
    /// # Errors
    /// As [`Self::read_backlog`].
    pub async fn slices(
        &self,
        (from, of): (&[u64], &Backlog),
        from_us: i64,
        rows: u64,
    ) -> Result<(Vec<Slice>, u64), Error> {
        let replayed = self.rows_of(from, of, &Which::Replays).await?.count().await?;
        let live = self.rows_of(from, of, &Which::Live(from_us..i64::MAX)).await?;
        let minute = date_trunc(lit(SLICE_MIN), col("event_time")).alias("minute");
        let counted = live.aggregate(vec![minute], vec![count(lit(1)).alias("count")])?;
        let counted = counted.sort(vec![col("minute").sort(true, true)])?.collect().await?;
        let mut slices = Vec::new();
        let mut open = 0;
        for batch in &counted {
            let minutes = batch.column(0).as_primitive::<TimestampMicrosecondType>().values();
            let counts = batch.column(1).as_primitive::<Int64Type>().values();
            for (minute, count) in minutes.iter().zip(counts) {
                let count = count.unsigned_abs();
                if open > 0 && open + count > rows {
                    slices.push(Slice { before_us: *minute, rows: open });
                    open = 0;
                }
                open += count;
            }
        }
        // Behind the last row of all there may be windows to close.
        slices.push(Slice { before_us: i64::MAX, rows: open });
        Ok((slices, replayed as u64))
    }

    /// Some columns of rows of a backlog, in no order.
    ///
    /// # Errors
    /// [`Error::Plan`]; [`Error::Ahead`] if the table does not have all of it, [`Error::Table`] if
    /// that cannot be told.
    pub async fn read_backlog(
        &self,
        (from, of): (&[u64], &Backlog),
        which: &Which,
        columns: &[String],
    ) -> Result<SendableRecordBatchStream, Error> {
        let rows = self.rows_of(from, of, which).await?;
        let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
        Ok(rows.select_columns(&columns)?.execute_stream().await?)
    }

    async fn rows_of(&self, from: &[u64], of: &Backlog, which: &Which) -> Result<DataFrame, Error> {
        let mut table = self.table().await;
        let lacks = |table: &Table| {
            let spans = table.stamps().iter().zip(from.iter().zip(&of.to));
            spans.into_iter().any(|(stamps, (from, to))| from < to && stamps.next() < *to)
        };
        if lacks(&table) {
            // It was another process that saw it, and has committed what is only in memory here.
            self.refresh().await?;
            table = self.table().await;
        }
        if lacks(&table) {
            return Err(Error::Ahead);
        }
        let rows = SessionContext::new().read_table(table.provider().await?)?;
        let spans = from.iter().zip(&of.to).zip(0_i32..).map(|((from, to), partition)| {
            let offset = |of: &u64| lit(i64::try_from(*of).unwrap_or(i64::MAX));
            let at = || col("log_offset");
            let offsets = at().gt_eq(offset(from)).and(at().lt(offset(to)));
            col("log_partition").eq(lit(partition)).and(offsets)
        });
        let is_asked = spans.reduce(Expr::or).unwrap_or(lit(false));
        let is_of = match which {
            Which::Live(times) => col("replay_id").is_null().and(within(times)),
            Which::Replays => col("replay_id").is_not_null(),
        };
        Ok(rows.filter(is_asked.and(is_of))?)
    }
}

/// Whether a row's event time lies within a range; by its day too, by which files are told
/// apart.
fn within(times: &Range<i64>) -> Expr {
    let schema = table_schema();
    let time = |us: i64| match schema.field_with_name("event_time").map(|of| of.data_type()) {
        Ok(DataType::Timestamp(_, zone)) => {
            lit(ScalarValue::TimestampMicrosecond(Some(us), zone.clone()))
        }
        _ => unreachable!("the table of fields has it as a time"),
    };
    let day = |us: i64| lit(ScalarValue::Date32(Some(day_of(us))));
    let mut is_within = lit(true);
    if times.start > i64::MIN {
        is_within = col(EVENT_DATE).gt_eq(day(times.start));
        is_within = is_within.and(col("event_time").gt_eq(time(times.start)));
    }
    if times.end < i64::MAX {
        is_within = is_within.and(col(EVENT_DATE).lt_eq(day(times.end)));
        is_within = is_within.and(col("event_time").lt(time(times.end)));
    }
    is_within
}
