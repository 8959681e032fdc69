//! The signing keys of a snapshot: the one that signs, and what is published.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use ingest::registry::Snapshot;
use ingest::registry::kind::{Algorithm, Key, KeyState};
use jsonwebtoken::jwk::{Jwk, PublicKeyUse};
use jsonwebtoken::{EncodingKey, Header};
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::json;

use super::Passphrase;

/// The keys, read anew when the registry has changed.
#[derive(Debug)]
pub(super) struct Signing {
    passphrase: Passphrase,
    /// Those of a revision.
    held: Mutex<Option<(u64, Arc<Keys>)>>,
}

/// The keys of one revision.
#[derive(Debug)]
pub(super) struct Keys {
    pub(super) active: Option<Signer>,
    /// The JWKS of every key (RFC 7517, section 5).
    pub(super) jwks: Bytes,
}

/// The key that signs.
pub(super) struct Signer {
    header: Header,
    key: EncodingKey,
}

impl Signing {
    pub(super) fn new(passphrase: Passphrase) -> Self {
        Self { passphrase, held: Mutex::default() }
    }

    pub(super) fn of(&self, snapshot: &Snapshot) -> Arc<Keys> {
        let mut held = self.held.lock();
        match &*held {
            Some((revision, keys)) if *revision == snapshot.revision() => keys.clone(),
            _ => {
                let keys = Arc::new(Keys::of(snapshot, &self.passphrase));
                *held = Some((snapshot.revision(), keys.clone()));
                keys
            }
        }
    }
}

impl Keys {
    fn of(snapshot: &Snapshot, passphrase: &Passphrase) -> Self {
        let mut active = None;
        let mut jwks = Vec::new();
        // By name: the last one that is active signs.
        for (name, key) in snapshot.all::<Key>() {
            let Some((signer, jwk)) = Signer::read(name.as_str(), key, passphrase) else {
                tracing::error!(%name, "this signing key does not open by keys.passphrase_file, and is passed over");
                continue;
            };
            jwks.push(jwk);
            if key.state == KeyState::Active {
                active = Some(signer);
            }
        }
        Self { active, jwks: json!({ "keys": jwks }).to_string().into() }
    }
}

impl Signer {
    fn read(kid: &str, key: &Key, passphrase: &Passphrase) -> Option<(Self, Jwk)> {
        let opened = passphrase.open(key.private_key_pem.expose())?;
        let pem = opened.as_ref().as_bytes();
        let (algorithm, encoding) = match key.algorithm {
            Algorithm::Es256 => (jsonwebtoken::Algorithm::ES256, EncodingKey::from_ec_pem(pem)),
            Algorithm::Rs256 => (jsonwebtoken::Algorithm::RS256, EncodingKey::from_rsa_pem(pem)),
            Algorithm::Eddsa => (jsonwebtoken::Algorithm::EdDSA, EncodingKey::from_ed_pem(pem)),
        };
        let encoding = encoding.ok()?;
        let mut jwk = Jwk::from_encoding_key(&encoding, algorithm).ok()?;
        jwk.common.key_id = Some(kid.to_owned());
        jwk.common.public_key_use = Some(PublicKeyUse::Signature);
        let mut header = Header::new(algorithm);
        header.typ = Some("at+jwt".to_owned());
        header.kid = Some(kid.to_owned());
        Some((Self { header, key: encoding }, jwk))
    }

    /// A token of these claims; `None` if the key cannot sign.
    pub(super) fn sign(&self, claims: &impl Serialize) -> Option<String> {
        jsonwebtoken::encode(&self.header, claims, &self.key).ok()
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "signer by {:?}", self.header.kid)
    }
}
