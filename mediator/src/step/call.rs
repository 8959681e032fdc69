//! `call`: the message goes to an upstream, and the answer becomes the message.
//!
//! All headers of the message go with it, but those of the connection, and a caller's
//! credentials and cookies, which are not for services behind; a step may set them. `GET` and `HEAD` have no body. A
//! status of 400 or more is a fault, unless `accept_status` lists it.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_TYPE, EXPECT};
use http::{HeaderName, Method};
use ingest::registry::kind::{self, Upstream};
use ingest::registry::{Faults, Name};
use serde::Deserialize;

use super::respond::{make_headers, read_headers};
use super::template::{Escape, Template};
use super::{Context, Fault, Seen, read, read_template};
use crate::endpoint::http::{Answer, Request};
use crate::message::Message;
use ingest::http::Code;

#[derive(Debug)]
pub(crate) struct Call {
    upstream: Name,
    method: Method,
    path: Template,
    headers: Vec<(HeaderName, Template)>,
    timeout: Duration,
    accept_status: Vec<u16>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a mapping")]
struct Spec {
    upstream: Name,
    #[serde(default = "post")]
    method: kind::Method,
    path: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default = "timeout_ms")]
    timeout_ms: u64,
    #[serde(default)]
    accept_status: Vec<u16>,
}

fn post() -> kind::Method {
    kind::Method::Post
}

pub(super) fn timeout_ms() -> u64 {
    30_000
}

impl Call {
    pub(super) fn compile(body: &serde_json::Value, at: &str, faults: &mut Faults) -> Option<Self> {
        let spec: Spec = read(body, at, faults)?;
        let path = read_path(&spec.path, at, faults);
        let headers = read_headers(&spec.headers, at, faults);
        faults.range(format!("{at}.timeout_ms"), spec.timeout_ms, 1, 600_000);
        faults.count(format!("{at}.accept_status"), spec.accept_status.len(), 0, 100);
        for (i, status) in spec.accept_status.iter().enumerate().take(100) {
            faults.range(format!("{at}.accept_status[{i}]"), (*status).into(), 400, 599);
        }
        Some(Self {
            upstream: spec.upstream,
            method: to_method(spec.method),
            path: path?,
            headers: headers?,
            timeout: Duration::from_millis(spec.timeout_ms),
            accept_status: spec.accept_status,
        })
    }

    pub(super) async fn run(
        &self,
        message: &mut Message,
        context: &Context<'_>,
        seen: &mut Seen,
    ) -> Result<(), Fault> {
        let path = self.path.run(message, context).await?;
        let made = make_headers(&self.headers, message, context).await?;
        let has_body = self.method != Method::GET && self.method != Method::HEAD;
        let body = if has_body { message.bytes()? } else { Bytes::new() };
        let mut headers = message.forwarded_headers();
        for name in [ACCEPT_ENCODING, EXPECT] {
            headers.remove(name);
        }
        if !has_body {
            headers.remove(CONTENT_TYPE);
        }
        for (name, value) in made {
            headers.insert(name, value);
        }
        let mut request = Request::new(self.method.clone(), path, body);
        (request.headers, request.timeout) = (headers, self.timeout);
        let answer = send(&self.upstream, request, context, seen).await?;
        let status = answer.status.as_u16();
        if status >= 400 && !self.accept_status.contains(&status) {
            let reason = format!("upstream {} answered {status}", self.upstream);
            return Err(Fault::new(Code::UpstreamError, reason));
        }
        message.set_answer(answer.status, answer.headers, answer.body);
        Ok(())
    }
}

/// A path whose inserted values are percent-encoded.
pub(super) fn read_path(path: &str, at: &str, faults: &mut Faults) -> Option<Template> {
    let at = format!("{at}.path");
    if !path.starts_with('/') {
        faults.add(at, "does not begin with a slash", "give it as /orders/{{ path.id }}");
        return None;
    }
    read_template(path, Escape::Path, &at, faults)
}

pub(super) async fn send(
    name: &Name,
    mut request: Request,
    context: &Context<'_>,
    seen: &mut Seen,
) -> Result<Answer, Fault> {
    seen.upstream = Some(name.to_string());
    let Some(upstream) = context.snapshot.get::<Upstream>(name) else {
        return Err(Fault::new(Code::UpstreamUnreachable, format!("there is no upstream {name}")));
    };
    request.correlation = Some(context.correlation.clone());
    match context.caller.call(name, upstream, request).await {
        Ok(answer) => {
            seen.address = Some(answer.address.clone());
            seen.attempts = Some(answer.attempts);
            seen.status = Some(answer.status);
            seen.upstream_us = i64::try_from(answer.duration.as_micros()).ok();
            Ok(answer)
        }
        Err(error) => {
            seen.address = Some(error.address).filter(|address| !address.is_empty());
            seen.attempts = Some(error.attempts);
            Err(Fault::new(error.code, format!("upstream {name}: {}", error.reason)))
        }
    }
}

/// The method as HTTP writes it.
pub(crate) fn to_method(method: kind::Method) -> Method {
    match method {
        kind::Method::Get => Method::GET,
        kind::Method::Head => Method::HEAD,
        kind::Method::Post => Method::POST,
        kind::Method::Put => Method::PUT,
        kind::Method::Patch => Method::PATCH,
        kind::Method::Delete => Method::DELETE,
        kind::Method::Options => Method::OPTIONS,
    }
}
