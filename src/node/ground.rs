use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use ingest::emit::{self, Emitter};
use ingest::event::{Producer, SystemClock};
use ingest::log::embedded::{self, EmbeddedLog};
use ingest::log::kafka::{self, KafkaLog};
use ingest::log::{EventLog, TopicSpec};
use ingest::registry::{Proposer, Topics, View};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::config::{Config, Log};

/// How long events stay in the log: the lake has them after seconds.
const EVENTS_KEPT: Duration = Duration::from_hours(7 * 24);
/// How long a proposal waits for its verdict.
const VERDICT_WITHIN: Duration = Duration::from_secs(10);

/// What every role stands on.
pub(crate) struct Ground {
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) topics: Topics,
    pub(crate) view: View,
    pub(crate) proposer: Proposer,
    /// Of all roles but the data plane, which has one for each of its threads.
    pub(crate) emitter: Emitter,
    stop: watch::Sender<bool>,
    events: JoinHandle<()>,
}

impl Ground {
    /// Opens the log, the registry and the node's emitter.
    pub(crate) async fn open(config: &Config) -> Result<Self> {
        let data_dir = &config.data_dir;
        std::fs::create_dir_all(data_dir)
            .with_context(|| format!("make the data directory {}", data_dir.display()))?;
        let log = open_log(config).await?;
        let partitions = config.events.partitions;
        let events = TopicSpec::retained(emit::TOPIC, partitions.get(), EVENTS_KEPT);
        log.create_topic(&events).await.context("make the topic of the events")?;
        let topics = Topics::default();
        let view = View::open(log.clone(), topics.clone()).await?;
        let proposer = Proposer::new(log.clone(), topics.clone(), VERDICT_WITHIN);

        let producer = Producer::new(config.node.clone())
            .map_err(|error| anyhow!("node {:?}: {error}", config.node))?;
        let spool = data_dir.join("spool").join("node");
        let settings = emit::Config::new(producer, spool, partitions);
        let opened = {
            let log = log.clone();
            tokio::task::spawn_blocking(move || emit::open(settings, log, Arc::new(SystemClock)))
        };
        let (emitter, service) = opened.await.context("open the node's spool")??;
        let (stop, stopped) = watch::channel(false);
        let events = tokio::spawn(async move {
            if let Err(error) = service.run(told(stopped)).await {
                tracing::error!(%error, "the node's events stopped");
            }
        });
        Ok(Self { log, topics, view, proposer, emitter, stop, events })
    }

    /// Sends what is left of the events, then lets go of the log.
    pub(crate) async fn close(self) {
        self.stop.send_replace(true);
        if let Err(error) = self.events.await {
            tracing::error!(%error, "the node's events stopped");
        }
    }
}

/// Ends when the stop is told of, or nobody is left to tell.
pub(super) fn told(mut stop: watch::Receiver<bool>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move {
        let _ = stop.wait_for(|stop| *stop).await;
    })
}

async fn open_log(config: &Config) -> Result<Arc<dyn EventLog>> {
    match &config.log {
        Log::Embedded {} => {
            let settings = embedded::Config::new(config.data_dir.join("log"));
            let opened = tokio::task::spawn_blocking(move || EmbeddedLog::open(&settings)).await;
            Ok(Arc::new(opened.context("open the log")??))
        }
        Log::Kafka(settings) => {
            let mut kafka = kafka::Config::new(settings.bootstrap.clone());
            kafka.replication_factor = settings.replication_factor;
            kafka.properties.clone_from(&settings.properties);
            Ok(Arc::new(KafkaLog::connect(kafka).await?))
        }
    }
}
