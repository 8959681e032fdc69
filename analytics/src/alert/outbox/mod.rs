//! What is to be told, and was: a state that follows from the log's records alone.
//!
//! ```text
//! weir.alerts ─────┐
//! weir.alert-acts ─┼─► plan, by the routes and the time ─► messages ─► weir.outbox
//! weir.outbox ─────┘                                           └─► due, one for each target
//! ```
//!
//! Each thing is told to each once: what is planned is a message under a key that says what
//! and to whom, and nothing that has its message is planned again.

mod message;
mod plan;

use std::collections::{BTreeMap, HashMap, HashSet};

use ingest::event::Timestamp;
use ingest::log::Record;

use super::act::{Acknowledgement, Act, Silence};
use crate::detect::{self, Alert};

pub use message::OUTBOX_TOPIC;
pub(crate) use message::{Message, State, Target, What};
pub(crate) use plan::Routes;

/// For how long an alert that nobody was told of is news, and what was sent is remembered,
/// in ms.
const NEWS_MS: i64 = 24 * 3_600_000;
/// How many alerts a digest gathers.
const DIGEST_ALERTS_MAX: usize = 100;

/// Alerts, what people say of them, and the messages that were planned.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// By the id of the alert.
    cases: HashMap<String, Case>,
    /// The ids of those that are open, or changed since the last plan, in the order in which
    /// they came.
    to_plan: BTreeMap<u64, String>,
    acknowledged: HashMap<String, Acknowledgement>,
    silences: HashMap<String, Silence>,
    /// By [`Message::key`].
    messages: HashMap<String, Message>,
    /// The keys of the messages about an alert.
    of_alert: HashMap<String, Vec<String>>,
    /// By target, those that wait: when they are due, and their number.
    waiting: HashMap<Target, BTreeMap<(i64, u64), String>>,
    /// The number after the last message's.
    next: u64,
}

#[derive(Debug)]
struct Case {
    alert: Alert,
    /// The offset of the first record of it.
    order: u64,
    /// When it changed last, by the log, in ms since 1970.
    changed_ms: i64,
}

impl Outbox {
    /// Takes a record of `weir.alerts`.
    pub(crate) fn take_alert(&mut self, record: &Record) {
        let Some(value) = &record.value else { return };
        match serde_json::from_slice::<Alert>(value) {
            Ok(alert) => {
                let order = self.cases.get(&alert.id).map_or(record.offset, |case| case.order);
                self.to_plan.insert(order, alert.id.clone());
                let case = Case { order, changed_ms: record.time.0, alert };
                self.cases.insert(case.alert.id.clone(), case);
            }
            Err(error) => tracing::error!(offset = record.offset, %error, "a record is no alert"),
        }
    }

    /// Takes a record of `weir.alert-acts`.
    pub(crate) fn take_act(&mut self, record: &Record) {
        match Act::read(record.key.as_deref(), record.value.as_deref()) {
            Ok(Act::Acknowledged(id, act)) => match act {
                Some(act) => drop(self.acknowledged.insert(id, act)),
                None => drop(self.acknowledged.remove(&id)),
            },
            Ok(Act::Silenced(id, act)) => match act {
                Some(act) => drop(self.silences.insert(id, act)),
                None => drop(self.silences.remove(&id)),
            },
            Err(error) => tracing::error!(offset = record.offset, error, "a record is no act"),
        }
    }

    /// Takes a record of `weir.outbox`.
    pub(crate) fn take_message(&mut self, record: &Record) {
        let key = record.key.as_deref().unwrap_or_default();
        match record.value.as_deref().map(serde_json::from_slice::<Message>) {
            Some(Ok(message)) => self.put(message),
            Some(Err(error)) => {
                tracing::error!(offset = record.offset, %error, "a record is no message");
            }
            None => self.forget(&String::from_utf8_lossy(key)),
        }
    }

    /// Keeps a message as it is now; it was written before.
    pub(crate) fn put(&mut self, message: Message) {
        let key = message.key();
        self.forget(&key);
        self.next = self.next.max(message.number + 1);
        for of in &message.of {
            self.of_alert.entry(of.alert.clone()).or_default().push(key.clone());
            if let Some(case) = self.cases.get(&of.alert) {
                self.to_plan.insert(case.order, of.alert.clone());
            }
        }
        if message.is_waiting() {
            let waiting = self.waiting.entry(message.to.clone()).or_default();
            waiting.insert((message.due_ms, message.number), key.clone());
        }
        self.messages.insert(key, message);
    }

    /// Forgets a message, and the alert if nothing more is to be told of it.
    pub(crate) fn forget(&mut self, key: &str) {
        let Some(message) = self.messages.remove(key) else { return };
        for of in &message.of {
            if let Some(keys) = self.of_alert.get_mut(&of.alert) {
                keys.retain(|of| of != key);
                if keys.is_empty() {
                    self.of_alert.remove(&of.alert);
                }
            }
        }
        if let Some(waiting) = self.waiting.get_mut(&message.to) {
            waiting.remove(&(message.due_ms, message.number));
            if waiting.is_empty() {
                self.waiting.remove(&message.to);
            }
        }
    }

    /// The first message of each target that is due, but for those of targets that are busy.
    pub(crate) fn due(&self, now_ms: i64, busy: &HashSet<Target>) -> Vec<Message> {
        let of = self.waiting.iter().filter(|(target, _)| !busy.contains(target));
        let first = of.filter_map(|(_, waiting)| waiting.first_key_value());
        let due = first.filter(|((due_ms, _), _)| *due_ms <= now_ms);
        due.map(|(_, key)| self.messages[key].clone()).collect()
    }

    /// An alert as it is now.
    pub(crate) fn alert(&self, id: &str) -> Option<&Alert> {
        self.cases.get(id).map(|case| &case.alert)
    }

    /// The messages that are remembered no longer: their alerts are over, and news no more.
    pub(crate) fn old(&self, now_ms: i64) -> Vec<String> {
        let is_over = |id: &str| self.cases.get(id).is_none_or(|case| case.is_old(now_ms));
        let is_old = |message: &&Message| {
            let is_done = !message.is_waiting() && message.due_ms < now_ms - NEWS_MS;
            is_done && message.of.iter().all(|of| is_over(&of.alert))
        };
        self.messages.values().filter(is_old).map(Message::key).collect()
    }

    /// Drops alerts and silences of which nothing is to be told any more; answers the ids of
    /// the silences.
    pub(crate) fn drop_old(&mut self, now_ms: i64) -> Vec<String> {
        let is_old = |time: Timestamp| time.as_micros() / 1_000 < now_ms - NEWS_MS;
        let of_alert = &self.of_alert;
        self.cases.retain(|id, case| !case.is_old(now_ms) || of_alert.contains_key(id));
        let cases = &self.cases;
        self.acknowledged.retain(|id, act| cases.contains_key(id) || !is_old(act.at));
        self.silences.extract_if(|_, silence| is_old(silence.until)).map(|(id, _)| id).collect()
    }
}

impl Case {
    fn is_open(&self) -> bool {
        self.alert.state == detect::State::Open
    }

    /// Whether it is over, and was so for a day.
    fn is_old(&self, now_ms: i64) -> bool {
        !self.is_open() && self.changed_ms < now_ms - NEWS_MS
    }
}

#[cfg(test)]
mod tests;
