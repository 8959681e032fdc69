//! The types that a field may have, each written to JSON and read from it.

use std::borrow::Cow;

use super::encode;
use super::{Error, Kind, Outcome, Producer, Text, Timestamp, Type};

/// A type of the table's third column.
pub(super) trait Value: Sized {
    /// What the type is outside Rust.
    const TYPE: Type;
    /// The only texts allowed, if the set is closed.
    const TEXTS: &'static [&'static str] = &[];

    /// Appends the JSON value.
    fn write(&self, out: &mut Vec<u8>);

    /// Takes a JSON value, if it fits.
    fn read(found: Found<'_>) -> Result<Self, Problem>;
}

/// A JSON value as it was found. What lies inside an array or an object is not kept,
/// since no field holds one.
pub(super) enum Found<'a> {
    Null,
    Boolean(bool),
    Integer(i64),
    OtherNumber,
    Text(Cow<'a, str>),
    Array,
    Object,
}

/// Why a value does not fit, before the field's name is known.
pub(super) enum Problem {
    Type { expected: &'static str, found: &'static str },
    Rule(Error),
}

impl<'a> Found<'a> {
    fn text(self, expected: Type) -> Result<Cow<'a, str>, Problem> {
        match self {
            Self::Text(text) => Ok(text),
            other => Err(other.instead_of(expected)),
        }
    }

    fn instead_of(&self, expected: Type) -> Problem {
        let found = match self {
            Self::Null => "null",
            Self::Boolean(_) => "a boolean",
            Self::Integer(_) => "an integer",
            Self::OtherNumber => "a number that is no 64-bit integer",
            Self::Text(_) => "a text",
            Self::Array => "an array",
            Self::Object => "an object",
        };
        Problem::Type { expected: expected.with_article(), found }
    }
}

/// Reads an optional field: null is another way to say that it is absent.
pub(super) fn optional<T: Value>(found: Found<'_>) -> Result<Option<T>, Problem> {
    match found {
        Found::Null => Ok(None),
        other => T::read(other).map(Some),
    }
}

impl Value for Text {
    const TYPE: Type = Type::Text;

    fn write(&self, out: &mut Vec<u8>) {
        encode::text(self, out);
    }

    fn read(found: Found<'_>) -> Result<Self, Problem> {
        Ok(Self::from(found.text(Self::TYPE)?.into_owned()))
    }
}

impl Value for i64 {
    const TYPE: Type = Type::Integer;

    fn write(&self, out: &mut Vec<u8>) {
        encode::integer(*self, out);
    }

    fn read(found: Found<'_>) -> Result<Self, Problem> {
        match found {
            Found::Integer(integer) => Ok(integer),
            other => Err(other.instead_of(Self::TYPE)),
        }
    }
}

impl Value for bool {
    const TYPE: Type = Type::Boolean;

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(if *self { b"true" } else { b"false" });
    }

    fn read(found: Found<'_>) -> Result<Self, Problem> {
        match found {
            Found::Boolean(boolean) => Ok(boolean),
            other => Err(other.instead_of(Self::TYPE)),
        }
    }
}

impl Value for Timestamp {
    const TYPE: Type = Type::Time;

    fn write(&self, out: &mut Vec<u8>) {
        encode::plain_ascii(&self.to_ascii(), out);
    }

    fn read(found: Found<'_>) -> Result<Self, Problem> {
        found.text(Self::TYPE)?.parse().map_err(Problem::Rule)
    }
}

impl Value for Producer {
    const TYPE: Type = Type::Text;

    fn write(&self, out: &mut Vec<u8>) {
        encode::plain_ascii(self.as_str().as_bytes(), out);
    }

    fn read(found: Found<'_>) -> Result<Self, Problem> {
        Self::new(found.text(Self::TYPE)?.into_owned()).map_err(Problem::Rule)
    }
}

impl Value for Kind {
    const TYPE: Type = Type::Text;
    const TEXTS: &'static [&'static str] = Self::TEXTS;

    fn write(&self, out: &mut Vec<u8>) {
        encode::plain_ascii(self.text().as_bytes(), out);
    }

    fn read(found: Found<'_>) -> Result<Self, Problem> {
        found.text(Self::TYPE)?.parse().map_err(Problem::Rule)
    }
}

impl Value for Outcome {
    const TYPE: Type = Type::Text;
    const TEXTS: &'static [&'static str] = Self::TEXTS;

    fn write(&self, out: &mut Vec<u8>) {
        encode::plain_ascii(self.text().as_bytes(), out);
    }

    fn read(found: Found<'_>) -> Result<Self, Problem> {
        found.text(Self::TYPE)?.parse().map_err(Problem::Rule)
    }
}
