//! Bodies: counted on their way up, told of on their way down.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use ingest::http::Code;
use tokio::time::{Instant, Sleep, sleep_until};

use super::capture::Copied;
use super::record::Record;
use super::watch::Upload;
use crate::upstream::Lease;

/// Why a body ended before its end. What it is about is on the event.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("{}", .0.text())]
pub(crate) struct CutOff(pub(crate) Code);

/// The request's body on its way to the upstream, counted against the API's limit.
/// A part that does not come in time ends it.
pub(crate) struct RequestBody {
    incoming: Option<Incoming>,
    intake: Rc<Intake>,
    bytes_max: u64,
    idle: Duration,
    /// Only there while a part is waited for.
    timer: Option<Pin<Box<Sleep>>>,
    _upload: Option<Upload>,
}

/// What became of a request's body, also while it is somewhere else.
#[derive(Default)]
pub(crate) struct Intake {
    pub(crate) bytes: Cell<u64>,
    /// When the last part came.
    pub(crate) last: Cell<Option<Instant>>,
    /// Whether the next part is the client's to send: the upstream has taken all others.
    pub(crate) is_awaited: Cell<bool>,
    /// Why it was cut off, if by the client or for its sake.
    pub(crate) fault: Cell<Option<Code>>,
    /// Whether nobody takes of it any more.
    pub(crate) is_over: Cell<bool>,
    /// What of it goes into the event.
    pub(super) copied: Option<Copied>,
}

impl RequestBody {
    pub(crate) fn new(
        incoming: Incoming,
        upload: Option<Upload>,
        bytes_max: u64,
        idle: Duration,
        copied: Option<Copied>,
    ) -> (Self, Rc<Intake>) {
        let intake = Rc::new(Intake { copied, ..Intake::default() });
        let incoming = (!incoming.is_end_stream()).then_some(incoming);
        let body = Self {
            incoming,
            intake: intake.clone(),
            bytes_max,
            idle,
            timer: None,
            _upload: upload,
        };
        (body, intake)
    }

    pub(crate) fn empty() -> Self {
        let (intake, idle) = (Rc::default(), Duration::MAX);
        Self { incoming: None, intake, bytes_max: 0, idle, timer: None, _upload: None }
    }

    pub(crate) fn intake(&self) -> Rc<Intake> {
        self.intake.clone()
    }

