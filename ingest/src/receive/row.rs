use std::fmt;

use serde_json::value::RawValue;

use super::sender::Sender;
use crate::emit::Emitter;
use crate::event::{Event, Kind, Outcome, Text, Timestamp};
use crate::http::{Code, Problem};
use crate::redact;

/// The longest text of an attribute, in bytes.
const TEXT_BYTES_MAX: usize = 1_024;
/// The most data of an event, and the most of its further attributes, in bytes of JSON: within
/// an event each quote of it is escaped, and an event is at most 1 MiB.
const DATA_BYTES_MAX: usize = 256 * 1024;
const ATTRIBUTES_BYTES_MAX: usize = 32 * 1024;

/// An event of another system, before it is one of ours.
#[derive(Debug, Default)]
pub(super) struct Row {
    /// Its id; without one it is given its place in the request.
    pub(super) id: Option<String>,
    pub(super) source: String,
    pub(super) kind: String,
    pub(super) subject: Option<String>,
    pub(super) time: Option<Timestamp>,
    /// JSON.
    pub(super) data: Option<String>,
    /// A JSON object, if there are any.
    pub(super) attributes: Option<String>,
    pub(super) correlation_id: Option<String>,
    pub(super) trace: Option<Trace>,
    pub(super) service: Option<String>,
    pub(super) service_version: Option<String>,
}

/// Where an event stands in a trace, as hexadecimal digits.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Trace {
    pub(super) trace: String,
    pub(super) span: Option<String>,
}

impl Row {
    /// Whether it can be an event.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub(super) fn check(&self) -> Result<(), Problem> {
        let texts = [
            ("id", self.id.as_deref()),
            ("source", Some(&*self.source)),
            ("type", Some(&*self.kind)),
            ("subject", self.subject.as_deref()),
            ("correlationid", self.correlation_id.as_deref()),
            ("service.name", self.service.as_deref()),
            ("service.version", self.service_version.as_deref()),
        ];
        for (name, text) in texts {
            let Some(text) = text else { continue };
            if text.is_empty() {
                return Err(invalid(format_args!("{name} is empty")));
            }
            if text.len() > TEXT_BYTES_MAX {
                return Err(too_large(name, text.len(), TEXT_BYTES_MAX));
            }
        }
        // Neither could be looked into for secrets.
        let texts = [("data", &self.data), ("the attributes", &self.attributes)];
        for (name, text) in texts {
            if text.as_ref().is_some_and(|text| !redact::is_json(text)) {
                return Err(invalid(format_args!(
                    "{name}: nested deeper than 64 levels, or with half a character (\\ud800)"
                )));
            }
        }
        let parts = [
            ("data", &self.data, DATA_BYTES_MAX),
            ("the attributes together", &self.attributes, ATTRIBUTES_BYTES_MAX),
        ];
        let too_long = parts.into_iter().find_map(|(name, text, max)| {
            let bytes = text.as_ref().map_or(0, String::len);
            (bytes > max).then(|| too_large(name, bytes, max))
        });
        too_long.map_or(Ok(()), Err)
    }

    /// How much there is of it, in bytes, about.
    pub(super) fn bytes(&self) -> usize {
        let texts = [&self.data, &self.attributes];
        texts.into_iter().flatten().map(String::len).sum::<usize>() + TEXT_BYTES_MAX
    }

    /// The event that it is, sent by `sender`; `id` is what one without an id is given.
    pub(super) fn event(self, emitter: &Emitter, sender: &Sender, id: impl fmt::Display) -> Event {
        let mut event = emitter.event(Kind::External, Outcome::Unknown);
        let text = |text: Option<String>| text.map(Text::from);
        event.external_id = Some(self.id.unwrap_or_else(|| id.to_string()).into());
        event.external_source = Some(self.source.into());
        event.external_type = Some(self.kind.into());
        event.external_subject = text(self.subject);
        event.external_time = self.time;
        event.external_data = text(self.data);
        event.external_attributes = text(self.attributes);
        event.correlation_id = text(self.correlation_id);
        if let Some(Trace { trace, span }) = self.trace {
            (event.trace_id, event.span_id) = (Some(trace.into()), text(span));
        }
        event.service_name = text(self.service);
        event.service_version = text(self.service_version);
        sender.note(&mut event);
        event
    }
}

/// Of what is not as it has to be.
pub(super) fn invalid(what: fmt::Arguments<'_>) -> Problem {
    Problem::new(Code::BodyInvalid, what.to_string())
}

fn too_large(name: &str, bytes: usize, max: usize) -> Problem {
    Problem::new(Code::BodyTooLarge, format!("{name}: {bytes} bytes, {max} are allowed"))
}

/// A correlation id, if it can be one: 1 to 128 visible ASCII characters.
pub(super) fn correlation(text: &str) -> Option<String> {
    let is_one = (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    is_one.then(|| text.to_owned())
}

/// JSON without the spaces that its writer put between its parts.
pub(super) fn compact(json: &RawValue) -> String {
    let text = json.get();
    let (mut compact, mut in_text, mut is_escaped) = (String::new(), false, false);
    if !text.contains([' ', '\n', '\t', '\r']) {
        return text.to_owned();
    }
    compact.reserve(text.len());
    for char in text.chars() {
        if in_text {
            in_text = is_escaped || char != '"';
            is_escaped = !is_escaped && char == '\\';
        } else if matches!(char, ' ' | '\n' | '\t' | '\r') {
            continue;
        } else {
            in_text = char == '"';
        }
        compact.push(char);
    }
    compact
}
