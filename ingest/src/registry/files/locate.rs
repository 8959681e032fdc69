use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Where a place of a YAML document is, line and column from 1.
///
/// The parser tells a place only with an error. So the document is read once
/// more, along the path, and the reading fails on purpose where the path ends or
/// leaves what is there.
pub(super) fn locate(document: serde_norway::Deserializer<'_>, path: &str) -> (usize, usize) {
    let segments: Vec<&str> =
        path.split(['.', '[', ']']).filter(|segment| !segment.is_empty()).collect();
    locate_segments(document, &segments)
}

/// As [`locate`], by the keys and indices of the path.
pub(super) fn locate_segments(
    document: serde_norway::Deserializer<'_>,
    segments: &[&str],
) -> (usize, usize) {
    let failed = Along(segments).deserialize(document).err();
    let location = failed.and_then(|error| error.location());
    location.map_or((1, 1), |location| (location.line(), location.column()))
}

/// Reads along a path; an error marks its end.
struct Along<'a>(&'a [&'a str]);

const HERE: &str = "here";

impl<'de> DeserializeSeed<'de> for Along<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Along<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HERE)
    }

    // Scalars end a path: the visitor's own methods refuse them with an error.

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some((wanted, rest)) = self.0.split_first() else {
            return Err(A::Error::custom(HERE));
        };
        loop {
            match map.next_key_seed(KeyOf { wanted, is_last: rest.is_empty() })? {
                None => return Err(A::Error::custom(HERE)),
                Some(true) => return map.next_value_seed(Along(rest)),
                Some(false) => drop(map.next_value::<IgnoredAny>()?),
            }
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let (index, rest) = match self.0.split_first() {
            Some((index, rest)) => (index.parse::<usize>().unwrap_or(usize::MAX), rest),
            None => return Err(A::Error::custom(HERE)),
        };
        for _ in 0..index {
            if seq.next_element::<IgnoredAny>()?.is_none() {
                return Err(A::Error::custom(HERE));
            }
        }
        seq.next_element_seed(Along(rest))?;
        Err(A::Error::custom(HERE))
    }
}

/// Whether a key is the wanted one; the end of a path is its key.
struct KeyOf<'a> {
    wanted: &'a str,
    is_last: bool,
}

impl<'de> DeserializeSeed<'de> for KeyOf<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        // A key may be a number, such as a status.
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for KeyOf<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<bool, E> {
        match key == self.wanted {
            true if self.is_last => Err(E::custom(HERE)),
            is_wanted => Ok(is_wanted),
        }
    }

    fn visit_u64<E: Error>(self, key: u64) -> Result<bool, E> {
        self.visit_str(&key.to_string())
    }

    fn visit_i64<E: Error>(self, key: i64) -> Result<bool, E> {
        self.visit_str(&key.to_string())
    }

    fn visit_f64<E: Error>(self, key: f64) -> Result<bool, E> {
        self.visit_str(&key.to_string())
    }

    fn visit_bool<E: Error>(self, key: bool) -> Result<bool, E> {
        self.visit_str(&key.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_to_their_keys_and_items() {
        let text = "kind: api\nspec:\n  tiers: [a, bb,\n    c]\n  resources:\n  - path: /x\n  - path: /y\n";
        let check = |path: &str, expected| {
            let found = locate(serde_norway::Deserializer::from_str(text), path);
            assert_eq!(found, expected, "{path}");
        };
        check("kind", (1, 1));
        check("spec", (2, 1));
        check("spec.tiers[2]", (4, 5));
        check("spec.resources[1].path", (7, 5));
        // What is missing is reported where it should be.
        check("spec.resources[1].methods", (7, 5));
        check("spec.nothing", (3, 3));
        check("", (1, 1));
    }
}
