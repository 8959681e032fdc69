//! A data-plane thread: what its requests share, and how it begins and ends.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ingest::emit::Emitter;
use ingest::event::{Clock, Event, Kind, Outcome};
use ingest::http::{Code, TokenHash};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::Acceptor;
use super::admission::Admission;
use super::connection::{Peer, serve_connection};
use super::record::Record;
use crate::Config;
use crate::auth::Verifier;
use crate::decisions::EnforcedReader;
use crate::gather::Gathered;
use crate::publish::{Table, TableReader};
use crate::upstream::{Connector, Upstreams};

/// How often idle connections to upstreams are looked at.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);
/// How long nothing is accepted after the machine could not give a connection, as
/// when it is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What all requests of a thread share. Nothing of it is another thread's, but what
/// is read only.
pub(super) struct Thread {
    pub(super) config: Arc<Config>,
    pub(super) emitter: Emitter,
    /// Those of all threads, this one's among them.
    pub(super) emitters: Arc<[Emitter]>,
    /// Of the credential of replays; none: there are none here.
    pub(super) replay_token: Option<TokenHash>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) upstreams: Upstreams,
    /// Never borrowed across an await.
    pub(super) admission: RefCell<Admission>,
    /// How many requests are under way.
    pub(super) in_flight: Rc<Cell<usize>>,
    /// Set when what is still under way is dropped, so that no client is blamed for it.
    pub(super) is_cut_off: Cell<bool>,
    /// Set when no further connection is taken.
    pub(super) draining: CancellationToken,
    tables: RefCell<TableReader>,
    random: RefCell<fastrand::Rng>,
    /// Events that were written, to be filled again: an event is 3 KB, which the
    /// allocator takes its time for.
    #[expect(clippy::vec_box, reason = "the boxes are handed out and come back")]
    events: RefCell<Vec<Box<Event>>>,
}

/// How many written events are kept.
const EVENTS_KEPT_MAX: usize = 256;

/// A bound port, as one thread has it.
pub(crate) struct Bound {
    pub(crate) listener: std::net::TcpListener,
    /// None if it speaks no TLS.
    pub(crate) acceptor: Option<Acceptor>,
}

/// How many connections of a listener the kernel may hold before they are accepted.
pub(crate) const BACKLOG_MAX: usize = 1_024;

/// What a thread is made of.
pub(crate) struct ThreadParts {
    pub(crate) config: Arc<Config>,
    pub(crate) emitter: Emitter,
    pub(crate) emitters: Arc<[Emitter]>,
    pub(crate) replay_token: Option<TokenHash>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) connector: Connector,
    pub(crate) tables: TableReader,
    pub(crate) verifier: Verifier,
    pub(crate) decisions: EnforcedReader,
    pub(crate) bound: Vec<Bound>,
    /// Of this thread alone, so that looking at it contends with nobody.
    pub(crate) draining: CancellationToken,
}

impl Thread {
    fn new(parts: ThreadParts) -> Self {
        let ThreadParts {
            config,
            emitter,
            emitters,
            replay_token,
            clock,
            connector,
            tables,
            verifier,
            decisions,
            draining,
            bound: _,
        } = parts;
        Self {
            config,
            emitter,
            emitters,
            replay_token,
            clock,
            upstreams: Upstreams::new(connector),
            admission: RefCell::new(Admission::new(verifier, decisions)),
            in_flight: Rc::default(),
            is_cut_off: Cell::new(false),
            draining,
            tables: RefCell::new(tables),
            random: RefCell::new(fastrand::Rng::new()),
            events: RefCell::default(),
        }
    }

    /// The configuration of now. A request asks once.
    pub(super) fn table(&self) -> Arc<Table> {
        self.tables.borrow_mut().load().clone()
    }

    /// An event of a request, of now.
    pub(super) fn event(&self) -> Box<Event> {
        let (kind, outcome) = (Kind::Request, Outcome::ClientClosed);
        match self.events.borrow_mut().pop() {
            Some(mut kept) => {
                self.emitter.renew(&mut kept, kind, outcome);
                kept
            }
            None => Box::new(self.emitter.event(kind, outcome)),
        }
    }

    /// Takes an event back that is of no more use.
    pub(super) fn take_back(&self, event: Box<Event>) {
        let mut events = self.events.borrow_mut();
        if events.len() < EVENTS_KEPT_MAX {
            events.push(event);
        }
    }

    /// 64 random bits, for ids; not for secrets.
    pub(super) fn random(&self) -> u64 {
        self.random.borrow_mut().u64(..)
    }
}

