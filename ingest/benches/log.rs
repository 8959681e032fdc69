//! What a durable append costs, beside the disk's own sync and beside Kafka.
//!
//! `./dev bench` prints two tables in Markdown. Everything is measured in one
//! run, in rounds that take turns, since a disk's sync time changes by the hour.
//! `WEIR_BENCH_SECONDS` sets how long each measurement takes (3 if it is not set).

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use hdrhistogram::Histogram;
use ingest::log::embedded::{Config, EmbeddedLog};
use ingest::log::kafka::{self, KafkaLog};
use ingest::log::{EventLog, NewRecord, Partition, ReadLimit, TopicSpec};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rustix::fs::{FallocateFlags, fallocate};

const RECORD_BYTES: usize = 1024;
const PARTITIONS: u32 = 8;
const WRITERS: [u32; 3] = [1, 16, 64];
const ROUNDS: usize = 3;

/// Longer times count as a minute.
const MICROS_MAX: u64 = 60_000_000;

/// Times in microseconds, and how many in how long.
struct Measured {
    times: Histogram<u64>,
    elapsed: Duration,
}

impl Measured {
    fn new() -> Self {
        let times = Histogram::new_with_bounds(1, MICROS_MAX, 3).expect("the bounds are in order");
        Self { times, elapsed: Duration::ZERO }
    }

