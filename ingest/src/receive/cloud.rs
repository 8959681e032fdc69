//! CloudEvents 1.0.2: the JSON format, and the HTTP binding's binary mode.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName};
use percent_encoding::percent_decode_str;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::row::{Row, Trace, compact, correlation, invalid};
use crate::event::Timestamp;
use crate::http::Problem;

const VERSION: &str = "1.0";
/// What comes before an attribute's name in a header (HTTP binding, section 3.1.3.1).
const PREFIX: &str = "ce-";
/// The header of an event in binary mode that every one has.
pub(super) const VERSION_HEADER: HeaderName = HeaderName::from_static("ce-specversion");
/// So many characters of what is wrong are told.
const TOLD_CHARS_MAX: usize = 40;
/// The most attributes of an event.
const ATTRIBUTES_MAX: usize = 64;

type Members = BTreeMap<String, Box<RawValue>>;

/// Reads an event in the JSON format.
///
/// # Errors
/// What is wrong, and where.
pub(super) fn of_json(json: &RawValue) -> Result<Row, Problem> {
    let members: Members = serde_json::from_str(json.get())
        .map_err(|_| invalid(format_args!("an event is a JSON object")))?;
    of_members(members)
}

/// As [`of_json`], of an object that was read.
pub(super) fn of_members(mut members: Members) -> Result<Row, Problem> {
    // Null says no more than nothing (section 2.2).
    members.retain(|_, value| value.get() != "null");
    let (data, base64) = (members.remove("data"), members.remove("data_base64"));
    let mut attributes = Map::new();
    for (name, value) in &members {
        attributes.insert(name.clone(), scalar(name, value)?);
    }
    let data = match (data, base64) {
        (Some(_), Some(_)) => {
            return Err(invalid(format_args!("an event has data or data_base64, not both")));
        }
        // In this format data is JSON, whatever its content type says (section 3.1).
        (Some(data), None) => Some(compact(&data)),
        (None, Some(base64)) => {
            let encoded: String = serde_json::from_str(base64.get())
                .map_err(|_| invalid(format_args!("data_base64 is a text")))?;
            let bytes = STANDARD.decode(&encoded);
            let bytes = bytes.map_err(|_| invalid(format_args!("data_base64 is no base64")))?;
            Some(data_of(&mut attributes, bytes)?)
        }
        (None, None) => None,
    };
    of_attributes(attributes, data)
}

/// Reads an event in binary mode: its attributes are headers, its data is the body.
///
/// # Errors
/// What is wrong, and where.
pub(super) fn of_headers(headers: &HeaderMap, body: Vec<u8>) -> Result<Row, Problem> {
    let mut attributes = Map::new();
    for (name, value) in headers {
        let Some(name) = name.as_str().strip_prefix(PREFIX) else { continue };
        let Some(text) = value.to_str().ok().and_then(header_text) else {
            return Err(invalid(format_args!("{PREFIX}{name} is no percent-encoded text")));
        };
        if attributes.insert(name.to_owned(), text.into()).is_some() {
            return Err(invalid(format_args!("{PREFIX}{name} comes twice")));
        }
    }
    if let Some(value) = headers.get(CONTENT_TYPE) {
        let text = value.to_str().map_err(|_| invalid(format_args!("content-type is no text")))?;
        attributes.insert("datacontenttype".to_owned(), text.into());
    }
    let data = if body.is_empty() { None } else { Some(data_of(&mut attributes, body)?) };
    of_attributes(attributes, data)
}

/// The value of an attribute in a header: a quoted string is taken out of its quotes, then
/// percent-encoding is undone once (HTTP binding, section 3.1.3.2).
fn header_text(value: &str) -> Option<String> {
    let quoted = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let unquoted = quoted.map(|text| {
        let (mut plain, mut chars) = (String::new(), text.chars());
        while let Some(char) = chars.next() {
            plain.extend(if char == '\\' { chars.next() } else { Some(char) });
        }
        plain
    });
    let text = unquoted.as_deref().unwrap_or(value);
    percent_decode_str(text).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}

/// The value of an attribute: a text, a number or a truth (section 2.2).
fn scalar(name: &str, value: &RawValue) -> Result<Value, Problem> {
    match serde_json::from_str(value.get()) {
        Ok(Value::Array(_) | Value::Object(_)) | Err(_) => {
            let mend = "put what has parts into data";
            let name = short(name);
            Err(invalid(format_args!("{name} is no text, number or truth; {mend}")))
        }
        Ok(value) => Ok(value),
    }
}

