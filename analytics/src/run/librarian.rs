//! Keeps the library as the registry says.

use std::sync::Arc;
use std::time::Duration;

use ingest::log::EventLog;
use ingest::registry::kind::{Query, Table};
use ingest::registry::{Name, Snapshot, View};
use tokio::sync::watch;

use super::{Given, Library, Tables, make_topics};

/// The pause after the log did not take the topics of new views.
const PAUSE: Duration = Duration::from_secs(1);

/// What is to run.
#[derive(Debug, Clone)]
pub struct Current {
    /// The queries.
    pub library: Arc<Library>,
    /// How far the registry was read that they are of. It grows though they are the same.
    pub revision: u64,
}

/// Puts the queries of the registry beside those of the node, and follows what becomes of them.
#[derive(Debug)]
pub struct Librarian {
    base: Arc<Library>,
    registry: View,
    log: Arc<dyn EventLog>,
    tables: Tables,
    current: watch::Sender<Current>,
    /// Those of the registry that are in it.
    taken: Given,
}

impl Librarian {
    /// Begins with the queries that the registry has now, whose topics are made.
    ///
    /// # Errors
    /// If the log refuses them.
    pub async fn open(
        base: Library,
        registry: View,
        log: Arc<dyn EventLog>,
    ) -> Result<Self, ingest::log::Error> {
        let base = Arc::new(base);
        let snapshot = registry.snapshot();
        let (taken, revision) = (of(&snapshot), snapshot.revision());
        let library = Arc::new(base.with(&taken));
        make_topics(&*log, &library).await?;
        let tables = Tables::new(&library).await;
        let (current, _) = watch::channel(Current { library, revision });
        Ok(Self { base, registry, log, tables, current, taken })
    }

    /// What runs.
    pub fn current(&self) -> watch::Receiver<Current> {
        self.current.subscribe()
    }

    /// Where the answers of its views are read.
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// What comes from the node itself, whatever the registry says.
    pub fn base(&self) -> &Arc<Library> {
        &self.base
    }

    /// Follows the registry until it is told to stop.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        tokio::select! {
            () = self.follow() => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }

    async fn follow(&mut self) {
        let mut changes = self.registry.changes();
        loop {
            let snapshot = self.registry.snapshot();
            let (wanted, revision) = (of(&snapshot), snapshot.revision());
            if wanted == self.taken {
                self.current.send_modify(|current| current.revision = revision);
            } else {
                let library = Arc::new(self.base.with(&wanted));
                while let Err(error) = make_topics(&*self.log, &library).await {
                    tracing::warn!(%error, "the topics of new views cannot be made yet");
                    tokio::time::sleep(PAUSE).await;
                }
                self.tables.show(&library).await;
                self.taken = wanted;
                self.current.send_replace(Current { library, revision });
            }
            if changes.changed().await.is_err() {
                // The registry is followed no more: the process is going down.
                return;
            }
        }
    }
}

/// What the registry has of queries.
fn of(snapshot: &Snapshot) -> Given {
    let named = |name: &Name, text: &str| (name.as_str().to_owned(), text.to_owned());
    let queries = snapshot.all::<Query>().map(|(name, of)| named(name, &of.sql)).collect();
    let tables = snapshot.all::<Table>().map(|(name, of)| named(name, &of.csv)).collect();
    Given { queries, tables }
}
