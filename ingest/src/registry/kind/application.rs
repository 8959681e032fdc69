use std::fmt::Write as _;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{Kind, KindSpec, Name, Reference};
use crate::registry::Faults;

/// A caller of APIs: a program, with the people who answer for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Application {
    /// Who answers for it: a user's name or an address, 1 to 256 bytes.
    pub owner: String,
    /// What it is for, up to 1,024 bytes.
    #[serde(default)]
    pub description: Option<String>,
    /// A tier that limits the whole application.
    #[serde(default)]
    pub tier: Option<Name>,
    /// What it proves itself by as an OAuth2 client whose id is the application's
    /// name: 0 to 10, so that an old one and its successor hold side by side.
    #[serde(default)]
    pub secrets: Vec<ClientSecret>,
    /// The scopes that it may ask for, 0 to 100.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// Where the authorization code may be sent, 0 to 20 addresses, compared as
    /// they are written (RFC 9700, section 2.1).
    #[serde(default)]
    pub redirect_urls: Vec<String>,
}

/// A client secret. Only its hash is known here: a secret is 32 random bytes that
/// the key manager makes, so that a plain hash of it cannot be guessed back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientSecret {
    /// SHA-256 of the secret, 64 lower-case hexadecimal digits.
    pub sha256: String,
    /// Which keys of the application it belongs to.
    #[serde(default)]
    pub environment: Environment,
}

/// Which of an application's keys are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Environment {
    /// The real thing.
    #[default]
    Production,
    /// For trying out.
    Sandbox,
}

impl Environment {
    /// Its name, as in `app_environment` of events.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Production => "production",
            Self::Sandbox => "sandbox",
        }
    }
}

/// The most secrets of an application.
const SECRETS_MAX: usize = 10;

impl Application {
    /// Of which of the application's keys the secret is one. The time that it takes
    /// tells neither whether the application is known nor how many secrets it has.
    pub fn environment_of(application: Option<&Self>, secret: &str) -> Option<Environment> {
        // No hash looks so, and it is as long as one.
        const NONE: &str = "----------------------------------------------------------------";
        let given = sha256_hex(secret);
        let secrets = application.map_or(&[][..], |application| &application.secrets);
        let mut found = None;
        for i in 0..SECRETS_MAX {
            let held = secrets.get(i);
            let sha256 = held.map_or(NONE, |held| &held.sha256);
            if verify_slices_are_equal(sha256.as_bytes(), given.as_bytes()).is_ok() {
                found = held.map(|held| held.environment);
            }
        }
        found
    }
}

pub(super) fn sha256_hex(text: &str) -> String {
    let mut hex = String::with_capacity(64);
    for byte in Sha256::digest(text.as_bytes()) {
        write!(hex, "{byte:02x}").expect("a text takes all");
    }
    hex
}

/// Adds a fault of what is not the hash of a secret.
pub(super) fn check_sha256(faults: &mut Faults, at: String, sha256: &str) {
    let is_digit = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f');
    if sha256.len() != 64 || !sha256.bytes().all(is_digit) {
        let mend = "give 64 lower-case hexadecimal digits, as `weir secret` prints";
        faults.add(at, "is not a SHA-256 hash", mend);
    }
}

impl KindSpec for Application {
    fn validate(&self, faults: &mut Faults) {
        faults.count("secrets", self.secrets.len(), 0, SECRETS_MAX);
        for (i, secret) in self.secrets.iter().enumerate().take(SECRETS_MAX) {
            check_sha256(faults, format!("secrets[{i}].sha256"), &secret.sha256);
        }
        faults.count("scopes", self.scopes.len(), 0, 100);
        for (i, scope) in self.scopes.iter().enumerate().take(100) {
            let at = format!("scopes[{i}]");
            faults.text(at.as_str(), scope, 128);
            // RFC 6749, section 3.3.
            let is_token = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
            if !scope.bytes().all(is_token) {
                faults.add(at, "is not a scope", "leave out spaces, quotes and backslashes");
            }
        }
        faults.text("owner", &self.owner, 256);
        if let Some(description) = &self.description {
            faults.text("description", description, 1_024);
        }
        faults.count("redirect_urls", self.redirect_urls.len(), 0, 20);
        for (i, url) in self.redirect_urls.iter().enumerate().take(20) {
            let at = format!("redirect_urls[{i}]");
            faults.text(at.as_str(), url, 1_024);
            if !url.contains("://") || url.contains(['#', '*', ' ']) {
                faults.add(at, "is not an absolute address", "give it whole, without # and *");
            }
        }
    }

    fn references(&self) -> Vec<Reference> {
        self.tier.iter().map(|tier| Reference::new("tier", Kind::Tier, tier)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_known_by_its_hash() {
        let secret = "weirs_a secret";
        let json = format!(
            r#"{{"owner": "me", "secrets": [{{"sha256": "{}"}}, {{"sha256": "{}", "environment": "sandbox"}}]}}"#,
            "0".repeat(64),
            sha256_hex(secret),
        );
        let application: Application = serde_json::from_str(&json).unwrap();
        let check = |application, secret: &str, expected| {
            assert_eq!(Application::environment_of(application, secret), expected, "{secret}");
        };
        check(Some(&application), secret, Some(Environment::Sandbox));
        check(Some(&application), &secret[1..], None);
        check(Some(&application), &sha256_hex(secret), None);
        check(Some(&application), "", None);
        check(None, secret, None);
    }
}
