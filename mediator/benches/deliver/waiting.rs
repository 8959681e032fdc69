//! A million messages wait for a target that is away; what that costs, and a restart.
//! `WEIR_BENCH_WAITING` sets how many (1,000,000 if it is not set).
//!
//! The node is a process of its own, which is killed (SIGKILL) while they wait. What is
//! asked of another queue, whose target is there, is measured before and while they wait.

use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use bytes::Bytes;
use ingest::registry::Name;
use tokio::net::TcpListener;

use crate::node::Node;

const KEYS: usize = 1_000;
/// Messages of the other queue, each time.
const OTHERS: usize = 20_000;
const PATIENCE: Duration = Duration::from_secs(900);

/// What came to a target.
#[derive(Clone, Default)]
pub(crate) struct Taken(Arc<AtomicUsize>);

impl Taken {
    pub(crate) async fn listen(at: SocketAddr) -> Result<(Self, SocketAddr)> {
        let taken = Self::default();
        let listener = TcpListener::bind(at).await?;
        let address = listener.local_addr()?;
        let take = async |State(taken): State<Self>, _body: Bytes| {
            taken.0.fetch_add(1, Ordering::Relaxed);
            StatusCode::NO_CONTENT
        };
        let app = Router::new().fallback(take).with_state(taken.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Ok((taken, address))
    }

    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Waits until there are so many.
    pub(crate) async fn wait_for(&self, count: usize) -> Result<()> {
        let began = Instant::now();
        while self.count() < count {
            tokio::time::sleep(Duration::from_millis(1)).await;
            ensure!(began.elapsed() < PATIENCE, "{} of {count} came", self.count());
        }
        Ok(())
    }
}

/// The node's process.
struct Process {
    child: Child,
    wishes: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Process {
    fn start(dir: &Path, well: SocketAddr, stuck: SocketAddr) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("--node")
            .arg(dir)
            .args([well.to_string(), stuck.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("start a node")?;
        let wishes = child.stdin.take().context("write to the node")?;
        let answers = BufReader::new(child.stdout.take().context("read from it")?).lines();
        Ok(Self { child, wishes, answers })
    }

    /// Asks for messages to be accepted by a queue: accepted per second and the 99th of 100
    /// in milliseconds, and the node's memory in MiB: now, and at most.
    fn accept(&mut self, queue: &str, first: usize, count: usize) -> Result<[f64; 4]> {
        writeln!(self.wishes, "{queue} {first} {count}")?;
        let line = self.answers.next().context("the node has ended")??;
        let numbers: Vec<f64> = line.split(' ').map(str::parse).collect::<Result<_, _>>()?;
        numbers.try_into().ok().context("four numbers")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // SIGKILL.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What is asked of the queue whose target is there.
struct Other {
    accepted_per_s: f64,
    p99_ms: f64,
    delivered_per_s: f64,
}

async fn other(node: &mut Process, taken: &Taken, first: usize) -> Result<Other> {
    let (before, began) = (taken.count(), Instant::now());
    let [accepted_per_s, p99_ms, ..] = node.accept("well", first, OTHERS)?;
    taken.wait_for(before + OTHERS).await?;
    let delivered_per_s = OTHERS as f64 / began.elapsed().as_secs_f64();
    Ok(Other { accepted_per_s, p99_ms, delivered_per_s })
}

pub(crate) async fn measure() -> Result<()> {
    let count = std::env::var("WEIR_BENCH_WAITING").map_or(Ok(1_000_000), |of| of.parse())?;
    let dir = tempfile::tempdir()?;
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let (well, well_at) = Taken::listen(any).await?;
    // A port at which nobody listens.
    let stuck_at = TcpListener::bind(any).await?.local_addr()?;

    let mut node = Process::start(dir.path(), well_at, stuck_at)?;
    // Once to warm up.
    other(&mut node, &well, 0).await?;
    let before = other(&mut node, &well, OTHERS).await?;
    let [filled_per_s, _, rss, rss_max] = node.accept("stuck", 0, count)?;
    let during = other(&mut node, &well, 2 * OTHERS).await?;
    println!("| {count} messages of 1 KiB wait | |\n| --- | ---: |");
    println!("| accepted/s until they did | {filled_per_s:.0} |");
    println!("| memory of the process then, and at most, MiB | {rss:.0}, {rss_max:.0} |");
    for (what, of) in [("before", &before), ("while they wait", &during)] {
        println!(
            "| another queue {what}: accepted/s, p99 ms, delivered/s | {:.0}, {:.2}, {:.0} |",
            of.accepted_per_s, of.p99_ms, of.delivered_per_s
        );
    }
    drop(node);

    // The target is there again, and so is the node.
    let (stuck, _) = Taken::listen(stuck_at).await?;
    let began = Instant::now();
    let mut node = Process::start(dir.path(), well_at, stuck_at)?;
    let had = well.count();
    node.accept("well", 3 * OTHERS, 1)?;
    well.wait_for(had + 1).await?;
    let new = began.elapsed();
    println!("| killed and started: a new message delivered after, s | {:.2} |", new.as_secs_f64());
    stuck.wait_for(1).await?;
    let first = began.elapsed();
    println!("| the first that waited delivered after, s | {:.2} |", first.as_secs_f64());
    stuck.wait_for(count).await?;
    let all = began.elapsed();
    let [.., rss, rss_max] = node.accept("well", 4 * OTHERS, 1)?;
    println!(
        "| all delivered after, s, and a second | {:.0}, {:.0} |",
        all.as_secs_f64(),
        count as f64 / (all - first).as_secs_f64()
    );
    println!("| memory of the process then, and at most, MiB | {rss:.0}, {rss_max:.0} |\n");
    Ok(())
}

/// The node's side: `QUEUE FIRST COUNT` on a line is done, and answered on one.
pub(crate) async fn serve(arguments: &[String]) -> Result<()> {
    let [dir, well, stuck, ..] = arguments else { bail!("a directory and two targets") };
    let node = Node::start(Path::new(dir)).await?;
    for (name, at) in [("well", well), ("stuck", stuck)] {
        // By the same id it is made once, also over restarts.
        node.upstream(name, at.parse()?).await?;
        node.queue(&Name::new(&format!("q-{name}"))?, name).await?;
    }
    loop {
        let read = tokio::task::spawn_blocking(|| {
            let mut line = String::new();
            std::io::stdin().read_line(&mut line).map(|_| line)
        });
        let line = read.await??;
        if line.is_empty() {
            return Ok(());
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        let [queue, first, count] = words[..] else { bail!("{line}: no wish") };
        let queue = Name::new(&format!("q-{queue}"))?;
        let accepted = node.accept(&queue, (first.parse()?, count.parse()?), KEYS).await?;
        println!(
            "{} {} {} {}",
            accepted.per_s,
            accepted.ms(0.99),
            memory_mib("VmRSS:")?,
            memory_mib("VmHWM:")?
        );
    }
}

/// A line of `/proc/self/status` (Linux, proc(5)).
pub(crate) fn memory_mib(name: &str) -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)).context("a line")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1_024.0)
}
