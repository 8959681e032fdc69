//! What a queue takes and delivers, and what poisoned keys cost the others.
//!
//! `./dev bench` prints a table in Markdown. One node on the embedded log, on this
//! machine's disk; the target is an HTTP server in the same process. Rounds without and
//! with poison take turns. `WEIR_BENCH_ROUNDS` sets how many (3 if it is not set).
//!
//! | row | what happens |
//! | --- | --- |
//! | plain | 1,000 keys with 20 messages of 1 KiB each; 64 callers, each with one under way |
//! | poisoned | the same, and the target answers 503 to 10 of the keys for ever |

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use hdrhistogram::Histogram;
use ingest::emit;
use ingest::event::{Producer, SystemClock};
use ingest::http::Correlation;
use ingest::log::EventLog;
use ingest::log::embedded::{Config, EmbeddedLog};
use ingest::registry::{
    Change, ChangeSet, EntityKey, Json, Name, Proposer, Topics, View, no_deep_check, run_applier,
};
use mediator::deliver::{self, Delivery, MessageId, NewMessage, Queues};
use mediator::endpoint::http::Caller;
use tokio::net::TcpListener;
use tokio::sync::Notify;

const KEYS: usize = 1_000;
const POISONED: usize = 10;
const OF_KEY: usize = 20;
const CALLERS: usize = 64;
const BODY_BYTES: usize = 1_024;
/// Messages of keys that are never poisoned.
const COUNTED: usize = (KEYS - POISONED) * OF_KEY;
const PATIENCE: Duration = Duration::from_secs(120);

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The target: what came of the keys that are counted.
#[derive(Default)]
struct Target {
    is_poisoned: AtomicBool,
    /// Successes since the round began.
    taken: AtomicUsize,
    of_poison: AtomicUsize,
    all_taken: Notify,
}

/// What a round came to.
struct Round {
    accepted_per_s: f64,
    accept_ms: Histogram<u64>,
    delivered_per_s: f64,
}

fn main() -> Result<()> {
    let rounds = std::env::var("WEIR_BENCH_ROUNDS").map_or(Ok(3), |rounds| rounds.parse())?;
    let dir = tempfile::tempdir()?;
    tokio::runtime::Runtime::new()?.block_on(run(dir.path(), rounds))
}

