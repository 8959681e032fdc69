//! What a continuous query holds, and how fast it is, after an hour and after 30 days of the
//! same rate.

use std::sync::Arc;
use std::time::Instant;

use analytics::query::Continuous;
use anyhow::Result;
use arrow::array::{ArrayRef, RecordBatch, TimestampMicrosecondArray};

use super::queries::{BEGIN, planned};

const HOUR: i64 = 3_600_000_000;
const HOURS: i64 = 30 * 24;
/// A row each second.
const ROWS_AN_HOUR: usize = 3_600;
/// How many hours at the beginning and at the end are compared; before the first, windows that
/// reach back are filled.
const COMPARED: i64 = 24;

/// Those that hold groups, and rows, and one that reads a day back.
const QUERIES: [&str; 4] =
    ["traffic_by_api_minute", "error_burst", "resource_steps", "client_out_of_range"];

/// Runs each over rows that are repeated hour by hour.
pub(crate) async fn all(rows: &[RecordBatch]) -> Result<()> {
    let rows = arrow::compute::concat_batches(&rows[0].schema(), rows)?;
    let rows = rows.slice(0, ROWS_AN_HOUR.min(rows.num_rows()));
    for name in QUERIES {
        let mut query = Continuous::new(planned(name).await?);
        // Per hour: bytes held at most, and seconds.
        let mut hours = Vec::new();
        for hour in 0..HOURS {
            let rows = within(&rows, hour)?;
            let began = Instant::now();
            query.feed(&rows).await?;
            let held = query.state_bytes();
            query.advance(None, BEGIN + (hour + 1) * HOUR).await?;
            hours.push((held, began.elapsed().as_secs_f64()));
        }
        let of = |hours: &[(usize, f64)]| {
            let held = hours.iter().map(|(held, _)| *held).max().unwrap_or(0);
            let seconds: f64 = hours.iter().map(|(_, seconds)| seconds).sum();
            (held as f64, rows.num_rows() as f64 * hours.len() as f64 / seconds)
        };
        let begin = COMPARED as usize + 1;
        let (early, early_rate) = of(&hours[begin..2 * begin]);
        let (late, late_rate) = of(&hours[hours.len() - begin..]);
        println!(
            "  {name}: {:.1} MB held at most in the second day, {:.1} MB in the 30th: {:.2} of it; \
             {early_rate:.0} rows a second then, {late_rate:.0}: {:.2} of it",
            early / 1e6,
            late / 1e6,
            late / early,
            late_rate / early_rate
        );
    }
    Ok(())
}

/// The rows, spread over an hour.
fn within(rows: &RecordBatch, hour: i64) -> Result<RecordBatch> {
    let count = rows.num_rows() as i64;
    let times = (0..count).map(|at| BEGIN + hour * HOUR + HOUR * at / count);
    let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from_iter_values(times));
    let at = rows.schema().index_of("event_time")?;
    let mut columns = rows.columns().to_vec();
    columns[at] = arrow::compute::cast(&times, rows.column(at).data_type())?;
    Ok(RecordBatch::try_new(rows.schema(), columns)?)
}
