//! Who writes on a connection: an answer of ours, or hyper by itself.
//!
//! hyper answers a head that it cannot parse with a bare status, without asking the
//! service. [`Watched`] sees every write: one that comes while no request is under way
//! and everything before was flushed is hyper's own. It is swallowed, its status kept,
//! and the connection then says the same as a problem. Where an earlier answer is not
//! flushed yet, as with a client that pipelines and does not read, the bare answer
//! passes; its event is written all the same.
//!
//! A client that has sent its request may close its side and wait for the answer (RFC
//! 9293, section 3.6), which looks the same as one that is gone. hyper would drop the
//! request at once, so [`Watched`] keeps the end from it: until the answer begins, for
//! `timeouts.half_closed_ms`; then until it is complete, since writes tell by then.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// What is known of a connection, shared by those who look at it from two sides.
pub(crate) struct Watch {
    busy: Cell<bool>,
    /// Bodies of requests that are taken in, the last perhaps after its answer.
    uploads: Cell<usize>,
    flushed: Cell<bool>,
    /// When the first byte of a head came that is not complete.
    head_since: Cell<Option<Instant>>,
    idle_since: Cell<Instant>,
    /// Whether the client sends no more.
    half_closed: Cell<bool>,
    /// Whether the answer to the request under way has begun.
    answering: Cell<bool>,
    /// The status of hyper's own answer.
    automatic: Cell<Option<u16>>,
    in_flight: Rc<Cell<usize>>,
}

/// A request under way. Dropped when its answer has been handed over.
pub(crate) struct Busy(Rc<Watch>);

/// A request's body that is not taken in yet.
pub(crate) struct Upload(Rc<Watch>);

/// What a connection's timer finds.
pub(super) enum Due {
    Later(Instant),
    SlowHead,
    Idle,
}

impl Watch {
    pub(super) fn new(in_flight: Rc<Cell<usize>>) -> Rc<Self> {
        Rc::new(Self {
            busy: Cell::new(false),
            uploads: Cell::new(0),
            flushed: Cell::new(true),
            head_since: Cell::new(None),
            idle_since: Cell::new(Instant::now()),
            half_closed: Cell::new(false),
            answering: Cell::new(false),
            automatic: Cell::new(None),
            in_flight,
        })
    }

    pub(super) fn begin(self: &Rc<Self>) -> Busy {
        self.busy.set(true);
        self.flushed.set(false);
        self.answering.set(false);
        self.head_since.set(None);
        self.in_flight.set(self.in_flight.get() + 1);
        Busy(self.clone())
    }

    /// The answer to the request under way is handed to hyper.
    pub(super) fn answering(&self) {
        self.answering.set(true);
    }

    /// Whether bytes of a request came that was not served.
    pub(super) fn is_head_begun(&self) -> bool {
        self.head_since.get().is_some()
    }

    /// Whether an answer of ours may be written past hyper.
    pub(super) fn is_at_rest(&self) -> bool {
        !self.busy.get() && self.flushed.get()
    }

    pub(super) fn automatic(&self) -> Option<u16> {
        self.automatic.get()
    }

    pub(super) fn due(&self, head: Duration, idle: Duration) -> Due {
        let now = Instant::now();
        if self.is_under_way() {
            return Due::Later(now + head.min(idle));
        }
        match self.head_since.get() {
            Some(since) if since + head <= now => Due::SlowHead,
            Some(since) => Due::Later(since + head),
            None if self.idle_since.get() + idle <= now => Due::Idle,
            None => Due::Later((self.idle_since.get() + idle).min(now + head)),
        }
    }

    fn is_under_way(&self) -> bool {
        self.busy.get() || self.uploads.get() > 0
    }

    fn is_automatic(&self, bytes: &[u8]) -> bool {
        if self.automatic.get().is_some() {
            return true;
        }
        if !self.is_at_rest() {
            return false;
        }
        let status = bytes.strip_prefix(b"HTTP/1.").and_then(|rest| rest.get(2..5));
        let status = status.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
        self.automatic.set(status);
        status.is_some()
    }
}

impl Busy {
    /// The body of the request is being taken in.
    pub(super) fn upload(&self) -> Upload {
        self.0.uploads.set(self.0.uploads.get() + 1);
        Upload(self.0.clone())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.0.uploads.set(self.0.uploads.get() - 1);
        self.0.idle_since.set(Instant::now());
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let watch = &self.0;
        watch.busy.set(false);
        watch.idle_since.set(Instant::now());
        watch.in_flight.set(watch.in_flight.get() - 1);
    }
}

/// A connection's stream, seen by its [`Watch`] and kept when hyper is done with it.
pub(super) struct Watched<S> {
    stream: Rc<RefCell<S>>,
    watch: Rc<Watch>,
    half_closed: Duration,
    /// Only there while a client that sends no more waits for its answer to begin.
    timer: Option<Pin<Box<Sleep>>>,
    /// Who is to be told that the end may be seen.
    reader: Option<Waker>,
}

impl<S> Watched<S> {
    /// `half_closed`: how long a client that sends no more is served until its answer
    /// begins.
    pub(super) fn new(stream: Rc<RefCell<S>>, watch: Rc<Watch>, half_closed: Duration) -> Self {
        Self { stream, watch, half_closed, timer: None, reader: None }
    }

    /// Tells hyper of the end once it may act on it: it drops a request under way.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.watch.is_at_rest() {
            return Poll::Ready(Ok(()));
        }
        self.reader = Some(cx.waker().clone());
        if self.watch.answering.get() {
            return Poll::Pending;
        }
        let limit = self.half_closed;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + limit)));
        timer.as_mut().poll(cx).map(Ok)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.watch.half_closed.get() {
            return self.poll_end(cx);
        }
        let before = buffer.filled().len();
        let polled = Pin::new(&mut *self.stream.borrow_mut()).poll_read(cx, buffer);
        let is_end = matches!(polled, Poll::Ready(Ok(()))) && buffer.filled().len() == before;
        if is_end && buffer.remaining() > 0 {
            self.watch.half_closed.set(true);
            return self.poll_end(cx);
        }
        let watch = &self.watch;
        let is_head = !watch.is_under_way() && watch.head_since.get().is_none();
        if is_head && buffer.filled().len() > before {
            watch.head_since.set(Some(Instant::now()));
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.watch.is_automatic(bytes) {
            return Poll::Ready(Ok(bytes.len()));
        }
        Pin::new(&mut *self.stream.borrow_mut()).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.watch.is_automatic(slices.first().map_or(&[], |slice| slice)) {
            return Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()));
        }
        Pin::new(&mut *self.stream.borrow_mut()).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.borrow().is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut *self.stream.borrow_mut()).poll_flush(cx);
        if polled.is_ready() && !self.watch.busy.get() {
            self.watch.flushed.set(true);
            if let Some(reader) = self.reader.take() {
                reader.wake();
            }
        }
        polled
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.watch.automatic.get().is_some() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut *self.stream.borrow_mut()).poll_shutdown(cx)
    }
}
