//! The implementations, each opened anew for every case.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use ingest::log::embedded::{self, EmbeddedLog};
use ingest::log::kafka::{self, KafkaLog};
use ingest::log::{Cleanup, EventLog, Partition, TopicSpec};
use rig::Kafka;

/// What a case gets: a log, and names that no other case uses.
pub(crate) struct World {
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) prefix: String,
    /// Opens the same log again, after the first was closed.
    reopen: Box<dyn Fn() -> Opening + Send + Sync>,
}

type Opening = Pin<Box<dyn Future<Output = Result<Arc<dyn EventLog>>> + Send>>;
pub(crate) type Case = fn(World) -> Pin<Box<dyn Future<Output = Result<()>>>>;

/// Members that are silent for so long are put out.
pub(crate) const POLL_INTERVAL_MAX: Duration = Duration::from_secs(2);
/// How long a case waits for what an implementation does in its own time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) enum Subject {
    Memory,
    Embedded,
    /// Started with the first case that needs it; ended with this process.
    Kafka(LazyLock<Result<Kafka>>),
}

impl Subject {
    pub(crate) fn memory() -> Self {
        Self::Memory
    }

    pub(crate) fn embedded() -> Self {
        Self::Embedded
    }

    pub(crate) fn kafka() -> Self {
        Self::Kafka(LazyLock::new(|| Kafka::start(1)))
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Embedded => "embedded",
            Self::Kafka(_) => "kafka",
        }
    }

    pub(crate) fn is_durable(&self) -> bool {
        !matches!(self, Self::Memory)
    }

    pub(crate) fn run(&self, name: &str, case: Case) -> Result<()> {
        let prefix = format!("{}.{name}", self.name());
        let dir = tempfile::tempdir()?;
        let reopen: Box<dyn Fn() -> Opening + Send + Sync> = match self {
            Self::Memory => Box::new(|| {
                Box::pin(async { Ok(Arc::new(EmbeddedLog::in_memory()) as Arc<dyn EventLog>) })
            }),
            Self::Embedded => {
                let config = embedded::Config {
                    segment_bytes: 2 * 1024 * 1024,
                    maintenance_interval: Duration::from_millis(50),
                    compact_bytes_min: 512 * 1024,
                    member_poll_interval_max: POLL_INTERVAL_MAX,
                    ..embedded::Config::new(dir.path())
                };
                Box::new(move || {
                    let log = EmbeddedLog::open(&config);
                    Box::pin(async { Ok(Arc::new(log?) as Arc<dyn EventLog>) })
                })
            }
            Self::Kafka(server) => {
                let server = server.as_ref().map_err(|error| anyhow!("{error:#}"))?;
                let config = kafka::Config {
                    segment_bytes: Some(1024 * 1024),
                    member_poll_interval_max: POLL_INTERVAL_MAX,
                    ..kafka::Config::new(server.bootstrap())
                };
                Box::new(move || {
                    let config = config.clone();
                    Box::pin(async {
                        Ok(Arc::new(KafkaLog::connect(config).await?) as Arc<dyn EventLog>)
                    })
                })
            }
        };
        rig::run_case(async {
            let log = reopen().await.context("open the log")?;
            case(World { log, prefix, reopen }).await
        })
    }
}

impl World {
    /// Makes a topic of this case.
    pub(crate) async fn topic(&self, name: &str, partitions: u32) -> Result<Vec<Partition>> {
        let keep = Cleanup::Retain { age: None, bytes: None };
        self.topic_with(name, partitions, keep).await
    }

    pub(crate) async fn topic_with(
        &self,
        name: &str,
        partitions: u32,
        cleanup: Cleanup,
    ) -> Result<Vec<Partition>> {
        let name = self.name(name);
        let spec = TopicSpec { name: name.clone(), partitions, cleanup };
        self.log.create_topic(&spec).await?;
        Ok((0..partitions).map(|index| Partition::new(name.as_str(), index)).collect())
    }

    pub(crate) fn name(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }

    /// Closes the log and opens it again.
    pub(crate) async fn reopen(&mut self) -> Result<()> {
        self.log = Arc::new(EmbeddedLog::in_memory());
        self.log = (self.reopen)().await.context("open the log again")?;
        Ok(())
    }
}
