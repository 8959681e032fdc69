//! The text of a field: owned, shared or static.
//!
//! Most texts of an event are the same for thousands of events: the name of an API,
//! a node, a method. Copying them for each event would cost more than writing them,
//! so a [`Text`] may share what the configuration already holds.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// An immutable text that is cheap to make from what the caller has.
#[derive(Clone)]
pub struct Text(Held);

#[derive(Clone)]
enum Held {
    Static(&'static str),
    Shared(Arc<str>),
    Owned(String),
}

impl Text {
    /// A text that the program itself contains.
    pub const fn from_static(text: &'static str) -> Self {
        Self(Held::Static(text))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Held::Static(text) => text,
            Held::Shared(text) => text,
            Held::Owned(text) => text,
        }
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for Text {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl From<&'static str> for Text {
    fn from(text: &'static str) -> Self {
        Self::from_static(text)
    }
}

impl From<Arc<str>> for Text {
    fn from(text: Arc<str>) -> Self {
        Self(Held::Shared(text))
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self(Held::Owned(text))
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Text {}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Text {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl PartialOrd for Text {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Text {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl std::hash::Hash for Text {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holders_of_the_same_text_are_equal() {
        let texts =
            [Text::from("GET"), Text::from(String::from("GET")), Text::from(Arc::from("GET"))];
        for text in &texts {
            assert_eq!(text, &texts[0]);
            assert_eq!(text, "GET");
            assert_eq!(text.to_string(), "GET");
        }
    }

    #[test]
    fn an_absent_text_takes_no_more_room() {
        assert_eq!(size_of::<Option<Text>>(), 24);
    }
}
