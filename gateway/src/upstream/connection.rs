use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use ingest::http::Code;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::http::RequestBody;

/// For how long the first timer is set; later ones are set as they are needed.
const TIMER_FIRST: Duration = Duration::from_secs(60);

/// A connection to an upstream, which is moved on by whoever uses it.
///
/// hyper gives it in two parts: one that takes requests, and one that reads and writes
/// and has to be polled. As a task of its own the latter would be woken, scheduled and
/// polled for each step of a request, and the request's task after it. Here the
/// request's own task polls it, and while it is idle nobody does: that the other end
/// has closed it shows when it is asked, or swept.
///
/// Only where an answer begins before the whole request is sent the driver becomes a
/// task: the request goes on then whether or not the client takes the answer.
pub(super) struct Connection {
    sender: SendRequest<RequestBody>,
    driver: Driver,
    /// Whom the driver wakes, and that as a waker.
    user: Arc<User>,
    waker: Waker,
    /// Kept from one request to the next, and set anew only when it fires too early:
    /// to set it and take it back for each request costs more.
    timer: Pin<Box<Sleep>>,
}

type Driving = Pin<Box<dyn Future<Output = hyper::Result<()>>>>;

/// What reads and writes.
enum Driver {
    /// Polled by whoever uses the connection.
    Ours(Driving),
    /// A task.
    Alone(JoinHandle<()>),
    Ended,
}

/// What became of a request.
pub(super) type Sent = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>;

impl Connection {
    pub(super) async fn open<S>(stream: S) -> Result<Self, Code>
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let shaken = Builder::new().handshake(TokioIo::new(stream)).await;
        let (sender, driver) = shaken.map_err(|_| Code::UpstreamUnreachable)?;
        let timer = Box::pin(sleep_until(Instant::now() + TIMER_FIRST));
        let user = Arc::<User>::default();
        let (driver, waker) = (Driver::Ours(Box::pin(driver)), user.clone().into());
        Ok(Self { sender, driver, user, waker, timer })
    }

    /// Whether it can be given a request, for all that is known.
    pub(super) fn is_ready(&self) -> bool {
        matches!(self.driver, Driver::Ours(_)) && self.sender.is_ready()
    }

    /// Whether it is over.
    pub(super) fn is_closed(&self) -> bool {
        matches!(self.driver, Driver::Ended) || self.sender.is_closed()
    }

    /// Gives it a request. What is answered has to be waited for by [`Self::answered`].
    pub(super) fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> impl Future<Output = Sent> + use<> {
        self.sender.try_send_request(request)
    }

    /// The answer to what was sent; none if it did not come until then.
    pub(super) async fn answered<F: Future<Output = Sent>>(
        &mut self,
        mut sending: Pin<&mut F>,
        until: Instant,
    ) -> Option<Sent> {
        std::future::poll_fn(|cx| {
            self.drive_for(cx);
            // Nothing but driving brings it on, so it has nobody to wake.
            if let Poll::Ready(sent) = sending.as_mut().poll(&mut nobody()) {
                return Poll::Ready(Some(sent));
            }
            self.poll_time(cx, until).map(|()| None)
        })
        .await
    }

    /// The next part of the answer's body.
    pub(super) fn poll_frame(
        &mut self,
        answer: &mut Incoming,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if matches!(self.driver, Driver::Alone(_)) {
            return Pin::new(answer).poll_frame(cx);
        }
        let mut taken = self.take_frame(answer);
        if taken.is_pending() {
            self.drive_for(cx);
            taken = self.take_frame(answer);
        }
        taken
    }

    fn take_frame(
        &self,
        answer: &mut Incoming,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        // That there is room for the next part shows when that is asked for.
        self.user.is_there.store(true, Ordering::Relaxed);
        let taken = Pin::new(answer).poll_frame(&mut nobody());
        self.user.is_there.store(false, Ordering::Relaxed);
        taken
    }

    /// Reads and writes what can be, and wakes a task when there is more to do.
    fn drive_for(&mut self, cx: &mut Context<'_>) {
        self.user.set(cx.waker());
        self.drive();
    }

    fn drive(&mut self) {
        let Driver::Ours(driver) = &mut self.driver else { return };
        // What breaks is told to the request that is under way.
        if driver.as_mut().poll(&mut Context::from_waker(&self.waker)).is_ready() {
            self.driver = Driver::Ended;
        }
    }

    /// Goes on without whoever uses it, until both request and answer are over.
    pub(super) fn go_alone(&mut self) {
        match std::mem::replace(&mut self.driver, Driver::Ended) {
            Driver::Ours(driver) => {
                // What breaks is told to the request that is under way.
                let alone = spawn_local(async { drop(driver.await) });
                self.driver = Driver::Alone(alone);
            }
            other => self.driver = other,
        }
    }

    /// Lets nobody be woken any more, when an answer is over. One that goes alone ends
    /// with its request, and takes no other.
    pub(super) fn release(&mut self) {
        if matches!(self.driver, Driver::Alone(_)) {
            self.driver = Driver::Ended;
        }
        *self.user.task.lock() = None;
        if !self.sender.is_ready() {
            self.drive();
        }
    }

    /// Looks whether the other end has closed it, while it is idle.
    pub(super) fn look(&mut self) {
        self.drive();
    }

    fn poll_time(&mut self, cx: &mut Context<'_>, until: Instant) -> Poll<()> {
        if self.timer.deadline() > until {
            self.timer.as_mut().reset(until);
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            if Instant::now() >= until {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(until);
        }
        Poll::Pending
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Driver::Alone(alone) = &self.driver {
            alone.abort();
        }
    }
}

/// The task that has the connection at the moment.
#[derive(Default)]
struct User {
    task: Mutex<Option<Waker>>,
    /// Set while the task does what it would be woken for, so that it is not woken to
    /// find nothing.
    is_there: AtomicBool,
}

impl User {
    fn set(&self, waker: &Waker) {
        let mut task = self.task.lock();
        if !task.as_ref().is_some_and(|task| task.will_wake(waker)) {
            *task = Some(waker.clone());
        }
    }
}

impl Wake for User {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_there.load(Ordering::Relaxed)
            && let Some(task) = &*self.task.lock()
        {
            task.wake_by_ref();
        }
    }
}

fn nobody() -> Context<'static> {
    Context::from_waker(Waker::noop())
}
