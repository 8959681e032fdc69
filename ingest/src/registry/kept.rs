use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

use super::{Digest, Entity, EntityKey, Json, Kind, Snapshot, View};

/// How old a kept configuration may be: whoever was blocked since then is not.
pub const KEPT_AGE_MAX: Duration = Duration::from_hours(24);
/// How often a node writes down that what it keeps is still so.
const CONFIRM_EVERY: Duration = Duration::from_secs(60);
/// How soon one change is written after another.
const STORE_EVERY: Duration = Duration::from_secs(1);
/// The layout of the file.
const FORMAT: u32 = 1;

/// The configuration that a node saw last, in a file of its own, for a start while the
/// log is away.
///
/// Kinds with secrets are not in it: who needs them needs the log too.
#[derive(Debug, Clone)]
pub struct Kept(PathBuf);

/// A configuration that was kept.
#[derive(Debug)]
pub struct Recalled {
    /// What it was.
    pub snapshot: Snapshot,
    /// How long ago it was known to be so.
    pub age: Duration,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    format: u32,
    revision: u64,
    config_hash: Digest,
    floors: BTreeMap<Kind, u64>,
    entities: Vec<StoredEntity>,
}

#[derive(Serialize, Deserialize)]
struct StoredEntity {
    key: String,
    version: u64,
    spec: Json,
}

impl Kept {
    /// The file of a node, whether it is there or not.
    pub fn at(file: impl Into<PathBuf>) -> Self {
        Self(file.into())
    }

    /// Its path.
    pub fn file(&self) -> &Path {
        &self.0
    }

    /// What was kept; nothing if no file is there.
    ///
    /// # Errors
    /// Why it cannot be used: it cannot be read, is older than [`KEPT_AGE_MAX`], or not
    /// what was written.
    pub fn recall(&self) -> Result<Option<Recalled>, String> {
        let mut file = match File::open(&self.0) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(format!("cannot be read: {error}")),
        };
        let mut bytes = Vec::new();
        let confirmed = file
            .read_to_end(&mut bytes)
            .and_then(|_| file.metadata()?.modified())
            .map_err(|error| format!("cannot be read: {error}"))?;
        let age = SystemTime::now().duration_since(confirmed).unwrap_or_default();
        if age > KEPT_AGE_MAX {
            let (hours, max) = (age.as_secs() / 3600, KEPT_AGE_MAX.as_secs() / 3600);
            return Err(format!("is {hours} hours old, of at most {max}"));
        }
        let (stated, stored) = bytes
            .split_at_checked(Digest::TEXT_BYTES)
            .and_then(|(digest, rest)| Some((digest, rest.strip_prefix(b"\n")?)))
            .ok_or("is cut off")?;
        if stated != Digest::of_parts([stored]).to_string().as_bytes() {
            return Err("is not what was written".to_owned());
        }
        let snapshot = decode(stored)?;
        Ok(Some(Recalled { snapshot, age }))
    }

    /// Writes a configuration down. Who reads meanwhile finds the one before or this.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn store(&self, snapshot: &Snapshot) -> std::io::Result<()> {
        let stored = encode(snapshot);
        let new = self.0.with_extension("new");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&new)?;
        file.write_all(Digest::of_parts([&stored[..]]).to_string().as_bytes())?;
        file.write_all(b"\n")?;
        file.write_all(&stored)?;
        file.sync_all()?;
        std::fs::rename(&new, &self.0)?;
        File::open(self.0.parent().unwrap_or(Path::new(".")))?.sync_all()
    }

    /// Writes down that what is kept is still so.
    fn confirm(&self) -> std::io::Result<()> {
        File::options().append(true).open(&self.0)?.set_modified(SystemTime::now())
    }

    /// Keeps what a view shows, until the task is aborted or the view ends. A disk that
    /// refuses is told of, and tried again.
    pub fn follow(self, view: &View) -> JoinHandle<()> {
        let (mut changes, view) = (view.changes(), view.clone());
        tokio::spawn(async move {
            let mut stored = None;
            loop {
                let is_good = changes.borrow_and_update().fault.is_none();
                if is_good {
                    let (kept, snapshot) = (self.clone(), view.snapshot());
                    let revision = snapshot.revision();
                    let is_stored = stored == Some(revision);
                    let work = move || {
                        if is_stored { kept.confirm() } else { kept.store(&snapshot) }
                    };
                    match tokio::task::spawn_blocking(work).await {
                        Ok(Ok(())) => stored = Some(revision),
                        Ok(Err(error)) => {
                            stored = None;
                            let file = self.0.display();
                            tracing::warn!(%file, %error, "the configuration is not kept");
                        }
                        Err(_) => return,
                    }
                }
                tokio::time::sleep(STORE_EVERY).await;
                tokio::select! {
                    changed = changes.changed() => if changed.is_err() { return },
                    () = tokio::time::sleep(CONFIRM_EVERY) => {}
                }
            }
        })
    }
}

