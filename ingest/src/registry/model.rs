//! Random proposals, judged by appliers that are restarted, doubled and let down
//! by their log, against a model of a screen's length.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use parking_lot::Mutex;

use super::flaky::FlakyLog;
use super::{
    Applier, Change, ChangeSet, EntityKey, Json, Kind, Name, Outcome, Snapshot, Topics, Verdict,
    View,
};
use crate::log::embedded::EmbeddedLog;
use crate::log::{EventLog, ReadLimit};

const NOW: Duration = Duration::from_millis(1);

/// What the registry should hold: per entity the version, the owner, and the tier.
type State = BTreeMap<EntityKey, (u64, String, Option<Name>)>;

/// The registry as one would explain it.
#[derive(Default)]
struct Model {
    state: State,
    floors: BTreeMap<Kind, u64>,
    verdicts: BTreeMap<Name, (ChangeSet, bool)>,
    /// Every state that ever was.
    states: Vec<State>,
}

impl Model {
    fn judge(&mut self, set: &ChangeSet) -> bool {
        if let Some((known, verdict)) = self.verdicts.get(&set.id) {
            return known == set && *verdict;
        }
        let next = self.next(set);
        self.verdicts.insert(set.id.clone(), (set.clone(), next.is_some()));
        let Some((state, floors)) = next else { return false };
        self.states.push(state.clone());
        (self.state, self.floors) = (state, floors);
        true
    }

    fn next(&self, set: &ChangeSet) -> Option<(State, BTreeMap<Kind, u64>)> {
        let (mut state, mut floors) = (self.state.clone(), self.floors.clone());
        let mut seen = HashSet::new();
        for change in &set.changes {
            let key = change.key();
            let present = self.state.get(&key).map(|(version, ..)| *version);
            if !seen.insert(key.clone()) || change.expected() != present {
                return None;
            }
            match change {
                Change::Remove { expected, .. } => {
                    state.remove(&key);
                    let floor = floors.entry(key.kind).or_insert(0);
                    *floor = (*floor).max(*expected);
                }
                Change::Put { spec, .. } => {
                    let floor = self.floors.get(&key.kind).copied().unwrap_or(0);
                    let version = present.unwrap_or(floor) + 1;
                    let (owner, tier) = parts(spec);
                    if key.kind == Kind::Application && owner.is_empty() {
                        return None;
                    }
                    state.insert(key, (version, owner, tier));
                }
            }
        }
        let whole = state.values().all(|(_, _, tier)| {
            tier.as_ref().is_none_or(|t| state.contains_key(&EntityKey::new(Kind::Tier, t.clone())))
        });
        whole.then_some((state, floors))
    }
}

fn parts(spec: &Json) -> (String, Option<Name>) {
    let text = |field: &str| spec.0.get(field).and_then(|value| value.as_str());
    let number = || spec.0.get("burst_requests_max").map(ToString::to_string);
    let owner = text("owner").map(str::to_owned).or_else(number).unwrap_or_default();
    (owner, text("tier").map(|tier| Name::new(tier).unwrap()))
}

fn state_of(snapshot: &Snapshot) -> State {
    let part = |entity: &super::Entity| {
        let (owner, tier) = parts(&entity.json);
        (entity.key.clone(), (entity.version, owner, tier))
    };
    snapshot.entities().map(part).collect()
}

