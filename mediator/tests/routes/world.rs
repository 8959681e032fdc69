//! A node: the registry from YAML files, a spool, a log in memory, and a mediator.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use ingest::emit::{self, Emitter};
use ingest::event::{Clock, Event, Kind, Producer, SystemClock};
use ingest::log::embedded::EmbeddedLog;
use ingest::log::{EventLog, NewRecord, Partition, ReadLimit, Record, TopicSpec};
use ingest::registry::{Applier, Change, ChangeSet, Name, Topics, View, files};
use mediator::deliver::Queues;
use mediator::endpoint::http::Caller;
use mediator::{Config, Mediator, Parts};
use tempfile::TempDir;

/// How long a test waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct World {
    pub(crate) mediator: Mediator,
    pub(crate) parts: Parts,
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) emitter: Emitter,
    pub(crate) http: reqwest::Client,
    registry: Registry,
    _spool: TempDir,
}

impl World {
    /// With the entities of one file, `routes.yaml`.
    pub(crate) async fn new(yaml: &str) -> Self {
        Self::with(yaml, |_| {}).await
    }

    pub(crate) async fn with(yaml: &str, change: impl FnOnce(&mut Config)) -> Self {
        let log: Arc<dyn EventLog> = Arc::new(EmbeddedLog::in_memory());
        let mut applier = Applier::open(&log, Topics::default()).await.unwrap();
        applier = applier.checking(mediator::deep_check);
        let view = View::open(log.clone(), Topics::default()).await.unwrap();
        log.create_topic(&TopicSpec::kept(emit::TOPIC, 1)).await.unwrap();
        let spool = tempfile::tempdir().unwrap();
        let producer = Producer::new("mediator-1").unwrap();
        let config = emit::Config::new(producer, spool.path(), NonZeroU32::MIN);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let (emitter, service) = emit::open(config, log.clone(), clock.clone()).unwrap();
        tokio::spawn(service.run(std::future::pending()));
        let queues = Queues::new(log.clone(), view.clone(), emitter.clone(), clock.clone());
        let (caller, of) = (Caller::new(), emitter.clone());
        let parts = Parts { view, emitter: of, caller, queues, clock };
        let mut config = Config { address: ([127, 0, 0, 1], 0).into(), ..Config::default() };
        change(&mut config);
        // The routes are there before the port is open.
        let mut registry =
            Registry { log: log.clone(), applier, sets: 0, view: parts.view.clone() };
        registry.put(yaml).await;
        let mediator = Mediator::start(config, parts.clone()).await.unwrap();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { mediator, parts, log, emitter, http, registry, _spool: spool }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.mediator.address())
    }

    /// Changes the registry, and waits until this node's view shows it.
    pub(crate) async fn put(&mut self, yaml: &str) {
        self.registry.put(yaml).await;
    }

    /// The events of the log so far, once there are `count` of a kind.
    pub(crate) async fn events(&self, kind: Kind, count: usize) -> Vec<Event> {
        let mut reader = self.log.reader(vec![(Partition::new(emit::TOPIC, 0), 0)]).await.unwrap();
        let mut events = Vec::new();
        let read = async {
            while events.iter().filter(|event: &&Event| event.kind == kind).count() < count {
                if let Some(batch) = reader.next(ReadLimit::default()).await.unwrap() {
                    events.extend(batch.records.iter().map(read_event));
                }
            }
        };
        let read = tokio::time::timeout(PATIENCE, Box::pin(read)).await;
        assert!(read.is_ok(), "{count} events of kind {kind} did not come");
        events
    }

    pub(crate) async fn records(&self, topic: &str) -> Vec<Record> {
        let mut reader = self.log.reader(vec![(Partition::new(topic, 0), 0)]).await.unwrap();
        let at_once = ReadLimit { wait: Duration::ZERO, ..ReadLimit::default() };
        let mut records = Vec::new();
        while let Some(batch) = reader.next(at_once).await.unwrap() {
            records.extend(batch.records);
        }
        records
    }
}

fn read_event(record: &Record) -> Event {
    Event::from_json(record.value.as_deref().unwrap()).unwrap()
}

struct Registry {
    log: Arc<dyn EventLog>,
    applier: Applier,
    sets: u64,
    view: View,
}

impl Registry {
    async fn put(&mut self, yaml: &str) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("routes.yaml"), yaml).unwrap();
        let wanted =
            files::load(dir.path(), mediator::deep_check).unwrap_or_else(|e| panic!("{e}"));
        let snapshot = self.view.snapshot();
        let changes = wanted.entities.into_iter().map(|(key, (spec, _))| Change::Put {
            expected: snapshot.entity(&key).map(|entity| entity.version),
            kind: key.kind,
            name: key.name,
            spec,
        });
        let changes = changes.collect();
        self.sets += 1;
        let id = Name::new(&format!("s{}", self.sets)).unwrap();
        let (author, message) = ("a test".to_owned(), "m".to_owned());
        let set = ChangeSet { id, author, message, changes };
        let value = serde_json::to_vec(&set).unwrap();
        let record = NewRecord::keyed(set.id.as_str().to_owned(), value);
        self.log.append(vec![(Topics::default().proposals, record)]).await.unwrap();
        self.applier.step(Duration::from_secs(5)).await.unwrap();
        let shown = tokio::time::timeout(PATIENCE, self.view.wait_for(self.sets)).await;
        assert!(shown.is_ok(), "the set was refused");
    }
}
