//! Queues on the embedded log in memory, with a registry and a spool of their own.

mod accept;
mod gap;
mod spool;

use std::num::NonZeroU32;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use ingest::emit::{self, Emitter, Service};
use ingest::event::{Clock, ManualClock, Producer, Timestamp};
use ingest::log::embedded::EmbeddedLog;
use ingest::log::{EventLog, NewRecord, Partition, ReadLimit, Record, TopicSpec};
use ingest::registry::{Applier, Change, ChangeSet, EntityKey, Json, Name, Topics, View};

use super::{MessageId, NewMessage, Queues};
use ingest::http::Correlation;

pub(super) const START: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);

/// A node with a registry.
pub(super) struct World {
    pub(super) log: Arc<dyn EventLog>,
    pub(super) view: View,
    pub(super) emitter: Emitter,
    pub(super) clock: Arc<ManualClock>,
    pub(super) service: Option<Service>,
    applier: Applier,
    sets: u64,
    _spool: tempfile::TempDir,
}

impl World {
    pub(super) async fn new(spool: impl FnOnce(&mut emit::Config)) -> Self {
        let log: Arc<dyn EventLog> = Arc::new(EmbeddedLog::in_memory());
        let applier = Applier::open(&log, Topics::default()).await.unwrap();
        let view = View::open(log.clone(), Topics::default()).await.unwrap();
        log.create_topic(&TopicSpec::kept(emit::TOPIC, 1)).await.unwrap();
        let clock = Arc::new(ManualClock::new(START));
        let dir = tempfile::tempdir().unwrap();
        let producer = Producer::new("mediator-1").unwrap();
        let mut config = emit::Config::new(producer, dir.path(), NonZeroU32::MIN);
        spool(&mut config);
        let (emitter, service) = emit::open(config, log.clone(), clock.clone()).unwrap();
        let service = Some(service);
        Self { log, view, emitter, clock, service, applier, sets: 0, _spool: dir }
    }

    pub(super) fn queues(&self) -> Queues {
        let clock: Arc<dyn Clock> = self.clock.clone();
        Queues::new(self.log.clone(), self.view.clone(), self.emitter.clone(), clock)
    }

    /// Puts an entity, whose spec is JSON, and waits until the view shows it.
    pub(super) async fn put(&mut self, key: &str, spec: &str) {
        self.sets += 1;
        let key = EntityKey::parse(key).unwrap();
        let expected = self.view.snapshot().entity(&key).map(|entity| entity.version);
        let EntityKey { kind, name } = key;
        let spec = Json(serde_json::from_str(spec).unwrap());
        let changes = vec![Change::Put { kind, name, expected, spec }];
        let id = Name::new(&format!("s{}", self.sets)).unwrap();
        let (author, message) = ("a test".to_owned(), "m".to_owned());
        let set = ChangeSet { id, author, message, changes };
        let proposals = Topics::default().proposals;
        let value = serde_json::to_vec(&set).unwrap();
        let record = NewRecord::keyed(set.id.as_str().to_owned(), value);
        self.log.append(vec![(proposals, record)]).await.unwrap();
        self.applier.step(std::time::Duration::from_secs(5)).await.unwrap();
        self.view.wait_for(self.sets).await.unwrap();
    }

    pub(super) async fn records(&self, topic: &str, partition: u32) -> Vec<Record> {
        let from = (Partition::new(topic, partition), 0);
        let mut reader = self.log.reader(vec![from]).await.unwrap();
        let at_once = ReadLimit { wait: std::time::Duration::ZERO, ..ReadLimit::default() };
        let mut records = Vec::new();
        while let Some(batch) = reader.next(at_once).await.unwrap() {
            records.extend(batch.records);
        }
        records
    }
}

pub(super) fn message(id: &str, key: Option<&str>, body: &str) -> NewMessage {
    NewMessage {
        id: MessageId::new(id).unwrap(),
        key: key.map(|key| Bytes::from(key.to_owned())),
        expires_after: None,
        due: None,
        content_type: None,
        headers: HeaderMap::new(),
        body: Bytes::from(body.to_owned()),
        correlation: Correlation::of(&HeaderMap::new(), || 7),
    }
}
