//! The embedded log under kill -9.
//!
//! A child process appends with several writers and says on its standard output
//! what was acknowledged, after it was. It is killed at a random moment, and the
//! log must hold all that it said, in order, once.

use std::collections::HashMap;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use ingest::log::embedded::{Config, EmbeddedLog};
use ingest::log::{
    Cleanup, EventLog, GroupOffsets, NewRecord, Partition, ReadLimit, TopicSpec, Transaction,
};
use rig::victim;

const VICTIM: &str = "WEIR_KILL_VICTIM";
const WRITERS: u64 = 6;
const PARTITIONS: u32 = 3;
const GROUP: &str = "g";

fn config(dir: &Path) -> Config {
    Config {
        segment_bytes: 2 * 1024 * 1024,
        maintenance_interval: Duration::from_millis(20),
        ..Config::new(dir)
    }
}

fn partition(writer: u64) -> Partition {
    Partition::new("t", (writer % u64::from(PARTITIONS)) as u32)
}

/// Whether this process was started to be killed.
pub(crate) fn is_victim() -> bool {
    std::env::var_os(VICTIM).is_some()
}

pub(crate) fn run_victim() -> ExitCode {
    let dir = std::env::var_os(VICTIM).expect("a victim is told its directory");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    let ended = runtime.block_on(append_until_killed(Path::new(&dir)));
    eprintln!("the victim was not killed: {ended:?}");
    ExitCode::FAILURE
}

async fn append_until_killed(dir: &Path) -> Result<()> {
    let log = std::sync::Arc::new(EmbeddedLog::open(&config(dir))?);
    let keep = Cleanup::Retain { age: None, bytes: None };
    let spec = TopicSpec { name: "t".to_owned(), partitions: PARTITIONS, cleanup: keep };
    log.create_topic(&spec).await?;
    let next = held(&*log).await?;
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let (log, next) = (log.clone(), next.get(&writer).map_or(0, Vec::len));
        writers.spawn(append(log, writer, next as u64));
    }
    match writers.join_next().await {
        Some(ended) => ended?,
        None => bail!("there are no writers"),
    }
}

/// Appends numbers without end; every second writer does it in transactions
/// that also commit the number as an offset.
async fn append(log: std::sync::Arc<EmbeddedLog>, writer: u64, first: u64) -> Result<()> {
    let partition = partition(writer);
    let mut transactions = log.writer(&format!("writer {writer}")).await?;
    for number in first.. {
        let size = 20 + (number * 37 % 2000) as usize;
        let value = format!("{writer} {number} {}", "x".repeat(size));
        let record = (partition.clone(), NewRecord::unkeyed(Bytes::from(value)));
        let appended = if writer.is_multiple_of(2) {
            log.append(vec![record]).await?
        } else {
            let group = format!("{GROUP} {writer}");
            let offsets = vec![(partition.clone(), number)];
            let offsets = vec![GroupOffsets { group, membership: None, offsets }];
            transactions.commit(Transaction { records: vec![record], offsets }).await?
        };
        writeln!(std::io::stdout().lock(), "{writer} {number} {}", appended[0].offset)?;
    }
    Ok(())
}

/// Per writer the offsets of its numbers, which have to be 0, 1, 2 and so on.
async fn held(log: &dyn EventLog) -> Result<HashMap<u64, Vec<u64>>> {
    let mut held: HashMap<u64, Vec<u64>> = HashMap::new();
    for index in 0..PARTITIONS {
        let partition = Partition::new("t", index);
        let mut reader = log.reader(vec![(partition, 0)]).await?;
        let at_once = ReadLimit { wait: Duration::ZERO, ..ReadLimit::default() };
        while let Some(batch) = reader.next(at_once).await? {
            for record in batch.records {
                let value = record.value.context("there are no tombstones")?;
                let text = std::str::from_utf8(&value)?;
                let mut words = text.split(' ');
                let writer = words.next().context("a writer")?.parse()?;
                let number: u64 = words.next().context("a number")?.parse()?;
                let offsets = held.entry(writer).or_default();
                ensure!(
                    number == offsets.len() as u64,
                    "writer {writer}: {number} follows {}, lost or twice",
                    offsets.len()
                );
                offsets.push(record.offset);
            }
        }
    }
    Ok(held)
}

pub(crate) fn what_was_acknowledged_survives() -> Result<()> {
    let kills = victim::kills(25)?;
    let seed = fastrand::u64(..);
    eprintln!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let dir = tempfile::tempdir()?;
    // Of all kills, since what an earlier one left may be lost by a later one.
    let mut acknowledged = HashMap::new();
    for kill in 0..kills {
        kill_once(dir.path(), &mut random, &mut acknowledged)?;
        let runtime = tokio::runtime::Runtime::new()?;
        let checked = runtime.block_on(check(dir.path(), &acknowledged));
        checked.with_context(|| format!("seed {seed}, kill {kill}"))?;
    }
    let count = acknowledged.len();
    ensure!(count > 10 * kills, "only {count} appends were seen");
    eprintln!("{kills} kills, {count} acknowledged appends, none lost");
    Ok(())
}

/// By writer and number, the offset that it was told.
type Acknowledged = HashMap<(u64, u64), u64>;

/// Starts a victim, kills it after a while, and adds what it had said.
fn kill_once(
    dir: &Path,
    random: &mut fastrand::Rng,
    acknowledged: &mut Acknowledged,
) -> Result<()> {
    let time = Duration::from_millis(random.u64(30..400));
    for line in victim::kill_after(VICTIM, dir, time)? {
        let numbers: Vec<u64> = line.split(' ').map(str::parse).collect::<Result<_, _>>()?;
        let [writer, number, offset] = numbers[..] else { bail!("the victim said {line:?}") };
        let before = acknowledged.insert((writer, number), offset);
        ensure!(before.is_none(), "writer {writer}: {number} was acknowledged twice");
    }
    Ok(())
}

async fn check(dir: &Path, acknowledged: &Acknowledged) -> Result<()> {
    let log = EmbeddedLog::open(&config(dir))?;
    if log.topic("t").await.is_err() {
        ensure!(acknowledged.is_empty(), "the topic is gone");
        return Ok(());
    }
    let held = held(&log).await?;
    for ((writer, number), offset) in acknowledged {
        let found = held.get(writer).and_then(|offsets| offsets.get(*number as usize));
        ensure!(found == Some(offset), "writer {writer}: {number} is at {found:?}, not {offset}");
    }
    for writer in (1..WRITERS).step_by(2) {
        let last = held.get(&writer).map_or(0, Vec::len).checked_sub(1).map(|n| n as u64);
        let group = format!("{GROUP} {writer}");
        let committed = log.committed(&group, &partition(writer)).await?;
        ensure!(committed == last, "writer {writer}: offset {committed:?} with record {last:?}");
    }
    Ok(())
}
