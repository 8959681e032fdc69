//! A client's connection, from its first byte to its last.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use ingest::event::Text;
use ingest::http::{Code, Correlation, Lingering, Problem, WriteTimeout};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, sleep_until};

use super::record::Record;
use super::stack::serve;
use super::thread::Thread;
use super::watch::{Due, Watch, Watched};

/// While draining: how long a connection without a request may still bring one.
const DRAIN_GRACE: Duration = Duration::from_millis(250);

/// The other end of a connection.
pub(super) struct Peer {
    pub(super) ip: IpAddr,
    pub(super) address: Text,
    /// The address as upstreams are told of it.
    pub(super) forwarded_for: HeaderValue,
    pub(super) port: i64,
    /// Whether it is a proxy whose word on the client counts.
    pub(super) is_trusted: bool,
    pub(super) scheme: &'static str,
    pub(super) tls_version: Option<Text>,
    pub(super) tls_cipher: Option<Text>,
}

impl Peer {
    pub(super) fn new(thread: &Thread, address: SocketAddr) -> Self {
        let ip = address.ip().to_canonical();
        let text = ip.to_string();
        Self {
            ip,
            address: std::sync::Arc::<str>::from(text.as_str()).into(),
            forwarded_for: text.try_into().expect("an address is a header's value"),
            port: address.port().into(),
            is_trusted: thread.config.is_trusted(ip),
            scheme: "http",
            tls_version: None,
            tls_cipher: None,
        }
    }

    pub(super) fn speaks_tls(&mut self, version: Option<Text>, cipher: Option<Text>) {
        self.scheme = "https";
        (self.tls_version, self.tls_cipher) = (version, cipher);
    }
}

/// How hyper ended, or was ended.
enum End {
    Done(hyper::Result<()>),
    SlowHead,
}

/// What happens next on a connection.
enum Next {
    Ended(hyper::Result<()>),
    /// The timer.
    Due,
    /// The gateway takes no further requests.
    Draining,
}

/// Serves a connection until it ends.
pub(super) async fn serve_connection<S>(thread: Rc<Thread>, peer: Peer, stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let timeouts = &thread.config.timeouts;
    let stream = WriteTimeout::new(Lingering::new(stream), timeouts.write_idle());
    let (peer, stream) = (Rc::new(peer), Rc::new(RefCell::new(stream)));
    let watch = Watch::new(thread.in_flight.clone());
    let end = {
        let (thread, peer, watch) = (thread.clone(), peer.clone(), watch.clone());
        let watched = Watched::new(stream.clone(), watch.clone(), timeouts.half_closed());
        let io = TokioIo::new(watched);
        let served = thread.clone();
        let seen = watch.clone();
        let service = service_fn(move |request| {
            let (served, peer, seen) = (served.clone(), peer.clone(), seen.clone());
            // At once, since hyper may look for the client's end before it polls.
            let busy = seen.begin();
            async move {
                let answer = serve(served, peer, busy, request).await;
                seen.answering();
                answer
            }
        });
        let mut builder = http1::Builder::new();
        builder.max_header_size(thread.config.limits.header_bytes_max);
        let mut connection = std::pin::pin!(builder.serve_connection(io, service));
        drive(&thread, &watch, connection.as_mut()).await
    };
    let refused = match end {
        End::SlowHead => Some(Code::RequestTimeout),
        End::Done(Err(error)) if watch.automatic().is_some() || error.is_parse() => {
            Some(match watch.automatic() {
                Some(431) => Code::HeaderTooLarge,
                Some(414) => Code::UrlTooLong,
                _ => Code::RequestMalformed,
            })
        }
        End::Done(_) if watch.is_at_rest() && watch.is_head_begun() => Some(Code::ClientClosed),
        End::Done(_) => None,
    };
    let Some(code) = refused else { return };
    let correlation = Correlation::of(&HeaderMap::new(), || thread.random());
    let problem = Problem::from(code);
    let raw = problem.raw(&correlation);
    let mut record = Record::begin(&thread, &peer);
    record.correlation(&correlation);
    if code == Code::ClientClosed {
        return record.failed(code);
    }
    let body_bytes = problem.body(&correlation.id).len() as u64;
    if record.refused(code, body_bytes).is_ok()
        && watch.is_at_rest()
        && let Some(stream) = Rc::into_inner(stream)
    {
        refuse(stream.into_inner(), &raw).await;
    }
}

/// Runs hyper's connection, with the times that are ours to keep.
async fn drive<C>(thread: &Thread, watch: &Watch, mut connection: Pin<&mut C>) -> End
where
    C: Future<Output = hyper::Result<()>> + Graceful,
{
    let timeouts = &thread.config.timeouts;
    let (head, mut idle) = (timeouts.header_read(), timeouts.idle());
    let mut timer = std::pin::pin!(sleep_until(Instant::now() + head.min(idle)));
    let mut draining = std::pin::pin!(thread.draining.cancelled());
    let mut is_draining = false;
    // Whether the timer and the drain have this task to wake. Then they are not polled
    // again each time that the connection is: this future is its task, so the waker
    // stays the same.
    let mut are_set = false;
    loop {
        let next = std::future::poll_fn(|cx| {
            if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
                return Poll::Ready(Next::Ended(ended));
            }
            let is_told = !is_draining && thread.draining.is_cancelled();
            if are_set && !is_told && !timer.is_elapsed() {
                return Poll::Pending;
            }
            // Without budget the timer may not have taken the waker; the task goes on then.
            are_set = tokio::task::coop::has_budget_remaining();
            if timer.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Next::Due);
            }
            match is_draining {
                true => Poll::Pending,
                false => draining.as_mut().poll(cx).map(|()| Next::Draining),
            }
        });
        match next.await {
            Next::Ended(ended) => return End::Done(ended),
            Next::Due => match watch.due(head, idle) {
                Due::Later(at) => timer.as_mut().reset(at),
                Due::SlowHead => return End::SlowHead,
                Due::Idle => {
                    connection.as_mut().finish();
                    timer.as_mut().reset(Instant::now() + head);
                }
            },
            // A request may be on its way, or wait unread, so there is a short grace;
            // the answer to it then closes the connection.
            Next::Draining => {
                is_draining = true;
                idle = idle.min(DRAIN_GRACE);
                timer.as_mut().reset(Instant::now() + DRAIN_GRACE);
            }
        }
        are_set = false;
    }
}

/// What a connection of hyper does when it is to take no further request.
trait Graceful {
    fn finish(self: Pin<&mut Self>);
}

impl<I, B, S> Graceful for http1::Connection<I, S>
where
    S: hyper::service::HttpService<hyper::body::Incoming, ResBody = B>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    B: hyper::body::Body + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn finish(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// Says what is wrong and closes. Whether the client reads it is the client's.
async fn refuse<S: AsyncWrite + Unpin>(mut stream: S, raw: &[u8]) {
    if stream.write_all(raw).await.is_ok() && stream.flush().await.is_ok() {
        let _ = stream.shutdown().await;
    }
}
