//! The first signing key of an installation.

use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use ingest::registry::kind::{Key, KeyState};
use ingest::registry::{
    self, Change, ChangeSet, Json, Kind, Name, Outcome, Proposer, Snapshot, View,
};
use serde_json::json;
use tokio::time::timeout;

use super::secret::{hex, random};
use super::{Error, Passphrase};

/// How long a change of the registry may take to be shown.
const SHOWN_WITHIN: Duration = Duration::from_secs(10);
const ATTEMPTS_MAX: u32 = 5;

/// Makes a key and puts it into force, unless there is one.
///
/// The name follows from the keys that there are: who proposes it at the same time
/// proposes the same name, expects it to be free, and is refused if it comes second.
pub(super) async fn ensure_active(
    view: &View,
    proposer: &Proposer,
    passphrase: &Passphrase,
) -> Result<(), Error> {
    let mut refused = String::new();
    for attempt in 1..=ATTEMPTS_MAX {
        let snapshot = view.snapshot();
        if is_there(&snapshot) {
            return Ok(());
        }
        let name = next_name(&snapshot);
        let verdict = match Box::pin(proposer.propose(&change_set(&name, passphrase)?)).await {
            // A log that has just been made may be slow; the name is free or taken by then.
            Err(error @ registry::Error::NoVerdict { .. }) if attempt < ATTEMPTS_MAX => {
                tracing::warn!(%error, attempt, "the first signing key is proposed again");
                continue;
            }
            verdict => verdict?,
        };
        let shown = match verdict.outcome {
            Outcome::Accepted { revision, .. } => {
                tracing::info!(%name, "made the first signing key");
                revision
            }
            Outcome::Refused { reasons } => {
                let reasons = reasons.iter().map(ToString::to_string);
                refused = reasons.collect::<Vec<_>>().join(", ");
                snapshot.revision() + 1
            }
        };
        // What another manager proposed is shown soon; if nothing is, the next
        // attempt says why.
        let _ = timeout(SHOWN_WITHIN, view.wait_for(shown)).await;
    }
    if is_there(&view.snapshot()) { Ok(()) } else { Err(Error::NoKey(refused)) }
}

fn is_there(snapshot: &Snapshot) -> bool {
    snapshot.all::<Key>().any(|(_, key)| key.state == KeyState::Active)
}

/// `key-000001` and so on: the one after the last, so that it sorts behind.
fn next_name(snapshot: &Snapshot) -> Name {
    let number = |name: &Name| name.as_str().strip_prefix("key-")?.parse::<u32>().ok();
    let last = snapshot.all::<Key>().filter_map(|(name, _)| number(name)).max().unwrap_or(0);
    Name::new(&format!("key-{:06}", last.saturating_add(1))).expect("digits make a name")
}

fn change_set(name: &Name, passphrase: &Passphrase) -> Result<ChangeSet, Error> {
    let random_source = SystemRandom::new();
    let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random_source);
    let sealed = key.ok().and_then(|key| passphrase.seal(key.as_ref()));
    let sealed = sealed.ok_or(Error::NoKey("the key could not be generated".to_owned()))?;
    let spec = json!({ "algorithm": "es256", "state": "active", "private_key_pem": sealed });
    let serde_json::Value::Object(spec) = spec else { unreachable!("it is written above") };
    let id = format!("{name}-{}", hex(&random::<8>()));
    Ok(ChangeSet {
        id: Name::new(&id).expect("a name and digits make a name"),
        author: "key manager".to_owned(),
        message: "the first signing key".to_owned(),
        changes: vec![Change::Put {
            kind: Kind::Key,
            name: name.clone(),
            expected: None,
            spec: Json(spec),
        }],
    })
}
