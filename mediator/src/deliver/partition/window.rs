use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use ingest::event::Timestamp;

use super::{Head, Progress, Ranges};
use crate::deliver::stored::Message;

/// When a window is full.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Offsets from the committed one to the last that was read.
    pub(crate) records: u64,
    /// Bytes of the messages that are not completed.
    pub(crate) bytes: usize,
}

/// The messages above the committed offset.
///
/// Of each key the first message that is not completed, its *head*, is ready,
/// under way, waiting or held; the others are behind it. A message without a key
/// is the head of its own.
#[derive(Debug)]
pub(crate) struct Window {
    limits: Limits,
    /// The offset after the last record that was read.
    next: u64,
    messages: BTreeMap<u64, Entry>,
    bytes: usize,
    /// Per key the messages that are not completed, in order.
    keys: HashMap<Bytes, VecDeque<u64>>,
    ready: BTreeSet<u64>,
    waiting: BTreeSet<(Timestamp, u64)>,
    /// Everything below the lowest message that is not completed, and these.
    completed: Ranges,
    /// What an earlier owner left, of messages that were not read yet.
    known: BTreeMap<u64, Head>,
    /// Messages that had an attempt.
    tried: BTreeSet<u64>,
    under_way: usize,
    held: usize,
}

#[derive(Debug)]
struct Entry {
    message: Arc<Message>,
    attempts: u64,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Behind,
    Ready,
    UnderWay,
    Waiting(Timestamp),
    Held,
}

/// An attempt to make.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) message: Arc<Message>,
    /// From 1.
    pub(crate) attempt: u64,
}

/// What a window holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Completed above the committed offset.
    pub(crate) completed_ahead: u64,
    pub(crate) under_way: usize,
    /// Heads that wait for their next attempt.
    pub(crate) waiting: usize,
    pub(crate) held: usize,
    /// Messages read and not completed.
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
}

impl Window {
    /// A window that goes on where `progress` ends, with nothing read yet.
    pub(crate) fn new(limits: Limits, progress: Progress) -> Self {
        let committed = progress.committed;
        let mut completed = progress.completed;
        completed.remove_below(committed);
        let is_open = |head: &Head| head.offset >= committed && !completed.contains(head.offset);
        let heads = progress.heads.into_iter().filter(is_open);
        Self {
            limits,
            next: committed,
            messages: BTreeMap::new(),
            bytes: 0,
            keys: HashMap::new(),
            ready: BTreeSet::new(),
            waiting: BTreeSet::new(),
            known: heads.map(|head| (head.offset, head)).collect(),
            completed,
            tried: BTreeSet::new(),
            under_way: 0,
            held: 0,
        }
    }

    /// Takes a message that was read. One that was taken or completed before is
    /// passed over, so records may come from further back.
    pub(crate) fn load(&mut self, message: Message) {
        let offset = message.offset();
        if offset < self.next {
            return;
        }
        self.next = offset + 1;
        // An attempt is known of a record that is gone.
        while self.known.first_key_value().is_some_and(|(known, _)| *known < offset) {
            self.known.pop_first();
        }
        let known = self.known.remove(&offset);
        if self.completed.contains(offset) {
            return;
        }
        let mut is_head = true;
        if let Some(key) = message.key() {
            let of_key = self.keys.entry(key.clone()).or_default();
            is_head = of_key.is_empty();
            of_key.push_back(offset);
        }
        self.bytes += message.bytes();
        let attempts = known.as_ref().map_or(0, |head| head.attempts);
        if attempts > 0 {
            self.tried.insert(offset);
        }
        let entry = Entry { message: Arc::new(message), attempts, state: State::Behind };
        self.messages.insert(offset, entry);
        if is_head {
            let state = match known {
                Some(Head { is_held: true, .. }) => State::Held,
                Some(Head { due: Some(due), .. }) => State::Waiting(due),
                _ => State::Ready,
            };
            self.set(offset, state);
        }
    }

    /// Passes over offsets that are no records.
    pub(crate) fn read_to(&mut self, next: u64) {
        self.next = self.next.max(next);
    }

    /// Whether no more is to be read for now.
    pub(crate) fn is_full(&self) -> bool {
        self.next - self.committed() >= self.limits.records || self.bytes >= self.limits.bytes
    }

