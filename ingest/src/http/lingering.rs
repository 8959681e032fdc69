use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// How long after its last answer a connection is read on.
const LINGER: Duration = Duration::from_secs(5);
const READ_BYTES: usize = 16 * 1024;

/// A stream that is closed in stages, as a server has to (RFC 9112, section 9.6): it writes no
/// more, and reads on until the client closes, at most until 5 s after the last answer. What
/// nobody reads, as the rest of a body that was refused by its head, would reset the
/// connection, and take the answer with it.
#[derive(Debug)]
pub struct Lingering<S> {
    stream: S,
    /// When something was written last.
    answered: Option<Instant>,
    /// Whether the client sends no more.
    is_ended: bool,
    /// Only there once it writes no more.
    timer: Option<Pin<Box<Sleep>>>,
}

impl<S> Lingering<S> {
    /// Makes the closing of a stream one in stages.
    pub fn new(stream: S) -> Self {
        Self { stream, answered: None, is_ended: false, timer: None }
    }
}

impl<S: AsyncRead + Unpin> Lingering<S> {
    /// Reads what is of no use any more.
    fn poll_linger(&mut self, until: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(until)));
        let mut buffer = [0; READ_BYTES];
        while timer.as_mut().poll(cx).is_pending() {
            let mut buffer = ReadBuf::new(&mut buffer);
            let read = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer));
            if read.is_err() || buffer.filled().is_empty() {
                break;
            }
        }
        Poll::Ready(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lingering<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if polled.is_ready() && buffer.filled().len() == before && buffer.remaining() > 0 {
            self.is_ended = true;
        }
        polled
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Lingering<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.answered = Some(Instant::now());
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.answered = Some(Instant::now());
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.timer.is_none() {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
        }
        let Some(answered) = self.answered.filter(|_| !self.is_ended) else {
            return Poll::Ready(Ok(()));
        };
        self.poll_linger(answered + LINGER, cx).map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_was_answered_may_end_what_it_sends() {
        let (near, mut far) = duplex(8);
        let mut near = Lingering::new(near);
        near.write_all(b"refused").await.unwrap();
        let closing = tokio::spawn(async move {
            let began = Instant::now();
            near.shutdown().await.unwrap();
            began.elapsed()
        });
        far.write_all(&[b'x'; 100 * READ_BYTES]).await.unwrap();
        let mut answer = String::new();
        far.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "refused");
        drop(far);
        assert!(closing.await.unwrap() < Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_close_is_waited_for_as_long_as_said() {
        let (near, mut far) = duplex(8);
        let mut near = Lingering::new(near);
        near.write_all(b"refused").await.unwrap();
        let sending = tokio::spawn(async move {
            while far.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(900)).await;
            }
        });
        let began = Instant::now();
        near.shutdown().await.unwrap();
        assert_eq!(began.elapsed(), LINGER);
        drop(near);
        sending.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_answered_long_ago_is_not_waited_for() {
        let (near, mut far) = duplex(8);
        let mut near = Lingering::new(near);
        near.write_all(b"answer").await.unwrap();
        let read = near.read_u8();
        assert!(tokio::time::timeout(LINGER, read).await.is_err());
        let began = Instant::now();
        near.shutdown().await.unwrap();
        assert_eq!(began.elapsed(), Duration::ZERO);
        let mut answer = String::new();
        far.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "answer");
    }
}
