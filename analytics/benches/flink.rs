//! From the log to a view: events per CPU second, beside Apache Flink SQL over the same topic
//! of Kafka.
//!
//! `cargo bench --workspace --bench flink` runs it. The view counts requests and errors and
//! sums times for each of 10,000 APIs and minute; both answers are looked at. Of Weir all of this
//! process is counted, Kafka's client included; of Flink the TaskManager alone, after it
//! has warmed up. Neither writes its answer anywhere while it is measured, both save their
//! state every second, on one thread's worth of parallelism. `WEIR_BENCH_EVENTS` says how many events.

use std::path::Path;
use std::time::{Duration, Instant};

use analytics::intake::{Decoder, Stamps, watermark};
use analytics::query::{Continuous, Plan, QueryFile, Sources};
use anyhow::{Context, Result, ensure};
use arrow::array::{AsArray as _, RecordBatch};
use arrow::datatypes::Int64Type;
use ingest::emit::TOPIC;
use ingest::event::generate::flink_ddl;
use ingest::event::{Event, EventId, Kind, Outcome, Producer, Timestamp, cloudevents};
use ingest::log::kafka::{self, KafkaLog};
use ingest::log::{EventLog, Headers, NewRecord, Partition, ReadLimit, TopicSpec};

const EVENTS: u64 = 1_000_000;
const APIS: u64 = 10_000;
const MINUTES: i64 = 10;
const PARTITIONS: u32 = 4;
/// When the events begin, in microseconds since 1970.
const BEGIN: i64 = 1_769_904_000_000_000;
const MINUTE: i64 = 60_000_000;
/// How often Flink runs before it is measured, and then both.
const WARM_UP: usize = 4;
const ROUNDS: usize = 3;
const SAVE_EVERY: Duration = Duration::from_secs(1);

const VIEW: &str = "-- title: a bench\n-- owner: benches
SELECT window_start, api_name, count(*) AS requests,
    count(*) FILTER (WHERE http_response_status_code >= 500) AS errors,
    sum(latency_total_us) AS total_us
FROM TUMBLE(events, event_time, INTERVAL '1 minute')
WHERE kind = 'request' GROUP BY window_start, api_name";
const FLINK_VIEW: &str = "SELECT window_start, api_name, count(*),
    count(*) FILTER (WHERE http_response_status_code >= 500), sum(latency_total_us)
FROM TABLE(TUMBLE(TABLE weir_events, DESCRIPTOR(event_rowtime), INTERVAL '1' MINUTE))
WHERE kind = 'request' GROUP BY window_start, window_end, api_name;";
const FLINK_SINK: &str = "(window_start TIMESTAMP(3), api_name STRING, requests BIGINT,
    errors BIGINT, total_us BIGINT)";

/// As in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Where the time goes, beside reading.
#[derive(Debug, Default)]
struct Sections {
    decoding: Duration,
    computing: Duration,
}

/// What a view answers, in sums.
#[derive(Debug, Default, PartialEq, Eq)]
struct Answer {
    rows: usize,
    requests: i64,
    errors: i64,
    total_us: i64,
}

fn main() -> Result<()> {
    let events: u64 = match std::env::var("WEIR_BENCH_EVENTS") {
        Ok(events) => events.parse().context("WEIR_BENCH_EVENTS is a number")?,
        Err(_) => EVENTS,
    };
    let broker = rig::Kafka::start(1)?;
    let dir = tempfile::tempdir()?;
    // Where no thread but one computes.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let log = runtime.block_on(KafkaLog::connect(kafka::Config::new(broker.bootstrap())))?;
    let expected = runtime.block_on(write(&log, events))?;
    let flink = rig::Flink::start(dir.path())?;
    let table = table(&broker.bootstrap())?;
    let answered = csv(&flink, &table, dir.path())?;
    ensure!(answered == expected, "Flink answers {answered:?}, not {expected:?}");
    for _ in 1..WARM_UP {
        into_nothing(&flink, &table)?;
    }
    for round in 0..ROUNDS {
        let before = cpu(flink.pid())?;
        into_nothing(&flink, &table)?;
        let of_flink = cpu(flink.pid())? - before;
        let (before, began) = (cpu(std::process::id())?, Instant::now());
        let (answered, sections) = runtime.block_on(view(&log))?;
        let (of_weir, took) = (cpu(std::process::id())? - before, began.elapsed());
        ensure!(answered == expected, "Weir answers {answered:?}, not {expected:?}");
        println!(
            "round {round}: {:.2} µs of CPU an event, {:.0} events per CPU second ({:.1} s by the \
             clock, of them {:.1} to make rows and {:.1} to compute); Flink SQL {:.2} µs, {:.0}: \
             {:.1} times as many",
            of_weir * 1e6 / events as f64,
            events as f64 / of_weir,
            took.as_secs_f64(),
            sections.decoding.as_secs_f64(),
            sections.computing.as_secs_f64(),
            of_flink * 1e6 / events as f64,
            events as f64 / of_flink,
            of_flink / of_weir,
        );
    }
    Ok(())
}

