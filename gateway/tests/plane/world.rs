//! A registry, a log and a gateway, all real, and clients that write bytes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use gateway::{Config, Gateway, Listener, Parts};
use ingest::decision::Decisions;
use ingest::emit;
use ingest::event::{Event, Kind, Outcome, SystemClock, cloudevents};
use ingest::log::embedded::EmbeddedLog;
use ingest::log::{EventLog, Partition, ReadLimit, TopicSpec};
use ingest::registry::{
    Change, ChangeSet, EntityKey, Json, Outcome as Judged, Proposer, Topics, View, no_deep_check,
    run_applier,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::origin::Origin;

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct World {
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) view: View,
    pub(crate) decisions: Decisions,
    pub(crate) origin: Origin,
    pub(crate) proposer: Proposer,
    applier: tokio::task::JoinHandle<()>,
    pub(crate) dir: tempfile::TempDir,
    _stop: watch::Sender<bool>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.applier.abort();
    }
}

/// An open API at `/shop/1` with one resource for everything.
pub(crate) const SHOP: &str = r#"api/shop {"context": "/shop", "version": "1", "upstream": "u",
    "lifecycle": "published", "authentication": ["none"], MORE "resources": [RESOURCES]}"#;
pub(crate) const ANY: &str =
    r#"{"methods": ["GET", "POST", "PUT", "DELETE", "OPTIONS"], "path": "/*"}"#;

pub(crate) fn shop(more: &str, resources: &str) -> String {
    SHOP.replace('\n', " ").replace("MORE", more).replace("RESOURCES", resources)
}

impl World {
    /// With one origin, and the shop before it.
    pub(crate) async fn new() -> Self {
        let world = Self::empty().await;
        let upstream = world.upstream("");
        world.put("first", &[&upstream, &shop("", ANY)]).await;
        world
    }

    pub(crate) async fn empty() -> Self {
        let log: Arc<dyn EventLog> = Arc::new(EmbeddedLog::in_memory());
        let topics = Topics::default();
        topics.create(&*log).await.unwrap();
        log.create_topic(&TopicSpec::kept(emit::TOPIC, 1)).await.unwrap();
        let applier = tokio::spawn(run_applier(log.clone(), topics.clone(), no_deep_check));
        let view = Box::pin(View::open(log.clone(), topics.clone())).await.unwrap();
        let proposer = Proposer::new(log.clone(), topics, PATIENCE);
        let dir = tempfile::tempdir().unwrap();
        let origin = Origin::start().await;
        let decisions = Decisions::open(&*log).await.unwrap();
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(decisions.clone().follow(log.clone(), stopped));
        Self { log, view, decisions, origin, proposer, applier, dir, _stop: stop }
    }

    /// The origin as `upstream/u`, with more members.
    pub(crate) fn upstream(&self, more: &str) -> String {
        let address = self.origin.address;
        format!(r#"upstream/u {{"targets": [{{"url": "http://{address}"}}] {more}}}"#)
    }

    /// Puts new entities, each as `kind/name spec`.
    pub(crate) async fn put(&self, id: &str, entities: &[&str]) {
        let split = |entity: &&str| {
            let (key, spec) = entity.trim().split_once(' ').unwrap();
            put(key, None, spec)
        };
        self.propose(id, entities.iter().map(split).collect()).await;
    }

    /// Puts an entity that is there already.
    pub(crate) async fn replace(&self, id: &str, key: &str, spec: &str) {
        let found = EntityKey::parse(key).unwrap();
        let version = self.view.snapshot().entity(&found).unwrap().version;
        self.propose(id, vec![put(key, Some(version), spec)]).await;
    }

    async fn propose(&self, id: &str, changes: Vec<Change>) {
        let (author, message) = ("a test".to_owned(), "m".to_owned());
        let set = ChangeSet { id: id.parse().unwrap(), author, message, changes };
        let verdict = Box::pin(self.proposer.propose(&set)).await.unwrap();
        let Judged::Accepted { revision, .. } = verdict.outcome else { panic!("{verdict:?}") };
        self.view.wait_for(revision).await.unwrap();
    }

    pub(crate) fn config(&self) -> Config {
        Config {
            listeners: vec![Listener { address: "127.0.0.1:0".parse().unwrap(), tls: None }],
            threads: 2,
            node: "edge".to_owned(),
            zone: Some("dmz".to_owned()),
            spool_dir: self.dir.path().to_owned(),
            ..Config::default()
        }
    }

    pub(crate) fn parts(&self) -> Parts {
        Parts {
            view: self.view.clone(),
            decisions: self.decisions.clone(),
            log: self.log.clone(),
            partitions: std::num::NonZeroU32::MIN,
            clock: Arc::new(SystemClock),
            pseudonyms: None,
        }
    }

    pub(crate) async fn start(&self) -> Gateway {
        self.start_with(|_| {}).await
    }

    pub(crate) async fn start_with(&self, change: impl FnOnce(&mut Config)) -> Gateway {
        let mut config = self.config();
        change(&mut config);
        Box::pin(Gateway::start(config, self.parts())).await.unwrap()
    }

    /// Stops the gateway, and says what requests it told of.
    pub(crate) async fn stop(&self, gateway: Gateway) -> Vec<Box<Event>> {
        Box::pin(gateway.shutdown()).await;
        let mut events = self.events().await;
        events.retain(|event| event.kind == Kind::Request);
        events
    }

    /// What the log has of events by now.
    pub(crate) async fn events(&self) -> Vec<Box<Event>> {
        let partition = Partition::new(emit::TOPIC, 0);
        let end = self.log.bounds(&partition).await.unwrap().end;
        let mut reader = self.log.reader(vec![(partition, 0)]).await.unwrap();
        let (mut events, mut next) = (Vec::new(), 0);
        while next < end {
            let Some(batch) = reader.next(ReadLimit::default()).await.unwrap() else { continue };
            next = batch.next;
            for record in batch.records {
                let value = record.value.clone().unwrap();
                events.push(Box::new(cloudevents::read(record.headers.iter(), &value).unwrap()));
            }
        }
        events
    }
}

fn put(key: &str, expected: Option<u64>, spec: &str) -> Change {
    let EntityKey { kind, name } = EntityKey::parse(key).unwrap();
    Change::Put { kind, name, expected, spec: Json(serde_json::from_str(spec).unwrap()) }
}

/// Writes bytes and reads until the connection ends.
pub(crate) async fn ask(address: SocketAddr, request: impl AsRef<[u8]>) -> String {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_ref()).await.unwrap();
        let mut answer = Vec::new();
        // A reset says no more than what came before it.
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    };
    tokio::time::timeout(PATIENCE, exchange).await.expect("the connection ends")
}

/// A request without a body after which the connection ends.
pub(crate) async fn get(address: SocketAddr, path: &str) -> String {
    ask(address, format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")).await
}

/// The status of an answer, and its problem's code if it has one.
pub(crate) fn said(answer: &str) -> String {
    let status = answer.split(' ').nth(1).unwrap_or("nothing");
    let code = answer.split_once(r#""code":""#).and_then(|(_, rest)| rest.split('"').next());
    match code {
        Some(code) => format!("{status} {code}"),
        None => status.to_owned(),
    }
}

/// An event as outcome and code.
pub(crate) fn told(event: &Event) -> String {
    let outcome: Outcome = event.outcome;
    match &event.error_type {
        Some(code) => format!("{} {code}", outcome.text()),
        None => outcome.text().to_owned(),
    }
}
