//! An event as a record of the log: CloudEvents 1.0 in the binary content mode of the
//! Kafka protocol binding.
//!
//! The attributes are headers, the value is the event's flat JSON, so that any reader
//! of JSON on Kafka takes it as it is:
//!
//! ```text
//! key             correlation id, else trace id, else producer
//! ce_specversion  1.0
//! ce_id           producer/boot/sequence
//! ce_source       /weir/producer
//! ce_type         dev.weir.request
//! ce_time         2026-01-31T23:59:59.000000Z
//! content-type    application/json
//! ```
//!
//! The headers repeat what the value says. [`read`] refuses a record whose headers
//! say something else, since readers of either would count differently.

use std::borrow::Cow;
use std::fmt;
use std::sync::LazyLock;

use bytes::Bytes;
use serde::Deserialize;
use serde::Deserializer as _;
use serde::de::{IgnoredAny, MapAccess, Visitor};

use super::error::quoted;
use super::{Error, Event, Kind};

/// What comes before the kind in `ce_type`.
pub const TYPE_PREFIX: &str = "dev.weir.";
/// What comes before the producer in `ce_source`.
pub const SOURCE_PREFIX: &str = "/weir/";

const SPEC_VERSION: &str = "1.0";
const CONTENT_TYPE: &str = "application/json";
/// Room for the key and the attributes of most events.
const USUAL_TEXT_BYTES: usize = 192;

/// A record of the log, in plain parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What leads to the partition: [`Event::partition_key`].
    pub key: Bytes,
    /// The attributes, in a fixed order.
    pub headers: Vec<(&'static str, Bytes)>,
    /// The event as flat JSON.
    pub value: Bytes,
}

/// What a record says of an event outside of its value.
#[derive(Default)]
struct Attributes<'a> {
    event_time: Cow<'a, str>,
    producer: Cow<'a, str>,
    boot: i64,
    sequence: i64,
    kind: Cow<'a, str>,
    correlation_id: Option<Cow<'a, str>>,
    trace_id: Option<Cow<'a, str>>,
}

impl<'a> Attributes<'a> {
    /// Reads them from the beginning of an event's JSON, up to the first field behind
    /// them: two thirds of it, which says nothing of them, are not looked at.
    fn of_json(json: &'a [u8]) -> Option<Self> {
        Self::of_plain_json(json).or_else(|| Self::of_any_json(json))
    }

    /// As [`Self::of_json`], where the JSON is as [`Event::write_json`] writes it and
    /// nothing before the attributes' end is escaped.
    fn of_plain_json(json: &'a [u8]) -> Option<Self> {
        let text = |value: Plain<'a>| match value {
            Plain::Text(text) => std::str::from_utf8(text).ok(),
            Plain::Integer(_) => None,
        };
        let number = |value: Plain<'a>| match value {
            Plain::Integer(integer) => Some(integer),
            Plain::Text(_) => None,
        };
        let (mut found, mut rest) = (Self::default(), json);
        let mut before = b'{';
        // Without the last of them it is for the other reader to say where the end is.
        while found.trace_id.is_none() {
            let (name, value, tail) = plain_field(rest, before)?;
            match name {
                b"event_time" => found.event_time = text(value)?.into(),
                b"producer" => found.producer = text(value)?.into(),
                b"boot" => found.boot = number(value)?,
                b"sequence" => found.sequence = number(value)?,
                b"kind" => found.kind = text(value)?.into(),
                b"correlation_id" => found.correlation_id = Some(text(value)?.into()),
                b"trace_id" => found.trace_id = Some(text(value)?.into()),
                _ => {}
            }
            (rest, before) = (tail, b',');
        }
        found.is_whole().then_some(found)
    }

    fn is_whole(&self) -> bool {
        let texts = [&self.event_time, &self.producer, &self.kind];
        texts.iter().all(|text| !text.is_empty()) && self.boot > 0 && self.sequence > 0
    }

    fn of_any_json(json: &'a [u8]) -> Option<Self> {
        struct Fields<'x, 'a>(&'x mut Attributes<'a>, &'x mut bool);

        impl<'a> Visitor<'a> for Fields<'_, 'a> {
            type Value = ();

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an event")
            }

            fn visit_map<M: MapAccess<'a>>(self, mut map: M) -> Result<(), M::Error> {
                let Self(found, is_past) = self;
                while let Some(name) = map.next_key::<&str>()? {
                    match name {
                        "event_time" => found.event_time = map.next_value::<Text>()?.0,
                        "producer" => found.producer = map.next_value::<Text>()?.0,
                        "boot" => found.boot = map.next_value()?,
                        "sequence" => found.sequence = map.next_value()?,
                        "kind" => found.kind = map.next_value::<Text>()?.0,
                        "correlation_id" => {
                            found.correlation_id = Some(map.next_value::<Text>()?.0);
                        }
                        "trace_id" => found.trace_id = Some(map.next_value::<Text>()?.0),
                        _ if is_behind(name) => {
                            *is_past = true;
                            return Ok(());
                        }
                        _ => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(())
            }
        }

        let (mut found, mut is_past) = (Self::default(), false);
        let mut deserializer = serde_json::Deserializer::from_slice(json);
        let read = deserializer.deserialize_map(Fields(&mut found, &mut is_past));
        // It was not read to its end where all was found before.
        let is_read = is_past || (read.is_ok() && deserializer.end().is_ok());
        (is_read && found.is_whole()).then_some(found)
    }
}

