//! Entities of the registry as tables: each version of an API, an application and the like,
//! with the revisions of the registry in which it was in force.
//!
//! ```text
//! weir.registry.history ─► Entities ─► weir_apis, weir_applications, …
//! ```
//!
//! An event says by which revision it came about (`config_revision`). So rows are joined with
//! what was configured then, and the answer is the same whenever they are.
//!
//! What holds: what was in force at a revision never changes once that revision was told.

mod columns;
mod held;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use ingest::log::{Batch, Error, EventLog, Keeper, Partition, Scan, keep};
use ingest::registry::{Kind, Topics};
use parking_lot::Mutex;
use tokio::sync::watch;

pub(crate) use self::columns::{FIRST_REVISION, IS_CURRENT, LAST_REVISION, is_table, tables};
use self::held::Held;

/// How long rows wait for the revision that they name.
const PATIENCE: Duration = Duration::from_secs(10);

/// What entities were, from the registry's history; cheap to clone.
#[derive(Debug, Clone)]
pub struct Entities {
    held: Arc<Mutex<Held>>,
    revision: Arc<watch::Sender<u64>>,
    /// The revision that was told when somebody waited in vain for a later one.
    stuck: Arc<Mutex<Option<u64>>>,
}

impl Default for Entities {
    fn default() -> Self {
        let revision = Arc::new(watch::Sender::new(0));
        Self { held: Arc::default(), revision, stuck: Arc::default() }
    }
}

impl Entities {
    /// Reads the history to where it ends now: what is asked then finds what was configured.
    ///
    /// # Errors
    /// If the log cannot be read, or gives nothing for 20 seconds before that.
    pub async fn catch_up(&self, log: &dyn EventLog) -> Result<(), Error> {
        let from = self.held.lock().next().unwrap_or_default();
        let spans = BTreeMap::from([(Topics::default().history, (from, u64::MAX))]);
        let mut scan = Scan::within(log, spans).await?;
        let Some(end) = scan.ends().into_values().next() else { return Ok(()) };
        while let Some(batch) = scan.next().await? {
            // What follows goes on where this ends, and not behind what it leaves out.
            let next = batch.next.min(end);
            Keeper::take(self, &Batch { next, ..batch });
        }
        Ok(())
    }

    /// Follows the history until it is told to stop.
    pub async fn follow(self, log: Arc<dyn EventLog>, stop: watch::Receiver<bool>) {
        keep(self, log, stop).await;
    }

    /// The rows of a kind's table, by the columns of [`Entities::columns`].
    pub(crate) fn rows(&self, kind: Kind) -> RecordBatch {
        self.held.lock().rows(kind)
    }

    /// The columns of a kind's table.
    pub(crate) fn columns(kind: Kind) -> SchemaRef {
        columns::schema(kind)
    }

    /// Waits until a revision is told. It is in the log by the time that anybody could have
    /// seen it, so this takes no longer than to read it from there.
    ///
    /// # Errors
    /// The revision that is told, if it does not come within ten seconds; at once, if somebody
    /// has waited so long and nothing was told since: queries wait one after another.
    pub(crate) async fn wait_for(&self, revision: u64) -> Result<(), u64> {
        let mut told = self.revision.subscribe();
        let now = *told.borrow();
        if now < revision && *self.stuck.lock() == Some(now) {
            return Err(now);
        }
        let reached = told.wait_for(|told| *told >= revision);
        if let Ok(Ok(_)) = tokio::time::timeout(PATIENCE, reached).await {
            return Ok(());
        }
        let now = *self.revision.borrow();
        *self.stuck.lock() = Some(now);
        Err(now)
    }
}

impl Keeper for Entities {
    const WHAT: &str = "the history of the registry";

    fn partitions(&self) -> Vec<(Partition, Option<u64>)> {
        vec![(Topics::default().history, self.held.lock().next())]
    }

    fn take(&self, batch: &Batch) {
        let mut held = self.held.lock();
        held.take(&batch.records, batch.next);
        let revision = held.revision();
        drop(held);
        self.revision.send_replace(revision);
    }
}
