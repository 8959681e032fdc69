use std::collections::BTreeSet;
use std::fmt;

use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::registry::Fault;

/// What is wrong, and at which line and column of the file, from 1.
pub(super) type Located = ((usize, usize), Fault);

/// Reads a YAML (or JSON) document; `again` gives the same once more.
///
/// # Errors
/// That it is none, or that a key stands in it twice, and where.
pub(super) fn parse<'a>(
    document: serde_norway::Deserializer<'a>,
    again: impl FnOnce() -> Option<serde_norway::Deserializer<'a>>,
) -> Result<serde_norway::Value, Located> {
    serde_norway::Value::deserialize(document).map_err(|error| {
        let message = error.to_string();
        let place = |error: serde_norway::Error| {
            error.location().map_or((1, 1), |at| (at.line(), at.column()))
        };
        let what = message.split(" at line ").next().unwrap_or_default();
        let Some(twice) = what.find("duplicate entry with key") else {
            return (place(error), Fault::new("", what, "mend the YAML or JSON"));
        };
        // The parser tells where the key's mapping begins.
        let at = again().and_then(|document| Once.deserialize(document).err());
        (at.map_or((1, 1), place), Fault::new("", &what[twice..], "remove one of the two"))
    })
}

/// As [`parse`], of a text with one document.
///
/// # Errors
/// As there.
pub(super) fn parse_text(text: &str) -> Result<serde_norway::Value, Located> {
    let document = || serde_norway::Deserializer::from_str(text);
    parse(document(), || Some(document()))
}

/// Reads everything, and fails at a key that its mapping has already.
#[derive(Clone, Copy)]
struct Once;

impl<'de> DeserializeSeed<'de> for Once {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Once {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = BTreeSet::new();
        while map.next_key_seed(NewKey(&mut seen))?.is_some() {
            map.next_value_seed(self)?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(self)?.is_some() {}
        Ok(())
    }

    fn visit_enum<A: serde::de::EnumAccess<'de>>(self, data: A) -> Result<(), A::Error> {
        let (_, value) = data.variant::<IgnoredAny>()?;
        serde::de::VariantAccess::newtype_variant_seed(value, self)
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
}

/// A key; an error marks one that was there before.
struct NewKey<'a>(&'a mut BTreeSet<String>);

impl<'de> DeserializeSeed<'de> for NewKey<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for NewKey<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<(), E> {
        if self.0.insert(key.to_owned()) { Ok(()) } else { Err(E::custom("twice")) }
    }

    fn visit_u64<E: Error>(self, key: u64) -> Result<(), E> {
        self.visit_str(&key.to_string())
    }

    fn visit_i64<E: Error>(self, key: i64) -> Result<(), E> {
        self.visit_str(&key.to_string())
    }

    fn visit_f64<E: Error>(self, key: f64) -> Result<(), E> {
        self.visit_str(&key.to_string())
    }

    fn visit_bool<E: Error>(self, key: bool) -> Result<(), E> {
        self.visit_str(&key.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_stands_twice_is_told_where_it_stands_again() {
        let check = |text: &str, expected| assert_eq!(parse_text(text).unwrap_err().0, expected);
        check("a: 1\nb: 2\na: 3\n", (3, 1));
        check("a:\n- b: 1\n  c: {d: 1, d: 2}\n", (3, 13));
        check("{\"a\": [1, 2],\n \"a\": 1}", (2, 2));
        // Each mapping has its own keys.
        parse_text("a: {b: 1}\nb: {a: 1}\n").unwrap();
    }
}
