//! Nodes on a log, each started and stopped as a program would.

use std::future::Future;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use bytes::Bytes;
use ingest::emit::{self, Emitter};
use ingest::event::{Event, Kind, Producer, SystemClock, cloudevents};
use ingest::http::Correlation;
use ingest::log::embedded::{self, EmbeddedLog};
use ingest::log::kafka::{self, KafkaLog};
use ingest::log::{Error, EventLog, Partition, Record, Scan, TopicSpec};
use ingest::registry::{
    Change, ChangeSet, EntityKey, Json, Name, Proposer, Topics, View, no_deep_check, run_applier,
};
use mediator::deliver::{
    Config, Control, ControlError, Delivery, MessageId, NewMessage, Parts, Queues,
};
use mediator::endpoint::http::Caller;
use rig::Kafka;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// How long a case waits for what takes its own time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) type Case = fn(World) -> Pin<Box<dyn Future<Output = Result<()>>>>;

pub(crate) enum Subject {
    Embedded,
    /// Started with the first case that needs it; ended with this process.
    Kafka(LazyLock<Result<Kafka>>),
}

/// What a case gets: where its log is, and names that no other case uses.
pub(crate) struct World {
    pub(crate) place: Place,
    pub(crate) queue: Name,
    dir: tempfile::TempDir,
}

/// Where a log is.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    Dir(PathBuf),
    Kafka { bootstrap: String, prefix: String },
}

impl Subject {
    pub(crate) fn kafka() -> Self {
        Self::Kafka(LazyLock::new(|| Kafka::start(1)))
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Kafka(_) => "kafka",
        }
    }

    pub(crate) fn world(&self, name: &str) -> Result<World> {
        let dir = tempfile::tempdir()?;
        let place = match self {
            Self::Embedded => Place::Dir(dir.path().join("log")),
            Self::Kafka(server) => {
                let server = server.as_ref().map_err(|error| anyhow!("{error:#}"))?;
                Place::Kafka { bootstrap: server.bootstrap(), prefix: format!("{name}.") }
            }
        };
        Ok(World { place, queue: Name::new(name)?, dir })
    }

    pub(crate) fn run(&self, name: &str, case: Case) -> Result<()> {
        rig::run_case(case(self.world(name)?))
    }
}

impl World {
    /// Starts the node `name`, with everything but deliveries.
    pub(crate) async fn node(&self, name: &str) -> Result<Node> {
        // By a name of its own on a log that other cases share.
        let producer = format!("{}-{name}", self.queue);
        Node::open(&self.place, &self.dir.path().join(name), &producer).await
    }

    /// Starts a node that delivers.
    pub(crate) async fn delivering(&self, name: &str) -> Result<Node> {
        let mut node = self.node(name).await?;
        node.deliver(config());
        Ok(node)
    }

    /// The queue with its upstream, in `node`'s registry.
    pub(crate) async fn queue(&self, node: &Node, url: &str, spec: &str) -> Result<()> {
        node.put("upstream/shop", &format!(r#"{{"targets": [{{"url": "{url}"}}]}}"#)).await?;
        let key = format!("queue/{}", self.queue);
        let deliver = r#""deliver": {"upstream": "shop", "path": "/orders"}"#;
        node.put(&key, &format!("{{{deliver}, {spec}}}")).await
    }

    pub(crate) fn topic(&self, suffix: &str) -> String {
        format!("weir.queue.{}{suffix}", self.queue)
    }
}

pub(crate) fn config() -> Config {
    let seed = fastrand::u64(..);
    eprintln!("seed of the deliveries {seed}");
    Config { seed, trim_records: 50, ..Config::default() }
}

/// A node.
pub(crate) struct Node {
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) view: View,
    pub(crate) emitter: Emitter,
    pub(crate) queues: Queues,
    pub(crate) delivery: Option<Delivery>,
    topics: Topics,
    applier: JoinHandle<()>,
    service: JoinHandle<Result<(), emit::Error>>,
    stop_service: oneshot::Sender<()>,
}

impl Node {
    pub(crate) async fn open(place: &Place, dir: &Path, name: &str) -> Result<Self> {
        let log = open_log(place).await?;
        let topics = match place {
            Place::Dir(_) => Topics::default(),
            Place::Kafka { prefix, .. } => Topics::prefixed(prefix),
        };
        let view = View::open(log.clone(), topics.clone()).await.context("open the registry")?;
        let applier = tokio::spawn(run_applier(log.clone(), topics.clone(), no_deep_check));
        log.create_topic(&TopicSpec::kept(emit::TOPIC, 1)).await?;
        let producer = Producer::new(name.to_owned())?;
        let config = emit::Config::new(producer, dir.join("spool"), NonZeroU32::MIN);
        let clock = Arc::new(SystemClock);
        let (emitter, service) = emit::open(config, log.clone(), clock.clone())?;
        let (stop_service, stopped) = oneshot::channel();
        let service = tokio::spawn(Box::pin(service.run(async {
            let _ = stopped.await;
        })));
        let queues = Queues::new(log.clone(), view.clone(), emitter.clone(), clock);
        let delivery = None;
        Ok(Self { log, view, emitter, queues, delivery, topics, applier, service, stop_service })
    }

