use std::collections::BTreeMap;
use std::sync::Arc;

use super::entity::End;
use super::kind::KindSpec;
use super::{Digest, Entity, EntityKey, Kind, Name};

/// The most entities of a registry.
pub const ENTITIES_MAX: usize = 100_000;

/// The whole configuration after some change set. Never changes.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    pub(super) revision: u64,
    pub(super) entities: BTreeMap<EntityKey, Arc<Entity>>,
    /// Per kind the highest version that a removed entity had: a name that comes
    /// back starts above, so that nobody who knew the old one changes the new.
    pub(super) floors: BTreeMap<Kind, u64>,
    pub(super) config_hash: Digest,
}

impl Default for Snapshot {
    fn default() -> Self {
        let entities = BTreeMap::new();
        let config_hash = hash(&entities);
        Self { revision: 0, entities, floors: BTreeMap::new(), config_hash }
    }
}

impl Snapshot {
    /// How many change sets were accepted up to here.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// A hash of every kind, name and spec, but not of the versions: the same
    /// content has the same hash, on every node and in every installation.
    pub fn config_hash(&self) -> Digest {
        self.config_hash
    }

    /// The spec of an entity, ready to use.
    pub fn get<T: KindSpec>(&self, name: &Name) -> Option<&T> {
        T::of(&self.entity(&EntityKey::new(T::KIND, name.clone()))?.spec)
    }

    /// All entities of a kind, by name.
    pub fn all<T: KindSpec + 'static>(&self) -> impl Iterator<Item = (&Name, &T)> {
        self.of_kind(T::KIND).filter_map(|entity| Some((&entity.key.name, T::of(&entity.spec)?)))
    }

    /// An entity.
    pub fn entity(&self, key: &EntityKey) -> Option<&Entity> {
        self.entities.get(key).map(|entity| &**entity)
    }

    /// Every entity, by kind and name.
    pub fn entities(&self) -> impl ExactSizeIterator<Item = &Entity> {
        self.entities.values().map(|entity| &**entity)
    }

    fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &Entity> {
        // A range would need a least name; kinds are few and maps are small.
        self.entities()
            .skip_while(move |e| e.key.kind < kind)
            .take_while(move |e| e.key.kind == kind)
    }

    /// The version of an entity that is written now.
    pub(super) fn next_version(&self, key: &EntityKey) -> u64 {
        match self.entity(key) {
            Some(entity) => entity.version + 1,
            None => self.floors.get(&key.kind).copied().unwrap_or(0) + 1,
        }
    }

    pub(super) fn put(&mut self, entity: Entity) {
        self.entities.insert(entity.key.clone(), Arc::new(entity));
    }

    pub(super) fn remove(&mut self, key: &EntityKey) {
        if let Some(entity) = self.entities.remove(key) {
            let floor = self.floors.entry(key.kind).or_default();
            *floor = entity.version.max(*floor);
        }
    }

    /// Makes the hash agree with the content.
    pub(super) fn rehash(&mut self) {
        self.config_hash = hash(&self.entities);
    }

    pub(super) fn end(&self, id: &Name) -> End {
        End {
            revision: self.revision,
            id: id.clone(),
            config_hash: self.config_hash,
            floors: self.floors.clone(),
            history: true,
        }
    }
}

/// SHA-256 over key, line feed and digest of each entity, by key. The digests are
/// kept with the entities, so 100,000 of them take some 20 ms.
fn hash(entities: &BTreeMap<EntityKey, Arc<Entity>>) -> Digest {
    // By text, so that the order of the kinds' table does not matter.
    let mut parts: Vec<(String, &Digest)> =
        entities.iter().map(|(key, entity)| (format!("{key}\n"), &entity.digest)).collect();
    parts.sort();
    Digest::of_parts(
        parts.iter().flat_map(|(key, digest)| [key.as_bytes(), &digest.as_bytes()[..]]),
    )
}
