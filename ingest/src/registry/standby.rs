use std::sync::Arc;
use std::time::Duration;

use super::applier::next_proposal;
use super::{Applier, DeepCheck, Error, Topics};
use crate::log::EventLog;

/// A proposal that has waited so long has no applier.
const TAKE_OVER_AFTER: Duration = Duration::from_secs(3);
/// How long one look for proposals waits.
const LOOK: Duration = Duration::from_millis(500);
/// What the first failure doubles.
const PAUSE_RESET: Duration = Duration::from_millis(250);
/// The longest pause after failures, each of which doubles it.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// The pause when what is accepted cannot be read: mostly a person, or a newer
/// release on another node, mends that.
const DAMAGED_PAUSE: Duration = Duration::from_secs(15);

/// Keeps an applier going on this node, until the future is dropped.
///
/// Every node that may hold the role runs this; no election is needed. A node
/// whose applier was fenced stands by: it takes over only when a proposal waits
/// and nobody judges it. Two that take over at once are still safe, the log lets
/// one of them commit.
pub async fn run_applier(log: Arc<dyn EventLog>, topics: Topics, check: DeepCheck) {
    let mut pause = PAUSE_RESET;
    loop {
        let Err(error) = apply(&log, &topics, check, &mut pause).await;
        if error.is_fenced() {
            tracing::info!("another registry applier has taken over; standing by");
            tokio::time::sleep(LOOK).await;
            stand_by(&log, &topics).await;
            continue;
        }
        pause = pause_after(&error, pause);
        tracing::warn!(%error, ?pause, "registry applier failed; opening another");
        tokio::time::sleep(pause).await;
    }
}

/// The pause after an error that followed on the pause `last`.
fn pause_after(error: &Error, last: Duration) -> Duration {
    match error {
        Error::Damaged { .. } => DAMAGED_PAUSE,
        _ => (2 * last).min(PAUSE_MAX),
    }
}

/// Resets the pause when something could be done.
async fn apply(
    log: &Arc<dyn EventLog>,
    topics: &Topics,
    check: DeepCheck,
    pause: &mut Duration,
) -> Result<std::convert::Infallible, Error> {
    let mut applier = Applier::open(log, topics.clone()).await?.checking(check);
    loop {
        applier.step(LOOK).await?;
        *pause = PAUSE_RESET;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_are_long_where_nothing_can_be_read() {
        let unread = || Error::Unread { topic: "t".to_owned(), next: 0, end: 1 };
        let mut pause = PAUSE_RESET;
        let mut pauses = Vec::new();
        for _ in 0..8 {
            pause = pause_after(&unread(), pause);
            pauses.push(pause.as_millis());
        }
        assert_eq!(pauses, [500, 1000, 2000, 4000, 5000, 5000, 5000, 5000]);
        let damaged = Error::Damaged { topic: "t".to_owned(), detail: "d".to_owned() };
        assert_eq!(pause_after(&damaged, LOOK), DAMAGED_PAUSE);
    }
}
