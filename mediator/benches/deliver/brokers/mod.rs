//! Weir beside other brokers: accepted, durable, delivered. `WEIR_BENCH_ROUNDS` sets how many
//! rounds, which take turns (3 if it is not set), `WEIR_BENCH_MESSAGES` of how many messages
//! (20,000).
//!
//! | row | clients | consumer |
//! | --- | --- | --- |
//! | a server that keeps nothing | the same POST as to Weir, answered 202 at once | none: what the clients alone take |
//! | Weir | POST over HTTP, answered 202 once the message is durable | an HTTP server that answers 204, 64 attempts at once |
//! | RabbitMQ, durable | persistent messages to a durable queue, confirmed (AMQP 0-9-1) | acknowledges each message, 64 ahead |
//! | RabbitMQ, quorum | the same to a quorum queue | the same |
//! | ActiveMQ | persistent messages, each with a receipt (STOMP 1.2) | acknowledges each message, 64 ahead |
//!
//! 64 clients with a connection each and one message of 1 KiB under way, in 1,000 keys, which
//! only Weir keeps in order. Everything shares this machine's processors and disk; what the disk's
//! own sync takes is measured before and after.

mod active;
mod disk;
mod rabbit;
mod weir;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use hdrhistogram::Histogram;
use ingest::registry::Name;
use tokio::sync::Notify;

use self::active::Active;
use self::rabbit::{Kind, Rabbit};
use self::weir::Weir;
use crate::node::{Accepted, CALLERS, PATIENCE};

const KEYS: usize = 1_000;

/// What the consumer has taken.
#[derive(Debug, Default)]
struct Taken {
    count: AtomicUsize,
    more: Notify,
}

impl Taken {
    fn one(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.more.notify_waiters();
    }

    /// Waits until so many were taken.
    async fn wait(&self, count: usize) -> Result<()> {
        let began = Instant::now();
        while self.count.load(Ordering::Relaxed) < count {
            // Told or not, it looks again: one may be taken between the look and the wait.
            let _ = tokio::time::timeout(Duration::from_millis(20), self.more.notified()).await;
            let taken = self.count.load(Ordering::Relaxed);
            ensure!(began.elapsed() < PATIENCE, "{taken} of {count} were delivered");
        }
        Ok(())
    }
}

/// One client, with its connection.
trait Client: Send + 'static {
    /// Sends a message of a key, and waits for the word that it is durable.
    fn send(&mut self, number: usize) -> impl Future<Output = Result<()>> + Send;
}

struct Round {
    accepted: Accepted,
    delivered_per_s: f64,
}

pub(crate) async fn measure() -> Result<()> {
    let number = |name: &str, usual: usize| {
        std::env::var(name).map_or(Ok(usual), |number| number.parse::<usize>())
    };
    let (rounds, count) = (number("WEIR_BENCH_ROUNDS", 3)?, number("WEIR_BENCH_MESSAGES", 20_000)?);
    let dir = tempfile::tempdir()?;
    let mut syncs = disk::syncs(dir.path())?;
    let weir = Weir::start(dir.path()).await?;
    let rabbit = Rabbit::start(dir.path()).await?;
    let active = Active::start(dir.path()).await?;
    let rows = [
        "a server that keeps nothing",
        "Weir",
        "RabbitMQ, durable",
        "RabbitMQ, quorum",
        "ActiveMQ",
    ];
    let mut all: Vec<Vec<Round>> = rows.iter().map(|_| Vec::new()).collect();
    for round in 0..rounds {
        let name = Name::new(&format!("q{round}"))?;
        // Who comes first takes turns too.
        for turn in 0..rows.len() {
            let row = (round + turn) % rows.len();
            let taken = Arc::new(Taken::default());
            let came_to = match row {
                0 => {
                    let clients = weir.clients_of_nothing(&name, &taken).await?;
                    measured(clients, &taken, count).await?
                }
                1 => measured(weir.clients(&name, &taken).await?, &taken, count).await?,
                2 => {
                    measured(rabbit.clients(&name, Kind::Durable, &taken).await?, &taken, count)
                        .await?
                }
                3 => {
                    measured(rabbit.clients(&name, Kind::Quorum, &taken).await?, &taken, count)
                        .await?
                }
                _ => measured(active.clients(&name, &taken).await?, &taken, count).await?,
            };
            all[row].push(came_to);
        }
    }
    syncs += disk::syncs(dir.path())?;
    let disk_ms = syncs.value_at_quantile(0.99) as f64 / 1_000.0;
    println!("| broker | accepted/s | p50 ms | p99 ms | p99 / disk | delivered/s |");
    println!("| --- | ---: | ---: | ---: | ---: | ---: |");
    let p50_ms = syncs.value_at_quantile(0.5) as f64 / 1_000.0;
    println!("| the disk's own sync | | {p50_ms:.2} | {disk_ms:.2} | 1.0 | |");
    for (name, rounds) in rows.iter().zip(&mut all) {
        rounds.sort_by(|a, b| a.delivered_per_s.total_cmp(&b.delivered_per_s));
        let median = &rounds[rounds.len() / 2];
        let p99 = median.accepted.ms(0.99);
        println!(
            "| {name} | {:.0} | {:.2} | {p99:.2} | {:.1} | {:.0} ({:.0} to {:.0}) |",
            median.accepted.per_s,
            median.accepted.ms(0.5),
            p99 / disk_ms,
            median.delivered_per_s,
            rounds[0].delivered_per_s,
            rounds[rounds.len() - 1].delivered_per_s,
        );
    }
    weir.stop().await;
    Ok(())
}

/// Has every message accepted, and waits until all are delivered.
async fn measured<C: Client>(clients: Vec<C>, taken: &Taken, count: usize) -> Result<Round> {
    ensure!(clients.len() == CALLERS, "{} clients", clients.len());
    let next = Arc::new(AtomicUsize::new(0));
    let began = Instant::now();
    let sending = clients.into_iter().map(|mut client| {
        let next = next.clone();
        tokio::spawn(async move {
            let mut times = Histogram::<u64>::new_with_bounds(1, 60_000_000, 3)?;
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return anyhow::Ok((times, client));
                }
                let asked = Instant::now();
                client.send(number).await?;
                times.saturating_record(asked.elapsed().as_micros() as u64);
            }
        })
    });
    let mut times = Histogram::new_with_bounds(1, 60_000_000, 3)?;
    // Their connections stay until all is delivered.
    let mut clients = Vec::new();
    for sending in sending.collect::<Vec<_>>() {
        let (of_one, client) = sending.await??;
        times += of_one;
        clients.push(client);
    }
    let per_s = count as f64 / began.elapsed().as_secs_f64();
    taken.wait(count).await?;
    let delivered_per_s = count as f64 / began.elapsed().as_secs_f64();
    Ok(Round { accepted: Accepted { per_s, times }, delivered_per_s })
}
