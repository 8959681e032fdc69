use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ingest::http::Code;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::Target;
use super::connection::Connection;
use crate::gather::Gathered;

/// So many addresses of a name are tried.
const ADDRESSES_MAX: usize = 8;
/// How long an address is waited for alone (RFC 8305, section 8).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Opens connections to upstreams. It trusts what the machine trusts, and what the
/// configuration adds.
#[derive(Clone)]
pub(crate) struct Connector(TlsConnector);

impl Connector {
    /// # Errors
    /// If the file cannot be read or holds no certificate.
    pub(crate) fn new(ca_file: Option<&Path>) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        let native = rustls_native_certs::load_native_certs();
        let (found, ignored) = roots.add_parsable_certificates(native.certs);
        if found == 0 {
            tracing::warn!(ignored, "the machine trusts no certificate authority");
        }
        if let Some(file) = ca_file {
            let what = |reason: String| format!("{}: {reason}", file.display());
            let mut added = 0;
            for certificate in
                CertificateDer::pem_file_iter(file).map_err(|e| what(e.to_string()))?
            {
                let certificate = certificate.map_err(|e| what(e.to_string()))?;
                roots.add(certificate).map_err(|e| what(e.to_string()))?;
                added += 1;
            }
            if added == 0 {
                return Err(what("holds no certificate".to_owned()));
            }
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }

    /// A new connection.
    pub(super) async fn connect(&self, target: &Target) -> Result<Connection, Code> {
        let found = lookup_host((target.host.as_str(), target.port)).await;
        let found = found.map_err(|_| Code::UpstreamUnreachable)?;
        let stream = connect_any(found.take(ADDRESSES_MAX).collect()).await;
        let stream = stream.map_err(|_| Code::UpstreamUnreachable)?;
        stream.set_nodelay(true).map_err(|_| Code::UpstreamUnreachable)?;
        if !target.is_tls {
            return Connection::open(Gathered(stream)).await;
        }
        let name = ServerName::try_from(target.host.clone());
        let name = name.map_err(|_| Code::UpstreamTlsFailed)?;
        let stream = self.0.connect(name, stream).await.map_err(|error| {
            tracing::debug!(target = %target.address, %error, "no TLS with an upstream");
            Code::UpstreamTlsFailed
        })?;
        Connection::open(stream).await
    }
}

/// The first connection to any of the addresses of a name (RFC 8305, section 5): the
/// next one is tried when one fails, or did not answer for a while, so that a dead one
/// costs that while and no more.
async fn connect_any(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    if let [address] = addresses[..] {
        return TcpStream::connect(address).await;
    }
    let mut addresses = addresses.into_iter().peekable();
    let mut attempts = JoinSet::new();
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    loop {
        if let Some(address) = addresses.next() {
            attempts.spawn(TcpStream::connect(address));
        }
        let ended = match addresses.peek() {
            Some(_) => timeout(ATTEMPT_DELAY, attempts.join_next()).await.ok(),
            None => Some(attempts.join_next().await),
        };
        match ended {
            // It has had its while; it goes on beside the next one.
            None => {}
            Some(Some(Ok(Ok(stream)))) => return Ok(stream),
            Some(Some(Ok(Err(error)))) => failed = error,
            Some(Some(Err(defect))) => failed = io::Error::other(defect),
            Some(None) => return Err(failed),
        }
    }
}

#[cfg(test)]
mod tests {
    use socket2::{Domain, Socket, Type};
    use tokio::net::TcpListener;

    use super::*;

    /// A port whose queue is full: who connects gets no answer at all.
    async fn silent() -> (Socket, Vec<TcpStream>, SocketAddr) {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        socket.listen(0).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        let mut held = Vec::new();
        while let Ok(stream) = timeout(ATTEMPT_DELAY, TcpStream::connect(address)).await {
            held.push(stream.unwrap());
        }
        (socket, held, address)
    }

    #[tokio::test]
    async fn a_dead_address_of_a_name_is_passed_over() {
        let (_socket, _held, silent) = silent().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let alive = listener.local_addr().unwrap();
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let connect = |addresses: &[SocketAddr]| {
            timeout(Duration::from_secs(10), connect_any(addresses.to_vec()))
        };
        for addresses in [&[silent, alive][..], &[closed, alive], &[silent, closed, alive]] {
            let stream = connect(addresses).await.unwrap().unwrap();
            assert_eq!(stream.peer_addr().unwrap(), alive);
        }
        let refused = connect(&[closed, closed]).await.unwrap().unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(connect(&[]).await.unwrap().unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
