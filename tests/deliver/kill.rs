//! Deliveries under kill -9.
//!
//! A child process takes messages and delivers them to the receiver in this process. It
//! says on its standard output which ids it has accepted, after it has. It dies at a random
//! moment, or at a failpoint, and is started again on the same log; at the end the checker
//! compares what it said, what the log holds and what the receiver saw. On Kafka there are
//! two, which die at moments of their own: what one owned, the other takes over. Of three
//! brokers one after another is killed meanwhile, and started again.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use ingest::event::{Clock as _, SystemClock};
use ingest::log::Partition;
use mediator::deliver::{Config, Decision, Which};
use rig::Kafka;
use rig::victim::{self, Death};

use crate::account;
use crate::checker::{self, Book, Logged};
use crate::control::by;
use crate::receiver::{Receiver, Reply};
use crate::world::{Node, Place, Subject, World, config, message};

pub(crate) const VICTIM: &str = "WEIR_DELIVER_VICTIM";
const KEYS: u64 = 8;
/// Of these, the last ones have messages that are scheduled, all for the same time ahead.
const KEYS_SCHEDULED: u64 = 2;
const SCHEDULED_AHEAD: Duration = Duration::from_millis(300);
const PARTITIONS: u32 = 3;
const BROKERS: usize = 3;
/// How often a message of each key is accepted: on the embedded log, and on Kafka, where an
/// owner takes seconds to take over.
const ACCEPT_EVERY: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(60)];
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// For a victim that has a target of its own, which one message kills.
pub(crate) const ABORTS: &str = "aborts";
/// For a victim that puts dead letters back.
const PUTS_BACK: &str = "puts-back";

/// Where a victim may die, and with which pass at most.
const PLACES: [(&str, u64); 10] = [
    ("accept::kept", 60),
    ("accept::told", 60),
    ("attempt::made", 60),
    ("attempt::told", 60),
    ("owner::took_over", 3),
    ("owner::committed", 20),
    ("owner::parks", 2),
    ("schedule::moved", 3),
    ("schedule::told", 3),
    // The embedded log's own, last.
    ("log::written", 60),
];
const PLACES_OF_KAFKA: usize = PLACES.len() - 1;

type Case = fn(&Subject) -> Result<()>;

