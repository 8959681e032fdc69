//! `soap`: calls a SOAP service, and makes its answer the body, as JSON.
//!
//! The template is the content of the envelope's body; it sees the message as any
//! other. None of the message's headers go to the service, and none of its come back.
//! A fault is [`Code::SoapFault`]: its code and text are in the event, short and
//! masked, and not in the answer.

use std::time::Duration;

use http::{HeaderMap, Method};
use ingest::registry::{Faults, Name};
use serde::Deserialize;

use super::call::{read_path, send, timeout_ms};
use super::mask::mask;
use super::template::{Escape, Template};
use super::{Context, Fault, Seen, read, read_template};
use crate::endpoint::http::Request;
use crate::endpoint::soap::{Error, Version};
use crate::message::Message;
use ingest::http::Code;

#[derive(Debug)]
pub(crate) struct Soap {
    upstream: Name,
    path: Template,
    version: Version,
    headers: HeaderMap,
    body: Template,
    timeout: Duration,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a mapping")]
struct Spec {
    upstream: Name,
    path: String,
    version: Version,
    #[serde(default)]
    action: String,
    body: String,
    #[serde(default = "timeout_ms")]
    timeout_ms: u64,
}

impl Soap {
    pub(super) fn compile(body: &serde_json::Value, at: &str, faults: &mut Faults) -> Option<Self> {
        let spec: Spec = read(body, at, faults)?;
        let path = read_path(&spec.path, at, faults);
        let headers = spec.version.headers(&spec.action);
        if let Err(what) = &headers {
            faults.add(format!("{at}.action"), what.as_str(), "give it as urn:orders:get");
        }
        let body = read_template(&spec.body, Escape::Xml, &format!("{at}.body"), faults);
        faults.range(format!("{at}.timeout_ms"), spec.timeout_ms, 1, 600_000);
        Some(Self {
            upstream: spec.upstream,
            path: path?,
            version: spec.version,
            headers: headers.ok()?,
            body: body?,
            timeout: Duration::from_millis(spec.timeout_ms),
        })
    }

    pub(super) async fn run(
        &self,
        message: &mut Message,
        context: &Context<'_>,
        seen: &mut Seen,
    ) -> Result<(), Fault> {
        let path = self.path.run(message, context).await?;
        let content = self.body.run(message, context).await?;
        let envelope = self.version.envelope(&content).map_err(Fault::failed)?;
        let mut request = Request::new(Method::POST, path, envelope.into());
        (request.headers, request.timeout) = (self.headers.clone(), self.timeout);
        let answer = send(&self.upstream, request, context, seen).await?;
        let (name, status) = (&self.upstream, answer.status.as_u16());
        match self.version.read(&answer.body) {
            // A fault comes with 500, and from some services with 200.
            Err(Error::Fault { code, text }) => {
                let (code, text) = (mask(&code, ""), mask(&text, ""));
                Err(Fault::new(Code::SoapFault, format!("upstream {name}: {code}: {text}")))
            }
            _ if status >= 300 => {
                Err(Fault::new(Code::UpstreamError, format!("upstream {name} answered {status}")))
            }
            Err(Error::NotSoap(reason)) => {
                Err(Fault::new(Code::UpstreamError, format!("upstream {name}: {reason}")))
            }
            Ok(value) => {
                message.replace(value);
                Ok(())
            }
        }
    }
}
