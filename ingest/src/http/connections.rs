use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::stream::{Stream, unfold};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::transport::server::{Connected, TcpConnectInfo};

use super::{Place, Places};

/// The pause when no connection can be taken, as when no file can be opened.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The connections of a gRPC server, as they come; more than `at_once_max` wait to be
/// accepted, more than `per_address_max` of one address are closed.
pub fn connections(
    listener: TcpListener,
    at_once_max: usize,
    per_address_max: usize,
) -> impl Stream<Item = io::Result<Connection>> {
    let places = Arc::new(Semaphore::new(at_once_max));
    let of_address = Places::new(per_address_max);
    unfold((listener, places, of_address), |(listener, places, of_address)| async move {
        let place = places.clone().acquire_owned().await.expect("it is never closed");
        let (stream, own) = loop {
            match listener.accept().await {
                Ok((stream, peer)) => match of_address.take(peer.ip()) {
                    Some(own) => break (stream, own),
                    None => {
                        tracing::warn!(%peer, "too many connections of one address: one is closed")
                    }
                },
                Err(error) => {
                    tracing::warn!(%error, "no connection of gRPC can be taken");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        };
        let connection = Connection { stream, _places: (place, own) };
        Some((Ok(connection), (listener, places, of_address)))
    })
}

/// A connection with its place.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    _places: (OwnedSemaphorePermit, Place),
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
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