pub(crate) fn cases(subject: &Subject) -> Vec<(&'static str, Case)> {
    // Of a log that is trimmed, and of one that holds all.
    let mut cases: Vec<(&'static str, Case)> =
        vec![("what_was_accepted_is_delivered_or_dead_after_kill_9", |subject| {
            survives(subject, &subject.world("kill")?, false)
        })];
    if matches!(subject, Subject::Embedded) {
        cases.push(("each_attempt_is_of_what_the_log_holds_after_kill_9", |subject| {
            survives(subject, &subject.world("kill-whole")?, true)
        }));
        cases.push(("a_letter_that_is_put_back_is_delivered_after_kill_9", put_back));
    }
    cases
}

/// Whether this process was started to be killed.
pub(crate) fn is_victim() -> bool {
    std::env::var_os(VICTIM).is_some()
}

pub(crate) fn run_victim() -> ExitCode {
    victim::prepare();
    let told = std::env::var(VICTIM).expect("a victim is told its place in text");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    let ended = runtime.block_on(work_until_killed(&told));
    eprintln!("the victim was not killed: {ended:?}");
    ExitCode::FAILURE
}

/// What a victim is told: log, queue, spool, boot, and what its keys begin with;
/// nothing if it only delivers.
pub(crate) fn tell(world: &World, dir: &str, boot: usize, accepts: &str) -> String {
    let (kind, place, prefix) = match &world.place {
        Place::Dir(dir) => ("embedded", dir.display().to_string(), String::new()),
        Place::Kafka { bootstrap, prefix } => ("kafka", bootstrap.clone(), prefix.clone()),
    };
    [kind, &place, &prefix, world.queue.as_str(), dir, &boot.to_string(), accepts].join("|")
}

async fn work_until_killed(told: &str) -> Result<()> {
    let told: Vec<&str> = told.split('|').collect();
    let [kind, place, prefix, queue, dir, boot, accepts] = told[..] else { bail!("told {told:?}") };
    let is_kafka = kind == "kafka";
    let place = match is_kafka {
        false => Place::Dir(PathBuf::from(place)),
        true => Place::Kafka { bootstrap: place.to_owned(), prefix: prefix.to_owned() },
    };
    let name = format!("victim{accepts}");
    // As who looks after it would: again, while a broker is away.
    let mut node = loop {
        match Node::open(&place, &PathBuf::from(dir), &name).await {
            Ok(node) => break node,
            Err(error) if !is_kafka => return Err(error),
            Err(error) => eprintln!("{name}: {error:#}; again"),
        }
    };
    if accepts == ABORTS {
        let target = Receiver::start(|attempt| {
            if attempt.id == "poison" {
                println!("attempt {}", attempt.number);
                victim::die();
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
    if accepts == PUTS_BACK {
        let queue = queue.parse()?;
        let letters = crate::dead::letters(&node);
        letters.settle(&queue, &Which::All, &Decision::Replay, &by()).await?;
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
                let accept = async || {
                    let mut message = message(&id, Some(&format!("k{key}")))?;
                    message.due = is_scheduled.then(|| SystemClock.now().after(SCHEDULED_AHEAD));
                    anyhow::Ok(node.queues.accept(&queue, message).await?)
                };
                // As a caller does: the same again, while a broker is away.
                while let Err(error) = accept().await {
                    eprintln!("{id}: {error}; again");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                }
                writeln!(std::io::stdout().lock(), "{id}")?;
                // No faster than a key is delivered, so that the end does not wait for hours.
                tokio::time::sleep(ACCEPT_EVERY[usize::from(is_kafka)]).await;
            }
            anyhow::Ok(())
        });
    }
    match accepting.join_next().await {
        Some(ended) => ended?,
        None => bail!("there are no keys"),
    }
}

/// How a victim lives and dies.
struct Lives<'a> {
    seed: u64,
    /// How many of each victim at least.
    kills: usize,
    /// Whether they need not live on after these.
    is_enough: &'a (dyn Fn() -> bool + Sync),
    /// How long at least, and at most.
    time_ms: (u64, u64),
    places: &'static [(&'static str, u64)],
}

fn survives(subject: &Subject, world: &World, is_whole: bool) -> Result<()> {
    let seed = fastrand::u64(..);
    let is_kafka = matches!(subject, Subject::Kafka(_));
    let lives = match is_kafka {
        true => {
            let places = &PLACES[..PLACES_OF_KAFKA];
            Lives { seed, kills: 4, is_enough: &|| true, time_ms: (3_000, 12_000), places }
        }
        false => {
            let (kills, places) = (victim::kills(25)?, &PLACES);
            Lives { seed, kills, is_enough: &|| true, time_ms: (60, 660), places }
        }
    };
    let victims: &[&str] = if is_kafka { &["a", "b"] } else { &["a"] };
    let runtime = tokio::runtime::Runtime::new()?;
    let receiver = runtime.block_on(prepare(world, is_whole))?;
    let lived = live(world, victims, &lives)?;
    end(&runtime, world, (&receiver, lived), (&lives, is_whole))
}

/// On three brokers, of which one after another is killed, whatever it leads, and comes back
/// after its partitions are led elsewhere.
pub(crate) fn on_three_brokers() -> Result<()> {
    let seed = fastrand::u64(..);
    let kills = victim::kills(6)?.div_ceil(2);
    let places = &PLACES[..PLACES_OF_KAFKA];
    // Each broker once at least.
    let brokers = AtomicUsize::new(0);
    let is_enough = || brokers.load(Ordering::Relaxed) >= BROKERS;
    let lives = Lives { seed, kills, is_enough: &is_enough, time_ms: (3_000, 12_000), places };
    let mut kafka = Kafka::start(BROKERS)?;
    let subject = Subject::Embedded;
    let mut world = subject.world("kill-three")?;
    world.place = Place::Kafka { bootstrap: kafka.bootstrap(), prefix: "kill-three.".to_owned() };
    let runtime = tokio::runtime::Runtime::new()?;
    let receiver = runtime.block_on(prepare(&world, true))?;
    let are_done = AtomicBool::new(false);
    let (lived, killed) = std::thread::scope(|scope| {
        let killing = scope.spawn(|| kill_brokers(&mut kafka, &are_done, &brokers, seed));
        let lived = live(&world, &["a", "b"], &lives);
        are_done.store(true, Ordering::Relaxed);
        (lived, killing.join().expect("no thread panics"))
    });
    let (lived, ()) = (lived?, killed?);
    eprintln!("{} times a broker was killed", brokers.load(Ordering::Relaxed));
    end(&runtime, &world, (&receiver, lived), (&lives, true))
}

