mod parking;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use ingest::event::Timestamp;

use super::parked::{Follows, Id, Parked};
use super::{Head, Progress, Ranges};
use crate::deliver::stored::Message;

use self::parking::Fronts;

/// While both wait, one retry begins after so many first attempts.
const FIRSTS_MAX: u32 = 7;
/// When a window is full.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Offsets from the committed one to the last that was read.
    pub(crate) records: u64,
    /// Bytes of the messages that are not completed; and as many again of those that
    /// are parked and in memory.
    pub(crate) bytes: usize,
    /// Keys, and messages without a key, that are parked.
    pub(crate) parked_keys: usize,
}

/// The messages above the committed offset.
///
/// Of each key the first message that is not completed, its *head*, is ready,
/// under way, waiting or held; the others are behind it. A message without a key
/// is the head of its own.
///
/// A key that is blocked while the window is full is *parked*: its messages are written
/// to the parked topic, and count as completed in the queue. Of them only some are in
/// memory, the head first; of a key that is parked what is in the queue is behind.
#[derive(Debug)]
pub(crate) struct Window {
    limits: Limits,
    /// The offset after the last record that was read.
    next: u64,
    /// Those in memory, by their offset in the queue.
    messages: BTreeMap<u64, Entry>,
    /// Those of them that are in the queue, and their bytes.
    open: BTreeSet<u64>,
    bytes: usize,
    parked: Parked,
    parked_bytes: usize,
    fronts: Fronts,
    /// Per key the messages in the queue that are not completed, in order.
    keys: HashMap<Bytes, VecDeque<u64>>,
    /// Heads without a due time, first attempts before others.
    ready: BTreeSet<(IsRetry, u64)>,
    /// First attempts that began since the last retry did.
    firsts: u32,
    waiting: BTreeSet<(Timestamp, u64)>,
    /// Heads that nobody wants any more from then on, but those under way.
    expiring: BTreeSet<(Timestamp, u64)>,
    /// Heads that end without an attempt.
    ending: BTreeSet<u64>,
    /// Everything below the lowest message that is not completed, and these.
    completed: Ranges,
    /// What an earlier owner left, of messages that were not read yet.
    known: BTreeMap<u64, Head>,
    /// The same, of messages that are parked.
    known_parked: BTreeMap<u64, Head>,
    /// Messages that had an attempt.
    tried: BTreeSet<u64>,
    under_way: usize,
    held: usize,
    /// How many attempts have ended a message so far.
    ended: u64,
}

/// Whether it had an attempt.
type IsRetry = bool;

#[derive(Debug)]
struct Entry {
    message: Arc<Message>,
    attempts: u64,
    state: State,
    expires: Option<Timestamp>,
    /// The lowest offset that it has in the parked topic, if it is there.
    parked_at: Option<u64>,
    /// How many had ended when its last attempt began.
    ended_before: u64,
    /// Why there is no attempt more.
    ending: Option<Ending>,
}

/// Why a message ends without an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Somebody decided so.
    GivenUp,
    /// Nobody wants it any more.
    Expired,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Behind,
    Ready,
    UnderWay,
    Waiting(Timestamp),
    Held,
    /// It goes to the dead letters as soon as that can be told.
    Ending,
}

/// An attempt to make.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) message: Arc<Message>,
    /// From 1; of one that is not made, how many were made.
    pub(crate) attempt: u64,
    /// Why it is not made.
    pub(crate) ending: Option<Ending>,
}

/// Whether an order could be obeyed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Obeyed {
    /// It is done, or there is nothing to do.
    Now,
    /// It is, once the message is completed.
    AtEnd,
    /// Not while the message is not read, or its attempt is under way.
    Later,
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
    /// Messages that are parked.
    pub(crate) parked: u64,
    /// Messages read and not completed, the parked ones too.
    pub(crate) messages: usize,
    /// Bytes in memory.
    pub(crate) bytes: usize,
}

impl Window {
    /// A window that goes on where `progress` ends, with nothing read yet.
    pub(crate) fn new(limits: Limits, progress: Progress) -> Self {
        let committed = progress.committed;
        let mut completed = progress.completed;
        completed.remove_below(committed);
        let is_open = |head: &Head| head.offset >= committed && !completed.contains(head.offset);
        let (known, others): (Vec<Head>, Vec<Head>) = progress.heads.into_iter().partition(is_open);
        let is_parked = |head: &Head| progress.parked.iter().any(|of| of.next == head.offset);
        let known_parked = others.into_iter().filter(is_parked);
        let by_offset = |head: Head| (head.offset, head);
        let known_parked = known_parked.map(by_offset).collect();
        Self {
            limits,
            next: committed,
            messages: BTreeMap::new(),
            open: BTreeSet::new(),
            bytes: 0,
            parked: Parked::of(progress.parked),
            parked_bytes: 0,
            fronts: Fronts::default(),
            keys: HashMap::new(),
            ready: BTreeSet::new(),
            firsts: 0,
            waiting: BTreeSet::new(),
            expiring: BTreeSet::new(),
            ending: BTreeSet::new(),
            known: known.into_iter().map(by_offset).collect(),
            known_parked,
            completed,
            tried: BTreeSet::new(),
            under_way: 0,
            held: 0,
            ended: 0,
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
            let is_parked = self.parked.contains(&Id::Key(key.clone()));
            let of_key = self.keys.entry(key.clone()).or_default();
            is_head = of_key.is_empty() && !is_parked;
            if of_key.is_empty() && is_parked {
                self.fronts.follows(offset);
            }
            of_key.push_back(offset);
        }
        self.bytes += message.bytes();
        self.open.insert(offset);
        self.take(message, None, known, is_head);
    }