/// A change set of one to three changes, right more often than not.
fn random_set(random: &mut Rng, model: &Model, number: usize) -> ChangeSet {
    let changes = (0..random.usize(1..4)).map(|_| {
        let kind = if random.u8(0..3) == 0 { Kind::Tier } else { Kind::Application };
        let name = Name::new(&format!("n{}", random.u8(0..5))).unwrap();
        let present = model.state.get(&EntityKey::new(kind, name.clone())).map(|(v, ..)| *v);
        let expected = match random.u8(0..8) {
            0 => Some(random.u64(1..5)),
            1 => None,
            _ => present,
        };
        if let (Some(expected), 0) = (expected, random.u8(0..4)) {
            return Change::Remove { kind, name, expected };
        }
        let spec = match (kind, random.u8(0..6)) {
            (Kind::Tier, _) => format!(r#"{{"burst_requests_max":{}}}"#, random.u16(1..999)),
            (_, 0) => r#"{"owner":""}"#.to_owned(),
            (_, 1..=3) => format!(r#"{{"owner":"o{}"}}"#, random.u16(..)),
            _ => format!(r#"{{"owner":"o","tier":"n{}"}}"#, random.u8(0..5)),
        };
        Change::Put { kind, name, expected, spec: Json(serde_json::from_str(&spec).unwrap()) }
    });
    let changes = changes.collect();
    let id = Name::new(&format!("s{number}")).unwrap();
    ChangeSet { id, author: "model".to_owned(), message: "m".to_owned(), changes }
}

async fn verdicts(log: &dyn EventLog, topics: &Topics) -> Vec<Verdict> {
    let bounds = log.bounds(&topics.verdicts).await.unwrap();
    let from = vec![(topics.verdicts.clone(), bounds.first)];
    let mut reader = log.reader(from).await.unwrap();
    let mut found = Vec::new();
    let limit = ReadLimit { wait: NOW, ..ReadLimit::default() };
    while let Some(batch) = reader.next(limit).await.unwrap() {
        let values = batch.records.iter().map(|record| record.value.as_deref().unwrap());
        found.extend(values.filter_map(|value| serde_json::from_slice(value).ok()));
    }
    found
}

/// Keeps every snapshot that a follower publishes.
async fn watch(view: View, seen: Arc<Mutex<Vec<Arc<Snapshot>>>>) {
    let (mut changes, mut reader) = (view.changes(), view.reader());
    loop {
        seen.lock().push(reader.load().clone());
        if changes.changed().await.is_err() {
            return;
        }
    }
}

async fn run(seed: u64) {
    let mut random = Rng::with_seed(seed);
    let log: Arc<dyn EventLog> = Arc::new(EmbeddedLog::in_memory());
    let percent = random.u8(0..30);
    let flaky: Arc<dyn EventLog> = Arc::new(FlakyLog::new(log.clone(), seed, percent));
    let topics = Topics::default();
    topics.create(&*log).await.unwrap();
    let view = View::open(flaky.clone(), topics.clone()).await.unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let watcher = tokio::spawn(watch(view.clone(), seen.clone()));

    let mut model = Model { states: vec![State::default()], ..Model::default() };
    let mut expected = Vec::new();
    let mut sets: Vec<ChangeSet> = Vec::new();
    // The last may be in force; those before are fenced, and do not know it.
    let mut appliers: Vec<Applier> = Vec::new();
    for number in 0..60 {
        for _ in 0..random.u8(1..4) {
            let set = match random.u8(0..8) {
                0 if !sets.is_empty() => sets[random.usize(..sets.len())].clone(),
                1 if !sets.is_empty() => {
                    let id = sets[random.usize(..sets.len())].id.clone();
                    ChangeSet { id, ..random_set(&mut random, &model, number) }
                }
                _ => random_set(&mut random, &model, sets.len()),
            };
            let record = (topics.proposals.clone(), set.encode());
            log.append(vec![record]).await.unwrap();
            expected.push((set.id.clone(), model.judge(&set)));
            sets.push(set);
        }
        if (appliers.is_empty() || random.u8(0..6) == 0)
            && let Ok(applier) = Applier::open(&flaky, topics.clone()).await
        {
            appliers.push(applier);
        }
        for _ in 0..random.u8(0..3) {
            let i = random.usize(..appliers.len().max(1));
            if let Some(applier) = appliers.get_mut(i)
                && applier.step(NOW).await.is_err()
                && random.bool()
            {
                // Else it is asked to go on, and must not.
                appliers.remove(i);
            }
        }
    }
    drop(appliers);
    let mut last = Applier::open(&log, topics.clone()).await.unwrap();
    while last.step(NOW).await.unwrap() > 0 {}

    assert_eq!(state_of(last.now()), model.state, "seed {seed}");
    let found = verdicts(&*log, &topics).await;
    let answered: Vec<_> = found.iter().map(|v| (v.id.clone(), v.is_accepted())).collect();
    assert_eq!(answered, expected, "seed {seed}: every proposal has one verdict");
    assert!(found.iter().enumerate().all(|(i, verdict)| verdict.proposal == i as u64));
    let shown = view.wait_for(last.now().revision()).await.unwrap();
    assert_eq!(*shown, *last.now(), "seed {seed}");
    check_versions(&found, seed);
    let fresh = View::open(log, topics).await.unwrap();
    assert_eq!(fresh.status().config_hash, shown.config_hash(), "seed {seed}");

    watcher.abort();
    for snapshot in seen.lock().iter() {
        let revision = snapshot.revision() as usize;
        let state = model.states.get(revision);
        assert_eq!(Some(&state_of(snapshot)), state, "seed {seed}: a state that never was");
    }
}

/// Versions of an entity grow by one from its creation on, and revisions by one.
fn check_versions(verdicts: &[Verdict], seed: u64) {
    let mut versions: BTreeMap<&EntityKey, u64> = BTreeMap::new();
    let mut last = 0;
    for verdict in verdicts {
        let Outcome::Accepted { revision, written } = &verdict.outcome else { continue };
        if *revision <= last {
            continue; // The verdict on a repeated proposal.
        }
        assert_eq!(*revision, last + 1, "seed {seed}");
        last = *revision;
        for written in written {
            let before = match written.version {
                None => versions.remove(&written.entity),
                Some(version) => versions.insert(&written.entity, version),
            };
            if let (Some(before), Some(version)) = (before, written.version) {
                assert_eq!(version, before + 1, "seed {seed}: {}", written.entity);
            }
        }
    }
}

#[test]
fn it_is_as_the_model_says_whatever_fails() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for seed in 0..60 {
        runtime.block_on(run(seed));
    }
}