/// A value that needs no parser.
enum Plain<'a> {
    Text(&'a [u8]),
    Integer(i64),
}

/// The name and value of a field behind `before`, and what follows; none if they are not
/// a text without escapes, or an integer.
fn plain_field(json: &[u8], before: u8) -> Option<(&[u8], Plain<'_>, &[u8])> {
    let rest = json.strip_prefix(&[before, b'"'])?;
    let (name, rest) = rest.split_at(rest.iter().position(|byte| *byte == b'"')?);
    let rest = rest.strip_prefix(b"\":")?;
    if let Some(rest) = rest.strip_prefix(b"\"") {
        let (text, rest) = rest.split_at(rest.iter().position(|b| matches!(b, b'"' | b'\\'))?);
        return Some((name, Plain::Text(text), rest.strip_prefix(b"\"")?));
    }
    let end = rest.iter().position(|byte| !byte.is_ascii_digit())?;
    let (digits, rest) = rest.split_at(end);
    let digits = std::str::from_utf8(digits).ok()?;
    Some((name, Plain::Integer(digits.parse().ok()?), rest))
}

/// A text that is borrowed where nothing in it is escaped.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// Whether a field of the table comes behind all that are attributes.
fn is_behind(name: &str) -> bool {
    static FIELDS: LazyLock<(Vec<&str>, Vec<&str>)> = LazyLock::new(|| {
        let mut before: Vec<&str> = super::fields().map(|field| field.name).collect();
        let last = before.iter().position(|name| *name == "trace_id");
        let behind = before.split_off(last.map_or(before.len(), |last| last + 1));
        (before, behind)
    });
    let (before, behind) = &*FIELDS;
    !before.contains(&name) && behind.contains(&name)
}

/// The event as a record.
pub fn record(event: &Event) -> Record {
    let shared = |text: &'_ Option<super::Text>| text.as_ref().map(|text| text.to_string().into());
    let attributes = Attributes {
        event_time: event.event_time.to_string().into(),
        producer: event.producer.as_str().into(),
        boot: event.boot,
        sequence: event.sequence,
        kind: event.kind.text().into(),
        correlation_id: shared(&event.correlation_id),
        trace_id: shared(&event.trace_id),
    };
    record_with(&attributes, event.to_json().into())
}

/// The record of an event that this program has written as JSON: it becomes the value
/// as it is, and only what the headers repeat is read from it.
///
/// # Errors
/// If it lacks what every event has. What comes behind that is not looked at.
pub fn record_of_json(json: Bytes) -> Result<Record, Error> {
    let Some(attributes) = Attributes::of_json(&json) else {
        // Its error says what is wrong.
        return Event::from_json(&json).map(|event| record(&event));
    };
    if attributes.kind.parse::<Kind>().is_err() {
        is_known(&format!("{TYPE_PREFIX}{}", attributes.kind))?;
    }
    Ok(record_with(&attributes, json.clone()))
}

