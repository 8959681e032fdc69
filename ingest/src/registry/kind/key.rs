use std::fmt;

use serde::{Deserialize, Serialize};

use super::{KindSpec, OfKind as _, Spec};
use crate::registry::{Fault, Faults};

/// What stands for a private key that a file does not repeat.
const STAND_IN: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----\n-----END ENCRYPTED PRIVATE KEY-----";

/// A key that signs tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// What it signs with.
    pub algorithm: Algorithm,
    /// Where it stands in its rotation.
    pub state: KeyState,
    /// The private key, encrypted: `EncryptedPrivateKeyInfo` of PKCS #8 (RFC 5958, section
    /// 3) in PEM (RFC 7468, section 11), up to 16 KiB.
    pub private_key_pem: Secret,
}

/// What a key signs with (RFC 7518, section 3.1, and RFC 8037).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Algorithm {
    /// ECDSA on P-256.
    Es256,
    /// RSA with SHA-256.
    Rs256,
    /// Ed25519.
    Eddsa,
}

/// Where a key stands in its rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyState {
    /// Published, so that everybody knows it before it signs.
    Next,
    /// Signs.
    Active,
    /// Signs no more; what it signed is still good.
    Retired,
}

/// A text that is never shown: `Debug` hides it, there is no `Display`. It is
/// written by serde, into the log, only.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The text, for the one who signs with it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hidden]")
    }
}

impl Key {
    /// Whether its private key is encrypted.
    pub fn is_encrypted(&self) -> bool {
        !self.private_key_pem.expose().trim_start().starts_with("-----BEGIN PRIVATE KEY-----")
    }
}

/// Refuses what is read where it stands already, and may not be written anew.
pub(in crate::registry) fn check_new(spec: &Spec) -> Result<(), Vec<Fault>> {
    match Key::of(spec) {
        Some(key) if !key.is_encrypted() => {
            let mend = "encrypt it by the passphrase of the key managers: openssl pkcs8 -topk8 \
                        -v2 aes-256-cbc -passout file:keys-passphrase";
            Err(vec![Fault::new("private_key_pem", "is not encrypted", mend)])
        }
        _ => Ok(()),
    }
}

impl KindSpec for Key {
    const SECRETS: &'static [&'static str] = &["private_key_pem"];
    const STAND_INS: &'static [(&'static str, &'static str)] = &[("private_key_pem", STAND_IN)];

    fn validate(&self, faults: &mut Faults) {
        let pem = self.private_key_pem.expose().trim();
        let framed = pem.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----")
            && pem.ends_with("-----END ENCRYPTED PRIVATE KEY-----");
        // Programs of before have written such keys, and they are read.
        let framed = framed || !self.is_encrypted();
        if !framed || pem.len() > 16 * 1024 {
            let mend = "give PKCS #8 in PEM, from -----BEGIN ENCRYPTED PRIVATE KEY----- to its \
                end, up to 16 KiB";
            faults.add("private_key_pem", "is not a private key", mend);
        }
    }
}
