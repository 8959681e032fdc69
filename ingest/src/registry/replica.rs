use std::collections::BTreeMap;

use super::entity::{END_KEY, End, OPENED_KEY};
use super::{Entity, EntityKey, Snapshot};
use crate::log::{NewRecord, Record};

/// So many entities are hashed off the runtime: that takes a millisecond or two.
const MANY: usize = 5_000;

/// The configuration as it is read, record by record.
///
/// It is a configuration that somebody accepted only where a change set ends, and
/// only if it has the hash that the end states. It may have another while the
/// topic's compacted part is read: there, what later sets wrote again is missing
/// from earlier ones.
#[derive(Debug, Default)]
pub(super) struct Replica {
    content: Snapshot,
    /// Records that could not be read, and why.
    unread: BTreeMap<String, String>,
    /// The end that was read last, if nothing came after it.
    end: Option<End>,
    started: bool,
    /// The content's hash is of what it was before.
    hash_is_stale: bool,
}

impl Replica {
    /// Takes a record in. Answers whether a change set ends with it.
    pub(super) fn take(&mut self, record: &Record) -> bool {
        let key = record.key.as_deref().unwrap_or_default();
        if key == OPENED_KEY {
            return false;
        }
        self.started = true;
        self.end = None;
        if key == END_KEY {
            self.take_end(record);
            return true;
        }
        let text = String::from_utf8_lossy(key).into_owned();
        self.unread.remove(&text);
        let Some(key) = EntityKey::parse(&text) else {
            if record.value.is_some() {
                self.unread.insert(text, "its key is not kind/name of a known kind".to_owned());
            }
            return false;
        };
        match record.value.as_deref().map(|value| Entity::decode(key.clone(), value)) {
            None => self.content.remove(&key),
            Some(Ok(entity)) => self.content.put(entity),
            Some(Err(reason)) => {
                self.content.remove(&key);
                self.unread.insert(text, reason);
            }
        }
        false
    }

    /// If the history lacks what there is: the end that says that it has it.
    pub(super) fn end_without_history(&self, is_lost: bool) -> Option<NewRecord> {
        let end = self.end.as_ref().filter(|end| is_lost || !end.history)?;
        Some(End { history: true, ..end.clone() }.encode())
    }

    fn take_end(&mut self, record: &Record) {
        let end = record.value.as_deref().and_then(|value| serde_json::from_slice(value).ok());
        let Some(end): Option<End> = end else { return };
        self.content.revision = end.revision;
        self.content.floors.clone_from(&end.floors);
        self.hash_is_stale = true;
        self.end = Some(end);
    }

    /// Hashes what a change set left, off the runtime where that takes long, so
    /// that [`Replica::whole`] has no more to do.
    pub(super) async fn hash(&mut self) {
        if self.end.is_none() || !self.hash_is_stale || self.content.entities.len() < MANY {
            return;
        }
        let mut content = self.content.clone();
        let hashed = tokio::task::spawn_blocking(move || {
            content.rehash();
            content.config_hash
        });
        // It fails as the runtime goes down; then nobody waits for it any more.
        if let Ok(hash) = hashed.await {
            self.content.config_hash = hash;
            self.hash_is_stale = false;
        }
    }

    /// The configuration, if it is whole; else why it is not. Hashes it the first
    /// time that it is asked for after a change set.
    pub(super) fn whole(&mut self) -> Result<&Snapshot, String> {
        if let Some((key, reason)) = self.unread.first_key_value() {
            return Err(format!("record {key}: {reason}"));
        }
        if self.end.is_some() && std::mem::take(&mut self.hash_is_stale) {
            self.content.rehash();
        }
        match &self.end {
            None if !self.started => Ok(&self.content),
            None => Err("the last change set has no end".to_owned()),
            Some(end) if end.config_hash != self.content.config_hash => Err(format!(
                "revision {} has the hash {}, stated is {}",
                end.revision, self.content.config_hash, end.config_hash
            )),
            Some(_) => Ok(&self.content),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{Headers, LogTime};
    use crate::registry::{Change, ChangeSet, Json, Kind, Name, judge, no_deep_check};

    fn set(id: &str, changes: &[(&str, Option<u64>)]) -> ChangeSet {
        let put = |(name, expected): &(&str, Option<u64>)| Change::Put {
            kind: Kind::Application,
            name: Name::new(name).unwrap(),
            expected: *expected,
            spec: Json(serde_json::from_str(&format!(r#"{{"owner":"{id}"}}"#)).unwrap()),
        };
        let changes = changes.iter().map(put).collect();
        let id = Name::new(id).unwrap();
        ChangeSet { id, author: "a".into(), message: "m".into(), changes }
    }

    fn records(now: &Snapshot, set: &ChangeSet) -> (Snapshot, Vec<Record>) {
        let judged = judge::judge(now, set, no_deep_check)
            .unwrap_or_else(|refusals| panic!("{}", refusals[0]));
        let record = |new: NewRecord| Record {
            offset: 0,
            time: LogTime(0),
            key: new.key,
            value: new.value,
            headers: Headers::default(),
        };
        let records = judged.records(&set.id).into_iter().map(record).collect();
        (judged.next, records)
    }

    #[test]
    fn it_is_whole_only_where_a_set_ends() {
        let (_, records) = records(&Snapshot::default(), &set("s1", &[("a", None), ("b", None)]));
        let mut replica = Replica::default();
        let mut whole = vec![replica.whole().is_ok()];
        for record in &records {
            let ends = replica.take(record);
            assert_eq!(ends, replica.whole().is_ok());
            whole.push(replica.whole().is_ok());
        }
        assert_eq!(whole, [true, false, false, true]);
    }

    /// Compaction may take the first of two versions, and leave the end of the
    /// set that wrote it.
    #[test]
    fn a_stretch_with_compacted_holes_is_passed_over() {
        let (now, first) = records(&Snapshot::default(), &set("s1", &[("a", None), ("b", None)]));
        let (now, second) = records(&now, &set("s2", &[("a", Some(1))]));
        let mut replica = Replica::default();
        for record in &first[1..] {
            replica.take(record);
        }
        assert!(replica.whole().unwrap_err().contains("stated is"));
        for record in &second {
            replica.take(record);
        }
        assert_eq!(replica.whole(), Ok(&now));
    }

    #[test]
    fn a_record_that_cannot_be_read_makes_it_not_whole_and_is_not_shown() {
        let (_, mut records) = records(&Snapshot::default(), &set("s1", &[("a", None)]));
        records[0].value = Some(br#"{"version":1,"spec":{"owner":"x","hush":"hush"}}"#[..].into());
        let mut replica = Replica::default();
        for record in &records {
            replica.take(record);
        }
        let reason = replica.whole().unwrap_err();
        assert!(reason.starts_with("record application/a: hush: unknown key"), "{reason}");
    }

    /// As few have, though those are hashed elsewhere.
    #[tokio::test]
    async fn many_entities_have_the_hash_that_the_set_states() {
        let entity = |i: usize| {
            let key = EntityKey::parse(&format!("application/a{i}")).unwrap();
            let json = Json(serde_json::from_str(r#"{"owner":"o"}"#).unwrap());
            Entity::new(key, 1, json).unwrap()
        };
        let mut now = Snapshot::default();
        (0..MANY).for_each(|i| now.put(entity(i)));
        let mut replica = Replica { content: now.clone(), ..Replica::default() };
        let (now, records) = records(&now, &set("s1", &[("b", None)]));
        for record in &records {
            replica.take(record);
        }
        replica.hash().await;
        assert!(!replica.hash_is_stale);
        assert_eq!(replica.whole(), Ok(&now));
    }
}
