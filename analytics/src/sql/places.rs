use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use ingest::registry::Name;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::{Error, Limits};

/// Who may run at once: so many of all, of which users leave one to who runs the node, and so
/// many of one user, who waits first until one of its own has ended, where it takes no place
/// from others.
#[derive(Debug)]
pub(super) struct Places {
    all: Arc<Semaphore>,
    of_users: Arc<Semaphore>,
    /// Of those who have one or wait.
    users: Mutex<HashMap<Name, Weak<Semaphore>>>,
    per_user: usize,
    wait_max: Duration,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    _of_all: OwnedSemaphorePermit,
    /// The permit keeps the user's own places.
    _of_user: Option<[OwnedSemaphorePermit; 2]>,
}

impl Places {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            all: Arc::new(Semaphore::new(limits.at_once_max)),
            of_users: Arc::new(Semaphore::new(limits.at_once_max.saturating_sub(1).max(1))),
            users: Mutex::default(),
            per_user: limits.at_once_per_user_max,
            wait_max: Duration::from_millis(limits.time_ms),
        }
    }

    /// A place for a query of a user, or of who has the node's token.
    pub(super) async fn take(&self, user: Option<&Name>) -> Result<Place, Error> {
        let taken = async {
            let of_user = match user {
                Some(user) => {
                    let own = permit(self.of(user)).await;
                    Some([own, permit(self.of_users.clone()).await])
                }
                None => None,
            };
            Place { _of_all: permit(self.all.clone()).await, _of_user: of_user }
        };
        timeout(self.wait_max, taken).await.map_err(|_| Error::Busy)
    }

    fn of(&self, user: &Name) -> Arc<Semaphore> {
        let mut users = self.users.lock();
        if let Some(places) = users.get(user).and_then(Weak::upgrade) {
            return places;
        }
        users.retain(|_, places| places.strong_count() > 0);
        let places = Arc::new(Semaphore::new(self.per_user));
        users.insert(user.clone(), Arc::downgrade(&places));
        places
    }
}

async fn permit(of: Arc<Semaphore>) -> OwnedSemaphorePermit {
    of.acquire_owned().await.expect("nobody closes it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_user_waits_for_its_own_and_takes_no_place_from_others() {
        let limits = Limits { at_once_max: 3, at_once_per_user_max: 1, ..Limits::default() };
        let places = Places::new(&limits);
        let [ann, bob, eve] = ["ann", "bob", "eve"].map(|name| Name::new(name).unwrap());
        let first = places.take(Some(&ann)).await.unwrap();
        assert!(matches!(places.take(Some(&ann)).await, Err(Error::Busy)));
        let other = places.take(Some(&bob)).await.unwrap();
        assert!(matches!(places.take(Some(&eve)).await, Err(Error::Busy)));
        let _admin = places.take(None).await.unwrap();
        assert!(matches!(places.take(None).await, Err(Error::Busy)));
        drop(other);
        drop(first);
        assert_eq!(places.all.available_permits(), 2);
        let _again = places.take(Some(&ann)).await.unwrap();
        assert_eq!(places.users.lock().len(), 1, "who is gone is forgotten");
    }
}
