use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ingest::decision;
use ingest::emit::Emitter;
use ingest::http::{Door, Server, Teller, TokenHash};
use ingest::registry::{Proposer, View};
use mediator::deliver::{Control, DeadLetters, History};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Config, api};
use crate::keys::Passphrase;

const SERVER: Server = Server {
    name: "admin API",
    connections_max: 256,
    connections_per_address_max: 32,
    head_timeout: Duration::from_secs(10),
    write_timeout: Duration::from_secs(30),
    stop_timeout: STOP_WITHIN,
};
/// How long a stop waits for requests, and for applies whose callers have gone.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// What the admin API works with.
#[derive(Clone)]
pub struct Parts {
    /// The configuration as it is.
    pub view: View,
    /// The way to change it.
    pub proposer: Proposer,
    /// Where administrative events go.
    pub emitter: Emitter,
    /// The dead letters of the queues.
    pub dead_letters: DeadLetters,
    /// What has ended in the queues, and is kept.
    pub history: History,
    /// Decisions against callers.
    pub decisions: decision::Desk,
    /// What is decided of the queues while they run.
    pub control: Control,
    /// What opens the signing keys: one that it does not open is refused.
    pub passphrase: Passphrase,
    /// What callers prove themselves by.
    pub token: TokenHash,
}

/// What all requests share.
pub(super) struct Shared {
    pub(super) parts: Parts,
    /// Applies and settlings under way.
    pub(super) applies: TaskTracker,
    /// Set at the stop: no verdict is asked for again.
    pub(super) stop: CancellationToken,
}

/// Why the admin API did not start.
#[derive(Debug, thiserror::Error)]
#[error("admin API: cannot listen on {address}: {source}; free the port, or set manager.address")]
pub struct StartError {
    address: SocketAddr,
    source: io::Error,
}

/// The running admin API.
#[derive(Debug)]
pub struct Manager {
    address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<()>,
    applies: TaskTracker,
}

impl Manager {
    /// Listens and serves.
    ///
    /// # Errors
    /// If the address cannot be listened on.
    pub async fn start(config: &Config, parts: Parts) -> Result<Self, StartError> {
        let failed = |source| StartError { address: config.address, source };
        let listener = TcpListener::bind(config.address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let stop = CancellationToken::new();
        let applies = TaskTracker::new();
        let teller = Teller { emitter: parts.emitter.clone(), service: super::SERVICE };
        let door = Door::new(parts.token, parts.emitter.clone(), super::SERVICE);
        let shared = Shared { parts, applies: applies.clone(), stop: stop.clone() };
        let router = door.guard(api::router(Arc::new(shared)));
        let task = tokio::spawn(SERVER.route(listener, router, teller, stop.clone()));
        tracing::info!(%address, "admin API listens");
        Ok(Self { address, stop, task, applies })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no new requests, and waits for those under way, and for the applies whose
    /// callers have gone.
    pub async fn shutdown(self) {
        self.stop.cancel();
        if self.task.await.is_err() {
            tracing::error!("the admin API ended by a defect");
        }
        self.applies.close();
        if timeout(STOP_WITHIN, self.applies.wait()).await.is_err() {
            let count = self.applies.len();
            tracing::warn!(count, "change sets had no verdict at the stop");
        }
    }
}
