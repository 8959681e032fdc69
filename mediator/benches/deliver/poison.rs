//! Rounds without and with poisoned keys, in turns. `WEIR_BENCH_ROUNDS` sets how many (3 if
//! it is not set).
//!
//! | row | what happens |
//! | --- | --- |
//! | plain | 1,000 keys with 20 messages of 1 KiB each; 64 callers, each with one under way |
//! | poisoned | the same, and the target answers 503 to 10 of the keys for ever |

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use ingest::registry::Name;
use tokio::net::TcpListener;
use tokio::sync::Notify;

use crate::node::{Accepted, Node, PATIENCE};

const KEYS: usize = 1_000;
const POISONED: usize = 10;
const OF_KEY: usize = 20;
/// Messages of keys that are never poisoned.
const COUNTED: usize = (KEYS - POISONED) * OF_KEY;

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
    accepted: Accepted,
    delivered_per_s: f64,
}

pub(crate) async fn measure() -> Result<()> {
    let rounds = std::env::var("WEIR_BENCH_ROUNDS").map_or(Ok(3), |rounds| rounds.parse())?;
    let dir = tempfile::tempdir()?;
    let target = Arc::new(Target::default());
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let app = Router::new().fallback(take).with_state(target.clone());
    tokio::spawn(async move { axum::serve(listener, app).await });
    let node = Node::start(dir.path()).await?;
    node.upstream("shop", address).await?;

    let mut all: HashMap<bool, Vec<Round>> = HashMap::new();
    for number in 0..rounds {
        // Which of the two comes first takes turns too.
        for turn in 0..2 {
            let is_poisoned = (number + turn) % 2 == 1;
            let queue = Name::new(&format!("q{number}-{is_poisoned}"))?;
            node.queue(&queue, "shop").await?;
            let round = round(&target, &node, &queue, is_poisoned).await?;
            all.entry(is_poisoned).or_default().push(round);
        }
    }
    println!("| keys | accepted/s | p50 ms | p99 ms | delivered/s of the other {COUNTED} |");
    println!("| --- | ---: | ---: | ---: | ---: |");
    let mut delivered = Vec::new();
    for (is_poisoned, name) in [(false, "plain"), (true, "10 of 1,000 poisoned")] {
        let rounds = all.get_mut(&is_poisoned).context("it was measured")?;
        rounds.sort_by(|a, b| a.delivered_per_s.total_cmp(&b.delivered_per_s));
        let median = &rounds[rounds.len() / 2];
        println!(
            "| {name} | {:.0} | {:.2} | {:.2} | {:.0} ({:.0} to {:.0}) |",
            median.accepted.per_s,
            median.accepted.ms(0.5),
            median.accepted.ms(0.99),
            median.delivered_per_s,
            rounds[0].delivered_per_s,
            rounds[rounds.len() - 1].delivered_per_s,
        );
        delivered.push(median.delivered_per_s);
    }
    println!("\nWith poison: {:.2} of the deliveries without.\n", delivered[1] / delivered[0]);
    node.delivery.shutdown().await;
    Ok(())
}

/// Accepts all messages, and waits until those are delivered whose keys are counted.
async fn round(
    target: &Arc<Target>,
    node: &Node,
    queue: &Name,
    is_poisoned: bool,
) -> Result<Round> {
    target.is_poisoned.store(is_poisoned, Ordering::Relaxed);
    target.taken.store(0, Ordering::Relaxed);
    target.of_poison.store(0, Ordering::Relaxed);
    let began = Instant::now();
    let accepted = node.accept(queue, (0, KEYS * OF_KEY), KEYS).await?;
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
    Ok(Round { accepted, delivered_per_s: COUNTED as f64 / delivering.as_secs_f64() })
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
