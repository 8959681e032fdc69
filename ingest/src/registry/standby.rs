use std::sync::Arc;
use std::time::Duration;

use super::applier::next_proposal;
use super::{Applier, Error, Topics};
use crate::log::EventLog;

/// A proposal that has waited so long has no applier.
const TAKE_OVER_AFTER: Duration = Duration::from_secs(3);
/// How long one look for proposals waits.
const LOOK: Duration = Duration::from_millis(500);

/// Keeps an applier going on this node, until the future is dropped.
///
/// Every node that may hold the role runs this; no election is needed. A node
/// whose applier was fenced stands by: it takes over only when a proposal waits
/// and nobody judges it. Two that take over at once are still safe, the log lets
/// one of them commit.
pub async fn run_applier(log: Arc<dyn EventLog>, topics: Topics) {
    loop {
        let Err(error) = apply(&log, &topics).await;
        if error.is_fenced() {
            tracing::info!("another registry applier has taken over; standing by");
        } else {
            tracing::warn!(%error, "registry applier failed; opening another");
        }
        tokio::time::sleep(LOOK).await;
        if error.is_fenced() {
            stand_by(&log, &topics).await;
        }
    }
}

async fn apply(
    log: &Arc<dyn EventLog>,
    topics: &Topics,
) -> Result<std::convert::Infallible, Error> {
    let mut applier = Applier::open(log, topics.clone()).await?;
    loop {
        applier.step(LOOK).await?;
    }
}

/// Returns when one and the same proposal has waited for [`TAKE_OVER_AFTER`].
async fn stand_by(log: &Arc<dyn EventLog>, topics: &Topics) {
    loop {
        let before = waiting(log, topics).await;
        tokio::time::sleep(TAKE_OVER_AFTER).await;
        match (before, waiting(log, topics).await) {
            (Ok(Some(before)), Ok(Some(after))) if before == after => return,
            (Err(error), _) | (_, Err(error)) => {
                tracing::warn!(%error, "the registry's log does not answer; standing by");
            }
            _ => {}
        }
    }
}

/// The first proposal without a verdict, if there is one.
async fn waiting(log: &Arc<dyn EventLog>, topics: &Topics) -> Result<Option<u64>, Error> {
    let next = next_proposal(&**log, topics).await?;
    let bounds = log.bounds(&topics.proposals).await.map_err(Error::log("look for proposals"))?;
    Ok((next < bounds.end).then_some(next))
}
