//! What dashboards ask, over the lake of a month, beside DuckDB over the same files.
//!
//! `cargo bench --workspace --bench dashboards` runs it. `WEIR_BENCH_EVENTS` says how many events there
//! are, 100 million if it is not set; `WEIR_BENCH_DIR` where the lake lies. Each query runs three times in
//! each engine, and the fastest counts; both use two threads and are bounded in memory.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use analytics::compute::Threads;
use analytics::intake::{Stamped, Stamps, stamped_schema};
use analytics::lake::{History, Position};
use analytics::sql::{Limits, Sql};
use anyhow::{Context, Result, ensure};
use arrow::array::{
    ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
    new_null_array,
};
use arrow::datatypes::Field;
use fastrand::Rng;

const EVENTS: usize = 100_000_000;
const EVENTS_A_COMMIT: usize = 500_000;
/// When the events begin, and over how long they are spread, in microseconds.
const BEGIN: i64 = 1_769_904_000_000_000;
const DAY: i64 = 86_400_000_000;
const DAYS: i64 = 30;
const ROUNDS: usize = 3;
const MEMORY_MIB: usize = 1_024;

/// What each panel shows, its SQL, and what it is in DuckDB where that is another. `{hour}`, `{day}` and
/// `{week}` stand for how long before the end.
const QUERIES: [(&str, &str, Option<&str>); 20] = [
    ("all events", "SELECT count(*) FROM events", None),
    (
        "requests by minute, an hour",
        "SELECT date_trunc('minute', event_time) AS t, count(*) FROM events WHERE event_time >= {hour} AND kind = 'request' GROUP BY 1 ORDER BY 1",
        None,
    ),
    (
        "errors by API and minute, a day",
        "SELECT date_trunc('minute', event_time) AS t, api_name, count(*) FROM events WHERE event_time >= {day} AND http_response_status_code >= 500 GROUP BY 1, 2 ORDER BY 1, 2",
        None,
    ),
    (
        "top routes, a day",
        "SELECT http_route, count(*) AS n, max(latency_total_us) FROM events WHERE event_time >= {day} GROUP BY 1 ORDER BY n DESC, 1 LIMIT 10",
        None,
    ),
    (
        "top clients by errors, a day",
        "SELECT client_address, count(*) AS n FROM events WHERE event_time >= {day} AND http_response_status_code >= 400 GROUP BY 1 ORDER BY n DESC, 1 LIMIT 10",
        None,
    ),
    (
        "status codes, a week",
        "SELECT http_response_status_code, count(*) FROM events WHERE event_time >= {week} GROUP BY 1 ORDER BY 1",
        None,
    ),
    (
        "requests by hour, a month",
        "SELECT date_trunc('hour', event_time) AS t, count(*) FROM events GROUP BY 1 ORDER BY 1",
        None,
    ),
    (
        "times by API and hour, a week",
        "SELECT date_trunc('hour', event_time) AS t, api_name, avg(latency_total_us), max(latency_total_us) FROM events WHERE event_time >= {week} GROUP BY 1, 2 ORDER BY 1, 2",
        None,
    ),
    (
        "95th percentile by API, a day",
        "SELECT api_name, approx_percentile(latency_total_us, 0.95) FROM events WHERE event_time >= {day} GROUP BY 1 ORDER BY 1",
        Some(
            "SELECT api_name, approx_quantile(latency_total_us, 0.95) FROM events WHERE event_time >= {day} GROUP BY 1 ORDER BY 1",
        ),
    ),
    (
        "clients by day, a month",
        "SELECT date_trunc('day', event_time) AS t, count(DISTINCT client_address) FROM events GROUP BY 1 ORDER BY 1",
        None,
    ),
    (
        "bytes by application, a week",
        "SELECT app_id, sum(http_response_body_size) FROM events WHERE event_time >= {week} GROUP BY 1 ORDER BY 1",
        None,
    ),
    (
        "slowest requests, a day",
        "SELECT event_time, http_route, latency_total_us FROM events WHERE event_time >= {day} ORDER BY latency_total_us DESC, event_time LIMIT 20",
        None,
    ),
    ("one journey, a month", "SELECT * FROM events WHERE correlation_id = 'journey-777777'", None),
    (
        "last errors, a day",
        "SELECT event_time, api_name, http_route, error_type FROM events WHERE event_time >= {day} AND http_response_status_code >= 500 ORDER BY event_time DESC LIMIT 50",
        None,
    ),
    (
        "routes of a client, a week",
        "SELECT http_route, count(*) FROM events WHERE event_time >= {week} AND client_address = '203.0.17.17' GROUP BY 1 ORDER BY 1",
        None,
    ),
    (
        "failures by upstream, a week",
        "SELECT upstream_name, count(*), sum(CASE WHEN http_response_status_code >= 500 THEN 1 ELSE 0 END) FROM events WHERE event_time >= {week} GROUP BY 1 ORDER BY 1",
        None,
    ),
    (
        "throttled by application, a month",
        "SELECT app_id, count(*) FROM events WHERE error_type = 'throttled' GROUP BY 1 ORDER BY 1",
        None,
    ),
    (
        "by hour of the week, a month",
        "SELECT extract(dow FROM event_time) AS d, extract(hour FROM event_time) AS h, count(*) FROM events GROUP BY 1, 2 ORDER BY 1, 2",
        None,
    ),
    (
        "first and last of an API, a month",
        "SELECT api_name, min(event_time), max(event_time), count(*) FROM events GROUP BY 1 ORDER BY 1",
        None,
    ),
    (
        "user agents, a week",
        "SELECT user_agent_original, count(*) AS n FROM events WHERE event_time >= {week} GROUP BY 1 ORDER BY n DESC, 1 LIMIT 10",
        None,
    ),
];

