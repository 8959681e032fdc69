use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Uri};
use ingest::registry::Name;
use ingest::registry::kind::{Balance, RetryOn, Upstream};

/// An upstream, ready to be called.
pub(crate) struct Group {
    /// The entity's name.
    pub(crate) name: Arc<str>,
    /// The servers, at least one.
    pub(crate) targets: Vec<Target>,
    pub(crate) balance: Balance,
    pub(crate) connect_timeout: Duration,
    /// From the request sent to the head of the answer.
    pub(crate) response_timeout: Duration,
    /// Whether a second attempt is allowed at all.
    pub(crate) may_retry: bool,
    /// Whether also what may have been seen is sent again.
    pub(crate) may_repeat: bool,
}

/// A server of an upstream.
#[derive(Debug)]
pub(crate) struct Target {
    /// Scheme, host and port: what a connection is kept by.
    pub(crate) origin: Arc<str>,
    /// Host and port, for events.
    pub(crate) address: Arc<str>,
    /// The host, without the brackets of an IPv6 address.
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) is_tls: bool,
    /// What `Host` says (RFC 9110, section 7.2): no default port.
    pub(crate) host_header: HeaderValue,
    /// The path that goes before the request's, without a slash at its end.
    pub(crate) base: String,
    pub(crate) weight: i64,
}

impl Group {
    /// # Errors
    /// What of the upstream is no address, without repeating it.
    pub(crate) fn compile(name: &Name, spec: &Upstream) -> Result<Self, String> {
        let targets = spec.targets.iter().enumerate().map(|(i, target)| {
            let weight = i64::try_from(target.weight).unwrap_or(1);
            Target::parse(&target.url, weight)
                .ok_or_else(|| format!("targets[{i}].url is not an address that can be called"))
        });
        let targets = targets.collect::<Result<Vec<_>, _>>()?;
        if targets.is_empty() {
            return Err("targets is empty".to_owned());
        }
        Ok(Self {
            name: name.as_str().into(),
            targets,
            balance: spec.balance,
            connect_timeout: Duration::from_millis(spec.connect_timeout_ms),
            response_timeout: Duration::from_millis(spec.response_timeout_ms),
            may_retry: spec.retries_max > 0,
            may_repeat: spec.retries_max > 0 && spec.retry_on == RetryOn::Broken,
        })
    }
}

impl Target {
    pub(crate) fn parse(url: &str, weight: i64) -> Option<Self> {
        let uri: Uri = url.parse().ok()?;
        let is_tls = match uri.scheme_str()? {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let authority = uri.authority()?;
        let default_port = if is_tls { 443 } else { 80 };
        let port = authority.port_u16().unwrap_or(default_port);
        let host = authority.host();
        let named = if port == default_port { host.to_owned() } else { format!("{host}:{port}") };
        let scheme = if is_tls { "https" } else { "http" };
        Some(Self {
            origin: format!("{scheme}://{host}:{port}").into(),
            address: format!("{host}:{port}").into(),
            host: host.trim_matches(['[', ']']).to_owned(),
            port,
            is_tls,
            host_header: HeaderValue::from_str(&named).ok()?,
            base: uri.path().trim_end_matches('/').to_owned(),
            weight,
        })
    }
}
