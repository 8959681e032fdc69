//! How fast events reach the lake, how soon one is in SQL, how fast continuous queries
//! take rows, what they hold after 30 days, how soon a new one has taken in 30 days of history,
//! what a day of commits costs those who read, and what one user waits while
//! another asks for all that there is.
//!
//! `./dev bench` runs it; `cargo bench --bench lake backlog` the history alone. Log and lake lie in the temporary folder, or in
//! `WEIR_BENCH_DIR`. What it is measured beside: the same rows decoded and written as
//! Parquet by themselves, without a table and without a log; and the same query over all
//! rows at once, by DataFusion alone.

mod backlog;
mod growth;
mod hostile;
mod queries;

use std::fs::File;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use analytics::compute::Threads;
use analytics::follow::{self, Config};
use analytics::intake::{Decoder, Stamps};
use analytics::lake::History;
use analytics::sql::{Limits, Sql};
use anyhow::{Context, Result};
use arrow::array::RecordBatch;
use ingest::emit::{self, Emitter, Service, TOPIC};
use ingest::event::{Event, Kind, Outcome, Producer, SystemClock};
use ingest::log::embedded::{self, EmbeddedLog};
use ingest::log::{EventLog, Partition, ReadLimit, Record, TopicSpec};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use tokio::sync::watch;

const EVENTS: u64 = 400_000;
const PARTITIONS: NonZeroU32 = NonZeroU32::new(4).unwrap();
const ROUNDS: usize = 3;
/// How many events are looked for in SQL, one after another.
const LOOKED_FOR: u64 = 100;
/// The commits of a day, one each 30 s, and how many events each has.
const COMMITS: usize = 2_880;
const EVENTS_A_COMMIT: usize = 20;
const PANEL: &str = "SELECT date_trunc('minute', event_time), count(*), max(latency_total_us)
    FROM events WHERE kind = 'request' GROUP BY 1";

/// As in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<()> {
    let base = std::env::var_os("WEIR_BENCH_DIR").unwrap_or_else(|| std::env::temp_dir().into());
    let runtime = tokio::runtime::Runtime::new()?;
    let is_backlog_alone = std::env::args().any(|argument| argument == "backlog");
    for round in 0..ROUNDS {
        let dir = tempfile::tempdir_in(&base)?;
        if round == 0 {
            runtime.block_on(Box::pin(history(dir.path())))?;
        }
        if !is_backlog_alone {
            runtime.block_on(Box::pin(one(round, dir.path())))?;
        }
    }
    Ok(())
}

/// Events of many days, that a new query takes in.
async fn history(dir: &Path) -> Result<()> {
    let log = Arc::new(EmbeddedLog::open(&embedded::Config::new(dir.join("log-of-events")))?);
    let (emitter, _service) = open(dir, log)?;
    backlog::all(dir, &emitter).await
}

async fn one(round: usize, dir: &Path) -> Result<()> {
    let log = Arc::new(EmbeddedLog::open(&embedded::Config::new(dir.join("log")))?);
    log.create_topic(&TopicSpec::kept(TOPIC, PARTITIONS.get())).await?;
    let (emitter, service) = open(dir, log.clone())?;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let draining = tokio::spawn(service.run(async move { drop(stopped.await) }));
    for batch in 0..EVENTS / 256 + 1 {
        let from = batch * 256;
        let mut events: Vec<Event> =
            (from..(from + 256).min(EVENTS)).map(|number| request(&emitter, number)).collect();
        emitter.emit_all(&mut events)?;
    }
    emitter.flushed().await;

    let (rate, seconds) = lake(dir, log.clone()).await?;
    let (rows, floor, decoding) = parquet(dir, &log).await?;
    println!(
        "round {round}: {rate:.0} events a second from log to lake ({seconds:.1} s); the same \
         rows decoded and written as Parquet alone {floor:.0}: {:.2} of it",
        rate / floor
    );
    queries::all(&rows).await?;
    queries::together(&rows, decoding).await?;
    if round == 0 {
        growth::all(&rows).await?;
    }
    sql(dir, log.clone(), &emitter).await?;
    if round == 0 {
        day(dir, &log, false).await?;
        day(dir, &log, true).await?;
    }
    drop(stop);
    draining.await??;
    Ok(())
}