fn record_with(attributes: &Attributes<'_>, value: Bytes) -> Record {
    let Attributes { event_time, producer, boot, sequence, kind, .. } = attributes;
    let joining = [&attributes.correlation_id, &attributes.trace_id];
    let key = joining.into_iter().flatten().find(|key| !key.is_empty()).unwrap_or(producer);
    // Short texts that share one allocation.
    let (mut boot_digits, mut sequence_digits) = (itoa::Buffer::new(), itoa::Buffer::new());
    let (boot, sequence) = (boot_digits.format(*boot), sequence_digits.format(*sequence));
    let mut texts = Vec::with_capacity(USUAL_TEXT_BYTES);
    let mut add = |parts: &[&str]| {
        let start = texts.len();
        parts.iter().for_each(|part| texts.extend_from_slice(part.as_bytes()));
        start..texts.len()
    };
    let key = add(&[key]);
    let id = add(&[producer, "/", boot, "/", sequence]);
    let source = add(&[SOURCE_PREFIX, producer]);
    let kind = add(&[TYPE_PREFIX, kind]);
    let time = add(&[event_time]);
    let texts = Bytes::from(texts);
    Record {
        key: texts.slice(key),
        headers: vec![
            ("ce_specversion", Bytes::from_static(SPEC_VERSION.as_bytes())),
            ("ce_id", texts.slice(id)),
            ("ce_source", texts.slice(source)),
            ("ce_type", texts.slice(kind)),
            ("ce_time", texts.slice(time)),
            ("content-type", Bytes::from_static(CONTENT_TYPE.as_bytes())),
        ],
        value,
    }
}

/// Reads an event back from a record's headers, in any order, and its value.
pub fn read<'a>(
    headers: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    value: &[u8],
) -> Result<Event, Error> {
    let [mut version, mut id, mut source, mut kind, mut content_type] = [None; 5];
    for (name, bytes) in headers {
        match name {
            "ce_specversion" => version = Some(bytes),
            "ce_id" => id = Some(bytes),
            "ce_source" => source = Some(bytes),
            "ce_type" => kind = Some(bytes),
            "content-type" => content_type = Some(bytes),
            _ => {}
        }
    }
    let version = header("ce_specversion", version)?;
    agree("ce_specversion", version, SPEC_VERSION)?;
    is_json(header("content-type", content_type)?)?;
    is_known(header("ce_type", kind)?)?;

    let event = Event::from_json(value)?;
    agree("ce_id", header("ce_id", id)?, &event.id().to_string())?;
    agree(
        "ce_source",
        header("ce_source", source)?,
        &format!("{SOURCE_PREFIX}{}", event.producer),
    )?;
    agree("ce_type", header("ce_type", kind)?, &format!("{TYPE_PREFIX}{}", event.kind))?;
    Ok(event)
}

fn header<'a>(name: &'static str, bytes: Option<&'a [u8]>) -> Result<&'a str, Error> {
    let fail = |reason: &str| Error::Header { name, reason: reason.to_owned() };
    let bytes = bytes.ok_or_else(|| fail("the header is missing"))?;
    std::str::from_utf8(bytes).map_err(|_| fail("the header is not UTF-8"))
}

fn agree(name: &'static str, found: &str, expected: &str) -> Result<(), Error> {
    if found == expected {
        return Ok(());
    }
    let reason = format!("expected {}, found {}", quoted(expected), quoted(found));
    Err(Error::Header { name, reason })
}

/// A type of another family is named as such before its value is looked at.
fn is_known(found: &str) -> Result<(), Error> {
    let fail = |reason: String| Error::Header { name: "ce_type", reason };
    let Some(kind) = found.strip_prefix(TYPE_PREFIX) else {
        return Err(fail(format!("{} is not an event of weir", quoted(found))));
    };
    let known = kind.parse::<Kind>();
    known.map(|_| ()).map_err(|_| fail(format!("unknown kind {}", quoted(kind))))
}

