//! The emitter against a log that fails, kills, damage and a full spool.

mod damage;
mod flaky;
mod full;
mod lives;
mod redacted;
mod service;

use std::fs;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use self::flaky::FlakyLog;
use super::audit::{Audit, Start};
use super::spool::{self, Spool};
use super::{Config, Emitted, Emitter, Service, TOPIC};
use crate::event::{Event, EventId, Kind, ManualClock, Outcome, Producer, Timestamp, cloudevents};
use crate::log::embedded::EmbeddedLog;
use crate::log::{EventLog, Partition, ReadLimit, TopicSpec};

const PARTITIONS: NonZeroU32 = NonZeroU32::new(3).unwrap();

fn producer() -> Producer {
    Producer::new("edge-1").unwrap()
}

/// Small files, so that there are many.
fn config(dir: &Path) -> Config {
    Config {
        segment_bytes: 64 * 1024,
        spool_bytes_max: 1024 * 1024,
        reserve_bytes: 256 * 1024,
        batch_bytes: 16 * 1024,
        ..Config::new(producer(), dir, PARTITIONS)
    }
}

async fn memory_log() -> Arc<EmbeddedLog> {
    let log = Arc::new(EmbeddedLog::in_memory());
    log.create_topic(&TopicSpec::kept(TOPIC, PARTITIONS.get())).await.unwrap();
    log
}

/// What one boot has open; the spool for a look inside.
struct Opened {
    spool: Arc<Spool>,
    emitter: Emitter,
    service: Service,
}

/// Boots are 1, 2 and so on, since the clock stands at 0.
fn open(config: Config, log: impl Into<FlakyLog>) -> Opened {
    let log = Arc::new(log.into());
    let clock = Arc::new(ManualClock::new(Timestamp::from_micros(0)));
    let (spool, reader) = spool::open(config, clock).unwrap();
    spool.join_sources().unwrap();
    let emitter = Emitter::new(spool.clone());
    Opened { emitter, service: Service::new(spool.clone(), reader, log), spool }
}

/// An event whose partition depends on `number`.
fn numbered(emitter: &Emitter, number: u64, padding: usize) -> Event {
    let mut event = emitter.event(Kind::Request, Outcome::Success);
    event.correlation_id = Some(format!("c-{number}").into());
    event.url_path = Some(format!("/{}", "x".repeat(padding)).into());
    event
}

fn emit(emitter: &Emitter, number: u64, padding: usize) -> EventId {
    match emitter.emit(numbered(emitter, number, padding)).unwrap() {
        Emitted::Spooled(id) => id,
        Emitted::Dropped => panic!("event {number} was dropped"),
    }
}

/// Runs the service until nothing is left to drain, then kills it.
async fn drain(opened: Opened) {
    let (emitter, running) = opened.start();
    while emitter.metrics().lag_bytes > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    running.kill().await;
}

/// A service at work.
struct Running {
    task: tokio::task::JoinHandle<Result<(), super::Error>>,
    spool: Arc<Spool>,
    /// How many hold the spool besides the service.
    others: usize,
}

impl Opened {
    fn start(self) -> (Emitter, Running) {
        let Self { spool, emitter, service } = self;
        let all = Arc::strong_count(&spool);
        // The service, its drainer and its reader hold the spool.
        let others = all - 3;
        let task = tokio::spawn(service.run(std::future::pending()));
        (emitter, Running { task, spool, others })
    }
}

impl Running {
    /// Ends the service where it is; nothing of it is at work afterwards.
    async fn kill(self) {
        self.task.abort();
        let ended = self.task.await;
        assert!(ended.is_err_and(|error| error.is_cancelled()), "the service ended by itself");
        while Arc::strong_count(&self.spool) > self.others {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// Every record of the events topic, partition by partition.
async fn events_of(log: &EmbeddedLog) -> Vec<(u32, Event)> {
    let mut events = Vec::new();
    for index in 0..PARTITIONS.get() {
        let mut reader = log.reader(vec![(Partition::new(TOPIC, index), 0)]).await.unwrap();
        let at_once = ReadLimit { wait: Duration::ZERO, ..ReadLimit::default() };
        while let Some(batch) = reader.next(at_once).await.unwrap() {
            for record in batch.records {
                let value = record.value.unwrap();
                events.push((index, cloudevents::read(record.headers.iter(), &value).unwrap()));
            }
        }
    }
    events
}

/// The audit of what the log holds, and the events that it counts once.
async fn audited(log: &EmbeddedLog) -> (Audit, Vec<Event>) {
    let mut audit = Audit::new(Start::Beginning);
    let mut events = events_of(log).await;
    events.retain(|(partition, event)| audit.see(*partition, event).is_new());
    (audit, events.into_iter().map(|(_, event)| event).collect())
}

fn copy_dir(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// The spool's files, in order.
fn segments(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "spool"))
        .collect();
    paths.sort();
    paths
}
