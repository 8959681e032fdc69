//! What of a window is parked, and what comes back.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::super::parked::{Id, Need};
use super::{State, Window};
use crate::deliver::message::MESSAGE_BYTES_MAX;
use crate::deliver::stored::Message;

/// The most that is parked at a time, in bytes: it goes to the log in one transaction.
const PARK_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Where more keys than these wait and nothing gets through, it is the target that is
/// away: parking them would make no room for anything.
const FEW_KEYS: usize = 16;

/// The first message in the queue of each key that cannot go on: that is where parking
/// begins.
#[derive(Debug, Default)]
pub(super) struct Fronts {
    /// Heads that wait or are held.
    blocked: BTreeSet<u64>,
    /// Those of them that wait, by how many had ended when their last attempt began.
    waiting: BTreeSet<(u64, u64)>,
    /// Those whose key is parked.
    following: BTreeSet<u64>,
}

impl Fronts {
    /// The front of a key that is parked.
    pub(super) fn follows(&mut self, offset: u64) {
        self.following.insert(offset);
    }

    /// A message has come to another state; `ended_before` is there of one in the queue.
    pub(super) fn moved(&mut self, offset: u64, state: State, ended_before: Option<u64>) {
        let Some(ended_before) = ended_before else { return };
        self.following.remove(&offset);
        self.waiting.remove(&(ended_before, offset));
        match state {
            State::Waiting(_) => {
                self.blocked.insert(offset);
                self.waiting.insert((ended_before, offset));
            }
            State::Held => {
                self.blocked.insert(offset);
            }
            State::Behind | State::Ready | State::UnderWay | State::Ending => {
                self.blocked.remove(&offset);
            }
        }
    }

    /// A message is parked.
    fn gone(&mut self, offset: u64, ended_before: u64) {
        self.following.remove(&offset);
        self.blocked.remove(&offset);
        self.waiting.remove(&(ended_before, offset));
    }

    /// Whether there is one whose last attempt others have outlived.
    fn any_since(&self, ended: u64) -> bool {
        self.waiting.first().is_some_and(|(before, _)| *before < ended)
    }

    fn any_held(&self) -> bool {
        self.blocked.len() > self.waiting.len()
    }

    fn any_follows(&self) -> bool {
        !self.following.is_empty()
    }

    /// All of them, in order.
    fn all(&self) -> Vec<u64> {
        let mut all: Vec<u64> = self.blocked.iter().chain(&self.following).copied().collect();
        all.sort_unstable();
        all
    }
}

impl Window {
    /// Takes a message of the parked topic, which is at `place` there. One that is not
    /// wanted is passed over.
    pub(crate) fn load_parked(&mut self, message: Message, place: u64) {
        let offset = message.offset();
        let Some(is_head) = self.parked.load(&Id::of(&message), offset) else { return };
        let known = self.known_parked.remove(&offset);
        self.parked_bytes += message.bytes();
        self.take(message, Some(place), known, is_head);
    }

    /// Parks keys that are blocked, if the window is full and nothing in it could be
    /// attempted: answers the messages to write to the parked topic, in order, together
    /// with the next progress. `end` is where that topic ends.
    pub(crate) fn park(&mut self, end: u64) -> Vec<Arc<Message>> {
        let mut moved = Vec::new();
        if !self.is_full() || self.has_ready() {
            return moved;
        }
        if !self.may_park_any() {
            return moved;
        }
        let (mut bytes, many) = (0, self.limits.records / 2);
        for front in self.fronts.all() {
            let is_enough = self.next - self.committed() <= many
                && self.bytes <= self.limits.bytes / 2
                || moved.len() as u64 >= many;
            if is_enough {
                break;
            }
            let id = Id::of(&self.messages[&front].message);
            let mut next = Some(front);
            while let Some(offset) = next {
                if bytes >= PARK_BYTES_MAX || !self.may_park(&id, offset) {
                    break;
                }
                let message = self.park_one(&id, offset, end);
                bytes += message.bytes();
                moved.push(message);
                next = match &id {
                    Id::Key(key) => self.keys.get(key).and_then(|of_key| of_key.front().copied()),
                    Id::Message(_) => None,
                };
            }
        }
        moved
    }

    /// Whether there may be one to park: where there is none, which is so for as long as a
    /// target is away, nothing is gone through.
    fn may_park_any(&self) -> bool {
        let may_begin =
            self.parked.may_begin(self.limits.parked_keys) && self.parked_bytes < self.limits.bytes;
        let gets_through = self.is_few() || self.fronts.any_since(self.ended);
        self.fronts.any_follows() || may_begin && (self.fronts.any_held() || gets_through)
    }

    fn is_few(&self) -> bool {
        self.waiting.len() + self.held <= FEW_KEYS
    }

    /// Whether the first message in the queue of its key can be parked.
    fn may_park(&self, id: &Id, offset: u64) -> bool {
        let entry = &self.messages[&offset];
        let has_room = self.parked.has_room(id, self.limits.parked_keys)
            && self.parked_bytes < self.limits.bytes;
        let gets_through = self.ended > entry.ended_before || self.is_few();
        let is_blocked = match entry.state {
            State::Held => has_room,
            State::Waiting(_) => has_room && gets_through,
            State::Behind => self.parked.contains(id),
            State::Ready | State::UnderWay | State::Ending => false,
        };
        is_blocked && entry.ending.is_none() && entry.message.bytes() <= MESSAGE_BYTES_MAX
    }

    fn park_one(&mut self, id: &Id, offset: u64, end: u64) -> Arc<Message> {
        let entry = self.messages.get_mut(&offset).expect("what is parked was read");
        let (message, ended_before) = (entry.message.clone(), entry.ended_before);
        self.bytes -= message.bytes();
        if self.parked.contains(id) {
            self.parked.add(id);
            self.messages.remove(&offset);
        } else {
            entry.parked_at = Some(end);
            self.parked.begin(id.clone(), offset, end);
            self.parked_bytes += message.bytes();
        }
        self.is_gone(offset, message.key());
        self.fronts.gone(offset, ended_before);
        let front = message.key().and_then(|key| self.keys.get(key)?.front().copied());
        if let Some(front) = front {
            self.fronts.follows(front);
        }
        message
    }

    /// The keys of whose parked messages one is to be read, by [`Self::load_parked`].
    pub(crate) fn parked_needs(&self) -> Vec<Need> {
        if self.parked_bytes >= self.limits.bytes { Vec::new() } else { self.parked.needs() }
    }

    /// The parked topic has nothing of a key any more, though it should.
    pub(crate) fn forget_parked(&mut self, need: &Need) {
        self.known_parked.remove(&need.next);
        self.parked.forget(&need.id);
        self.go_on(&need.id);
    }

    /// Of a key that is parked no more, what is in the queue goes on.
    pub(super) fn go_on(&mut self, id: &Id) {
        let Id::Key(key) = id else { return };
        if let Some(head) = self.keys.get(key).and_then(|of_key| of_key.front().copied()) {
            self.make_ready(head);
        }
    }
}