/// Kills brokers in turn, one at a time, and counts them, until it is told to stop.
fn kill_brokers(
    kafka: &mut Kafka,
    are_done: &AtomicBool,
    count: &AtomicUsize,
    seed: u64,
) -> Result<()> {
    let mut random = fastrand::Rng::with_seed(seed);
    let pause = |ms: u64| std::thread::sleep(Duration::from_millis(ms));
    for turn in 0.. {
        // A copy that came back has to catch up, or the next kill leaves one.
        pause(random.u64(4_000..6_000));
        if are_done.load(Ordering::Relaxed) {
            return Ok(());
        }
        let broker = turn % BROKERS + 1;
        kafka.kill(broker)?;
        count.fetch_add(1, Ordering::Relaxed);
        // Three seconds until the others notice.
        pause(random.u64(3_000..7_000));
        kafka.restart(broker)?;
    }
    unreachable!("it counts for ever")
}

/// The receiver, and the queue that delivers to it.
async fn prepare(world: &World, is_whole: bool) -> Result<Receiver> {
    let receiver = Receiver::start(|attempt| {
        // By the id, so that it is the same with each attempt.
        let number: u64 = attempt.id.rsplit('-').next().and_then(|n| n.parse().ok()).unwrap_or(0);
        let is_blocked = matches!(attempt.key.as_deref(), Some("ka0" | "ka1")) && attempt.seen < 20;
        match (number % 40, number % 6, attempt.seen) {
            (20, ..) if is_blocked => Reply::Status(503),
            (9 | 39, ..) => Reply::Status(400),
            (_, 0, 1) => Reply::Status(503),
            (_, 1, 1) => Reply::Slow(200, Duration::from_millis(number % 30)),
            _ => Reply::Status(200),
        }
    })
    .await?;
    let node = world.node("setup").await?;
    let history_ms = if is_whole { 24 * 3_600 * 1_000 } else { 0 };
    let spec = format!(
        r#""partitions": {PARTITIONS}, "concurrency_max": 12, "history_ms": {history_ms},
        "retry": {{"delay_min_ms": 10, "delay_max_ms": 30, "attempts_max": 1000}}"#
    );
    world.queue(&node, &receiver.url, &spec).await?;
    node.stop().await?;
    Ok(receiver)
}

/// What is left of a victim.
struct Lived {
    /// The ids that it said it had accepted.
    said: Vec<String>,
    died_at: Vec<&'static str>,
    name: &'static str,
    /// With the events that it had no time to send.
    spool: tempfile::TempDir,
}

/// Lets victims live and die, each for itself.
fn live(world: &World, victims: &[&'static str], lives: &Lives) -> Result<Vec<Lived>> {
    eprintln!("seed {}", lives.seed);
    let mut random = fastrand::Rng::with_seed(lives.seed);
    let all = std::thread::scope(|scope| {
        let start = |name: &&'static str| {
            let (name, random) = (*name, random.fork());
            scope.spawn(move || live_of(world, name, lives, random))
        };
        let started: Vec<_> = victims.iter().map(start).collect();
        let ended = started.into_iter().map(|of| of.join().expect("no thread panics"));
        ended.collect::<Result<Vec<_>>>()
    })?;
    let mut died_at = BTreeMap::new();
    for place in all.iter().flat_map(|lived| &lived.died_at) {
        *died_at.entry(*place).or_insert(0) += 1;
    }
    eprintln!("died at {died_at:?}");
    // Every other death is at one of the places in turn, where it is not too seldom for one.
    let meant = victims.len() * lives.kills.div_ceil(2);
    let found: usize = died_at.values().sum();
    ensure!(2 * found >= meant, "{found} of {meant} died where they should: {died_at:?}");
    if meant >= 2 * lives.places.len() {
        for (place, _) in lives.places {
            ensure!(died_at.contains_key(place), "none died at {place}: {died_at:?}");
        }
    }
    Ok(all)
}

