use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ingest::registry::kind::{Application, Environment};
use sha2::{Digest as _, Sha256};

/// What every client secret begins with, so that it is known for one where it does
/// not belong.
pub(super) const PREFIX: &str = "weirs_";

/// What every token of a node begins with.
const TOKEN_PREFIX: &str = "weirt_";

/// The most secrets of an application.
const SECRETS_MAX: usize = 10;

/// A new client secret, to be shown once, and the SHA-256 by which the registry
/// knows it: `weirs_` with 43 characters of 32 random bytes, and 64 hexadecimal
/// digits.
pub fn new_secret() -> (String, String) {
    let secret = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(random::<32>()));
    let sha256 = sha256_hex(&secret);
    (secret, sha256)
}

/// A new token of a node, such as what opens its admin API: `weirt_` with 43 characters of
/// 32 random bytes.
pub fn new_token() -> String {
    format!("{TOKEN_PREFIX}{}", URL_SAFE_NO_PAD.encode(random::<32>()))
}

/// Random bytes that nobody can foretell.
pub(super) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system gives random bytes");
    bytes
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sha256_hex(secret: &str) -> String {
    hex(&Sha256::digest(secret.as_bytes()))
}

/// Of which of the application's keys the secret is one. The time that it takes
/// tells neither whether the application is known nor how many secrets it has.
pub(super) fn environment_of(
    application: Option<&Application>,
    secret: &str,
) -> Option<Environment> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_secret_is_long_random_and_known_by_its_hash() {
        let (secret, sha256) = new_secret();
        assert_eq!((secret.len(), sha256.len()), (6 + 43, 64));
        assert!(secret.starts_with(PREFIX));
        assert_ne!(new_secret().0, secret);
        let json = format!(
            r#"{{"owner": "me", "secrets": [{{"sha256": "{}"}}, {{"sha256": "{sha256}", "environment": "sandbox"}}]}}"#,
            "0".repeat(64)
        );
        let application: Application = serde_json::from_str(&json).unwrap();
        let check = |application, secret: &str, expected| {
            assert_eq!(environment_of(application, secret), expected, "{secret}");
        };
        check(Some(&application), &secret, Some(Environment::Sandbox));
        check(Some(&application), &secret[1..], None);
        check(Some(&application), &sha256, None);
        check(Some(&application), "", None);
        check(None, &secret, None);
    }
}
