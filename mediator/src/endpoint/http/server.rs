//! The server of every role that is not the data plane: axum on hyper, bounded.
//!
//! Limits: connections at a time, as configured, more wait to be accepted; a head
//! has 10 s; a stop waits `stop_timeout` for the requests under way. HTTP/1.1 only.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// The pause when no connection can be taken, as when no file can be opened.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The other end of a connection, as an extension of its requests.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

/// How a server is set up.
#[derive(Debug, Clone, Copy)]
pub struct Server {
    /// Whose it is, for the log of the process.
    pub name: &'static str,
    /// The most connections at a time.
    pub connections_max: usize,
    /// How long a stop waits for the requests under way.
    pub stop_timeout: Duration,
}

impl Server {
    /// Serves until `stop`, and then until the requests under way have ended.
    pub async fn run(self, listener: TcpListener, router: Router, stop: CancellationToken) {
        // With HTTP/2 too, it would wait for a first byte without a timeout, to see
        // which of them it is.
        let mut builder = Builder::new(TokioExecutor::new()).http1_only();
        builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
        let room = Arc::new(Semaphore::new(self.connections_max));
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
                    tracing::warn!(%error, server = self.name, "cannot take a connection");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let service = TowerToHyperService::new(router.clone().layer(Extension(Peer(peer))));
            let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
            let connection = graceful.watch(connection);
            let server = self.name;
            tokio::spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%error, server, "a connection broke off");
                }
                drop(permit);
            });
        }
        drop(listener);
        if timeout(self.stop_timeout, graceful.shutdown()).await.is_err() {
            tracing::warn!(server = self.name, "requests were still under way at the stop");
        }
    }
}
