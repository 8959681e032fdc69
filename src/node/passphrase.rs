//! The file of what opens the signing keys.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use gateway::keys::Passphrase;
use ingest::registry::kind::Key;
use ingest::registry::{Fault, Snapshot};

use super::token;
use crate::config::Config;

/// The shortest, in characters.
const LENGTH_MIN: usize = 16;

/// The passphrase of a node, made at the first start of all: where keys are already, they
/// were encrypted by another, and one that is made would only hide that it is lost.
pub(super) fn of(config: &Config, snapshot: &Snapshot) -> Result<Passphrase> {
    let file = config.passphrase_file();
    let has_keys = snapshot.all::<Key>().any(|(_, key)| key.is_encrypted());
    if !file.exists() && !has_keys && config.keys.passphrase_file.is_none() {
        return Ok(Passphrase::new(token::make(&file)?));
    }
    if let Some(fault) = fault(config) {
        return Err(config.placed(vec![fault]).into());
    }
    if !file.exists() {
        let what = format!(
            "{} is not there, and the registry has signing keys, which it opens",
            file.display()
        );
        let mend = "bring it back, from a backup or another node of this role";
        return Err(config.placed(vec![Fault::new("keys.passphrase_file", what, mend)]).into());
    }
    let text = std::fs::read_to_string(&file);
    let text = text.with_context(|| format!("read {}", file.display()))?;
    Ok(Passphrase::new(text.trim()))
}

/// What is wrong with a file that is there, or that is named.
pub(super) fn fault(config: &Config) -> Option<Fault> {
    let file = config.passphrase_file();
    if !file.exists() && config.keys.passphrase_file.is_none() {
        return None;
    }
    let (what, mend) = wrong_with(&file)?;
    Some(Fault::new("keys.passphrase_file", format!("{} {what}", file.display()), mend))
}

fn wrong_with(file: &Path) -> Option<(String, &'static str)> {
    let mode = match std::fs::metadata(file) {
        Ok(metadata) => metadata.permissions().mode(),
        Err(error) => {
            let mend = "name the file of the node that made the keys; for a first node: openssl \
                        rand -base64 32, with mode 0600";
            return Some((format!("cannot be read: {error}"), mend));
        }
    };
    if mode & 0o077 != 0 {
        let what = format!("can be read by others (mode {:o})", mode & 0o777);
        return Some((what, "take that right from them: chmod 600"));
    }
    match std::fs::read_to_string(file) {
        Ok(text) if text.trim().len() >= LENGTH_MIN => None,
        Ok(_) => {
            let what = format!("holds fewer than {LENGTH_MIN} characters");
            Some((what, "bring back what it held when the keys were made"))
        }
        Err(error) => Some((format!("cannot be read: {error}"), "let this user read it")),
    }
}
