//! How long a new query takes for 30 days of history, and what it holds meanwhile; beside what
//! it would hold of all of it at once, and the same text over all rows by DataFusion alone.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use analytics::compute::Threads;
use analytics::follow;
use analytics::lake::History;
use analytics::query::{Continuous, Span, backtest};
use analytics::run::{self, Current, Decider, Library, Parts, Pauses, QueryState, Status};
use anyhow::{Context as _, Result, bail};
use datafusion::prelude::SessionContext;
use futures_util::TryStreamExt as _;
use ingest::decision::Decisions;
use ingest::emit::{Emitter, TOPIC};
use ingest::event::{Event, EventId, Kind, Outcome, Producer, SystemClock, Timestamp, cloudevents};
use ingest::log::embedded::{self, EmbeddedLog};
use ingest::log::{EventLog, Headers, NewRecord, Partition, TopicSpec};
use ingest::registry::{Topics, View};
use tokio::sync::watch;

use super::queries::{BEGIN, planned};
use super::{PARTITIONS, request};

const DAY: i64 = 86_400_000_000;
const DAYS: i64 = 30;
const EVENTS: i64 = 1_000_000;
const AT_ONCE: i64 = 1_000;
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Groups of a minute; and rows of ten minutes.
const QUERIES: [&str; 2] = ["traffic_by_api_minute", "resource_steps"];

