//! The key by which values in events become pseudonyms.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use ingest::emit::Emitter;
use ingest::redact::Pseudonyms;
use ingest::registry::kind::Redaction;
use ingest::registry::{Fault, View};
use tokio::task::JoinHandle;

use super::token;
use crate::config::{Config, Log};

/// The key of a node: as it is set; else, where nobody else has to have the same, made at
/// the first start. Without one, what would be a pseudonym is masked.
pub(super) fn of(config: &Config) -> Result<Option<Pseudonyms>> {
    let file = match (&config.events.hash_key_file, &config.log) {
        (Some(file), _) => file.clone(),
        (None, Log::Kafka(_)) => return Ok(None),
        (None, Log::Embedded {}) => {
            let file = config.hash_key_file();
            if !file.exists() {
                token::make(&file)?;
            }
            file
        }
    };
    if let Some(fault) = fault(&file) {
        let path = format!("events.{}", fault.path);
        return Err(config.placed(vec![Fault { path, ..fault }]).into());
    }
    let key = std::fs::read_to_string(&file);
    let key = key.with_context(|| format!("read {}", file.display()))?;
    Ok(Pseudonyms::new(key.trim().as_bytes()))
}

/// What is wrong with the file of a key.
pub(crate) fn fault(file: &Path) -> Option<Fault> {
    let fault = |what: String, mend: &str| {
        Some(Fault::new("hash_key_file", format!("{} {what}", file.display()), mend))
    };
    let mode = match std::fs::metadata(file) {
        Ok(metadata) => metadata.permissions().mode(),
        Err(error) => {
            let mend = "name the file that all nodes have; for a first one: openssl rand -base64 \
                        48, with mode 0600";
            return fault(format!("cannot be read: {error}"), mend);
        }
    };
    if mode & 0o077 != 0 {
        let what = format!("can be read by others (mode {:o})", mode & 0o777);
        return fault(what, "take that right from them: chmod 600");
    }
    match std::fs::read_to_string(file) {
        Ok(key) if key.trim().len() >= Pseudonyms::KEY_BYTES_MIN => None,
        Ok(_) => {
            let what = format!("holds fewer than {} characters", Pseudonyms::KEY_BYTES_MIN);
            fault(what, "make one: openssl rand -base64 48")
        }
        Err(error) => fault(format!("cannot be read: {error}"), "let this user read it"),
    }
}

/// Lets an emitter take out what the registry says, now and with every change of it.
pub(super) fn redact(
    view: &View,
    emitter: &Emitter,
    pseudonyms: Option<Pseudonyms>,
) -> JoinHandle<()> {
    let (view, emitter) = (view.clone(), emitter.clone());
    let compile = move |view: &View| {
        let snapshot = view.snapshot();
        let redactor = Redaction::redactor(&snapshot, pseudonyms.as_ref());
        if redactor.is_without_key() {
            tracing::warn!(
                "rules ask for pseudonyms and events.hash_key_file is not set; values are masked"
            );
        }
        emitter.redact_by(Arc::new(redactor));
        snapshot.revision()
    };
    let mut changes = view.changes();
    changes.mark_unchanged();
    // Of the very snapshot that was compiled: a later one may be there already.
    let mut revision = compile(&view);
    tokio::spawn(async move {
        while changes.changed().await.is_ok() {
            if view.snapshot().revision() != revision {
                revision = compile(&view);
            }
        }
    })
}
