//! Ports, bound once for each thread (`SO_REUSEPORT`), so that the kernel spreads
//! connections and no thread hands one to another.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

use crate::http::BACKLOG_MAX;

/// Binds one address for so many threads, and listens. Port 0 becomes one free port.
///
/// # Errors
/// Also if somebody else listens there already, which `SO_REUSEPORT` alone would allow
/// to any process of the same user: that one would get a part of the connections.
pub(crate) fn bind(address: SocketAddr, count: usize) -> io::Result<Vec<TcpListener>> {
    if address.port() != 0 {
        drop(socket(address, false)?);
    }
    let first = socket(address, true)?;
    let address = first.local_addr()?.as_socket().unwrap_or(address);
    let mut sockets = vec![first];
    for _ in 1..count {
        sockets.push(socket(address, true)?);
    }
    let listen = |socket: Socket| {
        socket.listen(BACKLOG_MAX as i32)?;
        Ok(socket.into())
    };
    sockets.into_iter().map(listen).collect()
}

fn socket(address: SocketAddr, is_shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Connections of an earlier start that are still closing must not keep this one out.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(is_shared)?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_shared_by_threads_and_with_nobody_else() {
        let any = "127.0.0.1:0".parse().unwrap();
        let first = bind(any, 3).unwrap();
        let address = first[0].local_addr().unwrap();
        assert!(first.iter().all(|listener| listener.local_addr().unwrap() == address));
        let error = bind(address, 2).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        drop(first);
        bind(address, 2).unwrap();
    }
}
