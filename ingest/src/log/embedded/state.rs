//! What the journal's frames add up to, records aside.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::section::{PartitionKey, Section};
use crate::log::{Bounds, Error, LogTime, Partition, Result, TopicSpec};

/// Topics, the partitions' ends, committed offsets and writers' epochs.
///
/// Built by [`State::apply`] alone, from what is about to be written and from
/// what is read back, so that both come out the same.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct State {
    topics: BTreeMap<Arc<str>, Topic>,
    names: BTreeMap<u32, Arc<str>>,
    partitions: BTreeMap<PartitionKey, Ends>,
    offsets: BTreeMap<Arc<str>, BTreeMap<PartitionKey, u64>>,
    writers: BTreeMap<Arc<str>, u64>,
    /// The newest record's time; times never go back.
    time: LogTime,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Topic {
    id: u32,
    spec: TopicSpec,
}

/// The offsets that a partition holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ends {
    pub(super) first: u64,
    pub(super) end: u64,
}

/// A section that does not fit what came before it.
#[derive(Debug)]
pub(super) struct Contradiction(pub(super) String);

impl State {
    pub(super) fn apply(&mut self, section: &Section<'_>) -> Result<(), Contradiction> {
        let contradiction = |what: String| Err(Contradiction(what));
        match *section {
            Section::Records { partition, first, time, count, .. } => {
                let ends = self.partitions.entry(partition).or_default();
                if ends.end != first {
                    return contradiction(format!("offset {first} follows {}", ends.end));
                }
                ends.end += u64::from(count);
                self.time = self.time.max(time);
            }
            Section::Moved { .. } => {}
            Section::Offset { group, partition, offset } => match self.offsets.get_mut(group) {
                Some(offsets) => drop(offsets.insert(partition, offset)),
                None => {
                    self.offsets.insert(group.into(), BTreeMap::from([(partition, offset)]));
                }
            },
            Section::Topic { id, spec } => {
                let spec: TopicSpec = match serde_json::from_str(spec) {
                    Ok(spec) => spec,
                    Err(error) => return contradiction(format!("topic {id}: {error}")),
                };
                self.insert_topic(id, spec);
            }
            Section::Writer { name, epoch } => match self.writers.get_mut(name) {
                Some(current) => *current = epoch,
                None => drop(self.writers.insert(name.into(), epoch)),
            },
            Section::Trim { partition, before } => {
                let ends = self.partitions.entry(partition).or_default();
                if before > ends.end {
                    return contradiction(format!("trim to {before} past {}", ends.end));
                }
                ends.first = ends.first.max(before);
            }
        }
        Ok(())
    }

    fn insert_topic(&mut self, id: u32, spec: TopicSpec) {
        let name: Arc<str> = spec.name.as_str().into();
        for index in 0..spec.partitions {
            self.partitions.entry(PartitionKey { topic: id, index }).or_default();
        }
        self.names.insert(id, name.clone());
        self.topics.insert(name, Topic { id, spec });
    }

    pub(super) fn topic(&self, name: &str) -> Option<&TopicSpec> {
        self.topics.get(name).map(|topic| &topic.spec)
    }

    pub(super) fn next_topic_id(&self) -> u32 {
        self.names.last_key_value().map_or(0, |(id, _)| id + 1)
    }

    pub(super) fn key(&self, partition: &Partition) -> Result<PartitionKey> {
        let Some(topic) = self.topics.get(&partition.topic) else {
            return Err(Error::UnknownTopic(partition.topic.to_string()));
        };
        if partition.index >= topic.spec.partitions {
            return Err(Error::UnknownPartition(partition.clone()));
        }
        Ok(PartitionKey { topic: topic.id, index: partition.index })
    }

    /// All partitions, with how their topic is made.
    pub(super) fn partitions(&self) -> impl Iterator<Item = (Partition, PartitionKey, &TopicSpec)> {
        self.topics.iter().flat_map(|(name, topic)| {
            (0..topic.spec.partitions).map(move |index| {
                let key = PartitionKey { topic: topic.id, index };
                (Partition { topic: name.clone(), index }, key, &topic.spec)
            })
        })
    }

    pub(super) fn ends(&self, key: PartitionKey) -> Ends {
        self.partitions.get(&key).copied().unwrap_or_default()
    }

    pub(super) fn bounds(&self, key: PartitionKey) -> Bounds {
        let Ends { first, end } = self.ends(key);
        Bounds { first, end }
    }

    pub(super) fn committed(&self, group: &str, key: PartitionKey) -> Option<u64> {
        self.offsets.get(group)?.get(&key).copied()
    }

    pub(super) fn epoch(&self, writer: &str) -> Option<u64> {
        self.writers.get(writer).copied()
    }

    pub(super) fn time(&self) -> LogTime {
        self.time
    }
}

/// The state as it is stored in a checkpoint.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stored {
    topics: Vec<(u32, TopicSpec)>,
    partitions: Vec<(PartitionKey, Ends)>,
    offsets: Vec<(String, Vec<(PartitionKey, u64)>)>,
    writers: Vec<(String, u64)>,
    time: i64,
}

impl From<&State> for Stored {
    fn from(state: &State) -> Self {
        let group = |(name, offsets): (&Arc<str>, &BTreeMap<_, _>)| {
            (name.to_string(), offsets.iter().map(|(key, offset)| (*key, *offset)).collect())
        };
        Self {
            topics: state.topics.values().map(|topic| (topic.id, topic.spec.clone())).collect(),
            partitions: state.partitions.iter().map(|(key, ends)| (*key, *ends)).collect(),
            offsets: state.offsets.iter().map(group).collect(),
            writers: state.writers.iter().map(|(name, epoch)| (name.to_string(), *epoch)).collect(),
            time: state.time.0,
        }
    }
}

impl From<Stored> for State {
    fn from(stored: Stored) -> Self {
        let mut state = Self {
            partitions: stored.partitions.into_iter().collect(),
            offsets: stored
                .offsets
                .into_iter()
                .map(|(name, offsets)| (name.into(), offsets.into_iter().collect()))
                .collect(),
            writers: stored.writers.into_iter().map(|(name, epoch)| (name.into(), epoch)).collect(),
            time: LogTime(stored.time),
            ..Self::default()
        };
        for (id, spec) in stored.topics {
            state.insert_topic(id, spec);
        }
        state
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_stored_and_read_back_the_same() {
        let mut state = State::default();
        let partition = PartitionKey { topic: 0, index: 1 };
        let spec = serde_json::to_string(&TopicSpec::compacted("t", 2)).unwrap();
        let sections = [
            Section::Topic { id: 0, spec: &spec },
            Section::Records { partition, first: 0, time: LogTime(7), count: 3, body: &[] },
            Section::Offset { group: "g", partition, offset: 2 },
            Section::Writer { name: "w", epoch: 4 },
            Section::Trim { partition, before: 1 },
        ];
        for section in &sections {
            state.apply(section).unwrap();
        }
        let json = serde_json::to_string(&Stored::from(&state)).unwrap();
        let stored: Stored = serde_json::from_str(&json).unwrap();
        assert_eq!(State::from(stored), state);
        assert_eq!(state.bounds(partition), Bounds { first: 1, end: 3 });
    }

    #[test]
    fn what_does_not_follow_is_refused() {
        let mut state = State::default();
        let partition = PartitionKey { topic: 0, index: 0 };
        let gap = Section::Records { partition, first: 1, time: LogTime(0), count: 1, body: &[] };
        assert!(state.apply(&gap).is_err());
        assert!(state.apply(&Section::Trim { partition, before: 1 }).is_err());
    }
}