/// As in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<()> {
    let base = std::env::var_os("WEIR_BENCH_DIR").unwrap_or_else(|| std::env::temp_dir().into());
    let events: usize = match std::env::var("WEIR_BENCH_EVENTS") {
        Ok(events) => events.parse().context("WEIR_BENCH_EVENTS is a number")?,
        Err(_) => EVENTS,
    };
    let dir = tempfile::tempdir_in(base)?;
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(Box::pin(all(dir.path(), events)))
}

async fn all(dir: &Path, events: usize) -> Result<()> {
    let (history, _) = History::open(dir, &[0]).await?;
    let began = Instant::now();
    fill(&history, events).await?;
    while history.merge().await? {}
    let files = history.files().await?;
    let bytes: u64 = files.iter().map(|file| file.bytes).sum();
    println!(
        "{events} events in {} files, {:.2} GB, written in {:.0} s; {} MB of memory at most",
        files.len(),
        bytes as f64 / 1e9,
        began.elapsed().as_secs_f64(),
        peak_mb()?
    );
    let files: Vec<String> = files
        .iter()
        .map(|file| dir.join("events").join(&file.path).display().to_string())
        .collect();
    let of_duckdb = QUERIES.map(|(_, sql, other)| bound(other.unwrap_or(sql)));
    let asked = serde_json::json!({
        "files": files, "queries": of_duckdb, "rounds": ROUNDS, "memory": format!("{MEMORY_MIB}MiB"),
    });
    let of_duckdb = rig::time_duckdb(&asked.to_string())?;
    let limits = Limits {
        time_ms: 300_000,
        memory_bytes_max: MEMORY_MIB * 1024 * 1024,
        ..Limits::default()
    };
    let sql = Sql::new(Arc::new(history), limits, Threads::new()?);
    // What follows is counted by itself (Linux, proc_pid_clear_refs(5)).
    std::fs::write("/proc/self/clear_refs", "5").context("count memory anew")?;
    let mut ratios = Vec::new();
    for ((what, text, _), other) in QUERIES.iter().zip(&of_duckdb) {
        let (seconds, rows): (f64, usize) = serde_json::from_str(other)?;
        let mut fastest = Duration::MAX;
        for _ in 0..ROUNDS {
            let began = Instant::now();
            let answer = sql.query(&bound(text)).await?;
            fastest = fastest.min(began.elapsed());
            let count: usize = answer.batches.iter().map(RecordBatch::num_rows).sum();
            ensure!(count == rows, "{what}: {count} rows, DuckDB {rows}");
        }
        let ratio = fastest.as_secs_f64() / seconds;
        ratios.push(ratio);
        println!(
            "{what}: {:.0} ms, DuckDB {:.0} ms: {ratio:.2} times as long",
            fastest.as_secs_f64() * 1e3,
            seconds * 1e3
        );
    }
    ratios.sort_by(f64::total_cmp);
    println!(
        "median {:.2} times as long, at most {:.2}; {} MB of memory at most",
        f64::midpoint(ratios[9], ratios[10]),
        ratios[19],
        peak_mb()?
    );
    Ok(())
}

/// With its times.
fn bound(text: &str) -> String {
    let before = |us: i64| {
        let time = jiff::Timestamp::from_microsecond(BEGIN + DAYS * DAY - us);
        format!("TIMESTAMPTZ '{}'", time.expect("it is in range"))
    };
    text.replace("{hour}", &before(DAY / 24))
        .replace("{day}", &before(DAY))
        .replace("{week}", &before(7 * DAY))
}

