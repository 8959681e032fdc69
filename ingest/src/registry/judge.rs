use std::collections::BTreeSet;

use super::change::{SET_BYTES_MAX, SPEC_BYTES_MAX};
use super::fault::{FAULTS_MAX, nearest};
use super::kind::check_new;
use super::snapshot::ENTITIES_MAX;
use super::{
    Change, ChangeSet, DeepCheck, Entity, EntityKey, Fault, Faults, Json, Kind, Name, Refusal,
    Snapshot, Written, conflicts,
};
use crate::log::NewRecord;

/// What is behind a queue's name in the names of its further topics.
const QUEUE_ENDS: [&str; 4] = [".dead", ".parked", ".progress", ".scheduled"];

/// What a change set comes to: the configuration after it.
pub(super) struct Judged {
    pub(super) next: Snapshot,
    pub(super) written: Vec<Written>,
}

impl Judged {
    /// The records of the change set `id`: what it writes, then its end.
    pub(super) fn records(&self, id: &Name) -> Vec<NewRecord> {
        let record = |written: &Written| match self.next.entity(&written.entity) {
            Some(entity) => entity.encode(),
            None => NewRecord::tombstone(written.entity.to_string()),
        };
        let end = self.next.end(id).encode();
        self.written.iter().map(record).chain(std::iter::once(end)).collect()
    }
}

/// Judges a change set against a configuration. A pure function, so that a plan
/// says beforehand what the applier will say.
pub(super) fn judge(
    now: &Snapshot,
    set: &ChangeSet,
    check: DeepCheck,
) -> Result<Judged, Vec<Refusal>> {
    let mut refusals = Refusals::default();
    let mut faults = Faults::default();
    set.check(&mut faults);
    let bytes = serde_json::to_vec(set).map_or(0, |json| json.len());
    if bytes > SET_BYTES_MAX {
        let mend = format!("propose at most {SET_BYTES_MAX} bytes at once");
        faults.add("", format!("has {bytes} bytes"), mend);
    }
    if let Err(faults) = faults.into_result() {
        refusals.all(None, faults);
        return Err(refusals.0);
    }

    let mut next = now.clone();
    next.revision += 1;
    let mut written = Vec::with_capacity(set.changes.len());
    let mut seen = BTreeSet::new();
    for change in &set.changes {
        let key = change.key();
        if !seen.insert(key.clone()) {
            refusals.add(&key, Fault::new("", "changed twice", "change each entity once per set"));
            continue;
        }
        let version = match check_version(now, change, &key) {
            Err(fault) => {
                refusals.add(&key, fault);
                continue;
            }
            Ok(version) => version,
        };
        match change {
            Change::Remove { .. } => {
                next.remove(&key);
                written.push(Written { entity: key, version: None });
            }
            Change::Put { spec, .. } => match read(&key, version, spec, check) {
                Err(faults) => refusals.all(Some(&key), faults),
                Ok(entity) => {
                    next.put(entity);
                    written.push(Written { entity: key, version: Some(version) });
                }
            },
        }
    }
    // What was refused above is missing here, and would be reported again.
    if refusals.0.is_empty() {
        check_references(now, &next, &written, &mut refusals);
        for (key, fault) in conflicts::find(&next, &written) {
            refusals.add(&key, fault);
        }
        if next.entities.len() > ENTITIES_MAX {
            let what = format!("the registry would hold {} entities", next.entities.len());
            refusals.all(None, vec![Fault::new("", what, format!("keep to {ENTITIES_MAX}"))]);
        }
    }
    if !refusals.0.is_empty() {
        return Err(refusals.0);
    }
    next.rehash();
    Ok(Judged { next, written })
}

