//! What is parked of a partition: per key how many messages the parked topic has of it, where the
//! first of them is, and those that are in memory. The messages themselves are the
//! window's ([`super::window`]); why keys are parked is in `docs/delivery.md`.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, percent_encode};
use serde::{Deserialize, Serialize};

use crate::deliver::stored::Message;

/// The most bytes of the keys that are parked at a time, so that they fit into a record.
pub(super) const KEYS_BYTES_MAX: usize = 256 * 1024;

/// What is parked together: the messages of a key, or one that has none.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Id {
    Key(Bytes),
    /// Its offset in the queue.
    Message(u64),
}

impl Id {
    pub(crate) fn of(message: &Message) -> Self {
        message.key().map_or(Self::Message(message.offset()), |key| Self::Key(key.clone()))
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Key(key) => key.len(),
            Self::Message(_) => 0,
        }
    }
}

/// The keys that are parked: those that have messages in the parked topic which are not
/// completed. What comes of such a key later waits for all of these.
#[derive(Debug, Default)]
pub(super) struct Parked {
    keys: BTreeMap<Id, OfKey>,
    messages: u64,
    key_bytes: usize,
}

/// What is parked of a key.
#[derive(Debug)]
struct OfKey {
    /// All of it below this offset of the queue are completed.
    next: u64,
    /// Its first message that is not completed is at this offset of the parked topic, or
    /// behind.
    from: u64,
    /// Its messages that are not completed.
    count: u64,
    /// Those of them in memory, in order, from the first on.
    loaded: VecDeque<u64>,
}

/// A key of whose messages none is in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Need {
    pub(crate) id: Id,
    /// The lowest offset of the queue, and of the parked topic, that the next has.
    pub(crate) next: u64,
    pub(crate) from: u64,
}

/// What follows a message that is completed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Follows {
    /// A message in memory.
    Loaded(u64),
    /// A message that has to be read.
    Unloaded,
    /// Nothing: the key is parked no more.
    Nothing,
}

impl Parked {
    pub(super) fn of(stored: Vec<Stored>) -> Self {
        let mut parked = Self::default();
        for Stored { id, next, from, count } in stored {
            parked.key_bytes += id.bytes();
            parked.messages += count;
            parked.keys.insert(id, OfKey { next, from, count, loaded: VecDeque::new() });
        }
        parked
    }

    pub(super) fn stored(&self) -> Vec<Stored> {
        let stored = |(id, of): (&Id, &OfKey)| Stored {
            id: id.clone(),
            next: of.next,
            from: of.from,
            count: of.count,
        };
        self.keys.iter().map(stored).collect()
    }

    pub(super) fn contains(&self, id: &Id) -> bool {
        self.keys.contains_key(id)
    }

    /// How many messages are parked.
    pub(super) fn messages(&self) -> u64 {
        self.messages
    }

    /// Whether a message may be parked and not in memory.
    pub(super) fn may_have(&self, offset: u64) -> bool {
        self.keys.values().any(|of| {
            let after = of.loaded.back().map_or(of.next, |last| last + 1);
            of.count > of.loaded.len() as u64 && offset >= after
        })
    }

    /// Whether a key of some length may be parked.
    pub(super) fn may_begin(&self, keys_max: usize) -> bool {
        self.keys.len() < keys_max && self.key_bytes < KEYS_BYTES_MAX
    }

    pub(super) fn has_room(&self, id: &Id, keys_max: usize) -> bool {
        self.keys.len() < keys_max && self.key_bytes + id.bytes() <= KEYS_BYTES_MAX
    }

    /// Parks the head of a key, which stays in memory; `end` is where the parked topic
    /// ended before.
    pub(super) fn begin(&mut self, id: Id, head: u64, end: u64) {
        self.key_bytes += id.bytes();
        self.messages += 1;
        let of = OfKey { next: head, from: end, count: 1, loaded: VecDeque::from([head]) };
        self.keys.insert(id, of);
    }

    /// Parks a further message of a key, which does not stay in memory.
    pub(super) fn add(&mut self, id: &Id) {
        if let Some(of) = self.keys.get_mut(id) {
            of.count += 1;
            self.messages += 1;
        }
    }

    pub(super) fn needs(&self) -> Vec<Need> {
        let needs = self.keys.iter().filter(|(_, of)| of.loaded.is_empty());
        needs.map(|(id, of)| Need { id: id.clone(), next: of.next, from: of.from }).collect()
    }

    /// Takes a message that was read; none if it is not wanted, else whether it is its
    /// key's head.
    pub(super) fn load(&mut self, id: &Id, offset: u64) -> Option<bool> {
        let of = self.keys.get_mut(id)?;
        if offset < of.next || of.loaded.back().is_some_and(|last| offset <= *last) {
            return None;
        }
        let is_head = of.loaded.is_empty();
        if is_head {
            of.next = offset;
        }
        of.loaded.push_back(offset);
        Some(is_head)
    }

    /// The head of a key is completed, which was at `place`, or behind.
    pub(super) fn complete(&mut self, id: &Id, place: u64) -> Follows {
        let Some(of) = self.keys.get_mut(id) else { return Follows::Nothing };
        let head = of.loaded.pop_front().unwrap_or(of.next);
        (of.next, of.from) = (head + 1, place + 1);
        of.count = of.count.saturating_sub(1);
        self.messages -= 1;
        if of.count == 0 {
            self.forget(id);
            return Follows::Nothing;
        }
        match of.loaded.front() {
            Some(next) => {
                of.next = *next;
                Follows::Loaded(*next)
            }
            None => Follows::Unloaded,
        }
    }

    /// Forgets what is parked of a key.
    pub(super) fn forget(&mut self, id: &Id) {
        if let Some(of) = self.keys.remove(id) {
            self.messages -= of.count;
            self.key_bytes -= id.bytes();
        }
    }
}

/// What is parked of a key, as its owner writes it down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Row", into = "Row")]
pub(crate) struct Stored {
    pub(crate) id: Id,
    pub(crate) next: u64,
    pub(crate) from: u64,
    pub(crate) count: u64,
}

/// The key, percent-encoded, if there is one; next, from, count.
#[derive(Serialize, Deserialize)]
struct Row(Option<String>, u64, u64, u64);

impl From<Stored> for Row {
    fn from(Stored { id, next, from, count }: Stored) -> Self {
        let key = match id {
            Id::Key(key) => Some(percent_encode(&key, NON_ALPHANUMERIC).to_string()),
            Id::Message(_) => None,
        };
        Self(key, next, from, count)
    }
}

impl From<Row> for Stored {
    fn from(Row(key, next, from, count): Row) -> Self {
        let id = match key {
            Some(key) => Id::Key(percent_decode_str(&key).collect::<Vec<u8>>().into()),
            None => Id::Message(next),
        };
        Self { id, next, from, count }
    }
}
