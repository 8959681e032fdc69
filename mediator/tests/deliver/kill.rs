//! Deliveries under kill -9.
//!
//! A child process takes messages and delivers them to the receiver in this
//! process. It says on its standard output which ids it has accepted, after it
//! has. It is killed at random moments and started again on the same log; at the
//! end everything that it said is delivered or dead, in order, by one key each.
//! On Kafka there are two, killed at moments of their own: what one owned, the
//! other takes over.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use ingest::event::{Clock as _, SystemClock};
use ingest::log::Partition;
use mediator::deliver::Config;
use rig::victim;

use crate::receiver::{Receiver, Reply};
use crate::world::{Node, Place, Subject, World, config, message};

const VICTIM: &str = "WEIR_DELIVER_VICTIM";
const KEYS: u64 = 8;
/// Of these, the last ones have messages that are scheduled, all for the same time ahead.
const KEYS_SCHEDULED: u64 = 2;
const SCHEDULED_AHEAD: Duration = Duration::from_millis(300);
const PARTITIONS: u32 = 3;
/// How often a message of each key is accepted.
const ACCEPT_EVERY: Duration = Duration::from_millis(10);
/// For a victim that has a target of its own, which one message kills.
const ABORTS: &str = "aborts";

type Case = fn(&Subject) -> Result<()>;

