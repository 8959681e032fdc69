//! `set_header` and `remove_header`.

use http::{HeaderName, HeaderValue};
use ingest::registry::Faults;
use serde::Deserialize;

use super::jq::Jq;
use super::{Context, Fault, Needs, read, read_jq};
use crate::endpoint::http::is_hop_by_hop;
use crate::message::{Message, Value, json};

/// Sets a header to a fixed value, or to what an expression gives.
#[derive(Debug)]
pub(crate) struct SetHeader {
    name: HeaderName,
    value: Source,
}

#[derive(Debug)]
enum Source {
    Fixed(HeaderValue),
    Made(Jq),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a mapping")]
struct SetSpec {
    name: String,
    #[serde(default)]
    value: Option<String>,
    #[serde(default)]
    expression: Option<String>,
}

impl SetHeader {
    pub(super) fn compile(body: &serde_json::Value, at: &str, faults: &mut Faults) -> Option<Self> {
        let spec: SetSpec = read(body, at, faults)?;
        let name = read_name(&spec.name, &format!("{at}.name"), faults);
        let value = match (spec.value, spec.expression) {
            (Some(value), None) => {
                read_value(&value, &format!("{at}.value"), faults).map(Source::Fixed)
            }
            (None, Some(jq)) => read_jq(&jq, &format!("{at}.expression"), faults).map(Source::Made),
            _ => {
                faults.add(at, "has not one of value and expression", "give one of them");
                None
            }
        };
        Some(Self { name: name?, value: value? })
    }

    pub(super) async fn run(
        &self,
        message: &mut Message,
        context: &Context<'_>,
    ) -> Result<(), Fault> {
        let value = match &self.value {
            Source::Fixed(value) => value.clone(),
            Source::Made(jq) => to_header(&jq.run(message, Needs::ValueIfAny, context).await?)?,
        };
        message.set_header(self.name.clone(), value);
        Ok(())
    }
}

/// Removes a header.
#[derive(Debug)]
pub(crate) struct RemoveHeader(HeaderName);

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a mapping")]
struct RemoveSpec {
    name: String,
}

impl RemoveHeader {
    pub(super) fn compile(body: &serde_json::Value, at: &str, faults: &mut Faults) -> Option<Self> {
        let spec: RemoveSpec = read(body, at, faults)?;
        read_name(&spec.name, &format!("{at}.name"), faults).map(Self)
    }

    pub(super) fn run(&self, message: &mut Message) {
        message.remove_header(&self.0);
    }
}

/// A header's name. Those of a connection, and the length, are not a route's.
pub(super) fn read_name(name: &str, at: &str, faults: &mut Faults) -> Option<HeaderName> {
    let Ok(name) = name.parse::<HeaderName>() else {
        faults.add(at, "is not a header's name", "give letters, digits and hyphens");
        return None;
    };
    if is_hop_by_hop(&name) || name == http::header::CONTENT_LENGTH || name == http::header::HOST {
        faults.add(at, "is a header of the connection", "leave it to the connection");
        return None;
    }
    Some(name)
}

fn read_value(value: &str, at: &str, faults: &mut Faults) -> Option<HeaderValue> {
    let read = HeaderValue::from_str(value).ok().filter(|value| value.len() <= 4_096);
    if read.is_none() {
        faults.add(at, "is not a header's value", "give up to 4,096 visible characters");
    }
    read
}

fn to_header(value: &Value) -> Result<HeaderValue, Fault> {
    let text = match value {
        Value::TStr(text) => text.to_vec(),
        Value::Num(_) | Value::Bool(_) => json::write(value).map_err(Fault::failed)?,
        _ => return Err(Fault::failed("the expression gave no text for the header")),
    };
    HeaderValue::from_bytes(&text)
        .map_err(|_| Fault::failed("the expression gave what is no header's value"))
}
