//! What a client sends, as far as it may.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;

/// The longest message of who has logged in, in bytes, and of who has not.
pub(super) const MESSAGE_BYTES_MAX: usize = 1024 * 1024;
const LOGIN_BYTES_MAX: usize = 10_000;

/// Asks for encryption, which there is none of: by TLS, and by GSSAPI.
const ENCRYPTION: [u32; 2] = [80_877_103, 80_877_104];
/// How often a client may ask for it.
const ENCRYPTIONS_MAX: usize = 2;

/// A connection whose messages are no longer than they may be, which is known before they are
/// read: a length of four bytes stands at the head of each, itself included, after a byte for
/// its kind in all but the first.
#[derive(Debug)]
pub(super) struct Bounded {
    stream: TcpStream,
    is_let_in: Arc<AtomicBool>,
    /// The head of the first message, as far as it was not handed on.
    first: Vec<u8>,
    head: Vec<u8>,
    /// How much of the message at hand is still to come.
    left: usize,
}

impl Bounded {
    /// Begins a connection: it answers who asks for encryption, up to the head of the message
    /// that opens a session.
    pub(super) async fn open(
        mut stream: TcpStream,
        is_let_in: Arc<AtomicBool>,
    ) -> io::Result<Self> {
        for _ in 0..=ENCRYPTIONS_MAX {
            let length = stream.read_u32().await?;
            let code = stream.read_u32().await?;
            if length == 8 && ENCRYPTION.contains(&code) {
                stream.write_all(b"N").await?;
                continue;
            }
            let left = (length as usize).checked_sub(8).filter(|left| *left <= LOGIN_BYTES_MAX);
            let left = left.ok_or_else(|| too_long(length as usize, LOGIN_BYTES_MAX))?;
            let first = [length.to_be_bytes(), code.to_be_bytes()].concat();
            return Ok(Self { stream, is_let_in, first, head: Vec::new(), left });
        }
        Err(io::Error::new(io::ErrorKind::InvalidData, "encryption is asked for again and again"))
    }

    /// Looks at what came.
    fn follow(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let is_let_in = self.is_let_in.load(Ordering::Acquire);
        let max = if is_let_in { MESSAGE_BYTES_MAX } else { LOGIN_BYTES_MAX };
        while !bytes.is_empty() {
            let passed = self.left.min(bytes.len());
            self.left -= passed;
            bytes = &bytes[passed..];
            if let Some((byte, rest)) = bytes.split_first() {
                self.head.push(*byte);
                bytes = rest;
            }
            if let [kind, a, b, c, d] = *self.head.as_slice() {
                self.head.clear();
                let length = u32::from_be_bytes([a, b, c, d]) as usize;
                self.left = length.checked_sub(4).ok_or_else(|| too_long(length, max))?;
                if self.left > max {
                    return Err(too_long(length, max));
                }
                if !is_let_in && kind != b'p' {
                    let what = "a message before the password";
                    return Err(io::Error::new(io::ErrorKind::PermissionDenied, what));
                }
            }
        }
        Ok(())
    }
}

fn too_long(length: usize, max: usize) -> io::Error {
    let what = format!("a message of {length} bytes; {max} at most");
    io::Error::new(io::ErrorKind::InvalidData, what)
}

impl AsyncRead for Bounded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.first.is_empty() {
            let count = self.first.len().min(buffer.remaining());
            let handed: Vec<u8> = self.first.drain(..count).collect();
            buffer.put_slice(&handed);
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if let Poll::Ready(Ok(())) = polled {
            let came = buffer.filled()[before..].to_vec();
            self.follow(&came)?;
        }
        polled
    }
}

impl AsyncWrite for Bounded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