/// Serves until `draining` is set and the connections have ended, or the time for
/// that is over. `ready` is told whether it serves.
pub(crate) fn run_thread(
    mut parts: ThreadParts,
    ready: tokio::sync::oneshot::Sender<io::Result<()>>,
) {
    let bound = std::mem::take(&mut parts.bound);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default());
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return drop(ready.send(Err(error))),
    };
    // What is still open when this ends is dropped with the runtime.
    runtime.block_on(async move {
        let listeners = bound.into_iter().map(|Bound { listener, acceptor }| {
            listener.set_nonblocking(true)?;
            Ok((TcpListener::from_std(listener)?, acceptor))
        });
        let listeners = match listeners.collect::<io::Result<Vec<_>>>() {
            Ok(listeners) => listeners,
            Err(error) => return drop(ready.send(Err(error))),
        };
        let thread = Rc::new(Thread::new(parts));
        drop(ready.send(Ok(())));
        serve_until_drained(thread, listeners).await;
    });
}

async fn serve_until_drained(thread: Rc<Thread>, listeners: Vec<(TcpListener, Option<Acceptor>)>) {
    let connections_max = thread.config.limits.connections_max;
    let connections = Arc::new(Semaphore::new(connections_max));
    let places = connections_max + listeners.len() * BACKLOG_MAX;
    let places = u32::try_from(places).expect("the limits are some million at most");
    let upstreams = thread.upstreams.clone();
    let sweeping = spawn_local(async move {
        loop {
            sleep(SWEEP_INTERVAL).await;
            upstreams.sweep();
        }
    });
    let accepting = listeners.into_iter().map(|(listener, acceptor)| {
        spawn_local(accept(thread.clone(), listener, acceptor, connections.clone()))
    });
    for task in accepting.collect::<Vec<_>>() {
        if let Err(error) = task.await {
            tracing::error!(%error, "a listener ended");
        }
    }
    // All permits are here again once the last connection has ended.
    if timeout(thread.config.timeouts.drain(), connections.acquire_many(places)).await.is_err() {
        let requests = thread.in_flight.get();
        tracing::warn!(requests, "requests did not end in time and are cut off");
        thread.is_cut_off.set(true);
    }
    sweeping.abort();
}

/// Takes connections until the thread is draining, and then those that wait already:
/// closing a port with others on it resets what waits there.
///
/// A place is taken once there is a connection for it, so that a listener to which
/// nobody comes keeps none from the others. One connection of each listener may wait
/// for its place here, the rest in the kernel.
async fn accept(
    thread: Rc<Thread>,
    listener: TcpListener,
    acceptor: Option<Acceptor>,
    connections: Arc<Semaphore>,
) {
    let serve = |stream, address, permit| {
        let connection = serve_stream(thread.clone(), stream, address, acceptor.clone(), permit);
        drop(spawn_local(connection));
    };
    let mut was_well = true;
    let mut waiting = None;
    loop {
        let accepted = tokio::select! {
            biased;
            () = thread.draining.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                if std::mem::replace(&mut was_well, false) {
                    tracing::warn!(%error, "a connection cannot be accepted");
                }
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        was_well = true;
        tokio::select! {
            biased;
            permit = connections.clone().acquire_owned() => {
                serve(stream, address, permit.expect("it is never closed"));
            }
            () = thread.draining.cancelled() => {
                waiting = Some((stream, address));
                break;
            }
        }
    }
    // For these there is a place, also if all others are taken.
    connections.add_permits(BACKLOG_MAX);
    if let Some((stream, address)) = waiting
        && let Ok(permit) = connections.clone().try_acquire_owned()
    {
        serve(stream, address, permit);
    }
    let Ok(listener) = listener.into_std() else { return };
    while let Ok(permit) = connections.clone().try_acquire_owned()
        && let Ok((stream, address)) = listener.accept()
    {
        let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
        if let Ok(stream) = stream {
            serve(stream, address, permit);
        }
    }
}

async fn serve_stream(
    thread: Rc<Thread>,
    stream: TcpStream,
    address: SocketAddr,
    acceptor: Option<Acceptor>,
    _permit: OwnedSemaphorePermit,
) {
    // A small answer must not wait for the acknowledgement of the one before.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let mut peer = Peer::new(&thread, address);
    let Some(acceptor) = acceptor else {
        return serve_connection(thread, peer, Gathered(stream)).await;
    };
    match timeout(thread.config.timeouts.header_read(), acceptor.accept(stream)).await {
        Ok(Ok(stream)) => {
            peer.speaks_tls(super::tls::version(&stream), super::tls::cipher(&stream));
            serve_connection(thread, peer, stream).await;
        }
        Ok(Err(error)) => {
            tracing::debug!(peer = %address, %error, "no TLS with a client");
            // Who opens a connection and closes it, as a load balancer's check does, has
            // asked for nothing.
            if error.kind() != io::ErrorKind::UnexpectedEof {
                refuse_tls(&thread, &peer);
            }
        }
        Err(_) => {
            tracing::debug!(peer = %address, "a TLS handshake took too long");
            refuse_tls(&thread, &peer);
        }
    }
}

/// Tells of a client that no TLS could be spoken with.
fn refuse_tls(thread: &Rc<Thread>, peer: &Peer) {
    // That the event is not kept is logged; there is no answer to break off.
    let _ = Record::begin(thread, peer).refused(Code::TlsFailed, 0);
}
