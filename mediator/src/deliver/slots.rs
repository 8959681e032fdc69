//! How many attempts of a queue are under way on this node.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Slots that all partitions of a queue share. Their number may change while they
/// are in use: too many then end with their attempts.
#[derive(Debug, Clone)]
pub(super) struct Slots(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    semaphore: Arc<Semaphore>,
    count: Mutex<Count>,
}

#[derive(Debug)]
struct Count {
    max: usize,
    /// Slots in use that are not to be given back.
    surplus: usize,
}

/// The right to one attempt, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Slot {
    permit: Option<OwnedSemaphorePermit>,
    shared: Arc<Shared>,
}

impl Slots {
    pub(super) fn new(max: usize) -> Self {
        let semaphore = Arc::new(Semaphore::new(max));
        Self(Arc::new(Shared { semaphore, count: Mutex::new(Count { max, surplus: 0 }) }))
    }

    pub(super) fn set_max(&self, max: usize) {
        let mut count = self.0.count.lock();
        if max >= count.max {
            let kept = count.surplus.min(max - count.max);
            count.surplus -= kept;
            self.0.semaphore.add_permits(max - count.max - kept);
        } else {
            let gone = self.0.semaphore.forget_permits(count.max - max);
            count.surplus += count.max - max - gone;
        }
        count.max = max;
    }

    /// Waits for a slot.
    pub(super) async fn take(&self) -> Slot {
        let permit = self.0.semaphore.clone().acquire_owned().await;
        let permit = permit.expect("the semaphore is never closed");
        Slot { permit: Some(permit), shared: self.0.clone() }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut count = self.shared.count.lock();
        if count.surplus > 0 {
            count.surplus -= 1;
            if let Some(permit) = self.permit.take() {
                permit.forget();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn take(slots: &Slots) -> Option<Slot> {
        slots.take().now_or_never()
    }

    #[tokio::test]
    async fn the_number_may_change_while_slots_are_in_use() {
        let slots = Slots::new(3);
        let mut taken: Vec<Slot> = (0..3).map(|_| take(&slots).unwrap()).collect();
        assert!(take(&slots).is_none());
        slots.set_max(1);
        taken.pop();
        taken.pop();
        assert!(take(&slots).is_none(), "one is in use still");
        slots.set_max(2);
        taken.push(take(&slots).unwrap());
        assert!(take(&slots).is_none());
        taken.clear();
        let all: Vec<_> = (0..2).map(|_| take(&slots).unwrap()).collect();
        assert!(take(&slots).is_none());
        drop(all);
        slots.set_max(4);
        let all: Vec<_> = (0..4).map(|_| take(&slots).unwrap()).collect();
        assert!(take(&slots).is_none());
        drop(all);
    }
}
