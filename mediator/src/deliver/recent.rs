//! Which ordering keys the latest message ids came with, so that an id is not taken for two
//! messages.
//!
//! Bodies are not compared: a route may put into one what is new each time, such as a time, and
//! whoever repeats a message has to be able to.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher as _, RandomState};

use ingest::registry::Name;

use super::message::NewMessage;

/// How many ids are remembered.
const IDS_MAX: usize = 10_000;

/// The latest ids, and hashes of their keys; 32 bytes each.
#[derive(Debug, Default)]
pub(super) struct Recent {
    hasher: RandomState,
    keys: HashMap<u64, u64>,
    order: VecDeque<u64>,
}

impl Recent {
    /// Remembers a message, unless its id came with another key before: then this is false.
    pub(super) fn take(&mut self, queue: &Name, message: &NewMessage) -> bool {
        let id = self.hasher.hash_one((queue.as_str(), message.id.as_str()));
        let key = self.hasher.hash_one(&message.key);
        if let Some(before) = self.keys.get(&id) {
            return *before == key;
        }
        if self.order.len() >= IDS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.keys.remove(&oldest);
        }
        self.order.push_back(id);
        self.keys.insert(id, key);
        true
    }
}
