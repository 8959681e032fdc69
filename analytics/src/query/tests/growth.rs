//! What a query holds is what is open, however much came before.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::compute::{cast, concat_batches, filter_record_batch, is_null};
use fastrand::Rng;

use super::world::{BEGIN, S, plan, records, run};
use crate::query::Continuous;

const HOUR: i64 = 3_600 * S;
const TEXTS: [&str; 6] = [
    "SELECT window_start, api_name, count(*) AS n, count(DISTINCT client_address) AS clients,
        approx_percentile(latency_total_us, 0.9) AS p90
     FROM TUMBLE(events, event_time, INTERVAL '1 minute') WHERE kind = 'request'
     GROUP BY window_start, api_name",
    "SELECT window_start, window_end, client_address, count(*) AS n
     FROM HOP(events, event_time, INTERVAL '1 minute', INTERVAL '10 minutes')
     GROUP BY window_start, window_end, client_address",
    "-- title: a test
-- owner: tests
-- horizon: 2 h
     SELECT window_start, n, sum(n) OVER (ORDER BY window_start
        RANGE BETWEEN INTERVAL '2 hours' PRECEDING AND CURRENT ROW) AS lately
     FROM (SELECT window_start, count(*) AS n FROM TUMBLE(events, event_time, INTERVAL '1 minute')
        GROUP BY window_start)",
    "SELECT window_start, client_address, lag(event_time) OVER (
        PARTITION BY window_start, client_address ORDER BY event_time, log_partition, log_offset)
     FROM TUMBLE(events, event_time, INTERVAL '5 minutes')",
    "-- title: a test
-- owner: tests
-- corrections: 1 h
     SELECT window_start, api_name, count(*) AS n
     FROM TUMBLE(events, event_time, INTERVAL '1 minute') GROUP BY window_start, api_name",
    // It has nothing of the corrections.
    "SELECT window_start, max(n) AS most FROM TUMBLE((SELECT window_start AS minute, n
        FROM corrected), minute, INTERVAL '2 hours') GROUP BY window_start",
];

/// Rows of live traffic, in time by any lateness.
async fn rows(rng: &mut Rng) -> RecordBatch {
    let rows = run(TEXTS[0], &records(rng, 1, 600), rng).await.rows;
    let rows = concat_batches(&rows[0].schema(), &rows).unwrap();
    let live = is_null(rows.column_by_name("replay_id").unwrap()).unwrap();
    filter_record_batch(&rows, &live).unwrap()
}

/// The rows, spread over an hour.
fn within(rows: &RecordBatch, hour: i64) -> RecordBatch {
    let count = rows.num_rows() as i64;
    let times = (0..count).map(|at| BEGIN + hour * HOUR + HOUR * at / count);
    let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from_iter_values(times));
    let mut columns = rows.columns().to_vec();
    let at = |name: &str| rows.schema().index_of(name).unwrap();
    let of = columns[at("event_time")].data_type().clone();
    columns[at("event_time")] = cast(&times, &of).unwrap();
    // Late rows come at times, and then none for days.
    let is_late = |at: i64| at % 10 == 0 && hour % 100 < 5;
    let lags = (0..count).map(|at| if is_late(at) { 120 * S } else { 0 });
    columns[at("lag_us")] = Arc::new(Int64Array::from_iter_values(lags));
    RecordBatch::try_new(rows.schema(), columns).unwrap()
}

#[tokio::test]
async fn ten_days_hold_no_more_than_hours_do() {
    const HOURS: i64 = 10 * 24;
    let mut rng = Rng::with_seed(3);
    let rows = rows(&mut rng).await;
    for text in TEXTS {
        let mut query = Continuous::new(plan(text).await);
        let mut held = Vec::new();
        for hour in 0..HOURS {
            let rows = within(&rows, hour);
            query.feed(&rows).await.unwrap();
            let most = query.state_bytes();
            query.advance(None, BEGIN + (hour + 1) * HOUR).await.unwrap();
            query.correct(None, BEGIN + (hour + 1) * HOUR, i64::MAX).await.unwrap();
            held.push((most, query.state_bytes()));
            if hour % 24 == 0 {
                let saved = query.save().await.unwrap();
                query = Continuous::restore(plan(text).await, &saved).unwrap();
            }
        }
        // The horizon is full by then.
        let early = held[3..10].iter().copied().fold((0, 0), |a, b| (a.0.max(b.0), a.1.max(b.1)));
        let late = held[10..].iter().copied().fold((0, 0), |a, b| (a.0.max(b.0), a.1.max(b.1)));
        let grown = |late: usize, early: usize| late as f64 / early as f64;
        assert!(early.1 > 0, "{text}: nothing is held between hours");
        assert!(
            grown(late.0, early.0) < 1.1 && grown(late.1, early.1) < 1.1,
            "{text}: {late:?} bytes after {HOURS} hours, {early:?} before"
        );
    }
}