fn open(dir: &Path, log: Arc<EmbeddedLog>) -> Result<(Emitter, Service)> {
    let config = emit::Config {
        spool_bytes_max: 4 * 1024 * 1024 * 1024,
        ..emit::Config::new(Producer::new("edge.0")?, dir.join("spool"), PARTITIONS)
    };
    Ok(emit::open(config, log, Arc::new(SystemClock))?)
}

/// From nothing to the last row committed.
async fn lake(dir: &Path, log: Arc<EmbeddedLog>) -> Result<(f64, f64)> {
    let began = Instant::now();
    let (service, _history, status) = follow::open(Config::new(dir.join("lake")), log).await?;
    let (stop, stopped) = watch::channel(false);
    let following = tokio::spawn(service.run(stopped));
    while status.now().rows < EVENTS {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // What is read by now is committed by the stop.
    stop.send_replace(true);
    following.await??;
    let seconds = began.elapsed().as_secs_f64();
    anyhow::ensure!(status.now().committed >= EVENTS, "not all of it is in the lake");
    Ok((EVENTS as f64 / seconds, seconds))
}

/// What the work comes to without log, table and exactly once: the floor. With how long it took
/// to make rows of records.
async fn parquet(dir: &Path, log: &EmbeddedLog) -> Result<(Vec<RecordBatch>, f64, Duration)> {
    let mut read: Vec<(u32, Vec<Record>, u64)> = Vec::new();
    for index in 0..PARTITIONS.get() {
        let partition = Partition::new(TOPIC, index);
        let end = log.bounds(&partition).await?.end;
        let mut reader = log.reader(vec![(partition, 0)]).await?;
        let mut next = 0;
        while next < end {
            let limit = ReadLimit { bytes: 4 * 1024 * 1024, ..ReadLimit::default() };
            let Some(batch) = reader.next(limit).await? else { continue };
            next = batch.next;
            read.push((index, batch.records, next));
        }
    }
    let began = Instant::now();
    let decoder = Decoder::new();
    let mut rows = Vec::with_capacity(read.len());
    let mut stamps: Vec<Stamps> = (0..PARTITIONS.get()).map(|_| Stamps::new(0)).collect();
    let level = ZstdLevel::try_new(1)?;
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(level)).build();
    let mut writer: Option<ArrowWriter<File>> = None;
    let mut decoding = Duration::ZERO;
    for (index, records, next) in &read {
        let begun = Instant::now();
        let stamped = stamps[*index as usize].stamp(&decoder, *index, records, *next)?;
        let batch = stamped.rows;
        decoding += begun.elapsed();
        if writer.is_none() {
            let file = File::create(dir.join("floor.parquet"))?;
            writer = Some(ArrowWriter::try_new(file, batch.schema(), Some(properties.clone()))?);
        }
        writer.as_mut().context("it was just made")?.write(&batch)?;
        rows.push(batch);
    }
    writer.context("there are rows")?.close()?;
    Ok((rows, EVENTS as f64 / began.elapsed().as_secs_f64(), decoding))
}

/// From the emitter's answer to the row in SQL.
async fn sql(dir: &Path, log: Arc<EmbeddedLog>, emitter: &Emitter) -> Result<()> {
    let (service, history, _) = follow::open(Config::new(dir.join("lake")), log).await?;
    let (stop, stopped) = watch::channel(false);
    let following = tokio::spawn(service.run(stopped));
    let sql = Sql::new(history, Limits::default(), Threads::new()?);
    let mut took = Vec::new();
    for number in 0..LOOKED_FOR {
        let mut event = request(emitter, number);
        let id = format!("looked-for-{number}");
        event.correlation_id = Some(id.clone().into());
        let _ = emitter.emit(event)?;
        let began = Instant::now();
        let text = format!("SELECT 1 FROM events WHERE correlation_id = '{id}'");
        while sql.query(&text).await?.batches.iter().map(RecordBatch::num_rows).sum::<usize>() == 0
        {
        }
        took.push(began.elapsed());
    }
    hostile::beside(&sql).await?;
    stop.send_replace(true);
    following.await??;
    took.sort_unstable();
    let ms = |at: usize| took[at].as_secs_f64() * 1e3;
    println!(
        "  an event is in SQL, the query itself included and over {EVENTS} others, within \
         {:.0} ms at p50, {:.0} ms at p99",
        ms(took.len() / 2),
        ms(took.len() * 99 / 100)
    );
    Ok(())
}

