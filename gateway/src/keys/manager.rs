use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::routing::{get, post};
use axum::{Extension, Router};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use ingest::emit::Emitter;
use ingest::event::Clock;
use ingest::registry::{Proposer, View};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::guesses::Guesses;
use super::signing::Signing;
use super::{Config, Error, first, metadata, token};

const CONNECTIONS_MAX: usize = 1_024;
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// The pause when no connection can be taken, as when no file can be opened.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the key manager works with.
pub struct Parts {
    /// The registry: applications and keys.
    pub view: View,
    /// Who the first key is proposed by.
    pub proposer: Proposer,
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
}

/// Where a request comes from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) SocketAddr);

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
        first::ensure_active(&parts.view, &parts.proposer).await?;
        let (signing, guesses) = (Signing::default(), Guesses::default());
        let shared = Arc::new(Shared { config, parts, signing, guesses });
        let stop = CancellationToken::new();
        let task = tokio::spawn(serve(listener, router(shared), stop.clone()));
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

async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    // With HTTP/2 too, it would wait for a first byte without a timeout, to see
    // which of them it is.
    let mut builder = Builder::new(TokioExecutor::new()).http1_only();
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let graceful = GracefulShutdown::new();
    loop {
        let accept = async {
            let permit = room.clone().acquire_owned().await.expect("it is never closed");
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            accepted = accept => accepted,
            () = stop.cancelled() => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "the key manager cannot take a connection");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let service = TowerToHyperService::new(router.clone().layer(Extension(Peer(peer))));
        let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to the key manager broke off");
            }
            drop(permit);
        });
    }
    drop(listener);
    if timeout(STOP_TIMEOUT, graceful.shutdown()).await.is_err() {
        tracing::warn!("requests to the key manager were still under way at its stop");
    }
}
