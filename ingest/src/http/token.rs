use std::fmt;

use sha2::{Digest, Sha256};

/// SHA-256 of a token that a node was given, such as the admin token.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// The hash of a token.
    pub fn of(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }

    /// Whether a token is the one. Hashes are compared, so the time that it takes
    /// tells nothing of the token.
    pub fn is_of(&self, token: &str) -> bool {
        Self::of(token).0 == self.0
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hidden]")
    }
}