    /// Makes ready what is due.
    pub(crate) fn wake(&mut self, now: Timestamp) {
        while let Some((due, offset)) = self.waiting.first().copied().filter(|w| w.0 <= now) {
            debug_assert_eq!(self.messages[&offset].state, State::Waiting(due));
            self.set(offset, State::Ready);
        }
    }

    /// When the next head that waits is due.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        self.waiting.first().map(|(due, _)| *due)
    }

    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The attempt to make next: of the ready heads the lowest.
    pub(crate) fn start(&mut self) -> Option<Start> {
        let offset = *self.ready.first()?;
        self.set(offset, State::UnderWay);
        self.tried.insert(offset);
        let entry = self.messages.get_mut(&offset).expect("what is ready was read");
        entry.attempts += 1;
        Some(Start { message: entry.message.clone(), attempt: entry.attempts })
    }

    /// The attempt that was started last for a message is not made after all.
    pub(crate) fn withdraw(&mut self, offset: u64) {
        self.set(offset, State::Ready);
        if let Some(entry) = self.messages.get_mut(&offset) {
            entry.attempts -= 1;
            if entry.attempts == 0 {
                self.tried.remove(&offset);
            }
        }
    }

    /// The message under way is delivered, or is with the dead letters: the next
    /// of its key is the head.
    pub(crate) fn complete(&mut self, offset: u64) {
        self.set(offset, State::Behind);
        let Some(entry) = self.messages.remove(&offset) else { return };
        self.bytes -= entry.message.bytes();
        self.tried.remove(&offset);
        self.completed.insert(offset);
        let Some(key) = entry.message.key() else { return };
        let of_key = self.keys.get_mut(key).expect("a key has its messages");
        let first = of_key.pop_front();
        debug_assert_eq!(first, Some(offset), "only a head is under way");
        match of_key.front().copied() {
            Some(head) => self.set(head, State::Ready),
            None => {
                self.keys.remove(key);
            }
        }
    }

    /// The message under way gets another attempt.
    pub(crate) fn retry(&mut self, offset: u64, due: Timestamp) {
        self.set(offset, State::Waiting(due));
    }

    /// The message under way stays, and holds back its key.
    pub(crate) fn hold(&mut self, offset: u64) {
        self.set(offset, State::Held);
    }

    /// Everything below is completed.
    pub(crate) fn committed(&self) -> u64 {
        self.messages.first_key_value().map_or(self.next, |(offset, _)| *offset)
    }

    /// What to write down.
    pub(crate) fn progress(&mut self, epoch: u64) -> Progress {
        let committed = self.committed();
        self.completed.remove_below(committed);
        let head = |offset: &u64| {
            let Entry { attempts, state, .. } = self.messages[offset];
            let due = match state {
                State::Waiting(due) => Some(due),
                _ => None,
            };
            Head { offset: *offset, attempts, due, is_held: state == State::Held }
        };
        let mut heads: Vec<Head> = self.tried.iter().map(head).collect();
        heads.extend(self.known.values().cloned());
        Progress { epoch, committed, completed: self.completed.clone(), heads }
    }

    /// When the oldest message that is not completed was accepted.
    pub(crate) fn oldest(&self) -> Option<Timestamp> {
        self.messages.first_key_value().map(|(_, entry)| entry.message.accepted())
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts {
            completed_ahead: self.completed.count(),
            under_way: self.under_way,
            waiting: self.waiting.len(),
            held: self.held,
            messages: self.messages.len(),
            bytes: self.bytes,
        }
    }

    /// Moves a message from one state to another, with everything that goes by it.
    fn set(&mut self, offset: u64, state: State) {
        let Some(entry) = self.messages.get_mut(&offset) else { return };
        match std::mem::replace(&mut entry.state, state) {
            State::Behind => {}
            State::Ready => {
                self.ready.remove(&offset);
            }
            State::UnderWay => self.under_way -= 1,
            State::Waiting(due) => {
                self.waiting.remove(&(due, offset));
            }
            State::Held => self.held -= 1,
        }
        match state {
            State::Behind => {}
            State::Ready => {
                self.ready.insert(offset);
            }
            State::UnderWay => self.under_way += 1,
            State::Waiting(due) => {
                self.waiting.insert((due, offset));
            }
            State::Held => self.held += 1,
        }
    }
}
