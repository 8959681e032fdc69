//! Who wrote an event, and as which one: the identity.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::{Error, Text};

/// The name of what writes events: one process of one node.
///
/// 1 to 64 ASCII letters, digits, `.`, `_` and `-`, the first a letter or a digit.
/// So it stands in a path, a file name and a header as it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Producer(Text);

impl Producer {
    /// The longest name, in bytes.
    pub const BYTES_MAX: usize = 64;

    /// The producer of this name, if the name follows the rules.
    pub fn new(name: impl Into<Text>) -> Result<Self, Error> {
        let name = name.into();
        match broken_rule(&name) {
            None => Ok(Self(name)),
            Some(reason) => Err(Error::Text { what: "producer", reason }),
        }
    }

    /// Stands in while an event is being read, until its own name is.
    pub(super) const fn placeholder() -> Self {
        Self(Text::from_static("unread"))
    }

    /// The same producer, whose copies cost no allocation: for what writes its
    /// name into every event.
    pub fn shared(&self) -> Self {
        Self(Text::from(Arc::<str>::from(self.as_str())))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn broken_rule(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("the name is empty".to_owned());
    }
    if name.len() > Producer::BYTES_MAX {
        let (bytes, max) = (name.len(), Producer::BYTES_MAX);
        return Some(format!("the name has {bytes} bytes, of at most {max}"));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if let Some(c) = name.chars().find(|&c| !allowed(c)) {
        return Some(format!("the name holds {c:?}; allowed are letters, digits, '.', '_', '-'"));
    }
    let first_fits = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    (!first_fits).then(|| "the name does not begin with a letter or a digit".to_owned())
}

impl fmt::Display for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Producer {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        Self::new(name.to_owned())
    }
}

/// The identity of an event. The text form is `producer/boot/sequence`.
///
/// Neither number is negative. A producer's boots grow, and within a boot so do its
/// sequences, so identities of one producer sort as they were made.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId {
    /// Who wrote the event.
    pub producer: Producer,
    /// Which of its starts.
    pub boot: i64,
    /// Which event since that start.
    pub sequence: i64,
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.producer, self.boot, self.sequence)
    }
}

impl FromStr for EventId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let fail = |reason: &str| Error::Text { what: "event id", reason: reason.to_owned() };
        let mut parts = text.split('/');
        let (Some(producer), Some(boot), Some(sequence), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(fail("expected producer/boot/sequence"));
        };
        Ok(Self {
            producer: producer.parse()?,
            boot: number(boot).ok_or_else(|| fail("the boot is not a number"))?,
            sequence: number(sequence).ok_or_else(|| fail("the sequence is not a number"))?,
        })
    }
}

/// A number in its one canonical form, so that one identity has one text.
fn number(text: &str) -> Option<i64> {
    let canonical = text == "0" || !text.starts_with(['0', '+', '-']);
    canonical.then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_producer(name: &str, expected: Result<(), &str>) {
        let read = name.parse::<Producer>().map(|_| ()).map_err(|error| error.to_string());
        assert_eq!(read, expected.map_err(|reason| format!("producer: {reason}")), "{name}");
    }

    #[test]
    fn producer_names_follow_rules() {
        check_producer("edge-1.dmz_a", Ok(()));
        check_producer("7", Ok(()));
        check_producer(&"a".repeat(64), Ok(()));
        check_producer("", Err("the name is empty"));
        check_producer(&"a".repeat(65), Err("the name has 65 bytes, of at most 64"));
        check_producer("-a", Err("the name does not begin with a letter or a digit"));
        for (name, found) in [("a/b", "'/'"), ("a b", "' '"), ("a\n", "'\\n'"), ("käse", "'ä'")] {
            let reason =
                format!("the name holds {found}; allowed are letters, digits, '.', '_', '-'");
            check_producer(name, Err(&reason));
        }
    }

    #[test]
    fn identities_read_back() {
        for text in ["edge-1/0/0", "a/1/9223372036854775807"] {
            assert_eq!(text.parse::<EventId>().unwrap().to_string(), text);
        }
    }

    fn check_refused(text: &str, expected: &str) {
        assert_eq!(text.parse::<EventId>().unwrap_err().to_string(), expected, "{text}");
    }

    #[test]
    fn other_texts_are_no_identity() {
        check_refused("a/1", "event id: expected producer/boot/sequence");
        check_refused("a/1/2/3", "event id: expected producer/boot/sequence");
        check_refused("/1/2", "producer: the name is empty");
        check_refused("a//2", "event id: the boot is not a number");
        check_refused("a/-1/2", "event id: the boot is not a number");
        check_refused("a/1/+2", "event id: the sequence is not a number");
        check_refused("a/1/02", "event id: the sequence is not a number");
        check_refused("a/1/9223372036854775808", "event id: the sequence is not a number");
    }

    #[test]
    fn identities_sort_as_they_were_made() {
        let mut ids: Vec<EventId> =
            ["a/2/1", "a/1/10", "a/1/9"].iter().map(|text| text.parse().unwrap()).collect();
        ids.sort();
        let texts: Vec<String> = ids.iter().map(EventId::to_string).collect();
        assert_eq!(texts, ["a/1/9", "a/1/10", "a/2/1"]);
    }
}
