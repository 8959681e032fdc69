//! Messages of keys that are blocked, in a topic of their own.
//!
//! ```text
//!  a full window ─► park ─► weir.queue.<name>.parked ─► find ─► the window, head by head
//!                     └──── one transaction ────┐
//!  the queue's committed offset goes on  ◄──────┘
//! ```
//!
//! A record is the message with its offset in the queue, which stays its sequence, its
//! place within its key, and what orders name it by.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use ingest::log::{Appended, Error, EventLog, Headers, NewRecord, Partition, ReadLimit, Record};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::message::ACCEPTED_TIME;
use super::partition::{Id, Need, Progress, Window};
use super::stored::Message;

/// The header of a parked record that says its offset in the queue.
const SEQUENCE: &str = "weir_queue_offset";
/// The most messages that are read of a key at a time, and the most of all keys, in bytes.
const OF_KEY_MAX: usize = 256;
const FIND_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Who has found something of every key reads no further than so many records.
const FIND_RECORDS_MAX: u64 = 10_000;
/// How long nothing may come before the end.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long one read waits.
const READ_WAIT: Duration = Duration::from_millis(50);

/// The record of a message that is parked.
pub(super) fn record_of(message: &Message) -> NewRecord {
    let (sequence, accepted) = (message.offset().to_string(), message.accepted().to_string());
    let own = [(SEQUENCE, &sequence), (ACCEPTED_TIME, &accepted)];
    let own = own.into_iter().map(|(name, text)| (name, text.as_bytes()));
    let kept =
        message.all_headers().filter(|(name, _)| *name != SEQUENCE && *name != ACCEPTED_TIME);
    NewRecord {
        key: message.key().cloned(),
        value: message.value().cloned(),
        headers: Headers::new(kept.chain(own)),
    }
}

/// The message of such a record, with its offset in the queue; none of any other.
pub(super) fn message_of(record: &Record) -> Option<Message> {
    let sequence = std::str::from_utf8(record.headers.get(SEQUENCE)?).ok()?.parse().ok()?;
    let headers = Headers::new(record.headers.iter().filter(|(name, _)| *name != SEQUENCE));
    Some(Message::of(&Record { offset: sequence, headers, ..record.clone() }))
}

/// What an owner parks, and reads of what is parked.
#[derive(Debug)]
pub(super) struct Parking {
    partition: Partition,
    /// Behind everything that is parked, as far as it is committed.
    end: u64,
    /// Records that no commit has, and how many of them the commit under way has.
    records: Vec<NewRecord>,
    under_way: usize,
    finding: Option<JoinHandle<Result<Found, Error>>>,
    /// What is written down of the keys that are parked; by the commit under way; and
    /// what it leaves to be trimmed.
    written: Vec<u8>,
    writing: Option<Vec<u8>>,
    completed: u64,
    trimmed: u64,
}

impl Parking {
    /// `progress` is what is written down; `end`: where the topic ends.
    pub(super) fn new(partition: Partition, progress: &Progress, end: u64) -> Self {
        Self {
            partition,
            end,
            records: Vec::new(),
            under_way: 0,
            finding: None,
            written: progress.encode_parked(),
            writing: None,
            completed: 0,
            trimmed: 0,
        }
    }

    pub(super) fn partition(&self) -> &Partition {
        &self.partition
    }

    /// Parks what keeps the window full; answers whether there is something to commit.
    pub(super) fn park(&mut self, window: &mut Window) -> bool {
        // One after another, so that what is found is what is committed.
        if !self.records.is_empty() {
            return false;
        }
        let moved = window.park(self.end);
        self.records.extend(moved.iter().map(|message| record_of(message)));
        !self.records.is_empty()
    }

    /// Begins to read what the window needs next.
    pub(super) fn find(&mut self, window: &Window, log: &Arc<dyn EventLog>) {
        if self.finding.is_some() || !self.records.is_empty() {
            return;
        }
        let needs = window.parked_needs();
        if needs.is_empty() {
            return;
        }
        let (log, partition, end) = (log.clone(), self.partition.clone(), self.end);
        self.finding = Some(tokio::spawn(async move { find(&*log, &partition, needs, end).await }));
    }

