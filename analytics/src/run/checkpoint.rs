//! Checkpoints: a record of `weir.state` for each query, and a file that it names.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ingest::log::{Headers, NewRecord, Partition};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::STATE_TOPIC;
use super::catch_up::CatchUp;
use super::findings::Findings;
use crate::query::{Meta, Saved};

/// Where a query is taken up again.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Checkpoint {
    /// Which beginning the query's answers go on from: it grows with each one that
    /// begins at the start of history.
    pub(super) generation: u64,
    /// How far the registry was read as the query was taken up.
    #[serde(default)]
    pub(super) revision: u64,
    /// Per partition of the events, the offset of the first row that the state has not.
    pub(super) reached: Vec<u64>,
    /// What it has taken in of a history that begins there, if that is long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) catch_up: Option<CatchUp>,
    /// What the query had seen until then.
    pub(super) query: Meta,
    /// The file of the state, in the directory of all; absent if there was none.
    pub(super) file: Option<File>,
    /// Whether the first part of the file is a detection's [`Findings`], as JSON.
    pub(super) has_findings: bool,
}

/// How far a query has come.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// Per partition of the events, the offset that it goes on from, once it has caught up.
    to: Vec<u64>,
    /// How many rows are left of those before.
    left: u64,
}

impl Place {
    /// Of one that has reached offsets, and what it is taking in behind them.
    pub(super) fn of(reached: &[u64], catch_up: Option<&CatchUp>) -> Self {
        match catch_up {
            Some(catch_up) => Self { to: catch_up.of.to.clone(), left: catch_up.left },
            None => Self { to: reached.to_vec(), left: 0 },
        }
    }

    /// How much lies behind it of a log that ends at offsets, one for each partition.
    pub(super) fn behind(&self, ends: &[u64]) -> u64 {
        let records = ends.iter().zip(&self.to).map(|(end, to)| end.saturating_sub(*to));
        self.left + records.sum::<u64>()
    }
}

/// A file of state: parts, one behind the other.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) name: String,
    sha256: String,
    part_bytes: Vec<usize>,
}

/// The partition of checkpoints.
pub(super) fn partition() -> Partition {
    Partition::new(STATE_TOPIC, 0)
}

/// A record that says that a query has no checkpoint.
pub(super) fn gone(query: &str) -> (Partition, NewRecord) {
    (partition(), NewRecord::tombstone(query.to_owned()))
}

impl Checkpoint {
    /// How far it has come.
    pub(super) fn place(&self) -> Place {
        Place::of(&self.reached, self.catch_up.as_ref())
    }

    /// How much state it names, in bytes.
    pub(super) fn state_bytes(&self) -> usize {
        self.file.as_ref().map_or(0, |file| file.part_bytes.iter().sum())
    }

    /// The record of a query's checkpoint.
    pub(super) fn record(&self, query: &str) -> (Partition, NewRecord) {
        let value = serde_json::to_vec(self).expect("a checkpoint is JSON");
        let (key, value) = (Some(query.to_owned().into()), Some(value.into()));
        (partition(), NewRecord { key, value, headers: Headers::default() })
    }
}

impl File {
    /// Writes parts of state, so that they are on the disk when this returns.
    pub(super) fn write(dir: &Path, query: &str, state: &[Vec<u8>]) -> io::Result<Option<Self>> {
        if state.is_empty() {
            return Ok(None);
        }
        // No other file ever has the name: a former owner cannot write over it.
        let name = format!("{query}-{}.arrow", uuid::Uuid::now_v7());
        let bytes = state.concat();
        let mut file = std::fs::File::create_new(dir.join(&name))?;
        io::Write::write_all(&mut file, &bytes)?;
        file.sync_all()?;
        std::fs::File::open(dir)?.sync_all()?;
        let part_bytes = state.iter().map(Vec::len).collect();
        Ok(Some(Self { name, sha256: hex(&bytes), part_bytes }))
    }

    /// Reads state.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub(super) fn read(&self, dir: &Path) -> Result<Vec<Vec<u8>>, String> {
        let path = self.path(dir);
        let told = |what: String| format!("the file of state {}: {what}", path.display());
        let bytes = std::fs::read(&path).map_err(|error| {
            told(format!("{error}; all analytics nodes share the lake's directory"))
        })?;
        if hex(&bytes) != self.sha256 {
            return Err(told("it is not as it was written".to_owned()));
        }
        let mut rest = &bytes[..];
        let mut parts = Vec::new();
        for bytes in &self.part_bytes {
            let (part, after) =
                rest.split_at_checked(*bytes).ok_or_else(|| told("it is too short".to_owned()))?;
            parts.push(part.to_vec());
            rest = after;
        }
        Ok(parts)
    }

    pub(super) fn path(&self, dir: &Path) -> PathBuf {
        dir.join(&self.name)
    }
}

/// How old a file of state is that no checkpoint names and no owner is about to.
const LEFT_FOR: Duration = Duration::from_hours(1);

/// Removes files of state that no checkpoint names: of commits that were not made. Answers how
/// many.
pub(super) fn sweep(dir: &Path, named: &BTreeSet<String>) -> io::Result<usize> {
    let mut swept = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let age = entry.metadata()?.modified()?.elapsed().unwrap_or_default();
        if name.ends_with(".arrow") && !named.contains(&name) && age > LEFT_FOR {
            std::fs::remove_file(entry.path())?;
            swept += 1;
        }
    }
    Ok(swept)
}

/// What was kept of a query and of its findings, put together from its checkpoint.
///
/// # Errors
/// What is wrong with the file.
pub(super) async fn saved(
    checkpoint: &Checkpoint,
    dir: &Path,
) -> Result<(Saved, Option<Findings>), String> {
    let mut state = match checkpoint.file.clone() {
        None => Vec::new(),
        Some(file) => {
            let dir = dir.to_owned();
            let reading = tokio::task::spawn_blocking(move || file.read(&dir));
            reading.await.map_err(|error| error.to_string())??
        }
    };
    let mut findings = None;
    if checkpoint.has_findings {
        let first = if state.is_empty() { Vec::new() } else { state.remove(0) };
        let read = serde_json::from_slice(&first);
        findings = Some(read.map_err(|error| format!("its open alerts cannot be read: {error}"))?);
    }
    Ok((Saved { meta: checkpoint.query.clone(), state }, findings))
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
