use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

/// What every client secret begins with, so that it is known for one where it does
/// not belong.
pub(super) const PREFIX: &str = "weirs_";

/// What every token of a node begins with.
const TOKEN_PREFIX: &str = "weirt_";

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

#[cfg(test)]
mod tests {
    use ingest::registry::kind::{Application, Environment};

    use super::*;

    #[test]
    fn a_new_secret_is_long_random_and_known_by_its_hash() {
        let (secret, sha256) = new_secret();
        assert_eq!((secret.len(), sha256.len()), (6 + 43, 64));
        assert!(secret.starts_with(PREFIX));
        assert_ne!(new_secret().0, secret);
        let json = format!(r#"{{"owner": "me", "secrets": [{{"sha256": "{sha256}"}}]}}"#);
        let application: Application = serde_json::from_str(&json).unwrap();
        let found = Application::environment_of(Some(&application), &secret);
        assert_eq!(found, Some(Environment::Production));
    }
}