    pub(super) fn is_finding(&self) -> bool {
        self.finding.is_some()
    }

    /// Waits for what is being read. May be dropped and called again.
    pub(super) async fn found(&mut self) -> Result<Found, Error> {
        let found = match self.finding.as_mut() {
            Some(finding) => finding.await,
            None => std::future::pending().await,
        };
        self.finding = None;
        found.map_err(|_| Error::Closed)?
    }

    /// Gives the window what was found; answers whether there is something to commit.
    pub(super) fn take(&self, found: Found, window: &mut Window) -> bool {
        for (message, place) in found.messages {
            window.load_parked(message, place);
        }
        for need in &found.missing {
            let partition = &self.partition;
            tracing::error!(%partition, from = need.from, "messages that were parked are gone");
            window.forget_parked(need);
        }
        !found.missing.is_empty()
    }

    /// The commit that begins says nothing of what is parked.
    pub(super) fn begin_other_commit(&mut self) {
        (self.under_way, self.writing) = (0, None);
    }

    /// What the commit that begins writes down of the keys, if that has changed.
    pub(super) fn begin_commit(&mut self, progress: &Progress) -> Option<Vec<u8>> {
        self.under_way = self.records.len();
        self.completed = progress.parked.iter().map(|of| of.from).min().unwrap_or(self.end);
        let value = progress.encode_parked();
        self.writing = (value != self.written).then_some(value);
        self.writing.clone()
    }

    /// The messages that the commit parks.
    pub(super) fn records(&self) -> impl Iterator<Item = (Partition, NewRecord)> {
        self.records.iter().map(|record| (self.partition.clone(), record.clone()))
    }

    /// The commit is done; `appended`: of all its records, those of [`Self::records`] last.
    pub(super) fn end_commit(&mut self, appended: &[Appended]) {
        if let Some(last) = appended.last().filter(|_| self.under_way > 0) {
            self.end = last.offset + 1;
        }
        self.records.drain(..self.under_way);
        self.under_way = 0;
        self.written = self.writing.take().unwrap_or(std::mem::take(&mut self.written));
    }

    /// What can be trimmed below, if that is worth it.
    pub(super) fn trim(&mut self, step: u64) -> Option<u64> {
        let is_due = self.completed >= self.trimmed.saturating_add(step.max(1));
        is_due.then(|| {
            self.trimmed = self.completed;
            self.completed
        })
    }
}

impl Drop for Parking {
    fn drop(&mut self) {
        if let Some(finding) = &self.finding {
            finding.abort();
        }
    }
}

/// What was found of keys that need it.
#[derive(Debug)]
pub(super) struct Found {
    /// Messages and where they are, in the order of the topic.
    pub(super) messages: Vec<(Message, u64)>,
    /// The keys of which there is nothing.
    pub(super) missing: Vec<Need>,
}

