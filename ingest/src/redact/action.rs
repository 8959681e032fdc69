use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use aws_lc_rs::hmac;
use serde::{Deserialize, Serialize};

use super::MASK;

/// What becomes of a value that a rule names.
///
/// The order is that of strictness: where rules of several entities name the same, the
/// strictest holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It stays as it is, also if it looks like a secret.
    Keep,
    /// Of an address the network stays: the first 24 bits of IPv4, 48 of IPv6.
    Shorten,
    /// A pseudonym takes its place, the same for the same value: `hash:` and 16
    /// hexadecimal digits. On a node that was given no key it is masked.
    Hash,
    /// `***` takes its place.
    #[default]
    Mask,
    /// The field is left out.
    Remove,
}

impl Action {
    /// As in a file.
    pub fn word(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Shorten => "shorten",
            Self::Hash => "hash",
            Self::Mask => "mask",
            Self::Remove => "remove",
        }
    }
}

/// The key by which values become pseudonyms. Nodes that share it give the same value
/// the same one; without it nobody can try values.
#[derive(Clone)]
pub struct Pseudonyms(Arc<hmac::Key>);

impl Pseudonyms {
    /// How long a key has to be, in bytes.
    pub const KEY_BYTES_MIN: usize = 32;

    /// By a key of at least [`Self::KEY_BYTES_MIN`] bytes; none if it is shorter.
    pub fn new(key: &[u8]) -> Option<Self> {
        let is_long = key.len() >= Self::KEY_BYTES_MIN;
        is_long.then(|| Self(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, key))))
    }

    /// The first 64 bits of the value's HMAC-SHA256 (RFC 2104).
    fn of(&self, value: &str) -> String {
        let tag = hmac::sign(&self.0, value.as_bytes());
        tag.as_ref()[..8].iter().fold("hash:".to_owned(), |out, byte| format!("{out}{byte:02x}"))
    }
}

impl fmt::Debug for Pseudonyms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key of pseudonyms")
    }
}

/// What takes a value's place; `mask` is what stands for one that is masked.
pub(super) fn replacement(
    action: Action,
    value: &str,
    mask: &str,
    pseudonyms: Option<&Pseudonyms>,
) -> String {
    match (action, pseudonyms) {
        (Action::Keep, _) => value.to_owned(),
        (Action::Hash, Some(_)) if is_pseudonym(value) => value.to_owned(),
        (Action::Hash, Some(pseudonyms)) => pseudonyms.of(value),
        (Action::Shorten, _) => shortened(value),
        (Action::Mask | Action::Hash | Action::Remove, _) => mask.to_owned(),
    }
}

/// Whether a value was replaced by its pseudonym already: an event may be offered again.
fn is_pseudonym(value: &str) -> bool {
    value.strip_prefix("hash:").is_some_and(|digits| {
        digits.len() == 16 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

/// The network that an address is in; of what is no address nothing.
fn shortened(address: &str) -> String {
    match address.parse::<IpAddr>().map(|ip| ip.to_canonical()) {
        Ok(IpAddr::V4(ip)) => {
            let [a, b, c, _] = ip.octets();
            format!("{a}.{b}.{c}.0")
        }
        Ok(IpAddr::V6(ip)) => {
            let [a, b, c, ..] = ip.segments();
            std::net::Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0).to_string()
        }
        Err(_) => MASK.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_keeps_its_network() {
        let check = |address: &str, network: &str| assert_eq!(shortened(address), network);
        check("203.0.113.77", "203.0.113.0");
        check("::ffff:203.0.113.77", "203.0.113.0");
        check("2001:db8:1:2::7", "2001:db8:1::");
        check("somewhere", "***");
    }

    #[test]
    fn a_pseudonym_is_its_keys_and_its_values() {
        let (one, other) = (Pseudonyms::new(&[1; 32]).unwrap(), Pseudonyms::new(&[2; 32]).unwrap());
        let hash = |value, key| replacement(Action::Hash, value, MASK, key);
        let alice = hash("alice", Some(&one));
        assert!(alice.starts_with("hash:") && alice.len() == 21, "{alice}");
        assert_eq!(hash("alice", Some(&one)), alice);
        assert_ne!(hash("bob", Some(&one)), alice);
        assert_ne!(hash("alice", Some(&other)), alice);
        assert_eq!(hash(&alice, Some(&one)), alice);
        assert_eq!(hash("alice", None), "***");
        assert!(Pseudonyms::new(&[1; 31]).is_none());
    }
}