fn live_of(
    world: &World,
    name: &'static str,
    lives: &Lives,
    mut random: fastrand::Rng,
) -> Result<Lived> {
    let spool = tempfile::tempdir()?;
    let dir = spool.path().display().to_string();
    let (mut said, mut died_at) = (Vec::new(), Vec::new());
    let (least, most) = lives.time_ms;
    let first = random.usize(..lives.places.len());
    for kill in (0..).take_while(|kill| *kill < lives.kills || !(lives.is_enough)()) {
        ensure!(kill < 10 * lives.kills.max(3), "brokers are not killed");
        let (place, passes) = lives.places[(first + kill / 2) % lives.places.len()];
        let death = match kill % 2 {
            0 => {
                let within = Duration::from_millis(most.max(5_000));
                Death::At { place, pass: random.u64(1..=passes), within }
            }
            _ => Death::After(Duration::from_millis(random.u64(least..most))),
        };
        let died = victim::kill(VICTIM, tell(world, &dir, kill, name), death)?;
        died_at.extend(died.at_place.then_some(place));
        said.extend(died.said);
    }
    Ok(Lived { said, died_at, name, spool })
}

/// Delivers what is left, and has all of it checked.
fn end(
    runtime: &tokio::runtime::Runtime,
    world: &World,
    (receiver, lived): (&Receiver, Vec<Lived>),
    (lives, is_whole): (&Lives, bool),
) -> Result<()> {
    let mut accepted = BTreeSet::new();
    for id in lived.iter().flat_map(|of| &of.said) {
        ensure!(accepted.insert(id), "{id} was accepted twice");
    }
    let (count, kills) = (accepted.len(), lives.kills);
    let about = || format!("seed {}, {kills} kills of each, {count} accepted", lives.seed);
    ensure!(count > 5 * kills, "only {count} were accepted");
    let summary = runtime.block_on(async {
        for victim in &lived {
            tell_the_rest(world, victim.spool.path(), victim.name).await?;
        }
        let node = world.delivering("last").await?;
        drained(world, &node, receiver).await?;
        were_scheduled(world, &node, kills).await?;
        if !is_whole {
            were_parked(world, &node, kills).await?;
        }
        // An id begins with its key, and those of a key grow.
        let key = |id: &str| format!("k{}", id.split('-').next().unwrap_or_default());
        let scheduled = KEYS - KEYS_SCHEDULED..KEYS;
        let scheduled = scheduled.flat_map(|key| lived.iter().map(move |of| (key, of.name)));
        let book = Book {
            told: accepted.iter().map(|id| ((*id).clone(), key(id))).collect(),
            scheduled: scheduled.map(|(key, name)| format!("k{name}{key}")).collect(),
            logged: logged(world, &node).await?,
            is_whole,
            attempts: receiver.attempts(),
            dead: node.dead(world).await?.into_iter().map(|(id, ..)| id).collect(),
        };
        ensure!(!book.dead.is_empty(), "some are refused");
        let summary = checker::check(&book)?;
        let told = account::holds(world, &node).await?;
        // What died with its caller is in the log, and in the account.
        let [accepted, delivered, dead] = told.map(|count| count as usize);
        ensure!(
            accepted >= summary.told && (delivered, dead) == (summary.delivered, summary.dead),
            "the account has {told:?} accepted, delivered and dead: {summary}"
        );
        node.stop().await?;
        anyhow::Ok(summary)
    });
    let summary = summary.with_context(about)?;
    eprintln!("{kills} kills of each: {summary}");
    Ok(())
}

