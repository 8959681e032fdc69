//! What expressions and templates see.

use super::{Context, Fault};
use crate::message::{CREDENTIALS, Format, Message, Value, json};

/// The values by name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scope {
    pub(crate) body: Value,
    pub(crate) headers: Value,
    pub(crate) properties: Value,
    pub(crate) path: Value,
    pub(crate) query: Value,
}

/// Whether the body has to be a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    /// Yes: a body that is none is a fault.
    Value,
    /// If it is JSON or XML; else it is null.
    ValueIfAny,
    /// As above; else it is its text.
    ValueOrText,
    /// It is not looked at.
    NoBody,
}

impl Scope {
    pub(crate) fn of(
        message: &mut Message,
        context: &Context<'_>,
        needs: Needs,
    ) -> Result<Self, Fault> {
        let is_value = message.is_empty() || message.format() != Format::Other;
        let body = match needs {
            Needs::NoBody => Value::Null,
            Needs::ValueIfAny if !is_value => Value::Null,
            Needs::ValueOrText if !is_value => {
                json::text(String::from_utf8_lossy(&message.bytes()?).into_owned())
            }
            _ => message.json()?.clone(),
        };
        let shown = message.headers.keys().filter(|name| !CREDENTIALS.contains(name));
        let headers = shown.map(|name| {
            let values = message.headers.get_all(name).iter();
            let values = values.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
            (name.as_str(), values.collect::<Vec<_>>().join(", "))
        });
        Ok(Self {
            body,
            headers: json::object(headers),
            properties: json::from_serde(&serde_json::Value::Object(message.properties.clone())),
            path: context.path.clone(),
            query: context.query.clone(),
        })
    }
}