/// Commits the events in the order of their times.
async fn fill(history: &History, events: usize) -> Result<()> {
    let mut rng = Rng::with_seed(1);
    let mut next = 0;
    while next < events {
        let count = EVENTS_A_COMMIT.min(events - next);
        let rows = rows(&mut rng, next, count, events)?;
        next += count;
        let stamped = Stamped { rows, news: count, repeated: 0, gaps: 0, unreadable: Vec::new() };
        let stamps = Stamps::new(next as u64);
        history.push(0, &stamped, &stamps).await?;
        history.commit(Position { stamps: vec![stamps] }).await?;
    }
    Ok(())
}

/// Rows of requests, as a gateway writes them.
fn rows(rng: &mut Rng, first: usize, count: usize, events: usize) -> Result<RecordBatch> {
    let schema = stamped_schema();
    let apis: Vec<usize> = (0..count).map(|_| rng.usize(0..8) * rng.usize(0..8)).collect();
    let statuses: Vec<i64> =
        (0..count).map(|_| [200, 200, 200, 200, 201, 404, 429, 503][rng.usize(0..8)]).collect();
    let clients: Vec<usize> = (0..count).map(|_| rng.usize(0..200) * rng.usize(0..200)).collect();
    let texts = |of: &dyn Fn(usize) -> String| -> ArrayRef {
        Arc::new((0..count).map(|at| Some(of(at))).collect::<StringArray>())
    };
    let maybe = |of: &dyn Fn(usize) -> Option<&'static str>| -> ArrayRef {
        Arc::new((0..count).map(of).collect::<StringArray>())
    };
    let times = (first..first + count).map(|at| {
        let time = i128::from(DAYS * DAY) * at as i128 / events as i128;
        BEGIN + time as i64
    });
    let times = TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC");
    let mut column = |field: &Field| -> ArrayRef {
        let numbers = |of: &mut dyn FnMut(usize) -> i64| -> ArrayRef {
            Arc::new(Int64Array::from_iter_values((0..count).map(of)))
        };
        match field.name().as_str() {
            "event_time" | "log_time" => Arc::new(times.clone()),
            "producer" => texts(&|at| format!("edge.{}", at % 2)),
            "boot" | "schema_version" => numbers(&mut |_| 1),
            "sequence" | "log_offset" => numbers(&mut |at| (first + at) as i64),
            "lag_us" => numbers(&mut |_| 0),
            "log_partition" => Arc::new(Int32Array::from(vec![0; count])),
            "kind" => texts(&|_| "request".to_owned()),
            "outcome" => maybe(&|at| Some(if statuses[at] < 400 { "success" } else { "failure" })),
            "config_hash" => texts(&|_| "9f86d081884c7d65".to_owned()),
            "correlation_id" => texts(&|at| format!("journey-{}", first + at)),
            "http_request_method" => maybe(&|at| Some(["GET", "GET", "POST"][at % 3])),
            "http_route" => texts(&|at| format!("/api{}/v1/things/{}", apis[at], clients[at] % 5)),
            "http_response_status_code" => numbers(&mut |at| statuses[at]),
            "http_response_body_size" => numbers(&mut |_| 200 + rng.i64(0..4_000)),
            "url_path" => texts(&|at| format!("/api{}/v1/things/{}", apis[at], first + at)),
            "client_address" => {
                texts(&|at| format!("203.0.{}.{}", clients[at] / 256, clients[at] % 256))
            }
            "user_agent_original" => texts(&|at| format!("agent/{}", clients[at] % 40)),
            "error_type" => maybe(&|at| match statuses[at] {
                404 => Some("not_found"),
                429 => Some("throttled"),
                503 => Some("upstream_unavailable"),
                _ => None,
            }),
            "api_name" => texts(&|at| format!("api{}", apis[at])),
            "api_version" => texts(&|_| "v1".to_owned()),
            "app_id" => texts(&|at| format!("app-{}", clients[at] % 100)),
            "subscription_tier" => texts(&|_| "gold".to_owned()),
            "auth_outcome" => texts(&|_| "allowed".to_owned()),
            "upstream_name" => texts(&|at| format!("upstream{}", apis[at] % 7)),
            "upstream_attempts" => numbers(&mut |_| 1),
            "latency_total_us" => numbers(&mut |_| 500 + rng.i64(0..300) * rng.i64(0..300)),
            "latency_upstream_us" => numbers(&mut |_| 400 + rng.i64(0..300) * rng.i64(0..200)),
            _ => new_null_array(field.data_type(), count),
        }
    };
    let columns = schema.fields().iter().map(|field| column(field)).collect();
    Ok(RecordBatch::try_new(schema.clone(), columns)?)
}

/// The most memory that this process had since it was counted anew, in megabytes (Linux, proc_pid_status(5)).
fn peak_mb() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: u64 =
        line.and_then(|line| line.split_whitespace().next()).context("VmHWM")?.parse()?;
    Ok(kib * 1_024 / 1_000_000)
}