/// Makes the history, and takes it in by each query.
pub(crate) async fn all(dir: &Path, emitter: &Emitter) -> Result<()> {
    let log = EmbeddedLog::open(&embedded::Config::new(dir.join("log-of-days")))?;
    let log: Arc<dyn EventLog> = Arc::new(log);
    log.create_topic(&TopicSpec::kept(TOPIC, PARTITIONS.get())).await?;
    fill(&*log, emitter).await?;
    let config = follow::Config::new(dir.join("lake-of-days"));
    let (service, history, status) = follow::open(config, log.clone()).await?;
    let (stop, stopped) = watch::channel(false);
    let following = tokio::spawn(service.run(stopped));
    while status.now().committed < EVENTS as u64 {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    run::make_topics(&*log).await?;
    let topics = Topics::default();
    topics.create(&*log).await?;
    log.create_topic(&TopicSpec::compacted(ingest::decision::TOPIC, 1)).await?;
    for name in QUERIES {
        let view = format!("weir.views.{name}");
        log.create_topic(&TopicSpec::retained(view, 1, Duration::from_hours(9_600))).await?;
        let view = View::open(log.clone(), topics.clone()).await?;
        let decider = Decider {
            decisions: Decisions::default(),
            view,
            emitter: emitter.clone(),
            clock: Arc::new(SystemClock),
        };
        let library = Library::load(None, &[name.to_owned()]).await?;
        let (_kept, current) = watch::channel(Current { library: Arc::new(library), revision: 0 });
        let state_dir = dir.join("state-of-days");
        std::fs::create_dir_all(&state_dir)?;
        let parts = Parts {
            log: log.clone(),
            threads: Threads::new()?,
            history: history.clone(),
            library: current,
            pauses: Pauses::open(&*log).await?,
            state_dir,
            status: Status::default(),
            epoch: run::EPOCH,
            checkpoint_every: run::CHECKPOINT_EVERY,
            slice_rows: run::SLICE_ROWS,
            told: run::QueryTable::default(),
            decider,
            emitter: emitter.clone(),
            retire_after: run::RETIRE_AFTER,
        };
        // As a query that has never run.
        let record = NewRecord::tombstone(name.to_owned());
        log.append(vec![(Partition::new(run::STATE_TOPIC, 0), record)]).await?;
        let (told, seconds) = taken_in(parts, name, &history).await?;
        println!("  {name}, {DAYS} days: {told}; {}", at_once(name, &history, seconds).await?);
    }
    stop.send_replace(true);
    following.await??;
    Ok(())
}

/// Runs one query until it has taken all in, and says how that went.
async fn taken_in(parts: Parts, name: &str, history: &History) -> Result<(String, f64)> {
    let status = parts.status.clone();
    let floor = history.floor().await.context("there are rows")?;
    let end = Timestamp::from_micros(floor - DAY / 24);
    let (stop, stopped) = watch::channel(false);
    let (began, mut held) = (Instant::now(), 0);
    let running = tokio::spawn(run::run(parts, stopped));
    let told = loop {
        let of = status.now().remove(name).unwrap_or_default();
        held = held.max(of.state_bytes);
        if of.closed_until.is_some_and(|until| until >= end) {
            let seconds = began.elapsed().as_secs_f64();
            let rate = of.rows as f64 / seconds;
            let held = held as f64 / 1e6;
            let told =
                format!("{seconds:.1} s, {rate:.0} rows a second; {held:.1} MB held at most");
            break (told, seconds);
        }
        if of.state == QueryState::Failed {
            bail!("{name} fails: {}", of.error.unwrap_or_default());
        }
        if began.elapsed() > Duration::from_secs(600) {
            bail!("{name} has not come to its end: {of:?}");
        }
        tokio::time::sleep(LOOK_EVERY).await;
    };
    stop.send_replace(true);
    running.await?;
    Ok(told)
}

/// What it holds once it has all rows and has closed nothing, and what the text takes over all
/// of them by DataFusion.
async fn at_once(name: &str, history: &History, seconds: f64) -> Result<String> {
    let plan = planned(name).await?;
    let table = history.snapshot().await?.table;
    let began = Instant::now();
    backtest(&plan, table.clone(), &Span::default(), Arc::default()).await?;
    let ratio = seconds / began.elapsed().as_secs_f64();
    let mut rows = SessionContext::new().read_table(table)?.execute_stream().await?;
    let mut query = Continuous::new(plan);
    let mut held = None;
    while let Some(batch) = rows.try_next().await? {
        if let Err(error) = query.feed(&batch).await {
            held = Some(error.to_string());
            break;
        }
    }
    let held = held.unwrap_or(format!("{:.1} MB", query.state_bytes() as f64 / 1e6));
    Ok(format!("all of it at once: {held}; {ratio:.1} times as long as DataFusion over all rows"))
}

/// Requests of all the days, and a word at their end.
async fn fill(log: &dyn EventLog, emitter: &Emitter) -> Result<()> {
    let producer = Producer::new("edge.0")?;
    let mut sequences: BTreeMap<u32, i64> = BTreeMap::new();
    let mut numbered = |mut event: Event, partition: u32| {
        let sequence = sequences.entry(partition).or_default();
        *sequence += 1;
        let boot = i64::from(partition) + 1;
        (event.producer, event.boot, event.sequence) = (producer.clone(), boot, *sequence);
        event.sequence_before = (*sequence > 1).then_some(*sequence - 1);
        event.source_partition = Some(i64::from(partition));
        let record = cloudevents::record(&event);
        let headers = record.headers.iter().map(|(name, value)| (*name, value.as_ref()));
        let headers = Headers::new(headers);
        let record = NewRecord { key: Some(record.key), value: Some(record.value), headers };
        (Partition::new(TOPIC, partition), record)
    };
    for from in (0..EVENTS).step_by(AT_ONCE as usize) {
        let records = (from..from + AT_ONCE).map(|number| {
            let mut event = request(emitter, number.unsigned_abs());
            event.event_time = Timestamp::from_micros(BEGIN + DAYS * DAY * number / EVENTS);
            numbered(event, (number % i64::from(PARTITIONS.get())) as u32)
        });
        log.append(records.collect()).await?;
    }
    let words = (0..PARTITIONS.get()).map(|partition| {
        let time = Timestamp::from_micros(BEGIN + DAYS * DAY);
        let id = EventId { producer: Producer::new("edge.0")?, boot: 1, sequence: 1 };
        let mut event = Event::new(id, time, Kind::Heartbeat, Outcome::Success);
        event.source_watermark_time = Some(time);
        Ok(numbered(event, partition))
    });
    log.append(words.collect::<Result<_>>()?).await?;
    Ok(())
}
