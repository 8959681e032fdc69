use std::future::Future;
use std::sync::Arc;

use arc_swap::{ArcSwap, Cache};
use ingest::redact::Pseudonyms;
use ingest::registry::View;

use super::Table;
use crate::throttle::Counters;

/// Compiles the registry's snapshots, one after another, and shows the last.
pub struct Publisher {
    view: View,
    current: Arc<ArcSwap<Table>>,
    /// What was counted outlives a change.
    counters: Arc<Counters>,
    pseudonyms: Option<Pseudonyms>,
}

/// Reads the current table at the cost of one atomic load and a comparison. Each
/// thread keeps its own.
#[derive(Clone)]
pub struct TableReader(Cache<Arc<ArcSwap<Table>>, Arc<Table>>);

impl TableReader {
    /// The current table. A request reads it once.
    pub fn load(&mut self) -> &Arc<Table> {
        self.0.load()
    }
}

impl Publisher {
    /// Compiles what the view shows now.
    pub fn new(view: View, pseudonyms: Option<Pseudonyms>) -> Self {
        let counters = Arc::<Counters>::default();
        let table = Table::compile(&view.snapshot(), &counters, pseudonyms.as_ref());
        let current = Arc::new(ArcSwap::from_pointee(table));
        Self { view, current, counters, pseudonyms }
    }

    /// A reader for one thread.
    pub fn reader(&self) -> TableReader {
        TableReader(Cache::new(self.current.clone()))
    }

    /// Follows the view until `shutdown`. Of several changes that come while a table
    /// is compiled, the last is shown. A table whose compilation ends in a panic is
    /// not shown; the one before stays.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) {
        let mut changes = self.view.changes();
        tokio::pin!(shutdown);
        loop {
            self.publish().await;
            tokio::select! {
                () = &mut shutdown => return,
                changed = changes.changed() => if changed.is_err() { return },
            }
        }
    }

    async fn publish(&self) {
        let snapshot = self.view.snapshot();
        if Arc::ptr_eq(&snapshot, self.current.load().snapshot()) {
            return;
        }
        let revision = snapshot.revision();
        let (counters, pseudonyms) = (self.counters.clone(), self.pseudonyms.clone());
        // A thousand APIs take some milliseconds, which others need not wait for.
        let compile = move || Table::compile(&snapshot, &counters, pseudonyms.as_ref());
        match tokio::task::spawn_blocking(compile).await {
            Ok(table) => {
                tracing::info!(revision, config_hash = %table.config_hash(), "configuration in force");
                self.current.store(Arc::new(table));
            }
            Err(error) => {
                tracing::error!(revision, %error, "configuration not compiled; the last one stays")
            }
        }
    }
}