/// Writes the events, as a gateway would; answers what the view is to say of them.
async fn write(log: &KafkaLog, events: u64) -> Result<Answer> {
    log.create_topic(&TopicSpec::kept(TOPIC, PARTITIONS)).await?;
    let mut sequences = [0; PARTITIONS as usize];
    let mut event = |at: u32, time: i64, kind: Kind| -> Result<Event> {
        let sequence = &mut sequences[at as usize];
        *sequence += 1;
        let producer = Producer::new("edge.0")?;
        // As four gateways, each with a partition.
        let id = EventId { producer, boot: i64::from(at) + 1, sequence: *sequence };
        let mut event = Event::new(id, Timestamp::from_micros(time), kind, Outcome::Success);
        event.sequence_before = (*sequence > 1).then_some(*sequence - 1);
        Ok(event)
    };
    let mut batch = Vec::new();
    for at in 0..PARTITIONS {
        let mut joined = event(at, BEGIN, Kind::SourceJoined)?;
        joined.source_watermark_time = Some(Timestamp::from_micros(BEGIN));
        batch.push(record(at, &joined));
    }
    let mut answer = Answer { rows: (APIS as i64 * MINUTES) as usize, ..Answer::default() };
    for number in 0..events {
        let at = (number % u64::from(PARTITIONS)) as u32;
        let time =
            BEGIN + (i128::from(number) * i128::from(MINUTES * MINUTE) / i128::from(events)) as i64;
        let mut event = event(at, time, Kind::Request)?;
        fill(&mut event, number);
        answer.requests += 1;
        answer.errors += i64::from(event.http_response_status_code >= Some(500));
        answer.total_us += event.latency_total_us.unwrap_or_default();
        batch.push(record(at, &event));
        if batch.len() >= 2_000 {
            log.append(std::mem::take(&mut batch)).await?;
        }
    }
    log.append(batch).await?;
    Ok(answer)
}

fn record(at: u32, event: &Event) -> (Partition, NewRecord) {
    let record = cloudevents::record(event);
    let headers = Headers::new(record.headers.iter().map(|(name, value)| (*name, value.as_ref())));
    let record = NewRecord { key: Some(record.key), value: Some(record.value), headers };
    (Partition::new(TOPIC, at), record)
}

/// The fields that a gateway usually knows.
fn fill(event: &mut Event, number: u64) {
    event.node = Some("edge-1".into());
    event.config_hash = Some("9f86d081884c7d65".into());
    event.config_revision = Some(41);
    event.service_name = Some("weir-gateway".into());
    event.correlation_id = Some(format!("0b1e6a52-{number}").into());
    event.trace_id = Some(format!("4bf92f3577b34da6a3ce{number:012x}").into());
    event.span_id = Some(format!("{number:016x}").into());
    event.http_request_method = Some("GET".into());
    event.http_route = Some("/orders/v1/orders/{id}".into());
    event.http_response_status_code = Some(if number.is_multiple_of(50) { 503 } else { 200 });
    event.http_response_body_size = Some(1_024 + (number % 977) as i64);
    event.url_scheme = Some("https".into());
    event.url_path = Some(format!("/orders/v1/orders/{number}").into());
    event.server_address = Some("api.example.com".into());
    event.client_address = Some(format!("203.0.113.{}", number % 251).into());
    event.client_port = Some(50_312);
    event.user_agent_original = Some("curl/8.5.0".into());
    event.network_protocol_version = Some("1.1".into());
    event.tls_protocol_version = Some("1.3".into());
    // Each API is called in each partition.
    event.api_name = Some(format!("api-{}", number / u64::from(PARTITIONS) * 7 % APIS).into());
    event.api_version = Some("v1".into());
    event.app_id = Some("app-17".into());
    event.subscription_tier = Some("gold".into());
    event.auth_method = Some("jwt".into());
    event.auth_outcome = Some("allowed".into());
    event.upstream_name = Some("orders".into());
    event.upstream_address = Some("10.0.0.5:8080".into());
    event.upstream_attempts = Some(1);
    event.upstream_status_code = Some(200);
    event.latency_total_us = Some(4_210 + (number % 499) as i64);
    event.latency_auth_us = Some(21);
    event.latency_ttfb_us = Some(3_900);
    event.latency_upstream_us = Some(4_050);
}

