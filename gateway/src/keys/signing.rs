//! The signing keys of a snapshot: the one that signs, and what is published.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use ingest::registry::kind::{Algorithm, Key, KeyState, OfKind as _};
use ingest::registry::{Change, ChangeSet, EntityKey, Fault, Kind, Refusal, Snapshot};
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse};
use jsonwebtoken::{EncodingKey, Header};
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::json;

use super::Passphrase;

/// The keys, read anew when the registry has changed.
#[derive(Debug)]
pub(super) struct Signing {
    passphrase: Passphrase,
    held: Mutex<Option<Held>>,
}

/// The keys as they were read last. Opening one takes its time, so they are read anew only
/// when one of them has another version; and a revision is looked through once.
#[derive(Debug)]
struct Held {
    revision: u64,
    versions: Versions,
    keys: Arc<Keys>,
}

type Versions = Vec<(EntityKey, u64)>;

/// The keys of one revision.
#[derive(Debug)]
pub(super) struct Keys {
    pub(super) active: Option<Signer>,
    /// The JWKS of every key (RFC 7517, section 5).
    pub(super) jwks: Bytes,
}

/// The signing keys of a change set with which nobody here could sign. A retired one need not
/// open: its passphrase may be what was lost.
pub(crate) fn unusable(set: &ChangeSet, passphrase: &Passphrase) -> Vec<Refusal> {
    let put = set.changes.iter().filter_map(|change| match change {
        Change::Put { kind: Kind::Key, name, spec, .. } => Some((name, spec)),
        _ => None,
    });
    let fault = put.filter_map(|(name, spec)| {
        // What is wrong with its form, the applier says.
        let (spec, _) = Kind::Key.read(spec).ok()?;
        let key = Key::of(&spec).filter(|key| key.state != KeyState::Retired)?;
        let fault = Signer::read(name.as_str(), key, passphrase).err()?;
        Some(Refusal { entity: Some(EntityKey::new(Kind::Key, name.clone())), fault })
    });
    fault.collect()
}

/// Whether a key is of the kind, and of the curve, that an algorithm signs with.
fn is_of(jwk: &Jwk, algorithm: Algorithm) -> bool {
    match (&jwk.algorithm, algorithm) {
        (AlgorithmParameters::EllipticCurve(of), Algorithm::Es256) => {
            of.curve == EllipticCurve::P256
        }
        (AlgorithmParameters::RSA(_), Algorithm::Rs256) => true,
        (AlgorithmParameters::OctetKeyPair(of), Algorithm::Eddsa) => {
            of.curve == EllipticCurve::Ed25519
        }
        _ => false,
    }
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
        if let Some(held) = held.as_ref().filter(|held| held.revision == snapshot.revision()) {
            return held.keys.clone();
        }
        let own = snapshot.entities().filter(|entity| entity.key.kind == Kind::Key);
        let versions: Versions = own.map(|entity| (entity.key.clone(), entity.version)).collect();
        let same = held.take().filter(|held| held.versions == versions);
        let keys =
            same.map_or_else(|| Arc::new(Keys::of(snapshot, &self.passphrase)), |held| held.keys);
        *held = Some(Held { revision: snapshot.revision(), versions, keys: keys.clone() });
        keys
    }
}

impl Keys {
    fn of(snapshot: &Snapshot, passphrase: &Passphrase) -> Self {
        let mut active = None;
        let mut jwks = Vec::new();
        // By name: the last one that is active signs.
        for (name, key) in snapshot.all::<Key>() {
            let (signer, jwk) = match Signer::read(name.as_str(), key, passphrase) {
                Ok(read) => read,
                Err(fault) => {
                    tracing::error!(%name, %fault, "a signing key is passed over");
                    continue;
                }
            };
            if !key.is_encrypted() {
                tracing::warn!(%name, "a signing key is in the log unencrypted; rotate it");
            }
            jwks.push(jwk);
            if key.state == KeyState::Active {
                active = Some(signer);
            }
        }
        Self { active, jwks: json!({ "keys": jwks }).to_string().into() }
    }
}

impl Signer {
    fn read(kid: &str, key: &Key, passphrase: &Passphrase) -> Result<(Self, Jwk), Fault> {
        let mend = "encrypt it by the passphrase in keys.passphrase_file, by PBES2 (RFC 8018) of \
                    at most 1,000,000 rounds";
        let sealed = || Fault::new("private_key_pem", "does not open by the passphrase", mend);
        let opened = passphrase.open(key.private_key_pem.expose()).ok_or_else(sealed)?;
        let pem = opened.as_ref().as_bytes();
        let (algorithm, encoding) = match key.algorithm {
            Algorithm::Es256 => (jsonwebtoken::Algorithm::ES256, EncodingKey::from_ec_pem(pem)),
            Algorithm::Rs256 => (jsonwebtoken::Algorithm::RS256, EncodingKey::from_rsa_pem(pem)),
            Algorithm::Eddsa => (jsonwebtoken::Algorithm::EdDSA, EncodingKey::from_ed_pem(pem)),
        };
        let other = || {
            let mend =
                "give the algorithm of the key: es256 for P-256, rs256, or eddsa for Ed25519";
            Fault::new("algorithm", "is not that of the private key", mend)
        };
        let encoding = encoding.map_err(|_| other())?;
        let jwk = Jwk::from_encoding_key(&encoding, algorithm).map_err(|_| other())?;
        let (mut jwk, encoding) = match is_of(&jwk, key.algorithm) {
            true => (jwk, encoding),
            false => return Err(other()),
        };
        jwk.common.key_id = Some(kid.to_owned());
        jwk.common.public_key_use = Some(PublicKeyUse::Signature);
        let mut header = Header::new(algorithm);
        header.typ = Some("at+jwt".to_owned());
        header.kid = Some(kid.to_owned());
        Ok((Self { header, key: encoding }, jwk))
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
