//! The versions of entities, as the history tells them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use arrow::array::RecordBatch;
use ingest::log::Record;
use ingest::registry::history::{Entry, Field};
use ingest::registry::{EntityKey, Kind};
use serde_json::Value;

use super::columns;

/// A version of an entity.
#[derive(Debug)]
pub(super) struct Version {
    pub(super) name: String,
    pub(super) version: u64,
    /// The revision from which on it was in force.
    pub(super) first: u64,
    /// The one until which it was; nothing while it is.
    pub(super) last: Option<u64>,
    /// When it was accepted, by the log's clock, in microseconds since 1970.
    pub(super) since_us: i64,
    /// In the order of the kind's own columns.
    pub(super) fields: Vec<Value>,
}

/// All versions that were told.
#[derive(Debug, Default)]
pub(super) struct Held {
    revision: u64,
    kinds: BTreeMap<Kind, Versions>,
    /// What was told since the last revision ended.
    told: Vec<(Entry, i64)>,
    next: Option<u64>,
}

#[derive(Debug, Default)]
struct Versions {
    /// In the order in which they came into force.
    all: Vec<Version>,
    /// Where those are that are in force, by name.
    current: HashMap<String, usize>,
    /// All as rows, until another comes.
    rows: Option<RecordBatch>,
}

impl Versions {
    fn begin(&mut self, version: Version) {
        self.rows = None;
        self.current.insert(version.name.clone(), self.all.len());
        self.all.push(version);
    }

    /// An entity is in force no more from a revision on.
    fn end(&mut self, name: &str, revision: u64) {
        if let Some(at) = self.current.remove(name) {
            self.rows = None;
            self.all[at].last = Some(revision.saturating_sub(1));
        }
    }

    fn is(&self, name: &str, version: u64) -> bool {
        self.current.get(name).is_some_and(|at| self.all[*at].version == version)
    }
}

impl Held {
    /// The revision that was told last.
    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    /// Where the history goes on.
    pub(super) fn next(&self) -> Option<u64> {
        self.next
    }

    /// The rows of a kind's table.
    pub(super) fn rows(&mut self, kind: Kind) -> RecordBatch {
        let versions = self.kinds.entry(kind).or_default();
        versions.rows.get_or_insert_with(|| columns::rows(kind, &versions.all)).clone()
    }

    /// Takes records of the history, which goes on at `next`.
    pub(super) fn take(&mut self, records: &[Record], next: u64) {
        self.next = Some(next);
        for record in records {
            match Entry::read(record) {
                Some(Entry::End(revision)) => self.end(revision),
                // What was told before and never ended is told once more.
                Some(Entry::Anew) => self.told = vec![(Entry::Anew, 0)],
                Some(told) => self.told.push((told, record.time.0 * 1_000)),
                None => {}
            }
        }
    }

    /// What was told is of this revision, and counts.
    fn end(&mut self, revision: u64) {
        let told = std::mem::take(&mut self.told);
        if revision <= self.revision {
            return;
        }
        let is_all = told.first().is_some_and(|(told, _)| *told == Entry::Anew);
        if is_all {
            self.end_others(&told, revision);
        }
        for (told, since_us) in told {
            match told {
                Entry::Is { key, version, mut fields } => {
                    let name = key.name.as_str().to_owned();
                    let own = columns::own(key.kind).iter();
                    let value = |field: &Field| fields.remove(field.name).unwrap_or_default();
                    let fields = own.map(value).collect();
                    let versions = self.kinds.entry(key.kind).or_default();
                    // It may be as it was while nothing was told.
                    if !versions.is(&name, version) {
                        versions.end(&name, revision);
                        let first = revision;
                        versions.begin(Version {
                            name,
                            version,
                            first,
                            last: None,
                            since_us,
                            fields,
                        });
                    }
                }
                Entry::Gone(key) => {
                    let versions = self.kinds.entry(key.kind).or_default();
                    versions.end(key.name.as_str(), revision);
                }
                Entry::Anew | Entry::End(_) => {}
            }
        }
        self.revision = revision;
    }

    /// Ends what is not among all that there is.
    fn end_others(&mut self, told: &[(Entry, i64)], revision: u64) {
        let is = told.iter().filter_map(|(told, _)| match told {
            Entry::Is { key: EntityKey { kind, name }, .. } => Some((*kind, name.as_str())),
            _ => None,
        });
        let is: BTreeSet<(Kind, &str)> = is.collect();
        for (kind, versions) in &mut self.kinds {
            let names: Vec<String> = versions.current.keys().cloned().collect();
            for name in names.iter().filter(|name| !is.contains(&(*kind, name.as_str()))) {
                versions.end(name, revision);
            }
        }
    }
}
