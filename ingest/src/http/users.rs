use std::sync::{Arc, LazyLock};

use tokio::sync::Semaphore;

use super::{Code, Failure};
use crate::registry::kind::{KEY_PREFIX, User};
use crate::registry::{Name, Snapshot, View};
use crate::scram::{ITERATIONS, Verifier};

/// How many passwords are hashed at once: each costs a good part of a second of a processor.
const HASHED_AT_ONCE: usize = 1;
/// How many wait for it. Beyond them a caller is told to come again.
const HASHING_MAX: usize = 16;

/// Who is let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// Who has the node's token: whoever runs it.
    Admin,
    /// A user of the registry.
    User(Name),
}

/// The users of the registry, and what they prove themselves by.
#[derive(Debug)]
pub(super) struct Users {
    view: View,
    places: Arc<Semaphore>,
    hashing: Arc<Semaphore>,
}

impl Users {
    pub(super) fn new(view: View) -> Self {
        let (places, hashing) = (Semaphore::new(HASHING_MAX), Semaphore::new(HASHED_AT_ONCE));
        Self { view, places: Arc::new(places), hashing: Arc::new(hashing) }
    }

    /// The user of this name, if there is one.
    pub(super) fn find(&self, name: &str) -> Option<Name> {
        let name = Name::new(name).ok()?;
        self.view.snapshot().get::<User>(&name).is_some().then_some(name)
    }

    /// Whether a secret is a key of a user.
    pub(super) fn has_key(&self, name: &str, secret: &str) -> bool {
        User::has_key(user(&self.view.snapshot(), name), secret)
    }

    /// Whether a secret is the password of a user. It takes as long if there is none.
    ///
    /// # Errors
    /// [`Code::Overloaded`] if too many are looked at already.
    pub(super) async fn has_password(&self, name: &str, secret: &str) -> Result<bool, Failure> {
        static NOBODYS: LazyLock<Verifier> = LazyLock::new(|| Verifier::of("", ITERATIONS));
        if secret.starts_with(KEY_PREFIX) {
            return Ok(false);
        }
        let busy = || Failure::waiting(Code::Overloaded, 1);
        let _place = self.places.clone().try_acquire_owned().map_err(|_| busy())?;
        let turn = self.hashing.clone().acquire_owned().await.expect("nobody closes it");
        let verifier = user(&self.view.snapshot(), name).and_then(User::verifier);
        let secret = secret.to_owned();
        let hashed = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            match verifier {
                Some(verifier) => verifier.is_of(&secret),
                None => {
                    NOBODYS.is_of(&secret);
                    false
                }
            }
        });
        hashed.await.map_err(|_| Code::InternalError.into())
    }

    /// What is kept of the password of a user.
    pub(super) fn verifier(&self, name: &str) -> Option<Verifier> {
        user(&self.view.snapshot(), name).and_then(User::verifier)
    }
}

fn user<'a>(snapshot: &'a Snapshot, name: &str) -> Option<&'a User> {
    snapshot.get::<User>(&Name::new(name).ok()?)
}