    fn take(&mut self, message: Message, at: Option<u64>, known: Option<Head>, is_head: bool) {
        let offset = message.offset();
        let attempts = known.as_ref().map_or(0, |head| head.attempts);
        if attempts > 0 {
            self.tried.insert(offset);
        }
        let (expires, message) = (message.expires(), Arc::new(message));
        let state = State::Behind;
        let (parked_at, ended_before, ending) = (at, self.ended, None);
        let entry = Entry { message, attempts, state, expires, parked_at, ended_before, ending };
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

    /// A message is not in the queue any more, which was the first of its key.
    fn is_gone(&mut self, offset: u64, key: Option<&Bytes>) {
        self.open.remove(&offset);
        self.completed.insert(offset);
        let Some(key) = key else { return };
        let of_key = self.keys.get_mut(key).expect("a key has its messages");
        let first = of_key.pop_front();
        debug_assert_eq!(first, Some(offset), "only the first goes");
        if of_key.is_empty() {
            self.keys.remove(key);
        }
    }

    /// The offset after the last record that was read.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Passes over offsets that are no records.
    pub(crate) fn read_to(&mut self, next: u64) {
        self.next = self.next.max(next);
    }

    /// Whether no more is to be read for now.
    pub(crate) fn is_full(&self) -> bool {
        self.next - self.committed() >= self.limits.records || self.bytes >= self.limits.bytes
    }

    /// Makes ready what is due, and ends what has expired.
    pub(crate) fn wake(&mut self, now: Timestamp) {
        let is_due = |first: Option<&(Timestamp, u64)>| first.copied().filter(|of| of.0 <= now);
        while let Some((_, offset)) = is_due(self.waiting.first()) {
            self.make_ready(offset);
        }
        while let Some((_, offset)) = is_due(self.expiring.first()) {
            self.end(offset, Ending::Expired);
        }
    }

    /// When the next head that waits is due, or one expires.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        let firsts = self.waiting.first().into_iter().chain(self.expiring.first());
        firsts.map(|(due, _)| *due).min()
    }

    /// The next head that ends without an attempt.
    pub(crate) fn next_ending(&mut self) -> Option<Start> {
        let offset = *self.ending.first()?;
        self.set(offset, State::UnderWay);
        let Entry { message, attempts, ending, .. } = &self.messages[&offset];
        Some(Start { message: message.clone(), attempt: *attempts, ending: *ending })
    }

    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The attempt to make next. First attempts go before retries, of each the oldest;
    /// but of eight that begin while both wait one is a retry, so none waits for ever.
    pub(crate) fn start(&mut self) -> Option<Start> {
        let first = *self.ready.first()?;
        let retry = self.ready.range((true, 0)..).next().copied();
        let (is_retry, offset) = match retry {
            Some(retry) if self.firsts >= FIRSTS_MAX => retry,
            _ => first,
        };
        self.firsts = if is_retry { 0 } else { self.firsts.saturating_add(1) };
        self.set(offset, State::UnderWay);
        self.tried.insert(offset);
        let entry = self.messages.get_mut(&offset).expect("what is ready was read");
        entry.attempts += 1;
        entry.ended_before = self.ended;
        Some(Start { message: entry.message.clone(), attempt: entry.attempts, ending: None })
    }

    /// The attempt that was started last for a message is not made after all.
    pub(crate) fn withdraw(&mut self, offset: u64) {
        if let Some(entry) = self.messages.get_mut(&offset) {
            entry.attempts -= 1;
            if entry.attempts == 0 {
                self.tried.remove(&offset);
            }
        }
        self.make_ready(offset);
    }