/// Reads of each key some messages, up to `end` at most: at least the next one, but for
/// what has to wait for its turn since much was found of others.
///
/// # Errors
/// [`Error::TimedOut`] if nothing comes for 20 s before the end: a key of which nothing
/// was found is not told as missing then.
pub(super) async fn find(
    log: &dyn EventLog,
    partition: &Partition,
    needs: Vec<Need>,
    end: u64,
) -> Result<Found, Error> {
    let mut found = Found { messages: Vec::new(), missing: Vec::new() };
    let Some(from) = needs.iter().map(|need| need.from).min() else { return Ok(found) };
    let mut next = from.max(log.bounds(partition).await?.first);
    let mut of_keys: HashMap<Id, (Need, usize)> =
        needs.into_iter().map(|need| (need.id.clone(), (need, 0))).collect();
    let (mut bytes, mut without) = (0, of_keys.len());
    let mut reader = log.reader(vec![(partition.clone(), next)]).await?;
    let mut deadline = Instant::now() + PATIENCE;
    while next < end {
        let limit = ReadLimit { wait: READ_WAIT, ..ReadLimit::default() };
        let Some(batch) = reader.next(limit).await? else {
            if Instant::now() > deadline {
                return Err(Error::TimedOut(PATIENCE));
            }
            continue;
        };
        deadline = Instant::now() + PATIENCE;
        next = batch.next;
        for record in batch.records.iter().filter(|record| record.offset < end) {
            let Some(message) = message_of(record) else { continue };
            let Some((need, count)) = of_keys.get_mut(&Id::of(&message)) else { continue };
            if message.offset() < need.next || *count >= OF_KEY_MAX {
                continue;
            }
            without -= usize::from(*count == 0);
            *count += 1;
            bytes += message.bytes();
            found.messages.push((message, record.offset));
            if bytes >= FIND_BYTES_MAX {
                return Ok(found);
            }
        }
        let all_are_full = of_keys.values().all(|(_, count)| *count >= OF_KEY_MAX);
        if without == 0 && (all_are_full || next - from >= FIND_RECORDS_MAX) {
            return Ok(found);
        }
    }
    let missing = of_keys.into_values().filter(|(_, count)| *count == 0);
    found.missing = missing.map(|(need, _)| need).collect();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use ingest::log::{LogTime, TopicSpec, embedded::EmbeddedLog};

    use super::*;

    fn message(offset: u64, key: Option<&'static str>) -> Message {
        Message::of(&Record {
            offset,
            time: LogTime(5),
            key: key.map(Bytes::from),
            value: Some(Bytes::from_static(b"body")),
            headers: Headers::new([("weir_message_id", "m"), ("header_x", "1")]),
        })
    }

    #[test]
    fn a_parked_message_is_the_same_wherever_it_lies() {
        let before = message(9, Some("k"));
        let NewRecord { key, value, headers } = record_of(&before);
        let record = Record { offset: 70, time: LogTime(99), key, value, headers };
        let after = message_of(&record).unwrap();
        assert_eq!((after.offset(), after.accepted()), (9, before.accepted()));
        assert_eq!((after.key(), after.body()), (before.key(), before.body()));
        assert!(after.headers().eq(before.headers()));
        assert_eq!(record_of(&after), record_of(&before));
        let plain = Record { headers: Headers::default(), ..record };
        assert!(message_of(&plain).is_none());
    }

    #[tokio::test]
    async fn of_each_key_the_next_messages_are_found() {
        let log = EmbeddedLog::in_memory();
        let partition = Partition::new("parked", 0);
        log.create_topic(&TopicSpec::kept("parked", 1)).await.unwrap();
        let many = (0..300).map(|offset| message(offset, Some("a")));
        let few = [message(900, None), message(901, Some("b")), message(902, Some("b"))];
        let records = many.chain(few).map(|message| (partition.clone(), record_of(&message)));
        log.append(records.collect()).await.unwrap();
        let key = |text: &'static str| Id::Key(Bytes::from_static(text.as_bytes()));
        let need = |id, next, from| Need { id, next, from };
        let needs = vec![
            need(key("a"), 20, 3),
            need(key("b"), 902, 0),
            need(Id::Message(900), 900, 0),
            need(key("c"), 0, 0),
        ];
        let found = find(&log, &partition, needs.clone(), 303).await.unwrap();
        let offsets: Vec<u64> = found.messages.iter().map(|(of, _)| of.offset()).collect();
        let expected: Vec<u64> = (20..20 + OF_KEY_MAX as u64).chain([900, 902]).collect();
        assert_eq!((offsets, found.missing), (expected, vec![needs[3].clone()]));
        assert_eq!(found.messages[0].1, 20);
        // Nothing is missing where not everything was read.
        let early = find(&log, &partition, vec![need(key("b"), 0, 0)], 302).await.unwrap();
        assert_eq!((early.messages.len(), early.missing.len()), (1, 0));
    }
}
