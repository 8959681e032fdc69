use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use http_body::{Body, Frame, SizeHint};

/// Whether an answer of a service is under way on a connection: its task alone writes
/// and reads this.
#[derive(Debug, Default)]
pub(super) struct Busy {
    is_under_way: AtomicBool,
    is_unflushed: AtomicBool,
}

/// A request under way. Dropped when its answer has been handed over.
#[derive(Debug)]
pub(super) struct UnderWay(Arc<Busy>);

impl Busy {
    pub(super) fn begin(self: &Arc<Self>) -> UnderWay {
        self.is_under_way.store(true, Ordering::Relaxed);
        self.is_unflushed.store(true, Ordering::Relaxed);
        UnderWay(self.clone())
    }

    /// All that was written so far has left.
    pub(super) fn flushed(&self) {
        if !self.is_under_way.load(Ordering::Relaxed) {
            self.is_unflushed.store(false, Ordering::Relaxed);
        }
    }

    /// Whether all answers were handed over and have left, so that what is written now
    /// is none of a service.
    pub(super) fn is_at_rest(&self) -> bool {
        !self.is_under_way.load(Ordering::Relaxed) && !self.is_unflushed.load(Ordering::Relaxed)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.is_under_way.store(false, Ordering::Relaxed);
    }
}

/// A body that keeps its request under way until it is dropped.
#[derive(Debug)]
pub(super) struct Answering<B> {
    body: B,
    _under_way: UnderWay,
}

impl<B> Answering<B> {
    pub(super) fn new(body: B, under_way: UnderWay) -> Self {
        Self { body, _under_way: under_way }
    }
}

impl<B: Body + Unpin> Body for Answering<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
