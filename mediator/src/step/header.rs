//! `set_header` and `remove_header`.

use http::{HeaderName, HeaderValue};
use ingest::registry::{self, read_part};
use serde::Deserialize;

use super::{Expression, Fault, Next, expression};
use crate::endpoint::http::Code;
use crate::message::{Message, Value};
use crate::route::Context;

/// Sets a header of the message, to a fixed value or to that of an expression.
#[derive(Debug)]
pub(crate) struct SetHeader {
    name: HeaderName,
    value: Source,
}

#[derive(Debug)]
enum Source {
    Fixed(HeaderValue),
    Expression(Expression),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetSpec {
    name: String,
    value: Option<String>,
    expression: Option<String>,
}

impl SetHeader {
    pub(super) fn parse(body: &serde_json::Value) -> Result<Self, Vec<registry::Fault>> {
        let SetSpec { name, value, expression: text } = read_part(body)?;
        let name = header_name("name", &name)?;
        let value = match (value, text) {
            (Some(value), None) => {
                let bad = |_| {
                    let mend = "give visible characters";
                    vec![registry::Fault::new("value", "is not a header's value", mend)]
                };
                Source::Fixed(HeaderValue::from_str(&value).map_err(bad)?)
            }
            (None, Some(text)) => Source::Expression(expression("expression", &text)?),
            _ => {
                let mend = "give one of value and expression";
                return Err(vec![registry::Fault::new("", "has no value, or two", mend)]);
            }
        };
        Ok(Self { name, value })
    }

    pub(super) async fn run(
        &self,
        message: &mut Message,
        context: &Context<'_>,
    ) -> Result<Next, Fault> {
        let value = match &self.value {
            Source::Fixed(value) => value.clone(),
            Source::Expression(expression) => {
                let value = context.evaluate(expression, message).await?;
                let text = scalar(&value).ok_or_else(|| {
                    Fault::new(Code::StepFailed, "the expression gives no text, number or boolean")
                })?;
                HeaderValue::from_str(&text).map_err(|_| {
                    Fault::new(Code::StepFailed, "the expression gives no header's value")
                })?
            }
        };
        message.set_header(self.name.clone(), value);
        Ok(Next::Step)
    }
}

/// Removes a header of the message.
#[derive(Debug)]
pub(crate) struct RemoveHeader(HeaderName);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RemoveSpec {
    name: String,
}

impl RemoveHeader {
    pub(super) fn parse(body: &serde_json::Value) -> Result<Self, Vec<registry::Fault>> {
        let RemoveSpec { name } = read_part(body)?;
        Ok(Self(header_name("name", &name)?))
    }

    #[expect(clippy::unused_async, reason = "steps are run alike")]
    pub(super) async fn run(&self, message: &mut Message, _: &Context<'_>) -> Result<Next, Fault> {
        message.headers.remove(&self.0);
        Ok(Next::Step)
    }
}

pub(super) fn header_name(key: &str, name: &str) -> Result<HeaderName, Vec<registry::Fault>> {
    HeaderName::from_bytes(name.as_bytes()).map_err(|_| {
        let mend = "give letters, digits and hyphens";
        vec![registry::Fault::new(key, "is not a header's name", mend)]
    })
}

/// A text, number or boolean as text.
pub(super) fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::TStr(text) => Some(String::from_utf8_lossy(text).into_owned()),
        Value::Num(_) | Value::Bool(_) => Some(value.to_string()),
        _ => None,
    }
}