/// A day of small commits, merged as they come or afterwards, and a query over all of it.
async fn day(dir: &Path, log: &EmbeddedLog, merges: bool) -> Result<()> {
    let limit = ReadLimit { bytes: 256 * 1024 * 1024, ..ReadLimit::default() };
    let mut reader = log.reader(vec![(Partition::new(TOPIC, 0), 0)]).await?;
    let mut records = Vec::new();
    while records.len() < COMMITS * EVENTS_A_COMMIT {
        records.extend(reader.next(limit).await?.context("there are more")?.records);
    }
    let dir = dir.join(format!("day-{merges}"));
    let (history, mut position) = History::open(&dir, &[0]).await?;
    let (decoder, began) = (Decoder::new(), Instant::now());
    for records in records.chunks(EVENTS_A_COMMIT).take(COMMITS) {
        let next = records.last().context("a chunk is not empty")?.offset + 1;
        let stamped = position.stamps[0].stamp(&decoder, 0, records, next)?;
        history.push(0, &stamped, &position.stamps[0]).await?;
        history.commit(position.clone()).await?;
        if merges {
            history.merge().await?;
        }
    }
    let a_commit = began.elapsed().as_secs_f64() * 1e3 / COMMITS as f64;
    let sql = Sql::new(Arc::new(history), Limits::default(), Threads::new()?);
    let mut took = Vec::new();
    for _ in 0..5 {
        let began = Instant::now();
        sql.query(PANEL).await?;
        took.push(began.elapsed());
    }
    took.sort_unstable();
    let how = if merges { "merged as they come" } else { "not merged" };
    println!(
        "  {COMMITS} commits of {EVENTS_A_COMMIT} events, {how}: {a_commit:.1} ms each; a panel's \
         query over all of them {:.0} ms",
        took[2].as_secs_f64() * 1e3
    );
    Ok(())
}

/// An event with the fields that a gateway usually knows.
fn request(emitter: &Emitter, number: u64) -> Event {
    let mut event = emitter.event(Kind::Request, Outcome::Success);
    event.node = Some("edge-1".into());
    event.zone = Some("dmz".into());
    event.config_hash = Some("9f86d081884c7d65".into());
    event.service_name = Some("weir-gateway".into());
    event.correlation_id = Some(format!("0b1e6a52-{number}").into());
    event.trace_id = Some(format!("4bf92f3577b34da6a3ce{number:012x}").into());
    event.span_id = Some(format!("{number:016x}").into());
    event.http_request_method = Some("GET".into());
    event.http_route = Some("/orders/v1/orders/{id}".into());
    event.http_response_status_code = Some(if number.is_multiple_of(50) { 404 } else { 200 });
    event.http_response_body_size = Some(1_024 + (number % 977) as i64);
    event.url_scheme = Some("https".into());
    event.url_path = Some(format!("/orders/v1/orders/{number}").into());
    event.server_address = Some("api.example.com".into());
    event.client_address = Some(format!("203.0.113.{}", number % 251).into());
    event.client_port = Some(50_312);
    event.user_agent_original = Some("curl/8.5.0".into());
    event.network_protocol_version = Some("1.1".into());
    event.tls_protocol_version = Some("1.3".into());
    event.tls_cipher = Some("TLS_AES_128_GCM_SHA256".into());
    event.api_name = Some(["orders", "stock", "prices"][(number % 3) as usize].into());
    event.api_version = Some("v1".into());
    event.api_resource = Some("/orders/{id}".into());
    event.app_id = Some("app-17".into());
    event.subscription_tier = Some("gold".into());
    event.auth_method = Some("jwt".into());
    event.auth_outcome = Some("allowed".into());
    event.auth_subject = Some("u-4711".into());
    event.throttle_limit = Some(1_000);
    event.throttle_remaining = Some(941);
    event.upstream_name = Some("orders".into());
    event.upstream_address = Some("10.0.0.5:8080".into());
    event.upstream_attempts = Some(1);
    event.upstream_status_code = Some(200);
    event.latency_total_us = Some(4_210 + (number % 499) as i64);
    event.latency_auth_us = Some(21);
    event.latency_ttfb_us = Some(3_900);
    event.latency_upstream_us = Some(4_050);
    event
}
