use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

/// A request's body, of which the server knows whether it was read to its end. After the
/// answer to one that was not, the connection takes no further request: it could not be
/// told from the rest of the body.
#[derive(Debug)]
pub struct RequestBody {
    incoming: Incoming,
    is_read: Arc<AtomicBool>,
}

/// Whether a body was read to its end.
#[derive(Debug)]
pub(super) struct Read(Arc<AtomicBool>);

impl Read {
    pub(super) fn is_whole(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl RequestBody {
    pub(super) fn new(incoming: Incoming) -> (Self, Read) {
        let is_read = Arc::new(AtomicBool::new(incoming.is_end_stream()));
        (Self { incoming, is_read: is_read.clone() }, Read(is_read))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.incoming).poll_frame(cx));
        if frame.is_none() || self.incoming.is_end_stream() {
            self.is_read.store(true, Ordering::Relaxed);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