/// Takes to the log what a victim's spool has, which had no time to.
pub(crate) async fn tell_the_rest(world: &World, spool: &Path, accepts: &str) -> Result<()> {
    let node = Node::open(&world.place, spool, &format!("victim{accepts}")).await?;
    node.has_told().await?;
    node.stop().await
}

/// Waits for the end, as long as the receiver is sent more.
async fn drained(world: &World, node: &Node, receiver: &Receiver) -> Result<()> {
    let mut before = receiver.attempts().len();
    while let Err(error) = node.is_drained(world, PARTITIONS).await {
        let now = receiver.attempts().len();
        if now == before {
            return Err(error);
        }
        eprintln!("{} attempts more", now - before);
        before = now;
    }
    Ok(())
}

/// From how many kills on a key stays blocked for long enough, surely, for its messages to be
/// parked. With fewer it is chance; `parked.rs` has it on each log by itself.
const KILLS_THAT_PARK: usize = 20;

async fn were_parked(world: &World, node: &Node, kills: usize) -> Result<()> {
    // An owner writes a record there when it begins.
    let (mut parked, owners) = (0, 2 * kills as u64 + 2);
    for index in 0..PARTITIONS {
        let partition = Partition::new(world.topic(".parked"), index);
        parked += node.log.bounds(&partition).await?.end.saturating_sub(owners);
    }
    ensure!(parked > 0 || kills < KILLS_THAT_PARK, "no message was parked");
    Ok(())
}

async fn were_scheduled(world: &World, node: &Node, kills: usize) -> Result<()> {
    ensure!(node.records(&world.topic(".scheduled")).await?.len() > kills, "some were scheduled");
    Ok(())
}

/// The queue's topic as it is.
async fn logged(world: &World, node: &Node) -> Result<Vec<Logged>> {
    let mut all = Vec::new();
    for (partition, record) in node.records_of(&world.topic("")).await? {
        let text =
            |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
        all.push(Logged {
            partition,
            offset: record.offset,
            id: text(record.headers.get("weir_message_id")),
            key: text(record.key.as_deref()),
            body: text(record.value.as_deref()),
        });
    }
    Ok(all)
}

/// A letter is in the queue before it is settled: a kill between leaves it on the list, and
/// put back again it comes twice, under the same id.
fn put_back(subject: &Subject) -> Result<()> {
    let world = subject.world("put-back")?;
    let runtime = tokio::runtime::Runtime::new()?;
    let receiver = runtime.block_on(Receiver::start(|_| Reply::Status(400)))?;
    runtime.block_on(async {
        let node = world.delivering("setup").await?;
        world.queue(&node, &receiver.url, r#""partitions": 1"#).await?;
        for id in ["one", "two"] {
            node.accept(&world.queue, id, Some("k")).await?;
        }
        node.is_drained(&world, 1).await?;
        node.stop().await
    })?;
    receiver.set(|_| Reply::Status(200));
    let spool = tempfile::tempdir()?;
    let dir = spool.path().display().to_string();
    for (place, listed) in [("settle::put_back", 2), ("settle::committed", 0)] {
        let death = Death::At { place, pass: 1, within: Duration::from_secs(30) };
        let died = victim::kill(VICTIM, tell(&world, &dir, 0, PUTS_BACK), death)?;
        ensure!(died.at_place, "it did not come to {place}");
        runtime.block_on(async {
            let node = world.delivering("look").await?;
            node.is_drained(&world, 1).await?;
            let listing = crate::dead::letters(&node).list(&world.queue, 10).await?;
            ensure!(listing.total == listed, "{} are listed after {place}", listing.total);
            node.stop().await
        })?;
    }
    ensure!(receiver.delivered() == ["one", "two"], "{:?}", receiver.delivered());
    let taken = |id: &str| receiver.of(id).iter().filter(|of| of.status == 200).count();
    ensure!((taken("one"), taken("two")) == (2, 2), "each was put back twice");
    runtime.block_on(async {
        tell_the_rest(&world, spool.path(), PUTS_BACK).await?;
        let node = world.delivering("look").await?;
        let told = account::holds(&world, &node).await?;
        ensure!(told == [2, 2, 0], "accepted, delivered and dead: {told:?}");
        node.stop().await
    })
}
