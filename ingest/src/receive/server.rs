use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::sender::Senders;
use super::{Config, SERVICE, WAIT_S, api, grpc};
use crate::emit::Emitter;
use crate::http::{Code, Failure, Server, Teller};
use crate::registry::View;

const SERVER: Server = Server {
    name: "collector",
    connections_max: 1_024,
    connections_per_address_max: 256,
    head_timeout: Duration::from_secs(10),
    write_timeout: Duration::from_secs(30),
    stop_timeout: STOP_WITHIN,
};
/// How long a stop waits for requests.
const STOP_WITHIN: Duration = Duration::from_secs(10);
/// What a stop may take besides.
const STOP_REST: Duration = Duration::from_secs(1);
/// The most requests at a time.
const REQUESTS_MAX: usize = 16;
/// As how many of them one of OTLP counts: what it unpacks to in memory may be a hundred times
/// what was sent.
pub(super) const PLACES_OF_LOGS: u32 = 4;

/// What the collector works with.
#[derive(Debug, Clone)]
pub struct Parts {
    /// The applications that may send.
    pub view: View,
    /// Where the events go.
    pub emitter: Emitter,
}

/// What all requests share.
pub(super) struct Shared {
    pub(super) senders: Senders,
    pub(super) emitter: Emitter,
    room: Arc<Semaphore>,
}

impl Shared {
    /// So many places for a request.
    ///
    /// # Errors
    /// If there is none, or no room for its events: the sender is to wait.
    pub(super) fn room(&self, places: u32) -> Result<OwnedSemaphorePermit, Failure> {
        if let Err(error) = self.emitter.admit() {
            tracing::warn!(%error, "events of others are refused");
            return Err(Failure::waiting(Code::EventsUnavailable, WAIT_S));
        }
        let place = self.room.clone().try_acquire_many_owned(places);
        place.map_err(|_| Failure::waiting(Code::Overloaded, WAIT_S))
    }
}

/// Why the collector did not start.
#[derive(Debug, thiserror::Error)]
#[error("collector: cannot listen on {address}: {source}; free the port, or set {setting}")]
pub struct StartError {
    address: SocketAddr,
    setting: &'static str,
    source: io::Error,
}

/// The running collector.
#[derive(Debug)]
pub struct Collector {
    address: SocketAddr,
    grpc_address: Option<SocketAddr>,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

impl Collector {
    /// Listens and serves.
    ///
    /// # Errors
    /// If an address cannot be listened on; nothing runs then.
    pub async fn start(config: &Config, parts: Parts) -> Result<Self, StartError> {
        let (listener, address) = bind(config.address, "collector.address").await?;
        let grpc = match config.grpc_address {
            Some(address) => Some(bind(address, "collector.grpc_address").await?),
            None => None,
        };
        let stop = CancellationToken::new();
        let Parts { view, emitter } = parts;
        let teller = Teller { emitter: emitter.clone(), service: SERVICE };
        let senders = Senders::new(view, emitter.clone());
        let room = Arc::new(Semaphore::new(REQUESTS_MAX));
        let shared = Arc::new(Shared { senders, emitter, room });
        let router = api::router(shared.clone());
        let mut tasks = vec![tokio::spawn(SERVER.route(listener, router, teller, stop.clone()))];
        tracing::info!(%address, "collector listens");
        let grpc_address = grpc.as_ref().map(|(_, address)| *address);
        if let Some((listener, address)) = grpc {
            tasks.push(tokio::spawn(grpc::serve(listener, shared, stop.clone())));
            tracing::info!(%address, "collector listens for gRPC");
        }
        Ok(Self { address, grpc_address, stop, tasks })
    }

    /// Where it listens for HTTP.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens for gRPC.
    pub fn grpc_address(&self) -> Option<SocketAddr> {
        self.grpc_address
    }

    /// Takes no new requests, and waits for those under way.
    pub async fn shutdown(self) {
        self.stop.cancel();
        let deadline = Instant::now() + STOP_WITHIN + STOP_REST;
        for mut task in self.tasks {
            match timeout_at(deadline, &mut task).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => tracing::error!("the collector ended by a defect"),
                Err(_) => task.abort(),
            }
        }
    }
}

async fn bind(
    address: SocketAddr,
    setting: &'static str,
) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |source| StartError { address, setting, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}
