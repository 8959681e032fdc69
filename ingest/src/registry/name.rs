use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Kind;

/// The name of an entity among those of its kind.
///
/// 1 to 128 ASCII letters, digits, `.`, `_` and `-`, the first a letter or a digit.
/// So it stands in a path, a key and a header as it is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(Arc<str>);

impl Name {
    /// The text, shared.
    pub fn shared(&self) -> Arc<str> {
        self.0.clone()
    }

    /// The longest name, in bytes.
    pub const BYTES_MAX: usize = 128;

    /// The name, if it follows the rules; else which rule it breaks.
    ///
    /// # Errors
    /// [`BadName`].
    pub fn new(name: &str) -> Result<Self, BadName> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let good = name.len() <= Self::BYTES_MAX
            && name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name.chars().all(plain);
        if good { Ok(Self(name.into())) } else { Err(BadName) }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A name that breaks the rules of [`Name`]. It does not repeat the name, which
/// may be anything, of any length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a name has 1 to 128 of the characters a-z A-Z 0-9 . _ - and begins with a letter or a digit"
)]
pub struct BadName;

impl TryFrom<String> for Name {
    type Error = BadName;

    fn try_from(name: String) -> Result<Self, BadName> {
        Self::new(&name)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0.as_ref().to_owned()
    }
}

impl FromStr for Name {
    type Err = BadName;

    fn from_str(name: &str) -> Result<Self, BadName> {
        Self::new(name)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What names an entity: its kind and its name. The text form is `kind/name`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EntityKey {
    /// The kind.
    pub kind: Kind,
    /// The name among those of its kind.
    pub name: Name,
}

impl EntityKey {
    /// Names an entity; whether it exists, a snapshot says.
    pub fn new(kind: Kind, name: Name) -> Self {
        Self { kind, name }
    }

    /// Reads the text form; `None` if it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, name) = text.split_once('/')?;
        Some(Self { kind: Kind::parse(kind)?, name: Name::new(name).ok()? })
    }
}

impl TryFrom<String> for EntityKey {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or("an entity is named by kind/name")
    }
}

impl From<EntityKey> for String {
    fn from(key: EntityKey) -> Self {
        key.to_string()
    }
}

impl fmt::Display for EntityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.name)
    }
}

impl fmt::Debug for EntityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_rules() {
        let check = |name: &str, good| assert_eq!(Name::new(name).is_ok(), good, "{name:?}");
        check("orders-v1.2_b", true);
        check("7", true);
        check(&"a".repeat(128), true);
        check(&"a".repeat(129), false);
        for bad in ["", "-a", ".end", "a/b", "a b", "käse", "a\n"] {
            check(bad, false);
        }
    }

    #[test]
    fn keys_read_back() {
        let key = EntityKey::parse("api/orders-v1").unwrap();
        assert_eq!((key.kind, key.to_string().as_str()), (Kind::Api, "api/orders-v1"));
        for bad in ["api", "api/", "house/a", ".end", "api/a/b"] {
            assert_eq!(EntityKey::parse(bad), None, "{bad}");
        }
    }
}
