//! `call`: sends the message to a service, whose answer becomes the message.

use std::collections::BTreeSet;
use std::time::Duration;

use http::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use ingest::registry::kind::Method as Listed;
use ingest::registry::{self, Name, read_part};
use serde::Deserialize;
use std::collections::BTreeMap;

use super::header::header_name;
use super::{Fault, Language, Next, Template, template};
use crate::endpoint::http::{Code, Request};
use crate::message::Message;
use crate::route::Context;

/// The headers of the message that go along besides what the step sets: what
/// describes the body, and what the answer should be. A caller's credentials and
/// cookies stay here.
const PASSED: [HeaderName; 2] = [CONTENT_TYPE, ACCEPT];

/// Calls an upstream.
#[derive(Debug)]
pub(crate) struct Call {
    upstream: Name,
    method: Method,
    path: Template,
    query: Option<String>,
    headers: HeaderMap,
    timeout: Duration,
    /// Statuses from 400 on that are answers, not faults.
    accept_status: BTreeSet<u16>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Spec {
    upstream: Name,
    #[serde(default = "post")]
    method: Listed,
    /// A template, as `/orders/{{ path.id }}`; values are percent-encoded.
    path: String,
    /// A fixed query.
    #[serde(default)]
    query: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default = "timeout_ms")]
    timeout_ms: u64,
    #[serde(default)]
    accept_status: BTreeSet<u16>,
}

fn post() -> Listed {
    Listed::Post
}

pub(super) fn timeout_ms() -> u64 {
    30_000
}

impl Call {
    pub(super) fn parse(body: &serde_json::Value) -> Result<Self, Vec<registry::Fault>> {
        let spec: Spec = read_part(body)?;
        check_path("path", &spec.path)?;
        let mut headers = HeaderMap::new();
        for (name, value) in &spec.headers {
            let key = format!("headers.{name}");
            let value = HeaderValue::from_str(value).map_err(|_| {
                let mend = "give visible characters";
                vec![registry::Fault::new(key.as_str(), "is not a header's value", mend)]
            })?;
            headers.insert(header_name(&key, name)?, value);
        }
        Ok(Self {
            upstream: spec.upstream,
            method: method(spec.method),
            path: template("path", &spec.path, Language::Path)?,
            query: spec.query,
            headers,
            timeout: timeout("timeout_ms", spec.timeout_ms)?,
            accept_status: spec.accept_status,
        })
    }

    pub(super) async fn run(
        &self,
        message: &mut Message,
        context: &Context<'_>,
    ) -> Result<Next, Fault> {
        let mut path = context.render(&self.path, message)?;
        if let Some(query) = &self.query {
            path = format!("{path}?{query}");
        }
        // A request that is only asked for carries no body (RFC 9110, section 9.3.1).
        let body = match self.method {
            Method::GET | Method::HEAD => bytes::Bytes::new(),
            _ => message.bytes()?,
        };
        let mut request = Request::new(self.method.clone(), path, body);
        for name in &PASSED {
            if let Some(value) = message.headers.get(name) {
                request.headers.insert(name, value.clone());
            }
        }
        request.headers.extend(self.headers.clone());
        request.timeout = self.timeout;
        let answer = context.call(&self.upstream, request).await?;
        let is_accepted = self.accept_status.contains(&answer.status.as_u16());
        if answer.status.as_u16() >= 400 && !is_accepted {
            return Err(refused(&self.upstream, &answer.address, answer.status));
        }
        message.set_answer(answer.status, answer.headers, answer.body);
        Ok(Next::Step)
    }
}

/// That a service answered with an error.
pub(super) fn refused(upstream: &Name, address: &str, status: StatusCode) -> Fault {
    let reason = format!("upstream {upstream} at {address} answered {}", status.as_u16());
    Fault::new(Code::UpstreamError, reason)
}

pub(super) fn check_path(key: &str, path: &str) -> Result<(), Vec<registry::Fault>> {
    if path.starts_with('/') && !path.contains(['#', '\n']) {
        return Ok(());
    }
    Err(vec![registry::Fault::new(key, "is not a path", "give it as /orders")])
}

pub(super) fn timeout(key: &str, ms: u64) -> Result<Duration, Vec<registry::Fault>> {
    if (1..=600_000).contains(&ms) {
        return Ok(Duration::from_millis(ms));
    }
    let what = format!("{ms} is out of range");
    Err(vec![registry::Fault::new(key, what, "use 1 to 600000")])
}

fn method(listed: Listed) -> Method {
    match listed {
        Listed::Get => Method::GET,
        Listed::Head => Method::HEAD,
        Listed::Post => Method::POST,
        Listed::Put => Method::PUT,
        Listed::Patch => Method::PATCH,
        Listed::Delete => Method::DELETE,
        Listed::Options => Method::OPTIONS,
    }
}