    pub(crate) fn deliver(&mut self, config: Config) {
        let parts = Parts {
            log: self.log.clone(),
            view: self.view.clone(),
            caller: Caller::new(),
            emitter: self.emitter.clone(),
            clock: Arc::new(SystemClock),
            queues: self.queues.clone(),
        };
        self.delivery = Some(Delivery::start(config, parts));
    }

    /// Stops in order.
    pub(crate) async fn stop(mut self) -> Result<()> {
        if let Some(delivery) = self.delivery.take() {
            delivery.shutdown().await;
        }
        self.applier.abort();
        let _ = (&mut self.applier).await;
        let _ = self.stop_service.send(());
        self.service.await??;
        Ok(())
    }

    /// Puts an entity, and waits until it is shown.
    pub(crate) async fn put(&self, key: &str, spec: &str) -> Result<()> {
        let key = EntityKey::parse(key).context("a key")?;
        let expected = self.view.snapshot().entity(&key).map(|entity| entity.version);
        let EntityKey { kind, name } = key;
        self.change(Change::Put { kind, name, expected, spec: Json(serde_json::from_str(spec)?) })
            .await
    }

    /// Removes an entity, and waits until it is gone.
    pub(crate) async fn remove(&self, key: &str) -> Result<()> {
        let key = EntityKey::parse(key).context("a key")?;
        let expected = self.view.snapshot().entity(&key).context("it is there")?.version;
        let EntityKey { kind, name } = key;
        self.change(Change::Remove { kind, name, expected }).await
    }

    async fn change(&self, change: Change) -> Result<()> {
        let id = Name::new(&format!("s{:016x}", fastrand::u64(..)))?;
        let (author, message, changes) = ("a case".into(), "m".into(), vec![change]);
        let set = ChangeSet { id, author, message, changes };
        let proposer = Proposer::new(self.log.clone(), self.topics.clone(), PATIENCE);
        let verdict = proposer.propose(&set).await?;
        let ingest::registry::Outcome::Accepted { revision, .. } = verdict.outcome else {
            bail!("refused: {verdict:?}");
        };
        tokio::time::timeout(PATIENCE, self.view.wait_for(revision)).await??;
        Ok(())
    }

    pub(crate) async fn accept(&self, queue: &Name, id: &str, key: Option<&str>) -> Result<u64> {
        let accepted = self.queues.accept(queue, message(id, key)?).await?;
        Ok(accepted.offset)
    }

    /// A second worker on the same log, as another node would be, once each of the two owns
    /// half of the queue's four partitions.
    pub(crate) async fn second(&self, world: &World) -> Result<Delivery> {
        let parts = mediator::deliver::Parts {
            log: another_log(&world.place, self).await?,
            view: self.view.clone(),
            caller: mediator::endpoint::http::Caller::new(),
            emitter: self.emitter.clone(),
            clock: Arc::new(SystemClock),
            queues: self.queues.clone(),
        };
        let second = Delivery::start(config(), parts);
        let owned = async |delivery: &Delivery| {
            delivery.status().await.first().map_or(0, |status| status.partitions.len())
        };
        let first = self.delivery.as_ref().context("it delivers")?;
        self.eventually("each has two", async || {
            Ok(owned(first).await == 2 && owned(&second).await == 2)
        })
        .await?;
        Ok(second)
    }

    /// Everything that a topic holds.
    pub(crate) async fn records(&self, topic: &str) -> Result<Vec<Record>> {
        let records = self.records_of(topic).await?;
        Ok(records.into_iter().map(|(_, record)| record).collect())
    }

    /// The same, with the partitions.
    pub(crate) async fn records_of(&self, topic: &str) -> Result<Vec<(u32, Record)>> {
        let mut records = Vec::new();
        let partitions = 0..self.log.topic(topic).await?.partitions;
        let partitions = partitions.map(|index| Partition::new(topic, index));
        let mut scan = Scan::open(&*self.log, partitions).await?;
        while let Some(batch) = scan.next().await? {
            let index = batch.partition.index;
            records.extend(batch.records.into_iter().map(|record| (index, record)));
        }
        Ok(records)
    }

    /// The ids of the dead letters, with why and after how many attempts.
    pub(crate) async fn dead(&self, world: &World) -> Result<Vec<(String, String, String)>> {
        let text = |record: &Record, name: &str| {
            String::from_utf8_lossy(record.headers.get(name).unwrap_or_default()).into_owned()
        };
        let records = self.records(&world.topic(".dead")).await?;
        let told = |r: &Record| {
            (text(r, "weir_message_id"), text(r, "weir_dead_reason"), text(r, "weir_attempts"))
        };
        Ok(records.iter().map(told).collect())
    }

    /// Waits until the log has all events of this node, of earlier boots too.
    pub(crate) async fn has_told(&self) -> Result<()> {
        self.eventually("the spool is drained", async || Ok(self.emitter.metrics().lag_bytes == 0))
            .await
    }

