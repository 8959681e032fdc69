//! Private keys as the registry holds them: encrypted.
//!
//! The form is `EncryptedPrivateKeyInfo` of PKCS #8 (RFC 5958, section 3) in PEM, by PBES2
//! (RFC 8018, section 6.2): what `openssl pkcs8 -topk8` writes.

use std::fmt;

use pkcs8::der::SecretDocument;
use pkcs8::der::pem::PemLabel as _;
use pkcs8::pkcs5::EncryptionScheme;
use pkcs8::pkcs5::pbes2::{Kdf, Parameters};
use pkcs8::{EncryptedPrivateKeyInfoRef, LineEnding, PrivateKeyInfoRef};

use super::secret::random;

/// Rounds of PBKDF2. A passphrase that Weir makes cannot be guessed in any case.
const ROUNDS: u32 = 10_000;
/// The most rounds, and the most memory of scrypt, by which a key is opened.
const ROUNDS_MAX: u32 = 1_000_000;
const SCRYPT_BYTES_MAX: u64 = 64 * 1024 * 1024;

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

    /// The private key, in PEM, wiped when it is let go; also of one that is not encrypted, as
    /// a program of before may have written it. `None` if this does not open it, or only by
    /// more work than [`is_cheap`] allows.
    pub(super) fn open(&self, pem: &str) -> Option<impl AsRef<str> + use<>> {
        let (label, document) = SecretDocument::from_pem(pem.trim()).ok()?;
        let key = if PrivateKeyInfoRef::validate_pem_label(label).is_ok() {
            document
        } else {
            EncryptedPrivateKeyInfoRef::validate_pem_label(label).ok()?;
            let sealed = EncryptedPrivateKeyInfoRef::try_from(document.as_bytes()).ok()?;
            is_cheap(&sealed.encryption_algorithm).then(|| sealed.decrypt(&self.0).ok())??
        };
        key.to_pem(PrivateKeyInfoRef::PEM_LABEL, LineEnding::LF).ok()
    }
}

/// Whether a key is opened by no more than a million rounds of PBKDF2, or 64 MiB of scrypt:
/// whoever writes a key must not be able to hold up the key managers.
fn is_cheap(scheme: &EncryptionScheme) -> bool {
    match scheme.pbes2().map(|parameters| &parameters.kdf) {
        Some(Kdf::Pbkdf2(of)) => of.iteration_count <= ROUNDS_MAX,
        Some(Kdf::Scrypt(of)) => {
            let bytes = of.cost_parameter.saturating_mul(u64::from(of.block_size) * 128);
            bytes <= SCRYPT_BYTES_MAX && of.parallelization <= 4
        }
        _ => false,
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
        for pem in ["", "hush", "-----BEGIN CERTIFICATE-----\naHVzaA==\n-----END CERTIFICATE-----"]
        {
            assert!(right.open(pem).is_none(), "{pem}");
        }
        // One that takes hours is not tried.
        let parameters =
            Parameters::generate_pbkdf2_sha256_aes256cbc(ROUNDS_MAX + 1, &[0; 16], [0; 16]);
        assert!(!is_cheap(&parameters.unwrap().into()));
    }

    /// One that `openssl pkcs8 -topk8 -v2 aes-256-cbc -passout pass:…` has written (3.0.19).
    #[test]
    fn a_key_that_openssl_has_encrypted_opens() {
        let passphrase = Passphrase::new("sixteen-letters!");
        assert!(passphrase.open(include_str!("sealed/by_openssl.pem")).is_some());
    }
}
