//! TLS with clients: versions 1.2 and 1.3, HTTP/1.1.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use ingest::event::Text;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ProtocolVersion, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::config::Tls;

/// What ALPN offers (RFC 7301).
const PROTOCOLS: [&[u8]; 1] = [b"http/1.1"];

/// Makes a client's connection a TLS one.
#[derive(Clone)]
pub(crate) struct Acceptor(TlsAcceptor);

impl Acceptor {
    /// # Errors
    /// Which setting is wrong, within `tls`, and how.
    pub(crate) fn new(tls: &Tls) -> Result<Self, (&'static str, String)> {
        let of = |setting: &'static str| move |why: String| (setting, why);
        let certificates = certificates(&tls.certificate_file).map_err(of("certificate_file"))?;
        let key = private_key(&tls.key_file).map_err(of("key_file"))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| ("key_file", error.to_string()))?
            .with_no_client_auth()
            .with_single_cert(certificates, key)
            .map_err(|error| {
                let (certificate, key) = (tls.certificate_file.display(), tls.key_file.display());
                ("key_file", format!("{certificate} and {key} do not go together: {error}"))
            })?;
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }

    pub(super) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        self.0.accept(stream).await
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let wrong = |reason: String| format!("{}: {reason}", file.display());
    let opened = File::open(file).map_err(|error| wrong(error.to_string()))?;
    let found = CertificateDer::pem_reader_iter(opened).collect::<Result<Vec<_>, _>>();
    let found = found.map_err(|error| wrong(error.to_string()))?;
    if found.is_empty() { Err(wrong("holds no certificate as PEM".to_owned())) } else { Ok(found) }
}

fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let wrong = |reason: String| format!("{}: {reason}", file.display());
    let opened = File::open(file).map_err(|error| wrong(error.to_string()))?;
    PrivateKeyDer::from_pem_reader(opened)
        .map_err(|_| wrong("holds no private key as PEM".to_owned()))
}

/// The version, as events name it.
pub(super) fn version(stream: &TlsStream<TcpStream>) -> Option<Text> {
    match stream.get_ref().1.protocol_version()? {
        ProtocolVersion::TLSv1_2 => Some(Text::from_static("1.2")),
        ProtocolVersion::TLSv1_3 => Some(Text::from_static("1.3")),
        _ => None,
    }
}

/// The cipher suite, by its IANA name.
pub(super) fn cipher(stream: &TlsStream<TcpStream>) -> Option<Text> {
    let suite = stream.get_ref().1.negotiated_cipher_suite()?.suite();
    let name = suite.as_str()?;
    let name = match name.strip_prefix("TLS13_") {
        Some(rest) => format!("TLS_{rest}"),
        None => name.to_owned(),
    };
    Some(Arc::<str>::from(name).into())
}
