//! The logs, each opened anew for every case.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use ingest::log::EventLog;
use ingest::log::embedded::{self, EmbeddedLog};
use ingest::log::kafka::{self, KafkaLog};
use ingest::registry::{Change, ChangeSet, EntityKey, Json, Proposer, Topics};
use rig::Kafka;

/// How long a case waits for what takes its own time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) type Case = fn(World) -> Pin<Box<dyn Future<Output = Result<()>>>>;
type Opening = Pin<Box<dyn Future<Output = Result<Arc<dyn EventLog>>> + Send>>;

/// What a case gets: a log, and topics that no other case uses.
pub(crate) struct World {
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) topics: Topics,
    reopen: Box<dyn Fn() -> Opening + Send + Sync>,
}

pub(crate) enum Subject {
    Embedded,
    /// Started with the first case that needs it; ended with this process.
    Kafka(LazyLock<Result<Kafka>>),
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

    pub(crate) fn run(&self, name: &str, case: Case) -> Result<()> {
        let dir = tempfile::tempdir()?;
        let reopen: Box<dyn Fn() -> Opening + Send + Sync> = match self {
            Self::Embedded => {
                let config = embedded::Config {
                    segment_bytes: 2 * 1024 * 1024,
                    maintenance_interval: Duration::from_millis(50),
                    compact_bytes_min: 256 * 1024,
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
            let topics = Topics::prefixed(&format!("{name}."));
            topics.create(&*log).await?;
            case(World { log, topics, reopen }).await
        })
    }
}

impl World {
    /// Closes the log and opens it again.
    pub(crate) async fn reopen(&mut self) -> Result<()> {
        let before = Arc::downgrade(&self.log);
        self.log = Arc::new(EmbeddedLog::in_memory());
        // A task that was told to end lets go of it a moment later.
        let began = Instant::now();
        while before.strong_count() > 0 {
            ensure!(began.elapsed() < PATIENCE, "somebody still has the log");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        self.log = (self.reopen)().await.context("open the log again")?;
        Ok(())
    }

    pub(crate) fn proposer(&self) -> Proposer {
        Proposer::new(self.log.clone(), self.topics.clone(), PATIENCE)
    }
}

/// A put, of which `spec` is JSON.
pub(crate) fn put(key: &str, expected: Option<u64>, spec: &str) -> Change {
    let EntityKey { kind, name } = EntityKey::parse(key).expect("a key");
    let spec = Json(serde_json::from_str(spec).expect("a JSON object"));
    Change::Put { kind, name, expected, spec }
}

pub(crate) fn set(id: &str, changes: Vec<Change>) -> ChangeSet {
    let id = id.parse().expect("a name");
    ChangeSet { id, author: "a case".to_owned(), message: "m".to_owned(), changes }
}
