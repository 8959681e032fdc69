//! The target: a real HTTP server that writes down every attempt, and fails as it
//! is told to.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Response};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::world::PATIENCE;

/// An attempt as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Attempt {
    /// `Idempotency-Key`.
    pub(crate) id: String,
    /// `Weir-Ordering-Key`, as it came.
    pub(crate) key: Option<String>,
    pub(crate) sequence: u64,
    pub(crate) epoch: u64,
    /// `Weir-Attempt`.
    pub(crate) number: u64,
    /// How many attempts for this id came, this one too.
    pub(crate) seen: usize,
    pub(crate) body: String,
    pub(crate) headers: HeaderMap,
    pub(crate) at: Instant,
    /// The status that it was answered with; 0 for none.
    pub(crate) status: u16,
    /// When it came and when its answer was ready, in the order of all that happened.
    pub(crate) began: u64,
    pub(crate) ended: Option<u64>,
}

/// What the receiver does with an attempt.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    Status(u16),
    /// The status, after a while.
    Slow(u16, Duration),
    /// The status, with a Retry-After.
    RetryAfter(u16, String),
    /// Never answers.
    Hang,
    /// Breaks off within the body.
    Break(u16),
    /// One byte of the body, and the next after a minute.
    Trickle(u16),
    /// Closes the connection behind the answer.
    Close(u16),
    /// To where it was asked.
    ToItself(u16),
}

type Script = Box<dyn Fn(&Attempt) -> Reply + Send + Sync>;

#[derive(Default)]
struct Book {
    attempts: Vec<Attempt>,
    seen: BTreeMap<String, usize>,
    under_way: usize,
    under_way_max: usize,
    /// How much has happened.
    happened: u64,
}

impl Book {
    fn happens(&mut self) -> u64 {
        self.happened += 1;
        self.happened
    }
}

struct Shared {
    book: Mutex<Book>,
    script: Mutex<Script>,
}

pub(crate) struct Receiver {
    shared: Arc<Shared>,
    pub(crate) url: String,
    task: JoinHandle<()>,
}

impl Receiver {
    pub(crate) async fn start(
        script: impl Fn(&Attempt) -> Reply + Send + Sync + 'static,
    ) -> Result<Self> {
        let script = Mutex::new(Box::new(script) as Script);
        let shared = Arc::new(Shared { book: Mutex::default(), script });
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let app = Router::new().fallback(take).with_state(shared.clone());
        let task = tokio::spawn(async move {
            axum::serve(listener, app).await.expect("the receiver serves");
        });
        Ok(Self { shared, url, task })
    }

    /// Every attempt is a success.
    pub(crate) async fn willing() -> Result<Self> {
        Self::start(|_| Reply::Status(204)).await
    }

    pub(crate) fn set(&self, script: impl Fn(&Attempt) -> Reply + Send + Sync + 'static) {
        *self.shared.script.lock() = Box::new(script);
    }

    pub(crate) fn attempts(&self) -> Vec<Attempt> {
        self.shared.book.lock().attempts.clone()
    }

    /// The attempts for one id.
    pub(crate) fn of(&self, id: &str) -> Vec<Attempt> {
        self.attempts().into_iter().filter(|attempt| attempt.id == id).collect()
    }

    /// The ids that were taken, in the order of their first success.
    pub(crate) fn delivered(&self) -> Vec<String> {
        let mut seen = std::collections::HashSet::new();
        let taken = self.attempts().into_iter().filter(|a| (200..300).contains(&a.status));
        taken.map(|a| a.id).filter(|id| seen.insert(id.clone())).collect()
    }

    pub(crate) fn under_way_max(&self) -> usize {
        self.shared.book.lock().under_way_max
    }

    /// Waits until so many ids were taken.
    pub(crate) async fn wait_for(&self, count: usize) -> Result<()> {
        self.wait_until(&format!("{count} deliveries"), |r| r.delivered().len() >= count).await
    }

    pub(crate) async fn wait_until(&self, what: &str, is: impl Fn(&Self) -> bool) -> Result<()> {
        let start = Instant::now();
        while !is(self) {
            if start.elapsed() > PATIENCE {
                let last: Vec<_> = self.attempts().into_iter().rev().take(5).collect();
                bail!("{what} did not come: {} delivered, last {last:#?}", self.delivered().len());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Counts down also when the caller breaks off.
struct UnderWay(Arc<Shared>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.book.lock().under_way -= 1;
    }
}

async fn take(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
    let number = |name: &str| text(name).and_then(|text| text.parse().ok()).unwrap_or(u64::MAX);
    let (reply, at) = {
        let mut book = shared.book.lock();
        let id = text("idempotency-key").unwrap_or_default();
        let seen = book.seen.entry(id.clone()).or_default();
        *seen += 1;
        let seen = *seen;
        let began = book.happens();
        let mut attempt = Attempt {
            began,
            ended: None,
            id,
            key: text("weir-ordering-key"),
            sequence: number("weir-sequence"),
            epoch: number("weir-owner-epoch"),
            number: number("weir-attempt"),
            seen,
            body: String::from_utf8_lossy(&body).into_owned(),
            headers: headers.clone(),
            at: Instant::now(),
            status: 0,
        };
        let reply = shared.script.lock()(&attempt);
        if let Reply::Status(status)
        | Reply::RetryAfter(status, _)
        | Reply::Close(status)
        | Reply::ToItself(status) = reply
        {
            attempt.status = status;
        }
        book.attempts.push(attempt);
        book.under_way += 1;
        book.under_way_max = book.under_way_max.max(book.under_way);
        (reply, book.attempts.len() - 1)
    };
    let _under_way = UnderWay(shared.clone());
    let is_ready = |at: usize| {
        let mut book = shared.book.lock();
        let now = book.happens();
        book.attempts[at].ended = Some(now);
    };
    let answer = |status: u16| Response::builder().status(status);
    let built = match reply {
        Reply::Status(status) => answer(status).body(Body::empty()),
        Reply::Slow(status, time) => {
            tokio::time::sleep(time).await;
            shared.book.lock().attempts[at].status = status;
            answer(status).body(Body::empty())
        }
        Reply::RetryAfter(status, after) => {
            answer(status).header("retry-after", after).body(Body::empty())
        }
        Reply::Hang => std::future::pending().await,
        Reply::Break(status) => {
            let broken = std::io::Error::other("broken off");
            let parts = [Ok(Bytes::from_static(b"some")), Err(broken)];
            let body = Body::from_stream(futures_util::stream::iter(parts));
            answer(status).header("content-length", 100).body(body)
        }
        Reply::Trickle(status) => {
            let bytes = futures_util::stream::unfold((), |()| async {
                tokio::time::sleep(Duration::from_secs(60)).await;
                Some((Bytes::from_static(b"x"), ()))
            });
            let first = futures_util::stream::iter([Bytes::from_static(b"x")]);
            let bytes = futures_util::StreamExt::chain(first, bytes);
            let bytes = futures_util::StreamExt::map(bytes, Ok::<_, std::io::Error>);
            answer(status).header("content-length", 100).body(Body::from_stream(bytes))
        }
        Reply::Close(status) => answer(status).header("connection", "close").body(Body::empty()),
        Reply::ToItself(status) => answer(status).header("location", "/orders").body(Body::empty()),
    };
    is_ready(at);
    built.expect("the answer is HTTP")
}
