//! Topics whose records are kept in memory: followed for as long as the process lives.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::{Batch, Error, EventLog, Partition, ReadLimit};

/// The pause after the log failed.
const PAUSE: Duration = Duration::from_secs(1);

/// Keeps what stands in some partitions.
pub trait Keeper {
    /// What that is, for an operator.
    const WHAT: &str;

    /// The partitions, each with the offset to go on from; from its first record, if there is
    /// none.
    fn partitions(&self) -> Vec<(Partition, Option<u64>)>;

    /// Takes records of one of them, in their order, and notes [`Batch::next`].
    fn take(&self, batch: &Batch);
}

/// Has a keeper take what comes until it is told to stop.
pub async fn keep(keeper: impl Keeper, log: Arc<dyn EventLog>, mut stop: watch::Receiver<bool>) {
    loop {
        let ended = tokio::select! {
            ended = read(&keeper, &*log) => ended,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        let Err(error) = ended;
        tracing::warn!(what = keeper_of(&keeper), %error, "a topic cannot be read; it is read again");
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}

fn keeper_of<K: Keeper>(_: &K) -> &'static str {
    K::WHAT
}

/// Ends by a failure alone.
async fn read(keeper: &impl Keeper, log: &dyn EventLog) -> Result<Infallible, Error> {
    let mut from = Vec::new();
    for (partition, next) in keeper.partitions() {
        let first = log.bounds(&partition).await?.first;
        from.push((partition, next.unwrap_or(first).max(first)));
    }
    if from.is_empty() {
        std::future::pending::<()>().await;
    }
    let mut reader = log.reader(from).await?;
    loop {
        if let Some(batch) = reader.next(ReadLimit::default()).await? {
            keeper.take(&batch);
        }
    }
}
