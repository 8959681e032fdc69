use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use axum::routing::{get, post};
use ingest::decision::Decisions;
use ingest::emit::Emitter;
use ingest::event::Clock;
use ingest::http::{Server, Teller};
use ingest::registry::{Proposer, View};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::signing::Signing;
use super::{Config, Error, Passphrase, first, metadata, token};
use crate::decisions::{Enforced, Enforcer};
use ingest::http::Guesses;

const SERVER: Server = Server {
    name: "key manager",
    connections_max: 1_024,
    connections_per_address_max: 256,
    head_timeout: Duration::from_secs(10),
    write_timeout: Duration::from_secs(30),
    stop_timeout: Duration::from_secs(10),
};

/// What the key manager works with.
pub struct Parts {
    /// The registry: applications and keys.
    pub view: View,
    /// Who is given no tokens.
    pub decisions: Decisions,
    /// Who the first key is proposed by.
    pub proposer: Proposer,
    /// What opens the signing keys.
    pub passphrase: Passphrase,
    /// Where its events go.
    pub emitter: Emitter,
    /// What tells it the time.
    pub clock: Arc<dyn Clock>,
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "parts with {:?}", self.emitter)
    }
}

/// What all requests share.
pub(super) struct Shared {
    pub(super) config: Config,
    pub(super) parts: Parts,
    pub(super) signing: Signing,
    pub(super) guesses: Guesses,
    pub(super) enforced: Arc<ArcSwap<Enforced>>,
}

/// A key manager that runs, until it is shut down or dropped.
#[derive(Debug)]
pub struct KeyManager {
    address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl KeyManager {
    /// Listens, sees to it that there is an active key, and serves.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn start(config: Config, parts: Parts) -> Result<Self, Error> {
        config.validate().map_err(|faults| Error::Config { faults })?;
        let failed = |source| Error::Listen { address: config.address, source };
        let listener = TcpListener::bind(config.address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        first::ensure_active(&parts.view, &parts.proposer, &parts.passphrase).await?;
        let signing = Signing::new(parts.passphrase.clone());
        if signing.of(&parts.view.snapshot()).active.is_none() {
            return Err(Error::Sealed);
        }
        let guesses = Guesses::default();
        let Parts { view, decisions, clock, .. } = &parts;
        let enforcer = Enforcer::new(decisions.clone(), view.clone(), Vec::new(), clock.clone());
        let enforced = enforcer.current();
        let shared = Arc::new(Shared { config, parts, signing, guesses, enforced });
        let stop = CancellationToken::new();
        tokio::spawn(enforcer.run(stop.clone().cancelled_owned()));
        let teller = Teller { emitter: shared.parts.emitter.clone(), service: "weir-keys" };
        let task = tokio::spawn(SERVER.route(listener, router(shared), teller, stop.clone()));
        tracing::info!(%address, "key manager listens");
        Ok(Self { address, stop, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more connections and waits for the requests under way, for 10 s.
    pub async fn shutdown(mut self) {
        self.stop.cancel();
        if (&mut self.task).await.is_err() {
            tracing::error!("the key manager ended by a defect");
        }
    }
}

impl Drop for KeyManager {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/oauth2/token", post(token::token))
        .route("/oauth2/jwks", get(metadata::jwks))
        .route("/.well-known/oauth-authorization-server", get(metadata::metadata))
        .route("/health", get(metadata::health))
        .with_state(shared)
}
