//! `respond`: the message becomes the answer, and the run ends.

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue, StatusCode};
use ingest::registry::Faults;
use serde::Deserialize;

use super::header::read_name;
use super::template::{Escape, Template};
use super::{Answer, Context, Fault, read, read_template};
use crate::message::Message;

#[derive(Debug)]
pub(crate) struct Respond {
    status: StatusCode,
    headers: Vec<(HeaderName, Template)>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a mapping")]
struct Spec {
    #[serde(default = "ok")]
    status: u16,
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

fn ok() -> u16 {
    200
}

impl Respond {
    pub(super) fn compile(body: &serde_json::Value, at: &str, faults: &mut Faults) -> Option<Self> {
        let spec: Spec = read(body, at, faults)?;
        faults.range(format!("{at}.status"), spec.status.into(), 200, 599);
        let headers = read_headers(&spec.headers, at, faults);
        Some(Self { status: StatusCode::from_u16(spec.status).ok()?, headers: headers? })
    }

    pub(super) async fn run(
        &self,
        message: &mut Message,
        context: &Context<'_>,
    ) -> Result<Answer, Fault> {
        let made = make_headers(&self.headers, message, context).await?;
        let mut headers = message.answer_headers();
        for (name, value) in made {
            headers.insert(name, value);
        }
        Ok(Answer { status: self.status, headers, body: message.bytes()? })
    }
}

/// Headers whose values are templates; up to 50.
pub(super) fn read_headers(
    headers: &BTreeMap<String, String>,
    at: &str,
    faults: &mut Faults,
) -> Option<Vec<(HeaderName, Template)>> {
    faults.count(format!("{at}.headers"), headers.len(), 0, 50);
    let read = headers.iter().map(|(name, text)| {
        let at = format!("{at}.headers.{name}");
        let name = read_name(name, &at, faults);
        let text = read_template(text, Escape::None, &at, faults);
        Some((name?, text?))
    });
    // All of them, so that every fault is told.
    let read: Vec<_> = read.collect();
    read.into_iter().collect()
}

pub(super) async fn make_headers(
    headers: &[(HeaderName, Template)],
    message: &mut Message,
    context: &Context<'_>,
) -> Result<Vec<(HeaderName, HeaderValue)>, Fault> {
    let mut made = Vec::with_capacity(headers.len());
    for (name, text) in headers {
        let text = text.run(message, context).await?;
        let value = HeaderValue::try_from(text)
            .map_err(|_| Fault::failed(format!("the template of {name} gave no header's value")))?;
        made.push((name.clone(), value));
    }
    Ok(made)
}
