use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use ingest::emit::Emitter;
use ingest::registry::{Fault, View};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::Config;
use crate::deliver::Queues;
use crate::endpoint::http::{Caller, Server, listen};
use crate::route::{Shared, Table};

/// What the mediator works with.
#[derive(Clone)]
pub struct Parts {
    /// The routes, upstreams and queues.
    pub view: View,
    /// Where its events go.
    pub emitter: Emitter,
    /// Who calls services.
    pub caller: Caller,
    /// Where messages are stored.
    pub queues: Queues,
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").field("emitter", &self.emitter).finish_non_exhaustive()
    }
}

/// Why the mediator did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The settings are wrong.
    #[error("mediator.{}", .faults[0])]
    Config {
        /// What is wrong, at least one.
        faults: Vec<Fault>,
    },
    /// It cannot listen.
    #[error(
        "mediator: cannot listen on {address}: {source}; free the port, or set mediator.address"
    )]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// A mediator that runs, until it is shut down or dropped.
pub struct Mediator {
    address: SocketAddr,
    table: Arc<ArcSwap<Table>>,
    stop: CancellationToken,
    server: JoinHandle<()>,
    follower: JoinHandle<()>,
}

impl Mediator {
    /// Compiles the routes, listens and serves.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(config: Config, parts: Parts) -> Result<Self, StartError> {
        config.validate().map_err(|faults| StartError::Config { faults })?;
        let failed = |source| StartError::Listen { address: config.address, source };
        let listener = TcpListener::bind(config.address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let Parts { view, emitter, caller, queues } = parts;
        let mut changes = view.changes();
        changes.mark_unchanged();
        let table = Arc::new(ArcSwap::from_pointee(Table::compile(view.snapshot(), None)));
        let follower = tokio::spawn(follow(view, changes, table.clone()));
        let shared = Shared { caller, queues, emitter };
        let room = Arc::new(Semaphore::new(config.requests_max));
        let body_timeout = Duration::from_millis(config.body_timeout_ms);
        let router =
            listen::router(listen::State { table: table.clone(), shared, room, body_timeout });
        let stop = CancellationToken::new();
        let server = Server {
            name: "mediator",
            connections_max: config.connections_max,
            stop_timeout: Duration::from_millis(config.drain_ms),
        };
        let server = tokio::spawn(server.run(listener, router, stop.clone()));
        tracing::info!(%address, "mediator listens");
        Ok(Self { address, table, stop, server, follower })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The revision of the registry that new requests see.
    pub fn revision(&self) -> u64 {
        self.table.load().snapshot.revision()
    }

    /// Takes no more connections, and waits for the runs under way.
    pub async fn shutdown(mut self) {
        self.stop.cancel();
        if (&mut self.server).await.is_err() {
            tracing::error!("the mediator ended by a defect");
        }
    }
}

impl fmt::Debug for Mediator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mediator at {} of revision {}", self.address, self.revision())
    }
}

impl Drop for Mediator {
    fn drop(&mut self) {
        self.stop.cancel();
        self.follower.abort();
    }
}

/// Compiles the routes anew with every change of the registry.
async fn follow(
    view: View,
    mut changes: tokio::sync::watch::Receiver<ingest::registry::Status>,
    table: Arc<ArcSwap<Table>>,
) {
    while changes.changed().await.is_ok() {
        let before = table.load_full();
        let snapshot = view.snapshot();
        if snapshot.revision() == before.snapshot.revision() {
            continue;
        }
        let compiled =
            tokio::task::spawn_blocking(move || Table::compile(snapshot, Some(&before))).await;
        match compiled {
            Ok(compiled) => table.store(Arc::new(compiled)),
            Err(_) => tracing::error!("routes could not be compiled; the last ones stay"),
        }
    }
}
