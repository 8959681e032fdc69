//! Sends a target as it stands: a URL library would tidy `/a/../b`, and a scanner's
//! request would be another's.

use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use tokio::time::timeout;

/// How long an answer may take, to its end.
const ANSWER_WITHIN: Duration = Duration::from_secs(120);
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// Where a fragment would begin, which is not sent.
const FRAGMENT: &AsciiSet = &CONTROLS.add(b'#');
/// What hyper does not send as it is, in a path or in a query.
const ESCAPED: &AsciiSet = &FRAGMENT.add(b' ').add(b'"').add(b'<').add(b'>').add(b'`');

/// Where a gateway is.
#[derive(Debug, Clone)]
pub(super) struct Gateway {
    scheme: Scheme,
    authority: Authority,
}

/// Why there is no answer.
pub(super) enum Failed {
    /// Nothing of the request was sent.
    Unsent(String),
    /// It may have been sent.
    Broken(String),
}

/// The end of an answer.
pub(super) struct Answered {
    pub(super) status: StatusCode,
    pub(super) bytes: u64,
}

type Legacy = hyper_util::client::legacy::Client<HttpsConnector<HttpConnector>, Empty<Bytes>>;

/// An HTTP/1.1 client over kept connections.
pub(super) struct Client(Legacy);

impl Gateway {
    pub(super) fn parse(url: &str) -> Result<Self> {
        let uri: Uri = url.parse().with_context(|| format!("read the address {url}"))?;
        let scheme = uri.scheme().cloned().unwrap_or(Scheme::HTTP);
        let authority = uri.authority().cloned();
        let authority = authority.with_context(|| format!("{url} names no host"))?;
        Ok(Self { scheme, authority })
    }

    /// The address of a target in origin form (RFC 9112, section 3.2.1).
    fn uri(&self, target: &str) -> Result<Uri, http::Error> {
        let as_it_is = utf8_percent_encode(target, FRAGMENT).to_string();
        let path = PathAndQuery::try_from(as_it_is).or_else(|_| {
            PathAndQuery::try_from(utf8_percent_encode(target, ESCAPED).to_string())
        })?;
        let (scheme, authority) = (self.scheme.clone(), self.authority.clone());
        Uri::builder().scheme(scheme).authority(authority).path_and_query(path).build()
    }
}

impl Client {
    /// `idle_max`: how many connections to a gateway are kept.
    pub(super) fn new(idle_max: usize) -> Result<Self> {
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_WITHIN));
        let connector = HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(rustls::crypto::aws_lc_rs::default_provider())
            .context("read the system's certificates")?
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        let client = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(idle_max)
            .build(connector);
        Ok(Self(client))
    }

    /// Sends a request without a body, and reads its answer to the end.
    pub(super) async fn ask(
        &self,
        gateway: &Gateway,
        method: Method,
        target: &str,
        headers: HeaderMap,
    ) -> Result<Answered, Failed> {
        let uri = gateway.uri(target).map_err(|error| Failed::Unsent(error.to_string()))?;
        let mut request = Request::new(Empty::new());
        (*request.method_mut(), *request.uri_mut(), *request.headers_mut()) =
            (method, uri, headers);
        let answered = async {
            let response = self.0.request(request).await.map_err(|error| {
                let why = super::innermost(&error);
                if error.is_connect() { Failed::Unsent(why) } else { Failed::Broken(why) }
            })?;
            let (status, mut body, mut bytes) = (response.status(), response.into_body(), 0);
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|error| Failed::Broken(super::innermost(&error)))?;
                bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
            }
            Ok(Answered { status, bytes })
        };
        let late = |_| Failed::Broken(format!("no answer within {ANSWER_WITHIN:?}"));
        timeout(ANSWER_WITHIN, answered).await.map_err(late)?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_stays_as_it_stands() {
        let gateway = Gateway::parse("http://127.0.0.1:8080").unwrap();
        for target in [
            "/site/../../etc/passwd",
            "/site/%2e%2e/b",
            "/site/a\\\\b",
            "/site/\"{a|b}\"//x?y={a|b}&z=^",
            "/site/?x=../..",
        ] {
            let uri = gateway.uri(target).unwrap_or_else(|error| panic!("{target}: {error}"));
            assert_eq!(uri.path_and_query().unwrap().as_str(), target);
        }
        let escaped = gateway.uri("/site/<b>`#a").unwrap();
        assert_eq!(escaped.path(), "/site/%3Cb%3E%60%23a");
        let query = gateway.uri("/site/a?q=\"b\"").unwrap();
        assert_eq!(query.path_and_query().unwrap(), "/site/a?q=%22b%22");
    }
}