fn encode(snapshot: &Snapshot) -> Vec<u8> {
    let entities = snapshot.entities().filter(|entity| entity.key.kind.secrets().is_empty());
    let stored = Stored {
        format: FORMAT,
        revision: snapshot.revision,
        config_hash: snapshot.config_hash,
        floors: snapshot.floors.clone(),
        entities: entities
            .map(|entity| StoredEntity {
                key: entity.key.to_string(),
                version: entity.version,
                spec: entity.json.clone(),
            })
            .collect(),
    };
    serde_json::to_vec(&stored).expect("names are strings")
}

fn decode(stored: &[u8]) -> Result<Snapshot, String> {
    let stored: Stored = serde_json::from_slice(stored)
        .map_err(|error| format!("cannot be read at column {}", error.column()))?;
    if stored.format != FORMAT {
        return Err(format!("is of layout {}, known is {FORMAT}", stored.format));
    }
    let mut snapshot = Snapshot::default();
    for StoredEntity { key, version, spec } in stored.entities {
        let named = EntityKey::parse(&key).ok_or_else(|| format!("{key}: unknown kind"))?;
        let entity =
            Entity::new(named, version, spec).map_err(|faults| format!("{key}: {}", faults[0]))?;
        snapshot.put(entity);
    }
    snapshot.revision = stored.revision;
    snapshot.config_hash = stored.config_hash;
    snapshot.floors = stored.floors;
    Ok(snapshot)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::tests::{PEM, base, set};
    use crate::registry::{judge, no_deep_check};

    /// The base of the registry's tests, and a signing key.
    fn with_key() -> Snapshot {
        let key = format!(
            r#"+ key/k1 {{"algorithm": "es256", "state": "active", "private_key_pem": "{PEM}"}}"#
        );
        let judged = judge::judge(&base(), &set(&key), no_deep_check);
        judged.map(|judged| judged.next).unwrap_or_else(|refusals| panic!("{}", refusals[0]))
    }

    #[test]
    fn what_was_kept_is_recalled_without_its_secrets() {
        let dir = tempfile::tempdir().unwrap();
        let kept = Kept::at(dir.path().join("configuration"));
        assert!(kept.recall().unwrap().is_none());
        let snapshot = with_key();
        kept.store(&base()).unwrap();
        kept.store(&snapshot).unwrap();

        let recalled = kept.recall().unwrap().unwrap();
        let entities: Vec<_> = recalled.snapshot.entities().collect();
        let expected = base();
        assert_eq!(entities, expected.entities().collect::<Vec<_>>());
        assert_eq!(recalled.snapshot.revision(), snapshot.revision());
        assert_eq!(recalled.snapshot.config_hash(), snapshot.config_hash());
        assert!(recalled.age < Duration::from_secs(60));
        let text = std::fs::read_to_string(kept.file()).unwrap();
        assert!(!text.contains("hush"), "{text}");
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &std::fs::metadata(kept.file()).unwrap().permissions(),
        );
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn what_is_old_or_another_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let kept = Kept::at(dir.path().join("configuration"));
        kept.store(&base()).unwrap();
        let written = std::fs::read(kept.file()).unwrap();
        let check = |bytes: &[u8], expected: &str| {
            std::fs::write(kept.file(), bytes).unwrap();
            assert_eq!(kept.recall().unwrap_err(), expected);
        };
        check(&written[..20], "is cut off");
        check(&written[..written.len() - 1], "is not what was written");
        let mut other = written.clone();
        *other.last_mut().unwrap() ^= 1;
        check(&other, "is not what was written");

        kept.store(&base()).unwrap();
        let file = File::options().append(true).open(kept.file()).unwrap();
        let hours = |hours: u64| SystemTime::now() - Duration::from_hours(hours);
        file.set_modified(hours(25)).unwrap();
        assert_eq!(kept.recall().unwrap_err(), "is 25 hours old, of at most 24");
        kept.confirm().unwrap();
        assert!(kept.recall().unwrap().is_some());
    }
}
