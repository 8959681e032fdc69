use std::path::Path;
use std::sync::Arc;

use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use mediator::endpoint::http::Code;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::Target;
use crate::http::RequestBody;

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

    /// A new connection. Its task ends with the connection, which ends when its
    /// sender is dropped.
    pub(super) async fn connect(&self, target: &Target) -> Result<SendRequest<RequestBody>, Code> {
        let stream = TcpStream::connect((target.host.as_str(), target.port)).await;
        let stream = stream.map_err(|_| Code::UpstreamUnreachable)?;
        stream.set_nodelay(true).map_err(|_| Code::UpstreamUnreachable)?;
        if !target.is_tls {
            return handshake(stream).await;
        }
        let name = ServerName::try_from(target.host.clone());
        let name = name.map_err(|_| Code::UpstreamTlsFailed)?;
        let stream = self.0.connect(name, stream).await.map_err(|error| {
            tracing::debug!(target = %target.address, %error, "no TLS with an upstream");
            Code::UpstreamTlsFailed
        })?;
        handshake(stream).await
    }
}

async fn handshake<S>(stream: S) -> Result<SendRequest<RequestBody>, Code>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let shaken = Builder::new().handshake(TokioIo::new(stream)).await;
    let (sender, connection) = shaken.map_err(|_| Code::UpstreamUnreachable)?;
    tokio::task::spawn_local(async move {
        // What breaks is told to the request that is under way.
        let _ = connection.await;
    });
    Ok(sender)
}