/// Parameters of the media type, such as a charset, are allowed and ignored.
fn is_json(found: &str) -> Result<(), Error> {
    let media_type = found.split(';').next().unwrap_or_default().trim();
    if media_type.eq_ignore_ascii_case(CONTENT_TYPE) {
        return Ok(());
    }
    agree("content-type", found, CONTENT_TYPE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::sample::sample;

    fn pairs(record: &Record) -> Vec<(&str, &[u8])> {
        record.headers.iter().map(|(name, bytes)| (*name, bytes.as_ref())).collect()
    }

    #[test]
    fn records_read_back() {
        for kind in Kind::ALL {
            let event = sample(*kind);
            let record = record(&event);
            let mut headers = pairs(&record);
            assert_eq!(read(headers.clone(), &record.value).as_ref(), Ok(&event));
            headers.reverse();
            headers.push(("traceparent", b"00"));
            assert_eq!(read(headers, &record.value).as_ref(), Ok(&event));
        }
    }

    #[test]
    fn a_record_of_json_is_that_of_its_event() {
        for kind in Kind::ALL {
            let mut event = sample(*kind);
            assert_eq!(record_of_json(event.to_json().into()).as_ref(), Ok(&record(&event)));
            event.correlation_id = Some("a \"quoted\" \\ one".to_owned().into());
            assert_eq!(record_of_json(event.to_json().into()).as_ref(), Ok(&record(&event)));
            event.correlation_id = Some("".into());
            assert_eq!(record_of_json(event.to_json().into()).as_ref(), Ok(&record(&event)));
            assert_eq!(record(&event).key, event.partition_key());
        }
        let plain = sample(Kind::Request).to_json();
        assert!(Attributes::of_plain_json(&plain).is_some(), "the usual one is read the fast way");
        for bad in [&b"{"[..], b"{}", b"[]", br#"{"kind":"dance"}"#] {
            assert!(record_of_json(Bytes::from_static(bad)).is_err());
        }
        let dance = String::from_utf8(sample(Kind::Request).to_json()).unwrap();
        let dance = dance.replace("\"request\"", "\"dance\"");
        assert!(record_of_json(dance.into()).is_err());
    }

    #[test]
    fn headers_are_those_of_the_binding() {
        let record = record(&sample(Kind::Request));
        let texts: Vec<(&str, &str)> = pairs(&record)
            .into_iter()
            .map(|(name, bytes)| (name, std::str::from_utf8(bytes).unwrap()))
            .collect();
        assert_eq!(
            texts,
            [
                ("ce_specversion", "1.0"),
                ("ce_id", "edge-1/3/100"),
                ("ce_source", "/weir/edge-1"),
                ("ce_type", "dev.weir.request"),
                ("ce_time", "2026-01-31T23:59:59.000100Z"),
                ("content-type", "application/json"),
            ]
        );
        assert_eq!(record.key, "0b1e6a52");
    }

    fn check_changed(name: &str, bytes: Option<&[u8]>, expected: Result<(), &str>) {
        let record = record(&sample(Kind::Request));
        let mut headers = pairs(&record);
        headers.retain(|(header, _)| *header != name);
        headers.extend(bytes.map(|bytes| (name, bytes)));
        let read = read(headers, &record.value).map(|_| ()).map_err(|error| error.to_string());
        assert_eq!(read, expected.map_err(str::to_owned));
    }

    #[test]
    fn headers_that_contradict_the_value_are_refused() {
        check_changed("content-type", Some(b"Application/JSON; charset=utf-8"), Ok(()));
        check_changed("ce_time", None, Ok(()));
        check_changed("ce_id", None, Err("header ce_id: the header is missing"));
        check_changed("ce_source", Some(b"\xff"), Err("header ce_source: the header is not UTF-8"));
        check_changed(
            "ce_specversion",
            Some(b"0.3"),
            Err(r#"header ce_specversion: expected "1.0", found "0.3""#),
        );
        check_changed(
            "ce_id",
            Some(b"edge-1/3/8"),
            Err(r#"header ce_id: expected "edge-1/3/100", found "edge-1/3/8""#),
        );
        check_changed(
            "ce_type",
            Some(b"dev.weir.step"),
            Err(r#"header ce_type: expected "dev.weir.request", found "dev.weir.step""#),
        );
        check_changed(
            "ce_type",
            Some(b"com.example.order"),
            Err(r#"header ce_type: "com.example.order" is not an event of weir"#),
        );
        check_changed(
            "ce_type",
            Some(b"dev.weir.dance"),
            Err(r#"header ce_type: unknown kind "dance""#),
        );
        check_changed(
            "content-type",
            Some(b"application/avro"),
            Err(r#"header content-type: expected "application/json", found "application/avro""#),
        );
    }
}
