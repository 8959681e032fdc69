use aws_lc_rs::constant_time::verify_slices_are_equal;
use serde::{Deserialize, Serialize};

use super::application::{check_sha256, sha256_hex};
use super::{Kind, KindSpec, Name, Reference};
use crate::registry::Faults;
use crate::registry::kind::Secret;
use crate::scram::Verifier;

/// A person, or a program, that reads of the traffic what its roles let it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// Who it is, up to 1,024 bytes.
    #[serde(default)]
    pub description: Option<String>,
    /// What it may, 0 to 20 roles: all that any of them lets it.
    #[serde(default)]
    pub roles: Vec<Name>,
    /// What is kept of its password, as `weir secret --password` prints: a verifier of
    /// SCRAM-SHA-256. A file may leave it out, and it stays as it is; null takes it away.
    #[serde(default)]
    pub password: Option<Secret>,
    /// The keys that it may log in by in place of the password, 0 to 10, as `weir secret`
    /// prints them.
    #[serde(default)]
    pub keys: Vec<AccessKey>,
}

/// A key of a user. Only its hash is known here: a key is 32 random bytes, so that a plain
/// hash of it cannot be guessed back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessKey {
    /// SHA-256 of the key, 64 lower-case hexadecimal digits.
    pub sha256: String,
    /// What it is for, up to 256 bytes.
    #[serde(default)]
    pub description: Option<String>,
}

/// What every key begins with, and no password may.
pub(crate) const KEY_PREFIX: &str = "weirs_";

/// The most keys of a user.
const KEYS_MAX: usize = 10;

impl User {
    /// What is kept of its password.
    pub fn verifier(&self) -> Option<Verifier> {
        self.password.as_ref()?.expose().parse().ok()
    }

    /// Whether a text is one of its keys. The time that it takes tells neither whether the
    /// user is known nor how many keys it has.
    pub fn has_key(user: Option<&Self>, key: &str) -> bool {
        // No hash looks so, and it is as long as one.
        const NONE: &str = "----------------------------------------------------------------";
        let given = sha256_hex(key);
        let keys = user.map_or(&[][..], |user| &user.keys);
        // A text of somebody's own could be guessed back.
        key.starts_with(KEY_PREFIX)
            & (0..KEYS_MAX).fold(false, |found, i| {
                let held = keys.get(i).map_or(NONE, |held| &held.sha256);
                found | verify_slices_are_equal(held.as_bytes(), given.as_bytes()).is_ok()
            })
    }
}

impl KindSpec for User {
    const SECRETS: &'static [&'static str] = &["password"];

    fn validate(&self, faults: &mut Faults) {
        if let Some(description) = &self.description {
            faults.text("description", description, 1_024);
        }
        faults.count("roles", self.roles.len(), 0, 20);
        if let Some(password) = &self.password
            && let Err(what) = password.expose().parse::<Verifier>()
        {
            faults.add("password", what, "give what `weir secret --password` prints");
        }
        faults.count("keys", self.keys.len(), 0, KEYS_MAX);
        for (i, key) in self.keys.iter().enumerate().take(KEYS_MAX) {
            check_sha256(faults, format!("keys[{i}].sha256"), &key.sha256);
            if let Some(description) = &key.description {
                faults.text(format!("keys[{i}].description"), description, 256);
            }
        }
    }

    fn references(&self) -> Vec<Reference> {
        let roles = self.roles.iter().enumerate();
        roles.map(|(i, role)| Reference::new(format!("roles[{i}]"), Kind::Role, role)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_known_by_its_hash() {
        let key = "weirs_a key";
        let json = format!(
            r#"{{"keys": [{{"sha256": "{}"}}, {{"sha256": "{}"}}]}}"#,
            "0".repeat(64),
            sha256_hex(key)
        );
        let user: User = serde_json::from_str(&json).unwrap();
        assert!(User::has_key(Some(&user), key));
        assert!(!User::has_key(Some(&user), &sha256_hex(key)));
        assert!(!User::has_key(Some(&user), "") && !User::has_key(None, key));
    }
}