    /// Every event of a kind about this queue, once the spool is drained.
    pub(crate) async fn events(&self, world: &World, kind: Kind) -> Result<Vec<Box<Event>>> {
        self.has_told().await?;
        let mut events = Vec::new();
        for record in self.records(emit::TOPIC).await? {
            let value = record.value.context("an event has a value")?;
            let event = Box::new(cloudevents::read(record.headers.iter(), &value)?);
            if event.kind == kind && event.delivery_queue.as_deref() == Some(world.queue.as_str()) {
                events.push(event);
            }
        }
        Ok(events)
    }

    /// Waits until nothing of the queue is left to deliver.
    pub(crate) async fn is_drained(&self, world: &World, partitions: u32) -> Result<()> {
        let topic = world.topic("");
        self.eventually("the queue is empty", async || {
            for index in 0..partitions {
                let partition = Partition::new(topic.as_str(), index);
                // A broker that is busy with what is to be drained may not answer in time.
                let asked = async {
                    let end = self.log.bounds(&partition).await?.end;
                    Ok((self.log.committed(&topic, &partition).await?, end))
                };
                match asked.await {
                    Ok((committed, end)) if committed.unwrap_or(0) >= end => {}
                    Ok(_) => return Ok(false),
                    Err(error) if ingest::log::Error::is_retryable(&error) => return Ok(false),
                    Err(error) => return Err(error.into()),
                }
            }
            // What is parked is in no queue.
            match self.control().overview(Some(&world.queue)).await {
                Ok(overview) => Ok(overview.iter().all(|of| of.waiting == 0)),
                Err(ControlError::NoQueue(_)) => Ok(true),
                Err(error) => Err(error.into()),
            }
        })
        .await
    }

    /// Decides of the queues.
    pub(crate) fn control(&self) -> Control {
        let clock = Arc::new(SystemClock);
        Control::new(self.log.clone(), self.view.clone(), self.emitter.clone(), clock)
    }

    pub(crate) async fn eventually(
        &self,
        what: &str,
        mut is: impl AsyncFnMut() -> Result<bool>,
    ) -> Result<()> {
        let start = Instant::now();
        while !is().await? {
            if start.elapsed() > PATIENCE {
                let status = match &self.delivery {
                    Some(delivery) => delivery.status().await,
                    None => Vec::new(),
                };
                bail!("{what}: not within {PATIENCE:?}: {status:#?}");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }
}

pub(crate) fn message(id: &str, key: Option<&str>) -> Result<NewMessage> {
    Ok(NewMessage {
        id: MessageId::new(id)?,
        key: key.map(|key| Bytes::from(key.to_owned())),
        expires_after: None,
        due: None,
        content_type: Some("text/plain".parse()?),
        headers: Default::default(),
        // The receiver holds the id in the header to the one in the body.
        body: Bytes::from(id.to_owned()),
        correlation: Correlation::of(&Default::default(), || fastrand::u64(..)),
    })
}

/// A log that was closed a moment ago may have tasks that end just now.
pub(crate) async fn open_log(place: &Place) -> Result<Arc<dyn EventLog>> {
    match place {
        Place::Dir(dir) => {
            let config = embedded::Config {
                segment_bytes: 4 * 1024 * 1024,
                maintenance_interval: Duration::from_millis(50),
                compact_bytes_min: 64 * 1024,
                member_poll_interval_max: Duration::from_secs(5),
                ..embedded::Config::new(dir)
            };
            let start = Instant::now();
            loop {
                match EmbeddedLog::open(&config) {
                    Ok(log) => return Ok(Arc::new(log)),
                    Err(Error::Locked(_)) if start.elapsed() < PATIENCE => {
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Place::Kafka { bootstrap, .. } => {
            let config = kafka::Config {
                member_poll_interval_max: Duration::from_secs(6),
                ..kafka::Config::new(bootstrap.clone())
            };
            Ok(Arc::new(KafkaLog::connect(config).await?))
        }
    }
}

/// Per ordering key, the first deliveries are in the order of their sequence, and
/// an id goes with one body only.
pub(crate) fn check_order(receiver: &crate::receiver::Receiver) -> Result<()> {
    let mut highest: std::collections::BTreeMap<String, u64> = Default::default();
    let mut taken = std::collections::HashSet::new();
    for attempt in receiver.attempts() {
        ensure!(attempt.id == attempt.body, "{} came with body {}", attempt.id, attempt.body);
        if !(200..300).contains(&attempt.status) || !taken.insert(attempt.id.clone()) {
            continue;
        }
        let Some(key) = attempt.key else { continue };
        let before = highest.insert(key.clone(), attempt.sequence);
        ensure!(before < Some(attempt.sequence), "key {key}: {} came late", attempt.id);
    }
    Ok(())
}

/// The log as another process would have it; the embedded one has no other.
async fn another_log(place: &Place, node: &Node) -> Result<Arc<dyn EventLog>> {
    match place {
        Place::Dir(_) => Ok(node.log.clone()),
        Place::Kafka { .. } => open_log(place).await,
    }
}