pub(crate) fn cases(subject: &Subject) -> Vec<(&'static str, Case)> {
    let mut cases: Vec<(&'static str, Case)> =
        vec![("what_was_accepted_is_delivered_or_dead_after_kill_9", |subject| survives(subject))];
    if matches!(subject, Subject::Embedded) {
        cases.push(("a_message_that_kills_is_dead_after_its_attempts", poison));
        cases.push(("a_message_that_kills_at_once_is_dead_too", poison_at_once));
    }
    cases
}

/// Whether this process was started to be killed.
pub(crate) fn is_victim() -> bool {
    std::env::var_os(VICTIM).is_some()
}

pub(crate) fn run_victim() -> ExitCode {
    let told = std::env::var(VICTIM).expect("a victim is told its place in text");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    let ended = runtime.block_on(work_until_killed(&told));
    eprintln!("the victim was not killed: {ended:?}");
    ExitCode::FAILURE
}

/// What a victim is told: log, queue, spool, boot, and what its keys begin with;
/// nothing if it only delivers.
fn tell(world: &World, dir: &str, boot: usize, accepts: &str) -> String {
    let (place, prefix) = match &world.place {
        Place::Dir(dir) => (dir.display().to_string(), String::new()),
        Place::Kafka { bootstrap, prefix } => (bootstrap.clone(), prefix.clone()),
    };
    [&place, &prefix, world.queue.as_str(), dir, &boot.to_string(), accepts].join("|")
}

async fn work_until_killed(told: &str) -> Result<()> {
    let told: Vec<&str> = told.split('|').collect();
    let [place, prefix, queue, dir, boot, accepts] = told[..] else { bail!("told {told:?}") };
    let place = match prefix {
        "" => Place::Dir(PathBuf::from(place)),
        prefix => Place::Kafka { bootstrap: place.to_owned(), prefix: prefix.to_owned() },
    };
    let name = format!("victim{accepts}");
    let mut node = Node::open(&place, &PathBuf::from(dir), &name).await?;
    if accepts == ABORTS {
        let target = Receiver::start(|attempt| {
            if attempt.id == "poison" {
                println!("attempt {}", attempt.number);
                std::process::abort();
            }
            Reply::Status(200)
        })
        .await?;
        node.put("upstream/shop", &format!(r#"{{"targets": [{{"url": "{}"}}]}}"#, target.url))
            .await?;
        node.deliver(config());
        return std::future::pending().await;
    }
    // A window that a key fills which is blocked for some tenths of a second.
    node.deliver(Config { window_records_max: 60, read_bytes: 4 * 1024, ..config() });
    if accepts.is_empty() {
        return std::future::pending().await;
    }
    let queue: ingest::registry::Name = queue.parse()?;
    let boot: usize = boot.parse()?;
    let node = Arc::new(node);
    let mut accepting = tokio::task::JoinSet::new();
    for key in 0..KEYS {
        let is_scheduled = key >= KEYS - KEYS_SCHEDULED;
        let (node, queue, key) = (node.clone(), queue.clone(), format!("{accepts}{key}"));
        accepting.spawn(async move {
            for number in 0u64.. {
                let id = format!("{key}-{boot:03}-{number:06}");
                let mut message = message(&id, Some(&format!("k{key}")))?;
                message.due = is_scheduled.then(|| SystemClock.now().after(SCHEDULED_AHEAD));
                node.queues.accept(&queue, message).await?;
                writeln!(std::io::stdout().lock(), "{id}")?;
                // No faster than a key is delivered, so that the end does not wait for hours.
                tokio::time::sleep(ACCEPT_EVERY).await;
            }
            anyhow::Ok(())
        });
    }
    match accepting.join_next().await {
        Some(ended) => ended?,
        None => bail!("there are no keys"),
    }
}

fn survives(subject: &Subject) -> Result<()> {
    let is_kafka = matches!(subject, Subject::Kafka(_));
    let kills = if is_kafka { 4 } else { victim::kills(25)? };
    let seed = fastrand::u64(..);
    eprintln!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let world = subject.world("kill")?;
    let runtime = tokio::runtime::Runtime::new()?;
    let receiver = runtime.block_on(Receiver::start(|attempt| {
        // By the id, so that it is the same with each attempt.
        let number: u64 = attempt.id.rsplit('-').next().and_then(|n| n.parse().ok()).unwrap_or(0);
        let is_blocked = matches!(attempt.key.as_deref(), Some("k0" | "k1")) && attempt.seen < 20;
        match (number % 40, number % 6, attempt.seen) {
            (20, ..) if is_blocked => Reply::Status(503),
            (9 | 39, ..) => Reply::Status(400),
            (_, 0, 1) => Reply::Status(503),
            (_, 1, 1) => Reply::Slow(200, Duration::from_millis(number % 30)),
            _ => Reply::Status(200),
        }
    }))?;
    runtime.block_on(async {
        let node = world.node("setup").await?;
        let spec = format!(
            r#""partitions": {PARTITIONS}, "concurrency_max": 12,
            "retry": {{"delay_min_ms": 10, "delay_max_ms": 30, "attempts_max": 1000}}"#
        );
        world.queue(&node, &receiver.url, &spec).await?;
        node.stop().await
    })?;

    let victims: &[&str] = if is_kafka { &["a", "b"] } else { &["a"] };
    let accepted = std::thread::scope(|scope| {
        let mut start = |name: &'static str| {
            let (world, mut random) = (&world, random.fork());
            scope.spawn(move || -> Result<Vec<String>> {
                let spool = tempfile::tempdir()?;
                let dir = spool.path().display().to_string();
                let mut said = Vec::new();
                for kill in 0..kills {
                    let (least, most) = if is_kafka { (3_000, 12_000) } else { (60, 660) };
                    let time = Duration::from_millis(random.u64(least..most));
                    said.extend(victim::kill_after(VICTIM, tell(world, &dir, kill, name), time)?);
                }
                Ok(said)
            })
        };
        let started: Vec<_> = victims.iter().map(|name| start(name)).collect();
        let mut accepted = BTreeSet::new();
        for victim in started {
            for id in victim.join().expect("no thread panics")? {
                ensure!(accepted.insert(id.clone()), "{id} was accepted twice");
            }
        }
        Ok(accepted)
    })?;
    ensure!(accepted.len() > 10 * kills, "only {} were accepted", accepted.len());
    runtime
        .block_on(check(&world, &receiver, &accepted, kills))
        .with_context(|| format!("seed {seed}, {kills} kills, {} accepted", accepted.len()))?;
    eprintln!("{kills} kills, {} accepted, none lost", accepted.len());
    Ok(())
}

async fn check(
    world: &World,
    receiver: &Receiver,
    accepted: &BTreeSet<String>,
    kills: usize,
) -> Result<()> {
    let node = world.delivering("last").await?;
    node.is_drained(world, PARTITIONS).await?;
    // An owner writes a record there when it begins.
    let (mut parked, owners) = (0, 2 * kills as u64 + 2);
    for index in 0..PARTITIONS {
        let partition = Partition::new(world.topic(".parked"), index);
        parked += node.log.bounds(&partition).await?.end.saturating_sub(owners);
    }
    ensure!(parked > 0, "no message was parked");
    // The body tells the message, the header says the key that its target knows it by.
    let mut ids: BTreeMap<&str, &str> = BTreeMap::new();
    let mut keys: BTreeMap<&str, &str> = BTreeMap::new();
    let attempts = receiver.attempts();
    for attempt in &attempts {
        let id = ids.insert(&attempt.body, &attempt.id).unwrap_or(&attempt.id);
        ensure!(id == attempt.id, "{} has two keys", attempt.body);
        let body = keys.insert(&attempt.id, &attempt.body).unwrap_or(&attempt.body);
        ensure!(body == attempt.body, "key {} serves two ids", attempt.id);
    }
    ensure!(node.records(&world.topic(".scheduled")).await?.len() > kills, "some were scheduled");
    let dead: BTreeSet<String> = node.dead(world).await?.into_iter().map(|(id, ..)| id).collect();
    let delivered = receiver.delivered();
    let taken: BTreeSet<&String> = delivered.iter().collect();
    let lost: Vec<_> =
        accepted.iter().filter(|id| !taken.contains(id) && !dead.contains(*id)).collect();
    ensure!(lost.is_empty(), "{} lost: {lost:?}", lost.len());
    let both: Vec<_> = dead.iter().filter(|id| taken.contains(id)).collect();
    ensure!(both.is_empty(), "delivered and dead: {both:?}");
    ensure!(!dead.is_empty(), "some are refused");

    // An id sorts as it was accepted within its key.
    let mut last: BTreeMap<&str, &String> = BTreeMap::new();
    for id in &delivered {
        let key = id.split('-').next().context("a key")?;
        let before = last.insert(key, id);
        ensure!(before < Some(id), "key {key}: {id} came after {before:?}");
    }
    let repeated = attempts.iter().filter(|a| (200..300).contains(&a.status)).count();
    eprintln!(
        "{} delivered, {} dead, {} attempts, {} repeated",
        delivered.len(),
        dead.len(),
        attempts.len(),
        repeated - delivered.len()
    );
    node.stop().await
}

/// A message whose attempt ends in the death of its process: it is under way when
/// the kill comes, each time.
fn poison(subject: &Subject) -> Result<()> {
    const ATTEMPTS_MAX: usize = 3;
    let world = subject.world("poison")?;
    let runtime = tokio::runtime::Runtime::new()?;
    let receiver = runtime.block_on(Receiver::start(|attempt| match attempt.id.as_str() {
        "poison" => Reply::Hang,
        _ => Reply::Status(200),
    }))?;
    runtime.block_on(async {
        let node = world.node("setup").await?;
        let spec = format!(r#""partitions": 1, "retry": {{"attempts_max": {ATTEMPTS_MAX}}}"#);
        world.queue(&node, &receiver.url, &spec).await?;
        node.accept(&world.queue, "poison", Some("k")).await?;
        node.accept(&world.queue, "behind", Some("k")).await?;
        node.stop().await
    })?;
    let spool = tempfile::tempdir()?;
    let dir = spool.path().display().to_string();
    for kill in 0..ATTEMPTS_MAX {
        let told = tell(&world, &dir, kill, "");
        victim::kill_after(VICTIM, told, Duration::from_millis(1_500))?;
        ensure!(receiver.of("poison").len() == kill + 1, "one attempt for each life");
    }
    runtime.block_on(async {
        let node = world.delivering("last").await?;
        receiver.wait_for(1).await?;
        node.is_drained(&world, 1).await?;
        ensure!(receiver.of("poison").len() == ATTEMPTS_MAX, "and no more");
        let dead = node.dead(&world).await?;
        let expected = ("poison".to_owned(), "attempts_used_up".to_owned(), "3".to_owned());
        ensure!(dead == [expected], "{dead:?}");
        node.stop().await
    })
}

/// A message whose attempt kills the process within the moment, before a commit
/// that would come by itself.
fn poison_at_once(subject: &Subject) -> Result<()> {
    let spec = r#""partitions": 1, "retry": {"attempts_max": 3}"#;
    let world = subject.world("abort")?;
    let runtime = tokio::runtime::Runtime::new()?;
    let receiver = runtime.block_on(Receiver::willing())?;
    runtime.block_on(async {
        let node = world.node("setup").await?;
        world.queue(&node, &receiver.url, spec).await?;
        for id in ["before", "poison", "behind"] {
            node.accept(&world.queue, id, Some("k")).await?;
        }
        node.stop().await
    })?;
    let spool = tempfile::tempdir()?;
    let dir = spool.path().display().to_string();
    for attempt in 1..=3 {
        let told = tell(&world, &dir, attempt, ABORTS);
        let said = victim::kill_after(VICTIM, told, Duration::from_millis(1_500))?;
        ensure!(said == [format!("attempt {attempt}")], "life {attempt}: {said:?}");
    }
    runtime.block_on(async {
        let mut node = world.node("last").await?;
        world.queue(&node, &receiver.url, spec).await?;
        node.deliver(config());
        node.is_drained(&world, 1).await?;
        let dead = node.dead(&world).await?;
        let expected = ("poison".to_owned(), "attempts_used_up".to_owned(), "3".to_owned());
        ensure!(dead == [expected], "{dead:?}");
        ensure!(receiver.delivered() == ["behind"], "{:?}", receiver.delivered());
        node.stop().await
    })
}
