//! How long it takes from the commit of a decision until the last of two gateways refuses by
//! it, on the embedded log and on three brokers of Kafka.
//!
//! Each decision is against an address of its own, and is committed as a detection's is, in a
//! transaction; a client of each gateway asks for it, over a connection that is kept, until it is
//! refused. Beside it the commit itself, what a request of somebody else takes meanwhile, and all
//! of it again with ten thousand decisions in force.

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use gateway::{Config, Gateway, Listener, Parts};
use ingest::decision::{self, Action, Decision, Decisions, Maker, Mode, Subject, SubjectKind};
use ingest::emit;
use ingest::event::{Clock as _, SystemClock};
use ingest::log::embedded::{self, EmbeddedLog};
use ingest::log::kafka::{self, KafkaLog};
use ingest::log::{EventLog, TopicSpec, Transaction};
use ingest::registry::{
    Change, ChangeSet, EntityKey, Json, Outcome, Proposer, Topics, View, no_deep_check, run_applier,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

const DECISIONS: u32 = 300;
/// How many are in force besides, at most at once, and in one commit.
const MANY: u32 = 10_000;
const AT_ONCE: u32 = 1_000;
/// Requests of somebody else, between two decisions.
const OTHERS: usize = 20;
const GATEWAYS: usize = 2;
const PATIENCE: Duration = Duration::from_secs(10);
const ENTITIES: [(&str, &str); 3] = [
    ("safeguard/all", r#"{"mode": "enforce", "decisions_max": 10000}"#),
    ("upstream/u", r#"{"targets": [{"url": "http://ORIGIN"}]}"#),
    (
        "api/shop",
        r#"{"context": "/shop", "version": "1", "upstream": "u", "lifecycle": "published",
            "authentication": ["none"], "resources": [{"methods": ["GET"], "path": "/*"}]}"#,
    ),
];

fn main() -> Result<()> {
    // `cargo test --benches` asks for nothing.
    if !std::env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    println!(
        "| log | in force besides | commit p50 | p99 | from there to the last of two gateways p50 \
         | p99 | longest | a request of others p50 | p99 |"
    );
    println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    let dir = tempfile::tempdir()?;
    let embedded = embedded::Config::new(dir.path().join("log"));
    let log: Arc<dyn EventLog> = Arc::new(EmbeddedLog::open(&embedded)?);
    // One process has it, and its gateways share it.
    runtime.block_on(measure("embedded", vec![log; GATEWAYS], dir.path()))?;
    let servers = rig::Kafka::start(3)?;
    let mut logs = Vec::new();
    for _ in 0..GATEWAYS {
        let mut config = kafka::Config::new(servers.bootstrap());
        config.replication_factor = 3.try_into().ok();
        let log = runtime.block_on(KafkaLog::connect(config))?;
        logs.push(Arc::new(log) as Arc<dyn EventLog>);
    }
    let dir = tempfile::tempdir()?;
    runtime.block_on(measure("Kafka, three brokers", logs, dir.path()))?;
    Ok(())
}

async fn measure(name: &str, logs: Vec<Arc<dyn EventLog>>, dir: &std::path::Path) -> Result<()> {
    let log = logs[0].clone();
    log.create_topic(&TopicSpec::retained(emit::TOPIC, 1, Duration::from_secs(600))).await?;
    let topics = Topics::default();
    topics.create(&*log).await?;
    let applier = tokio::spawn(run_applier(log.clone(), topics.clone(), no_deep_check));
    let origin = origin().await?;
    let revision = configure(&log, &topics, origin).await?;
    let (stop, stopped) = watch::channel(false);
    let (mut gateways, mut clients) = (Vec::new(), Vec::new());
    for (i, log) in logs.into_iter().enumerate() {
        let decisions = Decisions::open(&*log).await?;
        tokio::spawn(decisions.clone().follow(log.clone(), stopped.clone()));
        let view = View::open(log.clone(), topics.clone()).await?;
        view.wait_for(revision).await?;
        let config = Config {
            listeners: vec![Listener { address: ([127, 0, 0, 1], 0).into(), tls: None }],
            threads: 1,
            node: format!("gateway-{i}"),
            trusted_proxies: vec!["127.0.0.1/32".parse()?],
            spool_dir: dir.join(format!("spool-{i}")),
            ..Config::default()
        };
        let (partitions, clock) = (NonZeroU32::MIN, Arc::new(SystemClock));
        let parts = Parts { view, decisions, log, partitions, clock, pseudonyms: None };
        let gateway = Box::pin(Gateway::start(config, parts)).await?;
        clients.push(TcpStream::connect(gateway.addresses()[0]).await?);
        gateways.push(gateway);
    }
    let mut writer = log.writer("weir.bench").await?;
    let mut next = 0;
    for besides in [0, MANY] {
        for first in (0..besides).step_by(AT_ONCE as usize) {
            let records = (first..first + AT_ONCE).map(|i| Ok(decision::made(&of(1 << 24 | i)?)));
            let records = records.collect::<Result<_>>()?;
            writer.commit(Transaction { records, offsets: Vec::new() }).await?;
        }
        let (mut commits, mut waits, mut others) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..DECISIONS {
            let decision = of(next)?;
            next += 1;
            let address = decision.subject.name();
            for client in &mut clients {
                ensure!(ask(client, &address).await? == 200, "nobody is blocked yet");
                for _ in 0..OTHERS {
                    let began = Instant::now();
                    ensure!(ask(client, "192.0.2.1").await? == 200, "others are not blocked");
                    others.push(began.elapsed());
                }
            }
            let began = Instant::now();
            let records = vec![decision::made(&decision)];
            writer.commit(Transaction { records, offsets: Vec::new() }).await?;
            let committed = Instant::now();
            commits.push(committed - began);
            for client in &mut clients {
                while ask(client, &address).await? != 403 {
                    ensure!(committed.elapsed() < PATIENCE, "{address} is not blocked");
                }
            }
            waits.push(committed.elapsed());
        }
        let ms = |of: Duration| format!("{:.1} ms", of.as_secs_f64() * 1e3);
        let us = |of: Duration| format!("{} µs", of.as_micros());
        let of = |mut all: Vec<Duration>| {
            all.sort_unstable();
            (all[all.len() / 2], all[all.len() * 99 / 100], all[all.len() - 1])
        };
        let (commit, wait, other) = (of(commits), of(waits), of(others));
        println!(
            "| {name} | {besides} | {} | {} | {} | {} | {} | {} | {} |",
            ms(commit.0),
            ms(commit.1),
            ms(wait.0),
            ms(wait.1),
            ms(wait.2),
            us(other.0),
            us(other.1)
        );
    }
    stop.send_replace(true);
    drop(clients);
    for gateway in gateways {
        gateway.shutdown().await;
    }
    applier.abort();
    Ok(())
}

/// A detection's decision, against an address of its own.
fn of(i: u32) -> Result<Decision> {
    let address = std::net::Ipv4Addr::from((10 << 24) + i);
    let now = SystemClock.now();
    let subject = Subject::parse(SubjectKind::Address, &address.to_string());
    Ok(Decision {
        id: format!("{i:032x}"),
        subject: subject.map_err(io::Error::other)?,
        action: Action::Block,
        mode: Mode::Enforce,
        maker: Maker::Detection("scanner".to_owned()),
        at: now,
        until: now.after(Duration::from_hours(1)),
    })
}

/// Asks as a client of an address; the status.
async fn ask(client: &mut TcpStream, address: &str) -> Result<u16> {
    let request =
        format!("GET /shop/1/x HTTP/1.1\r\nhost: a\r\nx-forwarded-for: {address}\r\n\r\n");
    client.write_all(request.as_bytes()).await?;
    let (mut answer, mut part) = (Vec::new(), [0; 4096]);
    loop {
        let count = client.read(&mut part).await?;
        ensure!(count > 0, "the gateway hung up");
        answer.extend_from_slice(&part[..count]);
        let text = String::from_utf8_lossy(&answer);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let head = head.to_ascii_lowercase();
        let length = head.split("content-length: ").nth(1).and_then(|of| of.split('\r').next());
        let length: usize = length.context("an answer has a length")?.parse()?;
        if body.len() >= length {
            return Ok(head.split(' ').nth(1).context("an answer has a status")?.parse()?);
        }
    }
}

/// A service that answers everything alike.
async fn origin() -> Result<SocketAddr> {
    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut seen, mut part) = (Vec::new(), [0; 4096]);
                while let Ok(count @ 1..) = stream.read(&mut part).await {
                    seen.extend_from_slice(&part[..count]);
                    if seen.ends_with(b"\r\n\r\n") {
                        seen.clear();
                        if stream.write_all(ANSWER).await.is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
    Ok(address)
}

async fn configure(log: &Arc<dyn EventLog>, topics: &Topics, origin: SocketAddr) -> Result<u64> {
    let proposer = Proposer::new(log.clone(), topics.clone(), PATIENCE);
    let mut changes = Vec::new();
    for (key, spec) in ENTITIES {
        let EntityKey { kind, name } = EntityKey::parse(key).context("a key")?;
        let spec = Json(serde_json::from_str(&spec.replace("ORIGIN", &origin.to_string()))?);
        changes.push(Change::Put { kind, name, expected: None, spec });
    }
    let (author, message) = ("the bench".to_owned(), "an API".to_owned());
    let set = ChangeSet { id: "bench".parse()?, author, message, changes };
    let verdict = Box::pin(proposer.propose(&set)).await?;
    match verdict.outcome {
        Outcome::Accepted { revision, .. } => Ok(revision),
        Outcome::Refused { reasons } => anyhow::bail!("{reasons:?}"),
    }
}
