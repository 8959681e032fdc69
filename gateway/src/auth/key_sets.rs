//! The public keys of all issuers, by issuer and key id.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::{ArcSwap, Cache};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use serde_json::Value;
use tokio::sync::Notify;

use super::config::{Algorithm, Config, Issuer};

/// The most keys of an issuer.
const KEYS_MAX: usize = 100;

/// The keys of all issuers, shared by the fetcher, which swaps them whole, and by
/// the verifiers of all threads. Clones are the same keys.
#[derive(Debug, Clone)]
pub struct KeySets {
    current: Arc<ArcSwap<Keys>>,
    /// Per issuer: that a verifier met a key id which is not there.
    wanted: Arc<[Notify]>,
}

/// What one thread reads them by.
pub(super) type KeysReader = Cache<Arc<ArcSwap<Keys>>, Arc<Keys>>;

/// All keys at one time.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    /// Grows whenever a key comes or goes.
    pub(super) generation: u64,
    pub(super) issuers: Vec<IssuerKeys>,
}

/// The keys of an issuer.
#[derive(Debug, Clone)]
pub(super) struct IssuerKeys {
    pub(super) issuer: Arc<Issuer>,
    pub(super) keys: Arc<PublicKeys>,
}

/// By key id.
pub(super) type PublicKeys = HashMap<Box<str>, PublicKey>;

/// A key, and the one algorithm that it is used with.
#[derive(Debug)]
pub(super) struct PublicKey {
    pub(super) algorithm: Algorithm,
    pub(super) key: DecodingKey,
    jwk: Jwk,
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.algorithm == other.algorithm && self.jwk == other.jwk
    }
}

impl KeySets {
    /// No key yet, of any issuer.
    pub fn new(config: &Config) -> Self {
        let keys_of =
            |issuer: &Issuer| IssuerKeys { issuer: Arc::new(issuer.clone()), keys: Arc::default() };
        let issuers: Vec<_> = config.issuers.iter().map(keys_of).collect();
        let wanted = issuers.iter().map(|_| Notify::new()).collect();
        let current = Arc::new(ArcSwap::from_pointee(Keys { generation: 0, issuers }));
        Self { current, wanted }
    }

    /// How many keys there are of an issuer.
    pub fn count(&self, issuer: &str) -> usize {
        let keys = self.current.load();
        let of = |of: &&IssuerKeys| of.issuer.issuer == issuer;
        keys.issuers.iter().find(of).map_or(0, |found| found.keys.len())
    }

    pub(super) fn reader(&self) -> KeysReader {
        Cache::new(self.current.clone())
    }

    /// Puts the keys of an issuer into force. Says whether they are others.
    pub(super) fn publish(&self, issuer: usize, keys: PublicKeys) -> bool {
        let keys = Arc::new(keys);
        let before = self.current.rcu(|current| {
            let mut next = Keys::clone(current);
            if next.issuers[issuer].keys != keys {
                next.issuers[issuer].keys = keys.clone();
                next.generation += 1;
            }
            next
        });
        before.issuers[issuer].keys != keys
    }

    /// Asks for the keys of an issuer to be fetched.
    pub(super) fn want(&self, issuer: usize) {
        self.wanted[issuer].notify_one();
    }

    pub(super) async fn wanted(&self, issuer: usize) {
        self.wanted[issuer].notified().await;
    }
}

/// Reads a JWKS (RFC 7517, section 5). What is not for signatures by one of the
/// issuer's algorithms is passed over, and so is a key without an id; of two keys of
/// one id the last counts.
pub(super) fn read(jwks: &[u8], issuer: &Issuer) -> Result<PublicKeys, &'static str> {
    let document: Value = serde_json::from_slice(jwks).map_err(|_| "is not JSON")?;
    let Some(entries) = document.get("keys").and_then(Value::as_array) else {
        return Err("has no list of keys");
    };
    if entries.len() > KEYS_MAX {
        return Err("has more than 100 keys");
    }
    let jwks = entries.iter().filter_map(|entry| serde_json::from_value::<Jwk>(entry.clone()).ok());
    Ok(jwks.filter_map(|jwk| public_key(jwk, &issuer.algorithms)).collect())
}

/// RFC 7518, section 3.3, and no longer than can be checked in reasonable time.
fn is_long(modulus: &str) -> bool {
    let bytes = URL_SAFE_NO_PAD.decode(modulus).unwrap_or_default();
    (2_048..=8_192).contains(&(8 * bytes.iter().skip_while(|byte| **byte == 0).count()))
}

fn public_key(jwk: Jwk, allowed: &[Algorithm]) -> Option<(Box<str>, PublicKey)> {
    let id = jwk.common.key_id.as_deref().filter(|id| !id.is_empty() && id.len() <= 256)?;
    if !matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature)) {
        return None;
    }
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::RSA(key) if is_long(&key.n) => Algorithm::Rs256,
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
            Algorithm::Es256
        }
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            Algorithm::EdDsa
        }
        _ => return None,
    };
    let named = match jwk.common.key_algorithm {
        None => algorithm,
        Some(KeyAlgorithm::RS256) => Algorithm::Rs256,
        Some(KeyAlgorithm::ES256) => Algorithm::Es256,
        Some(KeyAlgorithm::EdDSA) => Algorithm::EdDsa,
        Some(_) => return None,
    };
    if named != algorithm || !allowed.contains(&algorithm) {
        return None;
    }
    let key = DecodingKey::from_jwk(&jwk).ok()?;
    Some((id.into(), PublicKey { algorithm, key, jwk }))
}
