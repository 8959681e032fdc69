//! Continuous queries as streams, beside the same text over all rows at once.

use std::fs::File;
use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use analytics::query::{Continuous, Plan, QueryFile, Reference, Sources, Span, backtest};
use analytics::run::shipped::SHIPPED;
use anyhow::{Context, Result, ensure};
use arrow::array::{ArrayRef, RecordBatch, TimestampMicrosecondArray};
use datafusion::datasource::MemTable;
use datafusion::execution::runtime_env::RuntimeEnv;

/// When the rows begin, and over how long they are spread, in microseconds.
pub(crate) const BEGIN: i64 = 1_769_904_000_000_000;
const SPREAD: i64 = 3_600_000_000;
const OWNERS: usize = 10_000;
/// How many queries run together.
const TOGETHER: usize = 200;

/// What each shows of the cost of a query, and which query it is.
const QUERIES: [(&str, &str); 8] = [
    ("groups of a minute", "traffic_by_api_minute"),
    ("groups of windows that overlap five times", "error_burst"),
    ("percentiles of five minutes", "latency_by_resource"),
    ("groups, joined with 10,000 rows", "joined"),
    ("groups of sessions", "sessions"),
    ("rows held for ten minutes", "resource_steps"),
    ("rows held, windows that overlap ten times", "api_health"),
    ("a view over a view, and its week before", "response_time_out_of_range"),
];
const JOINED: &str = "-- title: a bench\n-- owner: benches
SELECT window_start, owner, count(*) AS n FROM TUMBLE(events, event_time, INTERVAL '1 minute')
JOIN owners ON address = client_address GROUP BY window_start, owner";
const SESSIONS: &str = "-- title: a bench\n-- owner: benches
SELECT window_start, window_end, client_address, count(*) AS n
FROM SESSION(events, event_time, client_address, INTERVAL '1 minute')
GROUP BY window_start, window_end, client_address";

/// One of the queries of the benches, or a shipped one.
pub(crate) async fn planned(name: &str) -> Result<Plan> {
    let text = match name {
        "joined" => JOINED,
        "sessions" => SESSIONS,
        _ => SHIPPED.iter().find(|of| of.name == name).context("it is shipped")?.text,
    };
    let file = QueryFile::parse(name, text).ok().context("its header is right")?;
    Plan::new(file, &sources()?).await.map_err(|fault| anyhow::anyhow!("{fault}"))
}

/// Runs each over the rows, spread over an hour, in their batches.
pub(crate) async fn all(rows: &[RecordBatch]) -> Result<()> {
    let rows = spread(rows)?;
    let count: usize = rows.iter().map(|(rows, _)| rows.num_rows()).sum();
    for (what, name) in QUERIES {
        let mut query = Continuous::new(planned(name).await?);
        let (mut answered, mut most, began) = (0, 0, Instant::now());
        for (rows, floor) in &rows {
            query.feed(rows).await?;
            answered += query.advance(None, *floor).await?.map_or(0, |rows| rows.num_rows());
            most = most.max(query.state_bytes());
        }
        answered += query.end(None).await?.map_or(0, |rows| rows.num_rows());
        let stream = count as f64 / began.elapsed().as_secs_f64();
        let all = rows.iter().map(|(rows, _)| rows.clone()).collect();
        let table = Arc::new(MemTable::try_new(rows[0].0.schema(), vec![all])?);
        let began = Instant::now();
        let runtime = Arc::new(RuntimeEnv::default());
        let answer = backtest(query.plan(), table, &Span::default(), runtime).await?;
        let at_once = count as f64 / began.elapsed().as_secs_f64();
        ensure!(answer.num_rows() == answered, "{name}: {} rows, {answered}", answer.num_rows());
        println!(
            "  {name} ({what}): {:.2} M rows a second as a stream, {:.1} MB held at most; over all \
             rows at once, on two cores, {:.2} M",
            stream / 1e6,
            most as f64 / 1e6,
            at_once / 1e6
        );
    }
    Ok(())
}

/// Runs many over the same rows, which were decoded once.
pub(crate) async fn together(rows: &[RecordBatch], decoding: Duration) -> Result<()> {
    let rows = spread(rows)?;
    let count: usize = rows.iter().map(|(rows, _)| rows.num_rows()).sum();
    let mut queries = Vec::new();
    for number in 0..TOGETHER {
        let text = format!(
            "-- title: a bench\n-- owner: benches\nSELECT window_start, api_name, \
             count(*) AS requests, sum(latency_total_us) AS total_us \
             FROM TUMBLE(events, event_time, INTERVAL '1 minute') WHERE kind = 'request' \
             AND latency_total_us >= {} GROUP BY window_start, api_name",
            4_210 + 2 * number
        );
        let file = QueryFile::parse("bench", &text).ok().context("its header is right")?;
        let plan = Plan::new(file, &sources()?).await;
        queries.push(Continuous::new(plan.map_err(|fault| anyhow::anyhow!("{fault}"))?));
    }
    let run = async |queries: &mut [Continuous]| -> Result<Duration> {
        let began = Instant::now();
        for (rows, floor) in &rows {
            for query in &mut *queries {
                query.feed(rows).await?;
                query.advance(None, *floor).await?;
            }
        }
        Ok(began.elapsed())
    };
    let (alone, others) = queries.split_at_mut(1);
    let (of_one, of_others) = (run(alone).await?, run(others).await?);
    let us = |took: Duration| took.as_secs_f64() * 1e6 / count as f64;
    let all = us(decoding) + us(of_one + of_others);
    println!(
        "  {TOGETHER} queries together: {all:.1} µs an event, of which {:.2} to decode it, once; \
         each with a decoding of its own it would be {:.1}; one alone {:.2}",
        us(decoding),
        us(of_one + of_others) + TOGETHER as f64 * us(decoding),
        us(decoding) + us(of_one),
    );
    Ok(())
}

/// The rows with their times spread evenly, and the time of the last of each batch.
fn spread(rows: &[RecordBatch]) -> Result<Vec<(RecordBatch, i64)>> {
    let count: usize = rows.iter().map(RecordBatch::num_rows).sum();
    let (mut spread, mut next) = (Vec::with_capacity(rows.len()), 0_usize);
    for batch in rows {
        let time = |at: usize| BEGIN + (SPREAD as i128 * at as i128 / count as i128) as i64;
        let times = (next..next + batch.num_rows()).map(time);
        let times = TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC");
        next += batch.num_rows();
        let at = batch.schema().index_of("event_time")?;
        let mut columns: Vec<ArrayRef> = batch.columns().to_vec();
        columns[at] = arrow::compute::cast(&times, batch.column(at).data_type())?;
        spread.push((RecordBatch::try_new(batch.schema(), columns)?, time(next)));
    }
    Ok(spread)
}

fn sources() -> Result<Sources> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("owners.csv");
    let mut file = File::create(&path)?;
    writeln!(file, "address,owner")?;
    for number in 0..OWNERS {
        writeln!(file, "203.0.{}.{},owner-{}", number / 250, number % 250, number % 40)?;
    }
    drop(file);
    let owners = Reference::read(&path).map_err(|fault| anyhow::anyhow!("{fault}"))?;
    let views: Vec<QueryFile> =
        SHIPPED.iter().filter_map(|of| QueryFile::parse(of.name, of.text).ok()).collect();
    Ok(Sources::new(&views, vec![owners]))
}
