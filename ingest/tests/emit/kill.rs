//! The emitter and its drainer under kill -9.
//!
//! A child process emits from several threads and says on its standard output
//! which events it has emitted, after it has. It is killed at a random moment,
//! and so are the spool and the embedded log that it has open. After the last
//! kill the spool is drained, and the log must hold all that was said, each event
//! once after deduplication, with no gap.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::num::NonZeroU32;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ingest::emit::audit::{Audit, Start};
use ingest::emit::{self, Emitted, Emitter, Service, TOPIC};
use ingest::event::{EventId, Kind, Outcome, Producer, SystemClock, cloudevents};
use ingest::log::embedded::{Config, EmbeddedLog};
use ingest::log::{EventLog, Partition, ReadLimit, TopicSpec};
use rig::victim;

const VICTIM: &str = "WEIR_KILL_VICTIM";
const THREADS: u64 = 3;
const PARTITIONS: NonZeroU32 = NonZeroU32::new(4).unwrap();

/// Whether this process was started to be killed.
pub(crate) fn is_victim() -> bool {
    std::env::var_os(VICTIM).is_some()
}

pub(crate) fn run_victim() -> ExitCode {
    let dir = std::env::var_os(VICTIM).expect("a victim is told its directory");
    let ended = emit_until_killed(Path::new(&dir));
    eprintln!("the victim was not killed: {ended:?}");
    ExitCode::FAILURE
}

fn producer() -> Result<Producer> {
    Ok(Producer::new("edge-1")?)
}

async fn open(dir: &Path) -> Result<(Arc<EmbeddedLog>, Emitter, Service)> {
    let config = Config { segment_bytes: 2 * 1024 * 1024, ..Config::new(dir.join("log")) };
    let log = Arc::new(EmbeddedLog::open(&config)?);
    log.create_topic(&TopicSpec::kept(TOPIC, PARTITIONS.get())).await?;
    let config = emit::Config {
        segment_bytes: 256 * 1024,
        sync_interval: Duration::from_millis(50),
        batch_bytes: 64 * 1024,
        ..emit::Config::new(producer()?, dir.join("spool"), PARTITIONS)
    };
    let (emitter, service) = emit::open(config, log.clone(), Arc::new(SystemClock))?;
    Ok((log, emitter, service))
}

fn emit_until_killed(dir: &Path) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (_log, emitter, service) = runtime.block_on(open(dir))?;
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let emitter = emitter.clone();
            std::thread::spawn(move || emit_without_end(&emitter, thread))
        })
        .collect();
    runtime.block_on(service.run(std::future::pending()))?;
    threads.into_iter().try_for_each(|thread| thread.join().expect("no thread panics"))
}

/// Emits and says so. What is said carries a text of the event, so that the log
/// can be held to more than its number.
fn emit_without_end(emitter: &Emitter, thread: u64) -> Result<()> {
    for number in 0u64.. {
        let mut event = emitter.event(Kind::Request, Outcome::Success);
        let journey = format!("{thread}-{number}");
        event.correlation_id = Some(journey.clone().into());
        event.url_path = Some("x".repeat((number * 37 % 1500) as usize).into());
        if let Emitted::Spooled(id) = emitter.emit(event)? {
            writeln!(std::io::stdout().lock(), "{id} {journey}")?;
        }
    }
    Ok(())
}

pub(crate) fn what_was_emitted_reaches_the_log_once() -> Result<()> {
    let kills = victim::kills(10)?;
    let seed = fastrand::u64(..);
    eprintln!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let dir = tempfile::tempdir()?;
    let mut said = BTreeMap::new();
    for _ in 0..kills {
        kill_once(dir.path(), &mut random, &mut said)?;
    }
    ensure!(said.len() > 10 * kills, "only {} events were emitted", said.len());
    let runtime = tokio::runtime::Runtime::new()?;
    let repetitions = runtime
        .block_on(check(dir.path(), &said))
        .with_context(|| format!("seed {seed}, {kills} kills"))?;
    eprintln!("{kills} kills, {} events emitted, {repetitions} repetitions", said.len());
    Ok(())
}

/// Starts a victim, kills it after a while, and takes in what it had said.
fn kill_once(
    dir: &Path,
    random: &mut fastrand::Rng,
    said: &mut BTreeMap<EventId, String>,
) -> Result<()> {
    let time = Duration::from_millis(random.u64(50..500));
    for line in victim::kill_after(VICTIM, dir, time)? {
        let (id, journey) = line.split_once(' ').context("an identity and a journey")?;
        ensure!(said.insert(id.parse()?, journey.to_owned()).is_none(), "{id} was given twice");
    }
    Ok(())
}

/// Drains what is left and holds the log to what was said. Answers how many
/// events came more than once.
async fn check(dir: &Path, said: &BTreeMap<EventId, String>) -> Result<u64> {
    let (log, emitter, service) = open(dir).await?;
    let drained = async {
        while emitter.metrics().lag_bytes > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    service.run(drained).await?;
    ensure!(emitter.metrics().lost == 0, "the spool lost events: {:?}", emitter.metrics());

    let mut audit = Audit::new(Start::Beginning);
    let mut held = HashMap::new();
    for index in 0..PARTITIONS.get() {
        let mut reader = log.reader(vec![(Partition::new(TOPIC, index), 0)]).await?;
        let at_once = ReadLimit { wait: Duration::ZERO, ..ReadLimit::default() };
        while let Some(batch) = reader.next(at_once).await? {
            for record in batch.records {
                let value = record.value.context("an event has a value")?;
                let event = cloudevents::read(record.headers.iter(), &value)?;
                ensure!(event.partition(PARTITIONS) == index, "{} lies elsewhere", event.id());
                if audit.see(index, &event).is_new() {
                    let twice = held.insert(event.id(), event.correlation_id).is_some();
                    ensure!(!twice, "an event counts twice");
                }
            }
        }
    }
    for (id, journey) in said {
        let found = held.get(id).with_context(|| format!("event {id} is lost"))?;
        ensure!(found.as_deref() == Some(journey.as_str()), "{id} is another event");
    }
    let producer = producer()?;
    for boot in audit.boots(&producer) {
        let missing = audit.missing(&producer, boot);
        ensure!(missing == 0, "boot {boot}: {missing} events are missing");
    }
    let report = audit.report();
    ensure!((report.gaps, report.told_lost) == (0, 0), "gaps: {report:?}");
    Ok(report.repetitions)
}
