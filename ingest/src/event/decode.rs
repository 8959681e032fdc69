//! Reading an event back from JSON.
//!
//! One pass over the bytes. Each name is looked up in the table, whose row says how
//! its value is read; a name that is not there, and whatever it holds, is passed over.
//!
//! serde_json's feature `arbitrary_precision` must stay off in every build: it hands
//! out numbers as objects. The tests fail where something turns it on.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::error::Category;

use super::table::{FIELD_COUNT, Field, fields, numbered_field};
use super::value::Found;
use super::{Error, Event, EventId, Kind, Outcome, Producer, Timestamp};

impl Event {
    /// Reads an event from one flat JSON object.
    ///
    /// Unknown names are passed over, and null in an optional field counts as absent.
    /// Refused are: a missing mandatory field, a value of another type, a name of the
    /// table that is there twice, and an identity with a negative number.
    pub fn from_json(json: &[u8]) -> Result<Self, Error> {
        let mut reading = Reading::new();
        let mut json_reader = serde_json::Deserializer::from_slice(json);
        let read = json_reader
            .deserialize_any(ObjectVisitor(&mut reading))
            .and_then(|()| json_reader.end());
        match (read, reading.error.take()) {
            (_, Some(error)) => Err(error),
            (Err(error), None) => Err(not_an_event(&error)),
            (Ok(()), None) => reading.finish(),
        }
    }
}

/// serde_json repeats values only in errors about data, which become `NotAnObject`.
fn not_an_event(error: &serde_json::Error) -> Error {
    match error.classify() {
        Category::Data => Error::NotAnObject,
        _ => Error::Syntax { line: error.line(), column: error.column() },
    }
}

struct Reading {
    event: Event,
    seen: [bool; FIELD_COUNT],
    error: Option<Error>,
}

impl Reading {
    fn new() -> Self {
        let nobody = EventId { producer: Producer::placeholder(), boot: 0, sequence: 0 };
        let time = Timestamp::from_micros(0);
        let event = Event::new(nobody, time, Kind::Error, Outcome::Unknown);
        Self { event, seen: [false; FIELD_COUNT], error: None }
    }

    fn take(&mut self, place: usize, field: &'static Field, found: Found<'_>) -> Result<(), Error> {
        if std::mem::replace(&mut self.seen[place], true) {
            return Err(Error::Twice { field: field.name });
        }
        (field.read)(&mut self.event, found).map_err(|problem| Error::in_field(field.name, problem))
    }

    fn finish(self) -> Result<Event, Error> {
        let missing = fields().zip(self.seen).find(|(field, seen)| field.mandatory && !seen);
        if let Some((field, _)) = missing {
            return Err(Error::Missing { field: field.name });
        }
        let event = self.event;
        for (field, number) in [
            ("boot", event.boot),
            ("sequence", event.sequence),
            ("schema_version", event.schema_version),
            ("sequence_before", event.sequence_before.unwrap_or(0)),
        ] {
            if number < 0 {
                let reason = "the number is negative".to_owned();
                return Err(Error::Refused { field, reason });
            }
        }
        Ok(event)
    }
}

struct ObjectVisitor<'r>(&'r mut Reading);

impl<'de> Visitor<'de> for ObjectVisitor<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        while let Some(name) = map.next_key_seed(NameSeed)? {
            let Some((place, field)) = name else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let found = map.next_value_seed(FoundSeed)?;
            if let Err(error) = self.0.take(place, field, found) {
                self.0.error = Some(error);
                return Err(de::Error::custom("the field is refused"));
            }
        }
        Ok(())
    }
}

struct NameSeed;

impl<'de> DeserializeSeed<'de> for NameSeed {
    type Value = Option<(usize, &'static Field)>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_str(self)
    }
}

impl Visitor<'_> for NameSeed {
    type Value = Option<(usize, &'static Field)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(numbered_field(name))
    }
}

struct FoundSeed;

impl<'de> DeserializeSeed<'de> for FoundSeed {
    type Value = Found<'de>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Found<'de>, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for FoundSeed {
    type Value = Found<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Found<'de>, E> {
        Ok(Found::Null)
    }

    fn visit_bool<E>(self, boolean: bool) -> Result<Found<'de>, E> {
        Ok(Found::Boolean(boolean))
    }

    fn visit_i64<E>(self, integer: i64) -> Result<Found<'de>, E> {
        Ok(Found::Integer(integer))
    }

    fn visit_u64<E>(self, integer: u64) -> Result<Found<'de>, E> {
        Ok(i64::try_from(integer).map_or(Found::OtherNumber, Found::Integer))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Found<'de>, E> {
        Ok(Found::OtherNumber)
    }

    fn visit_str<E>(self, text: &str) -> Result<Found<'de>, E> {
        Ok(Found::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Found<'de>, E> {
        Ok(Found::Text(Cow::Borrowed(text)))
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut items: S) -> Result<Found<'de>, S::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Found::Array)
    }

    fn visit_map<M: MapAccess<'de>>(self, mut entries: M) -> Result<Found<'de>, M::Error> {
        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Found::Object)
    }
}
