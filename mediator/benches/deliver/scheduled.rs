//! Messages of 1 KiB that are scheduled for one time. `WEIR_BENCH_SCHEDULED` sets how many
//! (200,000 if it is not set).
//!
//! They are accepted, deliveries are stopped and started on the same log, and then they are due.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use ingest::event::{Clock as _, SystemClock, Timestamp};
use ingest::registry::Name;

use crate::node::{Node, PATIENCE};
use crate::waiting::{Taken, memory_mib};

const KEYS: usize = 1_000;
/// How long after the last was accepted they are due at least, for the restart.
const REST: Duration = Duration::from_secs(15);
/// What is accepted at least in a second, to guess how long all of it takes.
const ACCEPTED_PER_S_MIN: usize = 10_000;

pub(crate) async fn measure() -> Result<()> {
    let count = std::env::var("WEIR_BENCH_SCHEDULED").map_or(Ok(200_000), |of| of.parse())?;
    let dir = tempfile::tempdir()?;
    let (taken, address) = Taken::listen(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    let queue = Name::new("reminders")?;
    let mut node = start(dir.path(), &queue, address).await?;
    let warm = node.accept(&queue, (0, 20_000), KEYS).await?;
    taken.wait_for(20_000).await?;
    let before = memory_mib("VmRSS:")?;

    let took = Duration::from_secs((count / ACCEPTED_PER_S_MIN) as u64);
    let due = SystemClock.now().after(took + REST);
    let accepted = node.accept_for(&queue, (20_000, count), KEYS, Some(due)).await?;
    ensure!(SystemClock.now() < due && taken.count() == 20_000, "none is due yet");
    until_loaded(&node, count).await?;
    let after = memory_mib("VmRSS:")?;

    let began = Instant::now();
    node.restart_delivery().await;
    until_loaded(&node, count).await?;
    let restarted = began.elapsed();
    sleep_until(due).await;
    let began = Instant::now();
    taken.wait_for(20_001).await?;
    let first = began.elapsed();
    taken.wait_for(20_000 + count).await?;
    let all = began.elapsed();
    println!("| {count} messages of 1 KiB scheduled for one time | |\n| --- | ---: |");
    println!("| accepted/s, p99 ms | {:.0}, {:.2} |", accepted.per_s, accepted.ms(0.99));
    println!("| as above, but for at once | {:.0}, {:.2} |", warm.per_s, warm.ms(0.99));
    println!("| memory of the process before and then, MiB | {before:.0}, {after:.0} |");
    println!(
        "| deliveries stopped and started, s until all are known | {:.2} |",
        restarted.as_secs_f64()
    );
    println!("| the first delivered after its time, ms | {:.1} |", first.as_secs_f64() * 1e3);
    println!("| delivered/s once they are due | {:.0} |\n", count as f64 / all.as_secs_f64());
    node.delivery.shutdown().await;
    Ok(())
}

async fn start(dir: &Path, queue: &Name, target: SocketAddr) -> Result<Node> {
    let node = Node::start(dir).await?;
    node.upstream("phone", target).await?;
    node.queue(queue, "phone").await?;
    Ok(node)
}

/// Waits until the node knows of so many that are scheduled.
async fn until_loaded(node: &Node, count: usize) -> Result<()> {
    let began = Instant::now();
    loop {
        let status = node.delivery.status().await;
        if status.iter().flat_map(|of| of.scheduled.values()).sum::<u64>() == count as u64 {
            return Ok(());
        }
        ensure!(began.elapsed() < PATIENCE, "{status:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn sleep_until(due: Timestamp) {
    while SystemClock.now() < due {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