async fn run(dir: &Path, rounds: usize) -> Result<()> {
    let target = Arc::new(Target::default());
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let app = Router::new().fallback(take).with_state(target.clone());
    tokio::spawn(async move { axum::serve(listener, app).await });

    let log: Arc<dyn EventLog> = Arc::new(EmbeddedLog::open(&Config::new(dir.join("log")))?);
    let topics = Topics::default();
    let view = View::open(log.clone(), topics.clone()).await?;
    tokio::spawn(run_applier(log.clone(), topics.clone(), no_deep_check));
    let config = emit::Config::new(Producer::new("bench")?, dir.join("spool"), NonZeroU32::MIN);
    let clock = Arc::new(SystemClock);
    let (emitter, service) = emit::open(config, log.clone(), clock.clone())?;
    tokio::spawn(service.run(std::future::pending()));
    let queues = Queues::new(log.clone(), view.clone(), emitter.clone(), clock.clone());
    let proposer = Proposer::new(log.clone(), topics, PATIENCE);
    put(&view, &proposer, "upstream/shop", &format!(r#"{{"targets": [{{"url": "{url}"}}]}}"#))
        .await?;
    let caller = Caller::new();
    let parts = deliver::Parts { log, view: view.clone(), caller, emitter, clock };
    let delivery = Delivery::start(deliver::Config::default(), parts);

    let mut all: HashMap<bool, Vec<Round>> = HashMap::new();
    for number in 0..rounds {
        // Which of the two comes first takes turns too.
        for turn in 0..2 {
            let is_poisoned = (number + turn) % 2 == 1;
            let queue = Name::new(&format!("q{number}-{is_poisoned}"))?;
            let spec = r#"{"deliver": {"upstream": "shop", "path": "/"}, "partitions": 4,
                "concurrency_max": 64,
                "retry": {"delay_min_ms": 100, "delay_max_ms": 1000, "attempts_max": 1000}}"#;
            put(&view, &proposer, &format!("queue/{queue}"), spec).await?;
            queues.prepare().await?;
            all.entry(is_poisoned)
                .or_default()
                .push(round(&target, &queues, &queue, is_poisoned).await?);
        }
    }
    println!("| keys | accepted/s | p50 ms | p99 ms | delivered/s of the other {COUNTED} |");
    println!("| --- | ---: | ---: | ---: | ---: |");
    let mut delivered = Vec::new();
    for (is_poisoned, name) in [(false, "plain"), (true, "10 of 1,000 poisoned")] {
        let rounds = all.get_mut(&is_poisoned).context("it was measured")?;
        rounds.sort_by(|a, b| a.delivered_per_s.total_cmp(&b.delivered_per_s));
        let median = &rounds[rounds.len() / 2];
        let ms = |quantile| median.accept_ms.value_at_quantile(quantile) as f64 / 1_000.0;
        println!(
            "| {name} | {:.0} | {:.2} | {:.2} | {:.0} ({:.0} to {:.0}) |",
            median.accepted_per_s,
            ms(0.5),
            ms(0.99),
            median.delivered_per_s,
            rounds[0].delivered_per_s,
            rounds[rounds.len() - 1].delivered_per_s,
        );
        delivered.push(median.delivered_per_s);
    }
    println!("\nWith poison: {:.2} of the deliveries without.", delivered[1] / delivered[0]);
    delivery.shutdown().await;
    Ok(())
}

/// Accepts all messages, and waits until those are delivered whose keys are counted.
async fn round(
    target: &Arc<Target>,
    queues: &Queues,
    queue: &Name,
    is_poisoned: bool,
) -> Result<Round> {
    target.is_poisoned.store(is_poisoned, Ordering::Relaxed);
    target.taken.store(0, Ordering::Relaxed);
    target.of_poison.store(0, Ordering::Relaxed);
    let next = Arc::new(AtomicUsize::new(0));
    let body = Bytes::from(vec![b'x'; BODY_BYTES]);
    let began = Instant::now();
    let callers = (0..CALLERS).map(|_| {
        let (queues, queue, next, body) =
            (queues.clone(), queue.clone(), next.clone(), body.clone());
        tokio::spawn(async move {
            let mut times = Histogram::<u64>::new_with_bounds(1, 60_000_000, 3)?;
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= KEYS * OF_KEY {
                    return anyhow::Ok(times);
                }
                let message = NewMessage {
                    id: MessageId::new(&format!("{queue}-{number}"))?,
                    key: Some(format!("k{}", number % KEYS).into()),
                    expires_after: None,
                    content_type: None,
                    headers: HeaderMap::new(),
                    body: body.clone(),
                    correlation: Correlation::of(&HeaderMap::new(), || number as u64),
                };
                let asked = Instant::now();
                queues.accept(&queue, message).await?;
                times.saturating_record(asked.elapsed().as_micros() as u64);
            }
        })
    });
    let mut accept_ms = Histogram::new_with_bounds(1, 60_000_000, 3)?;
    for caller in callers.collect::<Vec<_>>() {
        accept_ms += caller.await??;
    }
    let accepting = began.elapsed();
    while target.taken.load(Ordering::Relaxed) < COUNTED {
        let _ = tokio::time::timeout(Duration::from_secs(1), target.all_taken.notified()).await;
        ensure!(began.elapsed() < PATIENCE, "{} taken", target.taken.load(Ordering::Relaxed));
    }
    let delivering = began.elapsed();
    // What was poisoned is taken too, before the next round.
    target.is_poisoned.store(false, Ordering::Relaxed);
    while target.of_poison.load(Ordering::Relaxed) < POISONED * OF_KEY {
        tokio::time::sleep(Duration::from_millis(20)).await;
        ensure!(began.elapsed() < 2 * PATIENCE, "poisoned keys do not go on");
    }
    Ok(Round {
        accepted_per_s: (KEYS * OF_KEY) as f64 / accepting.as_secs_f64(),
        accept_ms,
        delivered_per_s: COUNTED as f64 / delivering.as_secs_f64(),
    })
}

async fn take(State(target): State<Arc<Target>>, headers: HeaderMap, _body: Bytes) -> StatusCode {
    let key = headers.get("weir-ordering-key").and_then(|key| key.to_str().ok());
    let key = key.and_then(|key| key.strip_prefix('k')?.parse::<usize>().ok());
    if key.is_none_or(|key| key < POISONED) {
        if target.is_poisoned.load(Ordering::Relaxed) {
            return StatusCode::SERVICE_UNAVAILABLE;
        }
        target.of_poison.fetch_add(1, Ordering::Relaxed);
    } else if target.taken.fetch_add(1, Ordering::Relaxed) + 1 == COUNTED {
        target.all_taken.notify_waiters();
    }
    StatusCode::NO_CONTENT
}

async fn put(view: &View, proposer: &Proposer, key: &str, spec: &str) -> Result<()> {
    let EntityKey { kind, name } = EntityKey::parse(key).context("a key")?;
    let spec = Json(serde_json::from_str(spec)?);
    let changes = vec![Change::Put { kind, name: name.clone(), expected: None, spec }];
    let id = Name::new(&format!("put-{}", name.as_str()))?;
    let set = ChangeSet { id, author: "bench".into(), message: "m".into(), changes };
    let verdict = proposer.propose(&set).await?;
    let ingest::registry::Outcome::Accepted { revision, .. } = verdict.outcome else {
        anyhow::bail!("refused: {verdict:?}");
    };
    tokio::time::timeout(PATIENCE, view.wait_for(revision)).await??;
    Ok(())
}
