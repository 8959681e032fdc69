//! Keeps the library as the registry says.

use std::sync::Arc;
use std::time::Duration;

use ingest::log::EventLog;
use ingest::registry::kind::{Query, Table};
use ingest::registry::{Name, Snapshot, View};
use tokio::sync::watch;

use super::{Given, Library, Tables, make_topic_of, make_topics};
use crate::query::Fault;

/// After how long the topics of views are tried again that the log refused.
const PAUSE: Duration = Duration::from_secs(30);

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
    /// Begins with the queries that the registry has now; the topics of all are made.
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
        make_topics(&*log).await?;
        let (library, _) = with_topics(base.with(&taken), &*log).await;
        let library = Arc::new(library);
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
        // As it was opened, one may be without its topic.
        let mut is_whole = false;
        loop {
            let snapshot = self.registry.snapshot();
            let (wanted, revision) = (of(&snapshot), snapshot.revision());
            if wanted == self.taken && is_whole {
                self.current.send_modify(|current| current.revision = revision);
            } else {
                let (library, all) = with_topics(self.base.with(&wanted), &*self.log).await;
                let is_same = wanted == self.taken && all && !self.has_faults();
                is_whole = all;
                if is_same {
                    self.current.send_modify(|current| current.revision = revision);
                } else {
                    self.tables.show(&library).await;
                    self.taken = wanted;
                    self.current.send_replace(Current { library: Arc::new(library), revision });
                }
            }
            tokio::select! {
                // When the registry is followed no more, the process is going down.
                changed = changes.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(PAUSE), if !is_whole => {}
            }
        }
    }

    /// Whether a query of those that run now cannot.
    fn has_faults(&self) -> bool {
        self.current.borrow().library.queries().values().any(|of| of.fault.is_some())
    }
}

/// Makes the topic of each view. One that the log refuses cannot run, and takes no other with
/// it; whether there is none of these is answered too.
async fn with_topics(mut library: Library, log: &dyn EventLog) -> (Library, bool) {
    let views: Vec<String> = library.views().map(|view| view.name.clone()).collect();
    let mut all = true;
    for view in views {
        if let Err(error) = make_topic_of(log, &view).await {
            tracing::warn!(view, %error, "the topic of a view cannot be made; it is tried again");
            let what = format!("its topic cannot be made: {error}");
            library.refuse(&view, Fault::of_file(what, "it is tried again"));
            all = false;
        }
    }
    (library, all)
}

/// What the registry has of queries.
fn of(snapshot: &Snapshot) -> Given {
    let named = |name: &Name, text: &str| (name.as_str().to_owned(), text.to_owned());
    let queries = snapshot.all::<Query>().map(|(name, of)| named(name, &of.sql)).collect();
    let tables = snapshot.all::<Table>().map(|(name, of)| named(name, &of.csv)).collect();
    Given { queries, tables }
}
