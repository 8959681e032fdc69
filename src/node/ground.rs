use std::future::Future;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use ingest::decision::Decisions;
use ingest::emit::{self, Emitter};
use ingest::event::{Producer, SystemClock};
use ingest::log::embedded::{self, EmbeddedLog};
use ingest::log::kafka::{self, KafkaLog};
use ingest::log::{EventLog, TopicSpec};
use ingest::redact::Pseudonyms;
use ingest::registry::{Fault, Kept, Proposer, Recalled, Topics, View};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{Role, pseudonyms};
use crate::config::{self, Config, Log};

/// How long events stay in the log: the lake has them after seconds.
const EVENTS_KEPT: Duration = Duration::from_hours(7 * 24);
/// How long a start waits for Kafka.
const REACHED_WITHIN: Duration = Duration::from_secs(10);
/// How long a proposal waits for its verdict.
const VERDICT_WITHIN: Duration = Duration::from_secs(10);

/// What every role stands on.
pub(crate) struct Ground {
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) topics: Topics,
    pub(crate) view: View,
    /// Whom gateways block or slow down.
    pub(crate) decisions: Decisions,
    pub(crate) proposer: Proposer,
    /// Of all roles but the data plane, which has one for each of its threads.
    pub(crate) emitter: Emitter,
    /// By what values in events become pseudonyms.
    pub(crate) pseudonyms: Option<Pseudonyms>,
    /// Follows what the registry says is taken out of events.
    redacting: JoinHandle<()>,
    /// Follows the decisions.
    deciding: JoinHandle<()>,
    stop: watch::Sender<bool>,
    events: JoinHandle<()>,
    /// Keeps the configuration for a start while the log is away.
    keeping: Option<JoinHandle<()>>,
}

impl Ground {
    /// Opens the log, the registry and the node's emitter. A node that is a gateway and
    /// nothing else starts without Kafka, from the configuration that it kept.
    pub(crate) async fn open(config: &Config, wanted: &[Role]) -> Result<Self> {
        let data_dir = &config.data_dir;
        let failed = |what: String, path: &str, mend: &str| {
            config.placed(vec![Fault::new(path, what, mend)])
        };
        // Where the log is elsewhere, nothing is made here before it is reached.
        let may_resume = wanted == [Role::Gateway] && matches!(config.log, Log::Kafka(_));
        let kept = may_resume.then(|| Kept::at(data_dir.join("configuration")));
        let mut recalled = None;
        let kafka = match &config.log {
            Log::Kafka(settings) => {
                let log = KafkaLog::open(client(settings));
                let log = log.map_err(|error| not_reached(config, settings, &error))?;
                if let Err(error) = log.reach(REACHED_WITHIN).await {
                    let error = not_reached(config, settings, &error);
                    let Some(kept) = &kept else { return Err(error) };
                    recalled = Some(recall(kept, error)?);
                }
                Some(Arc::new(log) as Arc<dyn EventLog>)
            }
            Log::Embedded {} => None,
        };
        // What is in it tells of every caller; it is for who runs the node.
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(data_dir).map_err(
            |error| {
                let what = format!("{} cannot be made: {error}", data_dir.display());
                failed(what, "data_dir", "give a directory that can be written")
            },
        )?;
        let log = match kafka {
            Some(log) => log,
            None => open_embedded(data_dir).await?,
        };
        let pseudonyms = pseudonyms::of(config)?;
        let partitions = config.events.partitions;
        let topics = Topics::default();
        let (view, decisions) = match recalled {
            // Those that are in force come when the log does.
            Some(recalled) => {
                let view = View::resume(log.clone(), topics.clone(), recalled.snapshot);
                (view, Decisions::default())
            }
            None => {
                let events = TopicSpec::retained(emit::TOPIC, partitions.get(), EVENTS_KEPT);
                log.create_topic(&events).await.context("make the topic of the events")?;
                let decisions = Decisions::open(&*log).await.context("read the decisions")?;
                (View::open(log.clone(), topics.clone()).await?, decisions)
            }
        };
        let keeping = kept.map(|kept| kept.follow(&view));
        let proposer = Proposer::new(log.clone(), topics.clone(), VERDICT_WITHIN);

        let producer = Producer::new(config.node.clone()).context("the node's name")?;
        let spool = data_dir.join("spool").join("node");
        let settings = emit::Config {
            node: Some(config.node.clone().into()),
            zone: config.zone.clone().map(Into::into),
            ..emit::Config::new(producer, spool, partitions).within(config.events.limits())
        };
        let opened = {
            let log = log.clone();
            tokio::task::spawn_blocking(move || emit::open(settings, log, Arc::new(SystemClock)))
        };
        let (emitter, service) = opened.await.context("open the node's spool")??;
        let redacting = pseudonyms::redact(&view, &emitter, pseudonyms.clone());
        let (stop, stopped) = watch::channel(false);
        let deciding = tokio::spawn(decisions.clone().follow(log.clone(), stopped.clone()));
        let events = tokio::spawn(async move {
            if let Err(error) = service.run(told(stopped)).await {
                tracing::error!(%error, "the node's events stopped");
            }
        });
        Ok(Self {
            log,
            topics,
            view,
            decisions,
            proposer,
            emitter,
            pseudonyms,
            redacting,
            deciding,
            stop,
            events,
            keeping,
        })
    }

    /// Sends what is left of the events, then lets go of the log.
    pub(crate) async fn close(self) {
        if let Some(keeping) = self.keeping {
            keeping.abort();
        }
        self.redacting.abort();
        self.deciding.abort();
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

async fn open_embedded(data_dir: &Path) -> Result<Arc<dyn EventLog>> {
    let settings = embedded::Config::new(data_dir.join("log"));
    let opened = tokio::task::spawn_blocking(move || EmbeddedLog::open(&settings)).await;
    Ok(Arc::new(opened.context("open the log")??))
}

fn client(settings: &config::Kafka) -> kafka::Config {
    let mut kafka = kafka::Config::new(settings.bootstrap.clone());
    kafka.replication_factor = settings.replication_factor;
    kafka.properties.clone_from(&settings.properties);
    kafka
}

fn not_reached(
    config: &Config,
    settings: &config::Kafka,
    error: &ingest::log::Error,
) -> anyhow::Error {
    let what = format!("{}: {error}", settings.bootstrap);
    let mend = "see that a broker answers there";
    let placed = config.placed(vec![Fault::new("log.kafka.bootstrap", what, mend)]);
    match error.is_retryable() {
        // It may answer by the next start: nothing is to be mended in a file.
        true => anyhow::anyhow!("{placed}"),
        false => placed.into(),
    }
}

/// What the node kept, for a log that is away.
fn recall(kept: &Kept, away: anyhow::Error) -> Result<Recalled> {
    let file = kept.file().display();
    match kept.recall() {
        Ok(Some(recalled)) => {
            let (revision, age_s) = (recalled.snapshot.revision(), recalled.age.as_secs());
            tracing::warn!(%away, %file, revision, age_s, "starting from what was kept");
            Ok(recalled)
        }
        Ok(None) => Err(away),
        Err(why) => Err(anyhow::anyhow!("{away}\nand what was kept in {file} {why}")),
    }
}
