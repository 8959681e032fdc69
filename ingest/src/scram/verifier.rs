use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::{digest, hmac, pbkdf2, rand};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// By how many iterations passwords of people are hashed.
pub const ITERATIONS: u32 = 600_000;
/// The fewest (RFC 7677, section 4), and the most: each login costs as many, here too.
pub const ITERATIONS_MIN: u32 = 4_096;
/// See [`ITERATIONS_MIN`].
pub const ITERATIONS_MAX: u32 = 2_000_000;

const PREFIX: &str = "SCRAM-SHA-256";
const SALT_BYTES: usize = 16;
const SALT_BYTES_MAX: usize = 64;
pub(super) const KEY_BYTES: usize = 32;

pub(super) type KeyBytes = [u8; KEY_BYTES];

/// What is kept of a password (RFC 5802, section 3): enough to see that somebody knows it,
/// too little to log in by. Its text is PostgreSQL's, as in `pg_authid.rolpassword`:
/// `SCRAM-SHA-256$ITERATIONS:SALT$STORED_KEY:SERVER_KEY`, the last three in Base64.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    pub(super) iterations: NonZeroU32,
    pub(super) salt: Vec<u8>,
    pub(super) stored_key: KeyBytes,
    pub(super) server_key: KeyBytes,
}

impl Verifier {
    /// What is to be kept of a password, with a salt of its own.
    ///
    /// The password is taken as it is, without SASLprep (RFC 4013), which changes nothing
    /// of printable ASCII.
    ///
    /// # Panics
    /// If `iterations` is 0, or the system has no random bytes.
    pub fn of(password: &str, iterations: u32) -> Self {
        let mut salt = vec![0; SALT_BYTES];
        rand::fill(&mut salt).expect("the system has random bytes");
        let iterations = NonZeroU32::new(iterations).expect("there is at least one iteration");
        Self::derived(password, iterations, salt)
    }

    fn derived(password: &str, iterations: NonZeroU32, salt: Vec<u8>) -> Self {
        let mut salted = KeyBytes::default();
        let algorithm = pbkdf2::PBKDF2_HMAC_SHA256;
        pbkdf2::derive(algorithm, iterations, &salt, password.as_bytes(), &mut salted);
        let stored_key = sha256(&keyed(&salted, b"Client Key"));
        let server_key = keyed(&salted, b"Server Key");
        Self { iterations, salt, stored_key, server_key }
    }

    /// Whether a password that was sent is the one. This takes as long as hashing it does.
    pub fn is_of(&self, password: &str) -> bool {
        let other = Self::derived(password, self.iterations, self.salt.clone());
        verify_slices_are_equal(&self.stored_key, &other.stored_key).is_ok()
    }
}

pub(super) fn keyed(key: &[u8], text: &[u8]) -> KeyBytes {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text);
    tag.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

pub(super) fn sha256(bytes: &[u8]) -> KeyBytes {
    let hash = digest::digest(&digest::SHA256, bytes);
    hash.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

impl FromStr for Verifier {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let malformed = "is not SCRAM-SHA-256$ITERATIONS:SALT$STORED_KEY:SERVER_KEY";
        let split = || {
            let (prefix, rest) = text.split_once('$')?;
            let (of_salt, keys) = rest.split_once('$')?;
            let (iterations, salt) = of_salt.split_once(':')?;
            let (stored_key, server_key) = keys.split_once(':')?;
            (prefix == PREFIX).then_some((iterations, salt, stored_key, server_key))
        };
        let (iterations, salt, stored_key, server_key) = split().ok_or(malformed)?;
        let iterations: NonZeroU32 = iterations.parse().map_err(|_| malformed)?;
        if !(ITERATIONS_MIN..=ITERATIONS_MAX).contains(&iterations.get()) {
            return Err("has fewer than 4,096 or more than 2,000,000 iterations");
        }
        let salt = STANDARD.decode(salt).map_err(|_| malformed)?;
        if !(1..=SALT_BYTES_MAX).contains(&salt.len()) {
            return Err("has a salt that is empty or longer than 64 bytes");
        }
        let key = |text: &str| STANDARD.decode(text).ok()?.try_into().ok();
        let stored_key = key(stored_key).ok_or(malformed)?;
        let server_key = key(server_key).ok_or(malformed)?;
        Ok(Self { iterations, salt, stored_key, server_key })
    }
}

/// As it is kept; it is a secret all the same, since weak passwords can be guessed by it.
impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [salt, stored_key, server_key] =
            [&self.salt[..], &self.stored_key, &self.server_key].map(|of| STANDARD.encode(of));
        write!(f, "{PREFIX}${}:{salt}${stored_key}:{server_key}", self.iterations)
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hidden]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verifier_knows_its_password_and_no_other() {
        let verifier = Verifier::of("correct horse", ITERATIONS_MIN);
        let read: Verifier = verifier.to_string().parse().unwrap();
        assert_eq!(read, verifier);
        assert!(read.is_of("correct horse"));
        assert!(!read.is_of("correct horse ") && !read.is_of(""));
        assert_ne!(Verifier::of("correct horse", ITERATIONS_MIN), verifier, "the salts are alike");
        assert_eq!(format!("{verifier:?}"), "[hidden]");
    }

    /// As PostgreSQL 15 keeps `pencil`.
    #[test]
    fn it_reads_what_postgresql_keeps() {
        let kept = Verifier::derived(
            "pencil",
            NonZeroU32::new(4_096).unwrap(),
            STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap(),
        );
        let text = kept.to_string();
        assert_eq!(text.parse::<Verifier>().unwrap(), kept);
        for wrong in [
            "",
            "pencil",
            &text.replace("256", "1"),
            &text.replace("4096", "4095"),
            &text.replace("4096", "-1"),
            &text.replace("4096", "2000001"),
            &text.replace("W22ZaJ0SNY7soEsUEjb6gQ==", ""),
            &text[..text.len() - 4],
        ] {
            assert!(wrong.parse::<Verifier>().is_err(), "{wrong}");
        }
    }
}
