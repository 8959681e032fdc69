//! `soap`: calls an operation of a SOAP service, whose answer becomes the message.

use http::Method;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use ingest::registry::{self, Name, read_part};
use serde::Deserialize;

use super::call::{check_path, refused, timeout, timeout_ms};
use super::mask::mask;
use super::{Fault, Language, Next, Template, template};
use crate::endpoint::http::{Code, Request};
use crate::endpoint::soap::{Answer, Version, read, wrap};
use crate::message::{Message, Value, xml};
use crate::route::Context;

const SOAP_ACTION: HeaderName = HeaderName::from_static("soapaction");
/// Calls a SOAP service. The message is then the content of the first element of
/// the answer's body, as JSON.
#[derive(Debug)]
pub(crate) struct Soap {
    upstream: Name,
    path: Template,
    version: Version,
    action: String,
    body: Template,
    timeout: std::time::Duration,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Spec {
    upstream: Name,
    path: String,
    #[serde(default)]
    version: Version,
    #[serde(default)]
    action: String,
    /// A template of the content of the envelope's body.
    body: String,
    #[serde(default = "timeout_ms")]
    timeout_ms: u64,
}

impl Soap {
    pub(super) fn parse(body: &serde_json::Value) -> Result<Self, Vec<registry::Fault>> {
        let spec: Spec = read_part(body)?;
        check_path("path", &spec.path)?;
        let is_visible = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
        if !spec.action.bytes().all(is_visible) {
            let mend = "give the address that the service's description names";
            return Err(vec![registry::Fault::new("action", "is not an action", mend)]);
        }
        Ok(Self {
            upstream: spec.upstream,
            path: template("path", &spec.path, Language::Path)?,
            version: spec.version,
            action: spec.action,
            body: template("body", &spec.body, Language::Xml)?,
            timeout: timeout("timeout_ms", spec.timeout_ms)?,
        })
    }

    pub(super) async fn run(
        &self,
        message: &mut Message,
        context: &Context<'_>,
    ) -> Result<Next, Fault> {
        let content = context.render(&self.body, message)?;
        let path = context.render(&self.path, message)?;
        let (content_type, action, envelope) = wrap(self.version, &self.action, content.trim())
            .map_err(|reason| Fault::new(Code::StepFailed, reason))?;
        let mut request = Request::new(Method::POST, path, envelope);
        let value = |text: &str| {
            HeaderValue::from_str(text)
                .map_err(|_| Fault::new(Code::StepFailed, "the action is no header's value"))
        };
        request.headers.insert(CONTENT_TYPE, value(&content_type)?);
        if let Some(action) = action {
            request.headers.insert(SOAP_ACTION, value(&action)?);
        }
        request.timeout = self.timeout;
        let answer = context.call(&self.upstream, request).await?;

        // A fault comes with status 500 (note on SOAP 1.1, section 6.2); whatever else
        // comes with an error's status is no SOAP.
        let status = answer.status;
        let element = match read(self.version, &answer.body) {
            Ok(Answer::Fault(fault)) => {
                let said = mask(&format!("{}: {}", fault.code, fault.reason), "");
                let reason = format!("upstream {} answered a fault: {said}", self.upstream);
                return Err(Fault::new(Code::SoapFault, reason));
            }
            _ if status.as_u16() >= 300 => {
                return Err(refused(&self.upstream, &answer.address, status));
            }
            Err(error) => {
                let reason = format!("upstream {}: {error}", self.upstream);
                return Err(Fault::new(Code::UpstreamError, reason));
            }
            Ok(Answer::Body(element)) => element,
        };
        let value = element.map_or(Value::Null, |element| xml::content(&element));
        message.replace(value);
        Ok(Next::Step)
    }
}