/// Reads the topic from its start to its end, as the continuous query of a node.
async fn view(log: &KafkaLog) -> Result<(Answer, Sections)> {
    let file = QueryFile::parse("bench", VIEW).ok().context("its header is right")?;
    let plan = Plan::new(file, &Sources::default()).await;
    let mut query = Continuous::new(plan.map_err(|fault| anyhow::anyhow!("{fault}"))?);
    let (mut from, mut ends) = (Vec::new(), Vec::new());
    for at in 0..PARTITIONS {
        let partition = Partition::new(TOPIC, at);
        ends.push(log.bounds(&partition).await?.end);
        from.push((partition, 0));
    }
    let partitions: Vec<Partition> = from.iter().map(|(partition, _)| partition.clone()).collect();
    let mut reader = log.reader(from).await?;
    reader.need_values_alone();
    let decoder = Decoder::new();
    let mut stamps: Vec<Stamps> = (0..PARTITIONS).map(|_| Stamps::new(0)).collect();
    let (mut answer, mut saved) = (Answer::default(), Instant::now());
    let mut sections = Sections::default();
    let is_read = |stamps: &[Stamps]| {
        let mut all = stamps.iter().zip(&ends);
        all.all(|(stamps, end)| stamps.next() >= *end)
    };
    while !is_read(&stamps) {
        let limit = ReadLimit { bytes: 4 * 1024 * 1024, ..ReadLimit::default() };
        let Some(batch) = reader.next(limit).await? else { continue };
        let at = partitions.iter().position(|of| *of == batch.partition).context("is read")?;
        let began = Instant::now();
        let stamped = stamps[at].stamp(&decoder, at as u32, &batch.records, batch.next)?;
        sections.decoding += began.elapsed();
        let began = Instant::now();
        query.feed(&stamped.rows).await?;
        if let Some(floor) = watermark(&stamps)
            && let Some(rows) = query.advance(None, floor).await?
        {
            answer.add(&rows);
        }
        if saved.elapsed() > SAVE_EVERY {
            let _ = query.save().await?;
            saved = Instant::now();
        }
        sections.computing += began.elapsed();
    }
    if let Some(rows) = query.end(None).await? {
        answer.add(&rows);
    }
    Ok((answer, sections))
}

impl Answer {
    fn add(&mut self, rows: &RecordBatch) {
        let sum = |name: &str| -> i64 {
            let column = rows.column_by_name(name).expect("the view has it");
            column.as_primitive::<Int64Type>().values().iter().sum()
        };
        self.rows += rows.num_rows();
        self.requests += sum("requests");
        self.errors += sum("errors");
        self.total_us += sum("total_us");
    }
}

/// The table that Weir gives Flink, which ends where the topic does now.
fn table(bootstrap: &str) -> Result<String> {
    let table = flink_ddl(TOPIC, bootstrap);
    let table = table.trim_end().strip_suffix("\n);").context("the table ends so")?;
    Ok(format!("{table},\n  'scan.bounded.mode' = 'latest-offset'\n);\n"))
}

fn into_nothing(flink: &rig::Flink, table: &str) -> Result<()> {
    flink.run(&format!(
        "{table}CREATE TABLE answer {FLINK_SINK} WITH ('connector' = 'blackhole');\n\
         INSERT INTO answer {FLINK_VIEW}\n"
    ))
}

/// What Flink answers.
fn csv(flink: &rig::Flink, table: &str, dir: &Path) -> Result<Answer> {
    let at = dir.join("answer");
    flink.run(&format!(
        "{table}CREATE TABLE answer {FLINK_SINK} WITH ('connector' = 'filesystem', \
         'path' = 'file://{}', 'format' = 'csv');\nINSERT INTO answer {FLINK_VIEW}\n",
        at.display()
    ))?;
    let mut answer = Answer::default();
    for entry in std::fs::read_dir(&at).context("read what Flink wrote")? {
        let path = entry?.path();
        if path.is_dir() || path.file_name().is_some_and(|of| of.as_encoded_bytes()[0] == b'.') {
            continue;
        }
        for line in std::fs::read_to_string(path)?.lines() {
            let mut numbers = line.split(',').skip(2).map(str::parse::<i64>);
            let mut next = || numbers.next().context("a row has five columns")?.context("numbers");
            answer.rows += 1;
            answer.requests += next()?;
            answer.errors += next()?;
            answer.total_us += next()?;
        }
    }
    Ok(answer)
}

/// What a process has used of the CPU, in seconds (Linux, proc_pid_stat(5)).
fn cpu(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let after_name = stat.rsplit(')').next().context("the name of the program")?;
    let mut ticks = after_name.split_whitespace().skip(11).map(str::parse::<f64>);
    let mut next = || ticks.next().context("it has times")?.context("in ticks");
    // 100 ticks a second, whatever the machine (sysconf(3), _SC_CLK_TCK).
    Ok((next()? + next()?) / 100.0)
}