    fn cut_off(&mut self, code: Code) -> Poll<Option<Result<Frame<Bytes>, CutOff>>> {
        self.incoming = None;
        self.intake.fault.set(Some(code));
        Poll::Ready(Some(Err(CutOff(code))))
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        self.intake.is_over.set(true);
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = CutOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CutOff>>> {
        let this = &mut *self;
        let Some(incoming) = &mut this.incoming else { return Poll::Ready(None) };
        let Poll::Ready(frame) = Pin::new(incoming).poll_frame(cx) else {
            let idle = this.idle;
            this.intake.is_awaited.set(true);
            let timer =
                this.timer.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + idle)));
            ready!(timer.as_mut().poll(cx));
            return this.cut_off(Code::RequestTimeout);
        };
        this.timer = None;
        this.intake.is_awaited.set(false);
        match frame {
            None => {
                this.incoming = None;
                Poll::Ready(None)
            }
            // Trailers come last. What they say was not checked with the head, and they
            // may be left out (RFC 9110, section 6.5.1).
            Some(Ok(frame)) if frame.is_trailers() => {
                this.incoming = None;
                Poll::Ready(None)
            }
            Some(Err(error)) => this.cut_off(fault_of(&error)),
            Some(Ok(frame)) => {
                let added = frame.data_ref().map_or(0, Bytes::len) as u64;
                let bytes = this.intake.bytes.get() + added;
                this.intake.bytes.set(bytes);
                this.intake.last.set(Some(Instant::now()));
                if bytes > this.bytes_max {
                    return this.cut_off(Code::BodyTooLarge);
                }
                if let (Some(copied), Some(part)) = (&this.intake.copied, frame.data_ref()) {
                    copied.add(part);
                }
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

/// What a client did whose body cannot be read on: it wrote what is no chunk, or went away.
fn fault_of(error: &hyper::Error) -> Code {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(cause) = cause.downcast_ref::<io::Error>() {
            return match cause.kind() {
                io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => Code::RequestMalformed,
                _ => Code::ClientClosed,
            };
        }
        source = cause.source();
    }
    Code::ClientClosed
}

/// The answer's body. Its event is written before its last part is handed on; a
/// body that is dropped before is one whose client went away.
pub(crate) enum AnswerBody {
    /// What the gateway says itself; its event is written already.
    Own(Option<Bytes>),
    /// What the upstream says.
    Upstream(Box<Stream>),
}

pub(crate) struct Stream {
    incoming: Incoming,
    /// What the upstream announced and did not send yet; none if it announced nothing.
    left: Option<u64>,
    record: Record,
    lease: Option<Lease>,
    deadline: Instant,
    timer: Option<Pin<Box<Sleep>>>,
    /// Whether the upstream broke off, which is told at the next turn.
    is_broken: bool,
    /// Told when the answer is complete.
    busy: Option<super::Busy>,
}

impl Stream {
    pub(crate) fn new(
        incoming: Incoming,
        record: Record,
        lease: Lease,
        deadline: Instant,
        busy: super::Busy,
    ) -> Self {
        let left = incoming.size_hint().exact();
        let (lease, busy) = (Some(lease), Some(busy));
        Self { incoming, left, record, lease, deadline, timer: None, is_broken: false, busy }
    }

    /// Writes the event if nothing comes after. The connection to the upstream is
    /// given back at the very end.
    fn end(&mut self) -> Result<(), CutOff> {
        self.busy = None;
        self.record.answered()
    }

    fn give_back(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.give_back();
        }
    }

    fn fail(&mut self, code: Code) -> Poll<Option<Result<Frame<Bytes>, CutOff>>> {
        self.lease = None;
        self.busy = None;
        self.record.failed(code);
        Poll::Ready(Some(Err(CutOff(code))))
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = CutOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CutOff>>> {
        let stream = match &mut *self {
            Self::Own(bytes) => {
                return Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes))));
            }
            Self::Upstream(stream) => stream,
        };
        if stream.is_broken {
            return stream.fail(Code::UpstreamBroken);
        }
        let polled = match &mut stream.lease {
            Some(lease) => lease.poll_frame(&mut stream.incoming, cx),
            None => Pin::new(&mut stream.incoming).poll_frame(cx),
        };
        let Poll::Ready(frame) = polled else {
            let deadline = stream.deadline;
            let timer = stream.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
            ready!(timer.as_mut().poll(cx));
            return stream.fail(Code::UpstreamTimeout);
        };
        match frame {
            None => {
                stream.give_back();
                Poll::Ready(stream.end().err().map(Err))
            }
            Some(Err(_)) => {
                // hyper drops what it has not written when a body fails, so it is let to
                // write what came before.
                stream.is_broken = true;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Some(Ok(frame)) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len) as u64;
                stream.record.sent(frame.data_ref().map_or(&[], |part| &**part));
                if let Some(left) = &mut stream.left {
                    *left = left.saturating_sub(bytes);
                }
                // A client that has everything it was promised may go.
                if stream.left == Some(0) || stream.incoming.is_end_stream() {
                    stream.end()?;
                    if stream.incoming.is_end_stream() {
                        stream.give_back();
                    }
                }
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Self::Upstream(stream) => stream.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Self::Upstream(stream) => stream.incoming.size_hint(),
        }
    }
}

impl Drop for Stream {
    /// hyper stops asking once it has all that was announced.
    fn drop(&mut self) {
        if self.left == Some(0) {
            self.give_back();
        }
    }
}
