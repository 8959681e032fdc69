//! The server of every role that is not the data plane: hyper, bounded.
//!
//! ```text
//!  accept ─► place of the server, place of the address ─► Watched ─► hyper ─► service
//!    └ waits        └ 503 overloaded                         └ what is no HTTP is told
//! ```
//!
//! What holds: what goes wrong is told as a problem with a code, by an event too, also
//! where hyper or axum would answer by a bare status. A client may close its side once
//! it has sent its request. An answer that comes before the whole of its request was read
//! says that the connection ends with it, and can be read whatever is still sent.
//!
//! Limits: connections at a time, and of one address, as configured; more of all wait
//! to be accepted, more of one are refused. A head 64 KiB and `head_timeout`, a body
//! for a router 30 s; a client that takes nothing of its answer for `write_timeout` is
//! let go; what it sends on after its last answer is read for 5 s; a stop waits
//! `stop_timeout` for the requests under way, and breaks them off. HTTP/1.1 only.

mod bare;
mod busy;
mod intake;
mod places;
mod slow;
mod teller;
mod watched;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router, middleware};
use http::header::{CONNECTION, HOST, HeaderValue};
use http::{HeaderMap, Request, Response, Version};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::busy::{Answering, Busy};
pub use self::intake::RequestBody;
pub use self::places::{Place, Places};
pub use self::teller::Teller;
use self::watched::Watched;
use super::{Code, Lingering, WriteTimeout};

const HEAD_BYTES_MAX: usize = 64 * 1024;
/// The pause when no connection can be taken, as when no file can be opened.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a request is told that [`has_one_host`] is not true of.
pub const ONE_HOST: &str = "one Host header is needed";

/// Whether a request names its host once, as it has to (RFC 9112, section 3.2): who looks at
/// another Host than the next in line may be led astray.
pub fn has_one_host(version: Version, headers: &HeaderMap) -> bool {
    match headers.get_all(HOST).iter().count() {
        0 => version == Version::HTTP_10,
        hosts => hosts == 1,
    }
}

/// The other end of a connection, as an extension of a router's requests.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

/// How a server is set up.
#[derive(Debug, Clone, Copy)]
pub struct Server {
    /// Whose it is, for the log of the process.
    pub name: &'static str,
    /// The most connections at a time.
    pub connections_max: usize,
    /// The most of them from one address.
    pub connections_per_address_max: usize,
    /// How long the head of a request may take, also the first one.
    pub head_timeout: Duration,
    /// How long a client may take nothing of its answer.
    pub write_timeout: Duration,
    /// How long a stop waits for the requests under way.
    pub stop_timeout: Duration,
}

impl Server {
    /// Serves a router until `stop`, and then until the requests under way have ended.
    /// What it answers by a bare status is made a problem, and told.
    pub async fn route(
        self,
        listener: TcpListener,
        router: Router,
        teller: Teller,
        stop: CancellationToken,
    ) {
        let complete = middleware::from_fn_with_state(teller.clone(), bare::complete);
        let router = router.layer(complete);
        let serve = |peer: Peer| TowerToHyperService::new(router.clone().layer(Extension(peer)));
        self.run(listener, serve, teller, stop).await;
    }

    /// Serves until `stop`, and then until the requests under way have ended. `serve`
    /// makes the service of a connection.
    pub async fn run<S, B>(
        self,
        listener: TcpListener,
        serve: impl Fn(Peer) -> S,
        teller: Teller,
        stop: CancellationToken,
    ) where
        S: Service<Request<RequestBody>, Response = Response<B>, Error = Infallible>,
        S: Send + Sync + 'static,
        S::Future: Send,
        B: Body + Send + Unpin + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(self.head_timeout)
            .max_header_size(HEAD_BYTES_MAX)
            .half_close(true);
        let room = Arc::new(Semaphore::new(self.connections_max));
        let places = Places::new(self.connections_per_address_max);
        let (graceful, connections) = (GracefulShutdown::new(), TaskTracker::new());
        let broken = CancellationToken::new();
        // Also when this is dropped.
        let _all_broken = broken.clone().drop_guard();
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
            let Some(place) = places.take(peer.ip()) else {
                refuse(stream, peer, &teller);
                continue;
            };
            let busy = Arc::<Busy>::default();
            let stream = WriteTimeout::new(Lingering::new(stream), self.write_timeout);
            let stream = Watched::new(stream, busy.clone(), teller.clone(), peer.ip());
            let service = watched(serve(Peer(peer)), busy);
            let connection = builder.serve_connection(TokioIo::new(stream), service);
            let (connection, broken) = (graceful.watch(connection), broken.clone());
            let server = self.name;
            connections.spawn(async move {
                tokio::select! {
                    ended = connection => if let Err(error) = ended {
                        tracing::debug!(%error, server, "a connection broke off");
                    },
                    () = broken.cancelled() => {}
                }
                drop((permit, place));
            });
        }
        drop(listener);
        connections.close();
        let ended = async {
            graceful.shutdown().await;
            connections.wait().await;
        };
        if timeout(self.stop_timeout, ended).await.is_err() {
            let count = connections.len();
            tracing::warn!(server = self.name, count, "requests were still under way at the stop");
        }
    }
}

/// A service whose requests under way are known.
fn watched<S, B>(
    service: S,
    busy: Arc<Busy>,
) -> impl Service<
    Request<Incoming>,
    Response = Response<Answering<B>>,
    Error = Infallible,
    Future: Send + 'static,
>
where
    S: Service<Request<RequestBody>, Response = Response<B>, Error = Infallible>,
    S: Send + Sync + 'static,
    S::Future: Send,
    B: Body + Send + Unpin + 'static,
{
    let service = Arc::new(service);
    service_fn(move |request: Request<Incoming>| {
        let (under_way, service) = (busy.begin(), service.clone());
        async move {
            let (parts, body) = request.into_parts();
            let (body, read) = RequestBody::new(body);
            let mut answer = service.call(Request::from_parts(parts, body)).await?;
            if !read.is_whole() {
                answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(answer.map(|body| Answering::new(body, under_way)))
        }
    })
}

/// Says that there is no place, and closes. The client may have no time to read it.
fn refuse(stream: TcpStream, peer: SocketAddr, teller: &Teller) {
    let raw = teller.refuse_connection(peer.ip(), Code::Overloaded);
    tokio::spawn(async move {
        let mut stream = stream;
        // Its buffer is empty, so nothing waits here.
        let _ = stream.write_all(&raw).await;
        let _ = stream.shutdown().await;
    });
}
