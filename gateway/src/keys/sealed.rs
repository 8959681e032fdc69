//! Private keys as the registry holds them: encrypted.
//!
//! The form is `EncryptedPrivateKeyInfo` of PKCS #8 (RFC 5958, section 3) in PEM, by PBES2
//! (RFC 8018, section 6.2): what `openssl pkcs8 -topk8` writes.

use std::fmt;

use pkcs8::der::SecretDocument;
use pkcs8::der::pem::PemLabel as _;
use pkcs8::pkcs5::pbes2::Parameters;
use pkcs8::{EncryptedPrivateKeyInfoRef, LineEnding, PrivateKeyInfoRef};

use super::secret::random;

/// Rounds of PBKDF2. A passphrase that Weir makes cannot be guessed in any case.
const ROUNDS: u32 = 10_000;

/// What opens the signing keys in the registry: who has it and reads the log can sign.
#[derive(Clone)]
pub struct Passphrase(String);

impl Passphrase {
    /// A text that cannot be guessed.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// A private key (PKCS #8, in DER), encrypted, in PEM. `None` if it is no such key.
    pub fn seal(&self, der: &[u8]) -> Option<String> {
        let key = PrivateKeyInfoRef::try_from(der).ok()?;
        let (salt, iv) = (random::<16>(), random::<16>());
        let parameters = Parameters::generate_pbkdf2_sha256_aes256cbc(ROUNDS, &salt, iv).ok()?;
        let sealed = key.encrypt_with_params(parameters, &self.0).ok()?;
        let pem = sealed.to_pem(EncryptedPrivateKeyInfoRef::PEM_LABEL, LineEnding::LF).ok()?;
        Some(pem.to_string())
    }

    /// The private key, in PEM, wiped when it is let go. `None` if this does not open it.
    pub(super) fn open(&self, pem: &str) -> Option<impl AsRef<str> + use<>> {
        let (label, sealed) = SecretDocument::from_pem(pem.trim()).ok()?;
        EncryptedPrivateKeyInfoRef::validate_pem_label(label).ok()?;
        let key = EncryptedPrivateKeyInfoRef::try_from(sealed.as_bytes()).ok()?;
        let key = key.decrypt(&self.0).ok()?;
        key.to_pem(PrivateKeyInfoRef::PEM_LABEL, LineEnding::LF).ok()
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hidden]")
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair};

    use super::*;

    #[test]
    fn a_sealed_key_opens_by_its_passphrase_alone() {
        let random = SystemRandom::new();
        let ec = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let ed = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        let (right, wrong) = ("correct horse battery", "correct horse batterz");
        let [right, wrong] = [right, wrong].map(Passphrase::new);
        for der in [ec.as_ref(), ed.as_ref()] {
            let sealed = right.seal(der).unwrap();
            assert!(sealed.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----\n"), "{sealed}");
            assert_ne!(right.seal(der).unwrap(), sealed, "each has its own salt");
            let opened = right.open(&sealed).unwrap();
            let (_, opened) = SecretDocument::from_pem(opened.as_ref()).unwrap();
            assert_eq!(opened.as_bytes(), der);
            assert!(wrong.open(&sealed).is_none());
        }
        assert!(right.seal(b"no key").is_none());
        let plain = "-----BEGIN PRIVATE KEY-----\naHVzaA==\n-----END PRIVATE KEY-----";
        for pem in ["", "hush", plain] {
            assert!(right.open(pem).is_none(), "{pem}");
        }
    }

    /// One that `openssl pkcs8 -topk8 -v2 aes-256-cbc -passout pass:…` has written (3.0.19).
    #[test]
    fn a_key_that_openssl_has_encrypted_opens() {
        let passphrase = Passphrase::new("sixteen-letters!");
        assert!(passphrase.open(include_str!("sealed/by_openssl.pem")).is_some());
    }
}