    fn record(&mut self, time: Duration) {
        self.times.saturating_record(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }

    fn add(&mut self, other: &Self) {
        self.times += &other.times;
        self.elapsed += other.elapsed;
    }

    fn per_second(&self) -> f64 {
        self.times.len() as f64 / self.elapsed.as_secs_f64()
    }

    fn quantile_ms(&self, quantile: f64) -> f64 {
        self.times.value_at_quantile(quantile) as f64 / 1000.0
    }
}

fn main() -> Result<()> {
    let seconds = std::env::var("WEIR_BENCH_SECONDS").ok().and_then(|text| text.parse().ok());
    let length = Duration::from_secs(seconds.unwrap_or(3)) / ROUNDS as u32;
    let runtime = tokio::runtime::Runtime::new()?;
    let dir = tempfile::tempdir()?;
    let server = rig::Kafka::start(1)?;
    runtime.block_on(run(dir.path(), server.bootstrap(), length))
}

async fn run(dir: &Path, bootstrap: String, length: Duration) -> Result<()> {
    let embedded: Arc<dyn EventLog> = Arc::new(EmbeddedLog::open(&Config::new(dir.join("log")))?);
    embedded.create_topic(&TopicSpec::kept("bench", PARTITIONS)).await?;
    make_flushed_topic(&bootstrap).await?;
    let kafka: Arc<dyn EventLog> =
        Arc::new(KafkaLog::connect(kafka::Config::new(bootstrap)).await?);
    kafka.create_topic(&TopicSpec::kept("bench", PARTITIONS)).await?;
    let logs = [
        ("embedded: fdatasync before each answer", &embedded, "bench"),
        ("Kafka, one broker: page cache", &kafka, "bench"),
        ("Kafka, one broker: flush.messages=1", &kafka, "flushed"),
    ];

    println!("Appends of {RECORD_BYTES} bytes, one at a time by each writer:\n");
    println!("| log | writers | per second | p50 ms | p99 ms | p99 / disk p99 |");
    println!("| --- | ---: | ---: | ---: | ---: | ---: |");
    let mut disk = Measured::new();
    let mut results: Vec<Vec<Measured>> =
        logs.iter().map(|_| WRITERS.map(|_| Measured::new()).into()).collect();
    for _ in 0..ROUNDS {
        disk.add(&sync_alone(dir, length)?);
        for (i, (_, log, topic)) in logs.iter().enumerate() {
            for (j, writers) in WRITERS.into_iter().enumerate() {
                results[i][j].add(&append(log, topic, writers, length).await?);
            }
        }
    }
    row("the disk's fdatasync alone", 1, &disk, &disk);
    for ((name, ..), results) in logs.iter().zip(&results) {
        for (writers, measured) in WRITERS.into_iter().zip(results) {
            row(name, writers, measured, &disk);
        }
    }

    println!("\nBatches of 1,000 such records by one writer, and reading them back:\n");
    println!("| log | appended MB/s | replayed records/s | replayed MB/s |");
    println!("| --- | ---: | ---: | ---: |");
    for (name, log, topic) in &logs[..2] {
        let appended = append_batches(log, topic, length * ROUNDS as u32).await?;
        let (records, elapsed) = replay(log, topic).await?;
        let rate = records as f64 / elapsed.as_secs_f64();
        let megabytes = rate * RECORD_BYTES as f64 / 1e6;
        println!("| {name} | {appended:.0} | {rate:.0} | {megabytes:.0} |");
    }
    Ok(())
}

fn row(name: &str, writers: u32, measured: &Measured, disk: &Measured) {
    let ratio = measured.quantile_ms(0.99) / disk.quantile_ms(0.99);
    println!(
        "| {name} | {writers} | {:.0} | {:.2} | {:.2} | {ratio:.1} |",
        measured.per_second(),
        measured.quantile_ms(0.5),
        measured.quantile_ms(0.99),
    );
}

/// What the disk needs for a write of the same size into space that it has.
fn sync_alone(dir: &Path, length: Duration) -> Result<Measured> {
    const FILE_BYTES: u64 = 64 * 1024 * 1024;
    let path = dir.join("sync");
    let file = OpenOptions::new().create(true).truncate(true).write(true).open(&path)?;
    fallocate(&file, FallocateFlags::empty(), 0, FILE_BYTES)?;
    file.sync_all()?;
    let mut measured = Measured::new();
    let start = Instant::now();
    let mut position = 0;
    while start.elapsed() < length {
        let before = Instant::now();
        file.write_all_at(&[7; RECORD_BYTES], position)?;
        file.sync_data()?;
        measured.record(before.elapsed());
        position = (position + RECORD_BYTES as u64) % (FILE_BYTES - RECORD_BYTES as u64);
    }
    measured.elapsed = start.elapsed();
    std::fs::remove_file(path)?;
    Ok(measured)
}

async fn append(
    log: &Arc<dyn EventLog>,
    topic: &str,
    writers: u32,
    length: Duration,
) -> Result<Measured> {
    let start = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..writers {
        let (log, partition) = (log.clone(), Partition::new(topic, writer % PARTITIONS));
        tasks.spawn(async move {
            let mut measured = Measured::new();
            while start.elapsed() < length {
                let record = NewRecord::unkeyed(Bytes::from_static(&[7; RECORD_BYTES]));
                let before = Instant::now();
                log.append(vec![(partition.clone(), record)]).await?;
                measured.record(before.elapsed());
            }
            anyhow::Ok(measured)
        });
    }
    let mut all = Measured::new();
    while let Some(measured) = tasks.join_next().await {
        all.add(&measured??);
    }
    all.elapsed = start.elapsed();
    Ok(all)
}

/// Megabytes a second.
async fn append_batches(log: &Arc<dyn EventLog>, topic: &str, length: Duration) -> Result<f64> {
    let start = Instant::now();
    let mut bytes = 0;
    while start.elapsed() < length {
        let batch = (0..1000).map(|i| {
            let record = NewRecord::unkeyed(Bytes::from_static(&[7; RECORD_BYTES]));
            (Partition::new(topic, i % PARTITIONS), record)
        });
        bytes += log.append(batch.collect()).await?.len() * RECORD_BYTES;
    }
    Ok(bytes as f64 / 1e6 / start.elapsed().as_secs_f64())
}

/// Reads everything there is, all partitions by one reader.
async fn replay(log: &Arc<dyn EventLog>, topic: &str) -> Result<(u64, Duration)> {
    let mut from = Vec::new();
    let mut expected = 0;
    for index in 0..PARTITIONS {
        let partition = Partition::new(topic, index);
        let bounds = log.bounds(&partition).await?;
        expected += bounds.end - bounds.first;
        from.push((partition, bounds.first));
    }
    let mut reader = log.reader(from).await?;
    let start = Instant::now();
    let mut records = 0;
    while records < expected {
        let limit = ReadLimit { wait: Duration::from_secs(30), ..ReadLimit::default() };
        let batch = reader.next(limit).await?.context("the log has more")?;
        records += batch.records.len() as u64;
    }
    Ok((records, start.elapsed()))
}

/// A topic whose broker syncs each message, which Weir does not make by itself.
async fn make_flushed_topic(bootstrap: &str) -> Result<()> {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", bootstrap).create()?;
    let topic = NewTopic::new("flushed", PARTITIONS as i32, TopicReplication::Fixed(1))
        .set("flush.messages", "1")
        .set("retention.ms", "-1")
        .set("message.timestamp.type", "LogAppendTime");
    let made = admin.create_topics([&topic], &AdminOptions::new()).await?;
    made.into_iter()
        .collect::<Result<Vec<_>, _>>()
        .map_err(|(name, code)| anyhow::anyhow!("topic {name} could not be made: {code}"))?;
    Ok(())
}