/// Data as JSON: JSON as it is, another text as a text, else base64, of which an attribute
/// tells. What it is that comes without a content type is seen by itself.
fn data_of(attributes: &mut Map<String, Value>, bytes: Vec<u8>) -> Result<String, Problem> {
    let content_type = attributes.get("datacontenttype").and_then(Value::as_str);
    if content_type.is_none_or(is_json) {
        match serde_json::from_slice::<&RawValue>(&bytes) {
            Ok(json) => return Ok(compact(json)),
            Err(_) if content_type.is_none() => {}
            Err(error) => return Err(invalid(format_args!("data is not JSON: {error}"))),
        }
    }
    let text = String::from_utf8(bytes).unwrap_or_else(|error| {
        attributes.insert("dataencoding".to_owned(), "base64".into());
        STANDARD.encode(error.into_bytes())
    });
    Ok(Value::String(text).to_string())
}

/// As much of a text as is worth telling.
fn short(text: &str) -> &str {
    text.char_indices().nth(TOLD_CHARS_MAX).map_or(text, |(end, _)| &text[..end])
}

/// Whether a media type is JSON (JSON format, section 3.1.1).
fn is_json(media_type: &str) -> bool {
    let essence = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence.ends_with("/json") || essence.ends_with("+json")
}

fn of_attributes(mut attributes: Map<String, Value>, data: Option<String>) -> Result<Row, Problem> {
    if attributes.len() > ATTRIBUTES_MAX {
        let count = attributes.len();
        return Err(invalid(format_args!("{count} attributes, {ATTRIBUTES_MAX} are allowed")));
    }
    let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_wrong = |name: &&String| name.is_empty() || !name.bytes().all(is_name);
    if let Some(name) = attributes.keys().find(is_wrong) {
        let mend = "use lower-case letters and digits";
        let name = short(name);
        return Err(invalid(format_args!("{name:?} is no name of an attribute; {mend}")));
    }
    let mut take = |name: &str| match attributes.remove(name) {
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(invalid(format_args!("{name} is not a text"))),
        None => Ok(None),
    };
    let (version, id, source) = (take("specversion")?, take("id")?, take("source")?);
    let (kind, subject, time) = (take("type")?, take("subject")?, take("time")?);
    let (correlation_id, trace) = (take("correlationid")?, take("traceparent")?);
    // One that cannot be read stays what it is.
    let mut kept = |name: &str, text: Option<String>| {
        attributes.extend(text.map(|text| (name.to_owned(), text.into())));
    };
    let joined = correlation_id.as_deref().and_then(correlation);
    kept("correlationid", correlation_id.filter(|_| joined.is_none()));
    let traced = trace.as_deref().and_then(trace_of);
    kept("traceparent", trace.filter(|_| traced.is_none()));
    let missing = |name: &str| invalid(format_args!("{name} is missing"));
    match version.as_deref() {
        Some(VERSION) => {}
        Some(other) => {
            let other = short(other);
            return Err(invalid(format_args!(
                "specversion {other:?} is not known; send {VERSION}"
            )));
        }
        None => return Err(missing("specversion")),
    }
    let time = time.map(|text| {
        let time: Result<Timestamp, _> = text.parse();
        time.map_err(|error| invalid(format_args!("time {:?}: {error}", short(&text))))
    });
    Ok(Row {
        id: Some(id.ok_or_else(|| missing("id"))?),
        source: source.ok_or_else(|| missing("source"))?,
        kind: kind.ok_or_else(|| missing("type"))?,
        subject,
        time: time.transpose()?,
        data,
        attributes: (!attributes.is_empty()).then(|| Value::Object(attributes).to_string()),
        correlation_id: joined,
        trace: traced,
        service: None,
        service_version: None,
    })
}

/// The trace of a `traceparent` (W3C trace context, section 3.2.2), if it is one.
fn trace_of(text: &str) -> Option<Trace> {
    let mut headers = HeaderMap::new();
    headers.insert(crate::http::TRACE_HEADER, text.parse().ok()?);
    let found = crate::http::Correlation::of(&headers, || 0);
    let span = format!("{:016x}", found.parent?);
    Some(Trace { trace: format!("{:032x}", found.trace), span: Some(span) })
}
