//! Tells how many messages wait, by the log's own offsets.
//!
//! The events of single messages say what became of each; this is the other side of
//! their account, which knows nothing of them: what the log took, less what owners have
//! committed as delivered or dead. A message that was lost between the two shows as a
//! difference of both.

use std::collections::BTreeMap;
use std::time::Duration;

use ingest::event::{Kind, Outcome};
use ingest::registry::Name;
use tokio::sync::watch;
use tokio::time::Instant;

use super::Parts;
use super::delivery::{Workers, statuses};
use super::status::PartitionStatus;

/// How often is looked; what has not changed is told once by each owner.
const TELL_EVERY: Duration = Duration::from_secs(2);
/// While messages wait, it is told again that often, though nothing has changed.
const TELL_AGAIN: Duration = Duration::from_secs(60);

/// What was told of a partition: epoch, end, committed, completed ahead of it, parked, scheduled.
type Told = (u64, u64, u64, u64, u64, u64);

/// Tells until it is told to stop.
pub(super) async fn tell(parts: Parts, workers: Workers, mut stop: watch::Receiver<bool>) {
    let mut told: BTreeMap<(Name, u32), (Told, Instant)> = BTreeMap::new();
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(TELL_EVERY) => {}
        }
        for status in statuses(&parts.log, &workers).await {
            for (partition, of) in &status.partitions {
                let Some(scheduled) = status.scheduled.get(partition).copied() else { continue };
                let ahead = of.completed_ahead;
                let now = (of.epoch, of.end, of.committed, ahead, of.parked, scheduled);
                let key = (status.queue.clone(), *partition);
                // The log did not say where it ends.
                let is_known = of.end >= of.committed + of.completed_ahead;
                let waiting = waiting(of, scheduled);
                let is_due = is_due(told.get(&key), &now, waiting, Instant::now());
                if is_known && is_due && tell_of(&parts, &status.queue, *partition, of, waiting) {
                    told.insert(key, (now, Instant::now()));
                }
            }
        }
    }
}

/// Whether a partition is to be told of, of which that was told last.
fn is_due(told: Option<&(Told, Instant)>, now: &Told, waiting: u64, at: Instant) -> bool {
    told.is_none_or(|(before, told)| {
        before != now || waiting > 0 && at.duration_since(*told) >= TELL_AGAIN
    })
}

/// How many messages of a partition wait, with those that are scheduled.
fn waiting(status: &PartitionStatus, scheduled: u64) -> u64 {
    let in_queue = status.end.saturating_sub(status.committed + status.completed_ahead);
    in_queue + status.parked + scheduled
}

/// Answers whether the event is kept.
fn tell_of(
    parts: &Parts,
    queue: &Name,
    partition: u32,
    status: &PartitionStatus,
    waiting: u64,
) -> bool {
    let number = |number: u64| i64::try_from(number).ok();
    let mut event = parts.emitter.event(Kind::Queue, Outcome::Success);
    event.service_name = Some("weir-mediator".into());
    event.delivery_queue = Some(queue.to_string().into());
    event.delivery_partition = Some(i64::from(partition));
    event.delivery_owner_epoch = number(status.epoch);
    event.delivery_logged = number(status.end);
    event.delivery_waiting = number(waiting);
    let kept = parts.emitter.emit(event);
    if let Err(error) = &kept {
        tracing::debug!(%queue, %error, "how many messages wait is told later");
    }
    kept.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A queue that stands still says so each minute; one that is empty has nothing to say.
    #[test]
    fn what_waits_is_told_of_again() {
        let (now, later): (Told, Told) = ((1, 10, 3, 0, 0, 0), (1, 11, 3, 0, 0, 0));
        let began = Instant::now();
        let told = Some(&(now, began));
        let is_due = |now, waiting, seconds| {
            is_due(told, now, waiting, began + Duration::from_secs(seconds))
        };
        assert!(super::is_due(None, &now, 0, began));
        assert!(is_due(&later, 8, 2));
        assert!(!is_due(&now, 7, 59));
        assert!(is_due(&now, 7, 60));
        assert!(!is_due(&now, 0, 3_600));
    }
}