/// The version that a change leads to, if it was made on the present one.
fn check_version(now: &Snapshot, change: &Change, key: &EntityKey) -> Result<u64, Fault> {
    let present = now.entity(key).map(|entity| entity.version);
    let (what, mend) = match (change.expected(), present) {
        (expected, present) if expected == present => return Ok(now.next_version(key)),
        (None, Some(present)) => {
            (format!("exists, in version {present}"), format!("expect version {present}"))
        }
        (Some(expected), None) => {
            let mend = "leave out the expected version to create it".to_owned();
            (format!("does not exist; expected was version {expected}"), mend)
        }
        (Some(expected), Some(present)) => (
            format!("is in version {present}; expected was {expected}"),
            "somebody changed it: read it again and propose anew".to_owned(),
        ),
        (None, None) => return Ok(now.next_version(key)),
    };
    Err(Fault::new("", what, mend))
}

fn read(
    key: &EntityKey,
    version: u64,
    spec: &Json,
    check: DeepCheck,
) -> Result<Entity, Vec<Fault>> {
    check_name(key).map_err(|fault| vec![fault])?;
    let bytes = serde_json::to_vec(spec).map_or(0, |json| json.len());
    if bytes > SPEC_BYTES_MAX {
        let mend = format!("keep it to {SPEC_BYTES_MAX}");
        return Err(vec![Fault::new("", format!("has {bytes} bytes"), mend)]);
    }
    let entity = Entity::new(key.clone(), version, spec.clone())?;
    check_new(&entity.spec)?;
    check(&entity.key, &entity.spec)?;
    Ok(entity)
}

/// Refuses a queue whose topic would be another one's: that of `a.dead` is where the
/// dead letters of `a` go.
fn check_name(key: &EntityKey) -> Result<(), Fault> {
    match QUEUE_ENDS.into_iter().find(|end| key.name.as_str().ends_with(end)) {
        Some(end) if key.kind == Kind::Queue => {
            let what = format!("the name ends with {end}, as the topics of a queue do");
            Err(Fault::new("", what, "give it another name"))
        }
        _ => Ok(()),
    }
}

/// Refuses what would refer to nothing: by what is written, or by what stays
/// when something is removed.
fn check_references(now: &Snapshot, next: &Snapshot, written: &[Written], refusals: &mut Refusals) {
    let put = |key: &EntityKey| written.iter().any(|w| &w.entity == key && w.version.is_some());
    let removes = written.iter().any(|w| w.version.is_none());
    let looked_at: Vec<&Entity> = if removes {
        next.entities().collect()
    } else {
        written.iter().filter_map(|w| next.entity(&w.entity)).collect()
    };
    for entity in looked_at {
        for reference in &entity.references {
            let target = &reference.target;
            if next.entity(target).is_some() {
                continue;
            }
            // Who is at fault: the one who refers anew, or the one who removes.
            if now.entity(target).is_some() && !put(&entity.key) {
                let what = format!("{} still refers to it, at {}", entity.key, reference.path);
                let mend = format!("change or remove {} first, or in the same set", entity.key);
                refusals.add(target, Fault::new("", what, mend));
            } else {
                let named = next.entities().filter(|of| of.key.kind == target.kind);
                let near = nearest(target.name.as_str(), named.map(|of| of.key.name.as_str()));
                let mend = match near {
                    Some(near) => format!("did you mean `{near}`? or create it in the same set"),
                    None => "create it first, or in the same set".to_owned(),
                };
                let what = format!("{target} does not exist");
                refusals.add(&entity.key, Fault::new(reference.path.as_str(), what, mend));
            }
        }
    }
}

/// Reasons, up to the limit.
#[derive(Default)]
struct Refusals(Vec<Refusal>);

impl Refusals {
    fn add(&mut self, entity: &EntityKey, fault: Fault) {
        self.all(Some(entity), vec![fault]);
    }

    fn all(&mut self, entity: Option<&EntityKey>, faults: Vec<Fault>) {
        let room = FAULTS_MAX - self.0.len();
        let refusals =
            faults.into_iter().map(|fault| Refusal { entity: entity.cloned(), fault }).take(room);
        self.0.extend(refusals);
    }
}
