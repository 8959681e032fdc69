use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Up to so many bytes are copied into one buffer.
const GATHERED_BYTES_MAX: usize = 4 * 1024;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(Vec::with_capacity(GATHERED_BYTES_MAX));
}

/// A socket that writes small heads and bodies as one buffer, by `send`. It costs the
/// kernel less than `writev`, which goes by way of files, by more than the copy does.
#[derive(Debug)]
pub(crate) struct Gathered<S>(pub(crate) S);

impl<S: AsyncRead + Unpin> AsyncRead for Gathered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gathered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let stream = Pin::new(&mut self.0);
        if let [slice] = slices {
            return stream.poll_write(cx, slice);
        }
        if slices.iter().map(|slice| slice.len()).sum::<usize>() > GATHERED_BYTES_MAX {
            return stream.poll_write_vectored(cx, slices);
        }
        BUFFER.with_borrow_mut(|buffer| {
            buffer.clear();
            slices.iter().for_each(|slice| buffer.extend_from_slice(slice));
            stream.poll_write(cx, buffer)
        })
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tokio::io::AsyncWriteExt as _;

    use super::*;

    /// What came, and whether it came in slices.
    type Written = Vec<(bool, Vec<u8>)>;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Written>>);

    impl AsyncWrite for Sink {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.0.lock().unwrap().push((false, bytes.to_vec()));
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_write_vectored(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            slices: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let bytes = slices.iter().flat_map(|slice| slice.to_vec()).collect::<Vec<_>>();
            self.0.lock().unwrap().push((true, bytes.clone()));
            Poll::Ready(Ok(bytes.len()))
        }

        fn is_write_vectored(&self) -> bool {
            true
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn what_is_small_is_written_at_once_and_in_order() {
        let sink = Sink::default();
        let mut stream = Gathered(sink.clone());
        let large = vec![b'x'; GATHERED_BYTES_MAX];
        for slices in [&[&b"head"[..], b"body"][..], &[b"alone"], &[b"head", &large]] {
            let slices: Vec<_> = slices.iter().map(|slice| IoSlice::new(slice)).collect();
            let bytes: usize = slices.iter().map(|slice| slice.len()).sum();
            assert_eq!(stream.write_vectored(&slices).await.unwrap(), bytes);
        }
        let written = sink.0.lock().unwrap();
        let shown: Vec<(bool, usize)> =
            written.iter().map(|(of, bytes)| (*of, bytes.len())).collect();
        assert_eq!(shown, [(false, 8), (false, 5), (true, 4 + GATHERED_BYTES_MAX)]);
        assert_eq!(written[0].1, b"headbody");
    }
}