    /// The message under way is delivered, or is with the dead letters: the next
    /// of its key is the head.
    pub(crate) fn complete(&mut self, offset: u64) {
        self.set(offset, State::Behind);
        let Some(entry) = self.messages.remove(&offset) else { return };
        self.tried.remove(&offset);
        self.ended += u64::from(entry.ending.is_none());
        let (id, bytes) = (Id::of(&entry.message), entry.message.bytes());
        if let Some(place) = entry.parked_at {
            self.parked_bytes -= bytes;
            match self.parked.complete(&id, place) {
                Follows::Loaded(head) => self.make_ready(head),
                Follows::Unloaded => {}
                Follows::Nothing => self.go_on(&id),
            }
        } else {
            self.bytes -= bytes;
            self.is_gone(offset, entry.message.key());
            self.go_on(&id);
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

    /// Somebody wants the next attempt now, counted from the first.
    pub(crate) fn retry_now(&mut self, offset: u64) -> Obeyed {
        let Some(entry) = self.messages.get_mut(&offset) else { return self.unread(offset) };
        match (entry.state, entry.ending) {
            (State::UnderWay, _) => return Obeyed::Later,
            (_, Some(Ending::Expired)) => return Obeyed::Now,
            _ => {}
        }
        (entry.attempts, entry.ending) = (0, None);
        let is_head = entry.state != State::Behind;
        self.tried.remove(&offset);
        if is_head {
            self.set(offset, State::Ready);
        }
        Obeyed::Now
    }

    /// Somebody wants no further attempt.
    pub(crate) fn give_up(&mut self, offset: u64) -> Obeyed {
        let Some(entry) = self.messages.get(&offset) else { return self.unread(offset) };
        if entry.state == State::UnderWay && entry.ending.is_none() {
            return Obeyed::Later;
        }
        self.end(offset, Ending::GivenUp);
        Obeyed::AtEnd
    }

    /// Of a message that is not here: it is completed, or was not read.
    fn unread(&self, offset: u64) -> Obeyed {
        let is_unread = offset >= self.next || self.parked.may_have(offset);
        if is_unread { Obeyed::Later } else { Obeyed::Now }
    }

    /// Makes no attempt more of a message: at once of a head, else in its turn.
    fn end(&mut self, offset: u64, why: Ending) {
        let Some(entry) = self.messages.get_mut(&offset) else { return };
        entry.ending.get_or_insert(why);
        if !matches!(entry.state, State::Behind | State::UnderWay) {
            self.set(offset, State::Ending);
        }
    }

    fn make_ready(&mut self, offset: u64) {
        let is_ending = self.messages.get(&offset).is_some_and(|entry| entry.ending.is_some());
        self.set(offset, if is_ending { State::Ending } else { State::Ready });
    }

    /// Everything below is completed.
    pub(crate) fn committed(&self) -> u64 {
        self.open.first().copied().unwrap_or(self.next)
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
        heads.extend(self.known.values().chain(self.known_parked.values()).cloned());
        let (completed, parked) = (self.completed.clone(), self.parked.stored());
        Progress { epoch, committed, completed, heads, parked }
    }

    /// When the oldest message that is not completed was accepted, of those in memory.
    pub(crate) fn oldest(&self) -> Option<Timestamp> {
        self.messages.first_key_value().map(|(_, entry)| entry.message.accepted())
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts {
            completed_ahead: self.completed.count(),
            under_way: self.under_way,
            waiting: self.waiting.len(),
            held: self.held,
            parked: self.parked.messages(),
            messages: self.open.len() + self.parked.messages() as usize,
            bytes: self.bytes + self.parked_bytes,
        }
    }

    /// Moves a message from one state to another, with everything that goes by it.
    fn set(&mut self, offset: u64, state: State) {
        let Some(entry) = self.messages.get_mut(&offset) else { return };
        let is_retry = entry.attempts > 0;
        let may_expire = |state| matches!(state, State::Ready | State::Waiting(_) | State::Held);
        let before = std::mem::replace(&mut entry.state, state);
        if let Some(expires) = entry.expires {
            if may_expire(before) {
                self.expiring.remove(&(expires, offset));
            }
            if may_expire(state) {
                self.expiring.insert((expires, offset));
            }
        }
        let (in_queue, ended_before) = (entry.parked_at.is_none(), entry.ended_before);
        self.fronts.moved(offset, state, in_queue.then_some(ended_before));
        match before {
            State::Behind => {}
            // Its attempts may have been counted anew meanwhile.
            State::Ready => {
                let _ = self.ready.remove(&(false, offset)) || self.ready.remove(&(true, offset));
            }
            State::UnderWay => self.under_way -= 1,
            State::Waiting(due) => {
                self.waiting.remove(&(due, offset));
            }
            State::Held => self.held -= 1,
            State::Ending => {
                self.ending.remove(&offset);
            }
        }
        match state {
            State::Behind => {}
            State::Ready => {
                self.ready.insert((is_retry, offset));
            }
            State::UnderWay => self.under_way += 1,
            State::Waiting(due) => {
                self.waiting.insert((due, offset));
            }
            State::Held => self.held += 1,
            State::Ending => {
                self.ending.insert(offset);
            }
        }
    }
}
