use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ingest::emit::Emitter;
use ingest::registry::{Proposer, View};
use mediator::endpoint::http::Server;
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Config, api};

const SERVER: Server =
    Server { name: "admin API", connections_max: 256, stop_timeout: Duration::from_secs(10) };

/// What the admin API works with.
#[derive(Debug, Clone)]
pub struct Parts {
    /// The configuration as it is.
    pub view: View,
    /// The way to change it.
    pub proposer: Proposer,
    /// Where administrative events go.
    pub emitter: Emitter,
    /// What callers prove themselves by.
    pub token: TokenHash,
}

/// SHA-256 of the admin token.
#[derive(Clone, Copy)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// The hash of a token.
    pub fn of(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }

    /// Whether a token is the one. Hashes are compared, so the time that it takes
    /// tells nothing of the token.
    pub(super) fn is_of(&self, token: &str) -> bool {
        Self::of(token).0 == self.0
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hidden]")
    }
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
        let router = api::router(Arc::new(parts));
        let task = tokio::spawn(SERVER.run(listener, router, stop.clone()));
        tracing::info!(%address, "admin API listens");
        Ok(Self { address, stop, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no new requests, and waits for those under way.
    pub async fn shutdown(self) {
        self.stop.cancel();
        let _ = self.task.await;
    }
}
