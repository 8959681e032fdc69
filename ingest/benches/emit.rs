//! What emitting an event costs, shared and per thread, and how fast it drains.
//!
//! `./dev bench` runs it. The spool lies in the temporary folder, or in
//! `WEIR_BENCH_DIR`.

use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ingest::emit::{self, Emitted, Emitter, Service, TOPIC};
use ingest::event::{Event, Kind, Outcome, Producer, SystemClock};
use ingest::log::embedded::{Config, EmbeddedLog};
use ingest::log::{EventLog, TopicSpec};

const EVENTS: u64 = 100_000;
const BATCH: u64 = 16;
const ROUNDS: usize = 3;
const PARTITIONS: NonZeroU32 = NonZeroU32::new(8).unwrap();

/// As in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<()> {
    let base = std::env::var_os("WEIR_BENCH_DIR").unwrap_or_else(|| std::env::temp_dir().into());
    let runtime = tokio::runtime::Runtime::new()?;
    for round in 0..ROUNDS {
        let dir = tempfile::tempdir_in(&base)?;
        let log = Arc::new(EmbeddedLog::open(&Config::new(dir.path().join("log")))?);
        runtime.block_on(log.create_topic(&TopicSpec::kept(TOPIC, PARTITIONS.get())))?;
        let open = |name: &str| open(dir.path(), name, log.clone());

        let (one, service) = open("a.0")?;
        let mut out = Vec::with_capacity(4096);
        let encode = timed(EVENTS, || {
            for number in 0..EVENTS {
                out.clear();
                request(&one, number).write_json(&mut out);
            }
            Ok(())
        })?;
        let single = timed(EVENTS, || emit_singly(&one))?;
        let batched = timed(EVENTS, || emit_batched(&one))?;
        let shared = timed(2 * EVENTS, || both(&one, &one))?;
        let (two, _service) = open("a.1")?;
        let (three, _service) = open("a.2")?;
        let apart = timed(2 * EVENTS, || both(&two, &three))?;
        println!(
            "round {round}: {} bytes, ns per event: encode {encode}, emit {single}, \
             emit_all of {BATCH} {batched}; two threads, ns of wall per event: \
             one emitter {shared}, one each {apart}",
            out.len()
        );
        runtime.block_on(drain(&one, service))?;
    }
    Ok(())
}

fn open(dir: &Path, name: &str, log: Arc<EmbeddedLog>) -> Result<(Emitter, Service)> {
    let config = emit::Config {
        spool_bytes_max: 4 * 1024 * 1024 * 1024,
        ..emit::Config::new(Producer::new(name.to_owned())?, dir.join(name), PARTITIONS)
    };
    Ok(emit::open(config, log, Arc::new(SystemClock))?)
}

async fn drain(emitter: &Emitter, service: Service) -> Result<()> {
    let (start, bytes) = (Instant::now(), emitter.metrics().lag_bytes);
    let drained = async {
        while emitter.metrics().lag_bytes > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    service.run(drained).await?;
    let (seconds, events) = (start.elapsed().as_secs_f64(), emitter.metrics().drained as f64);
    let (rate, megabytes) = (events / seconds, bytes as f64 / seconds / 1e6);
    println!("  drained at {rate:.0} events a second, {megabytes:.0} MB/s");
    Ok(())
}

fn timed(events: u64, work: impl FnOnce() -> Result<()>) -> Result<u128> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed().as_nanos() / u128::from(events))
}

fn emit_singly(emitter: &Emitter) -> Result<()> {
    for number in 0..EVENTS {
        let Emitted::Spooled(_) = emitter.emit(request(emitter, number))? else {
            anyhow::bail!("the spool is full");
        };
    }
    Ok(())
}

fn emit_batched(emitter: &Emitter) -> Result<()> {
    for batch in 0..EVENTS / BATCH {
        let mut events: Vec<Event> =
            (0..BATCH).map(|n| request(emitter, batch * BATCH + n)).collect();
        emitter.emit_all(&mut events)?;
    }
    Ok(())
}

fn both(first: &Emitter, second: &Emitter) -> Result<()> {
    std::thread::scope(|scope| {
        let threads = [first, second].map(|emitter| scope.spawn(move || emit_singly(emitter)));
        threads.into_iter().try_for_each(|thread| thread.join().ok().context("a panic")?)
    })
}

/// An event with the fields that a gateway usually knows.
fn request(emitter: &Emitter, number: u64) -> Event {
    let mut event = emitter.event(Kind::Request, Outcome::Success);
    event.node = Some("edge-1".into());
    event.zone = Some("dmz".into());
    event.config_hash = Some("9f86d081884c7d65".into());
    event.service_name = Some("weir-gateway".into());
    event.correlation_id = Some(format!("0b1e6a52-{number}").into());
    event.trace_id = Some("4bf92f3577b34da6a3ce929d0e0e4736".into());
    event.span_id = Some("00f067aa0ba902b7".into());
    event.http_request_method = Some("GET".into());
    event.http_route = Some("/orders/v1/orders/{id}".into());
    event.http_response_status_code = Some(200);
    event.http_response_body_size = Some(1024);
    event.url_scheme = Some("https".into());
    event.url_path = Some(format!("/orders/v1/orders/{number}").into());
    event.server_address = Some("api.example.com".into());
    event.client_address = Some("203.0.113.7".into());
    event.client_port = Some(50_312);
    event.user_agent_original = Some("curl/8.5.0".into());
    event.network_protocol_version = Some("1.1".into());
    event.tls_protocol_version = Some("1.3".into());
    event.tls_cipher = Some("TLS_AES_128_GCM_SHA256".into());
    event.api_name = Some("orders".into());
    event.api_version = Some("v1".into());
    event.api_resource = Some("/orders/{id}".into());
    event.app_id = Some("app-17".into());
    event.subscription_tier = Some("gold".into());
    event.auth_method = Some("jwt".into());
    event.auth_outcome = Some("allowed".into());
    event.auth_subject = Some("u-4711".into());
    event.throttle_limit = Some(1000);
    event.throttle_remaining = Some(941);
    event.upstream_name = Some("orders".into());
    event.upstream_address = Some("10.0.0.5:8080".into());
    event.upstream_attempts = Some(1);
    event.upstream_status_code = Some(200);
    event.latency_total_us = Some(4_210);
    event.latency_auth_us = Some(21);
    event.latency_ttfb_us = Some(3_900);
    event.latency_upstream_us = Some(4_050);
    event
}
