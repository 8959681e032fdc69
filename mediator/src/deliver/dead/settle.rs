//! Carrying a decision out: the message first, then the record that settles its letter,
//! then the events.

use std::collections::HashMap;

use bytes::Bytes;
use fail::fail_point;
use ingest::event::{Event, Kind, Outcome};
use ingest::log::{Error, Headers, NewRecord, Transaction, Writer};
use ingest::registry::Name;

use super::read::{OpenLetters, Settled};
use super::{By, DeadLetterError, DeadLetters, Decision, Which, chosen, id_of};
use super::{SETTLED_AS, SETTLES, put_back};
use crate::deliver::accept::key_text;
use crate::deliver::stored::Message;
use crate::deliver::topics::Topics;

/// How much is settled at a time.
const SETTLED_MAX: usize = 500;
const SETTLED_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Letters on their way to be settled.
pub(super) struct Settling<'a> {
    pub(super) with: &'a DeadLetters,
    pub(super) queue: &'a Name,
    pub(super) topics: &'a Topics,
    pub(super) decision: &'a Decision,
    pub(super) by: &'a By,
    pub(super) writer: Box<dyn Writer>,
    chunk: Vec<(u32, Message)>,
    bytes: usize,
    settled: u64,
}

impl<'a> Settling<'a> {
    pub(super) fn new(
        with: &'a DeadLetters,
        (queue, topics): (&'a Name, &'a Topics),
        (decision, by): (&'a Decision, &'a By),
        writer: Box<dyn Writer>,
    ) -> Self {
        Self { with, queue, topics, decision, by, writer, chunk: Vec::new(), bytes: 0, settled: 0 }
    }

    /// Settles them, and answers how many; what is no longer needed is forgotten.
    pub(super) async fn settle(
        mut self,
        which: &Which,
        settled: &Settled,
    ) -> Result<u64, DeadLetterError> {
        let kept = self.settle_chosen(which, settled).await;
        let kept = kept.map_err(|error| DeadLetterError::Log(error, self.settled))?;
        for index in 0..self.topics.partitions.get() {
            let partition = self.topics.dead(index);
            let before = kept.get(&index).copied().unwrap_or_else(|| settled.end(&partition));
            if let Err(error) = self.with.log.trim(&partition, before).await {
                tracing::debug!(%partition, %error, "settled letters are forgotten later");
            }
        }
        Ok(self.settled)
    }

    /// Answers, per partition, the first letter that stays.
    async fn settle_chosen(
        &mut self,
        which: &Which,
        settled: &Settled,
    ) -> Result<HashMap<u32, u64>, Error> {
        let mut kept = HashMap::new();
        let mut open = OpenLetters::of(&*self.with.log, settled).await?;
        while let Some((index, message)) = open.next().await? {
            match chosen(which, self.topics, index, &message) {
                Some(_) => self.add(index, message).await?,
                None => {
                    kept.entry(index).or_insert(message.offset());
                }
            }
        }
        self.commit().await?;
        Ok(kept)
    }

    async fn add(&mut self, index: u32, letter: Message) -> Result<(), Error> {
        self.bytes += letter.bytes();
        self.chunk.push((index, letter));
        if self.chunk.len() >= SETTLED_MAX || self.bytes >= SETTLED_BYTES_MAX {
            self.commit().await?;
        }
        Ok(())
    }

    async fn commit(&mut self) -> Result<(), Error> {
        let letters = std::mem::take(&mut self.chunk);
        self.bytes = 0;
        if letters.is_empty() {
            return Ok(());
        }
        let is_drop = *self.decision == Decision::Drop;
        let mut places = vec![None; letters.len()];
        if !is_drop {
            let message = |(index, letter): &(u32, Message)| {
                let id = id_of(self.topics, *index, letter);
                (
                    self.topics.messages(*index),
                    put_back(letter, &id, self.decision, self.with.clock.now()),
                )
            };
            // Outside of the transaction, whose mark would stand in the queue as a message
            // that is never delivered.
            let appended = self.with.log.append(letters.iter().map(message).collect()).await?;
            fail_point!("settle::put_back");
            places = appended.into_iter().map(|appended| Some(appended.offset)).collect();
        }
        let settles = |(index, letter): &(u32, Message)| {
            let offset = letter.offset().to_string();
            let how = [(SETTLES, offset.as_str()), (SETTLED_AS, self.decision.text())];
            let headers = Headers::new(how);
            (self.topics.dead(*index), NewRecord { headers, ..NewRecord::unkeyed(Bytes::new()) })
        };
        let records = letters.iter().map(settles).collect();
        self.writer.commit(Transaction { records, offsets: Vec::new() }).await?;
        fail_point!("settle::committed");
        self.settled += letters.len() as u64;
        for ((index, letter), place) in letters.iter().zip(places) {
            self.tell(*index, letter, place);
        }
        Ok(())
    }

    /// Writes the events of a letter, `place` being that of the message in the queue.
    fn tell(&self, index: u32, letter: &Message, place: Option<u64>) {
        let id = id_of(self.topics, index, letter);
        let (emitter, key) = (&self.with.emitter, letter.key().map(key_text));
        let (action, about) = (self.decision.text(), ("message", id.as_str()));
        let mut decided = self.by.decided(emitter, Outcome::Success, action, about, self.queue);
        decided.messaging_message_id = Some(id.clone().into());
        decided.delivery_key.clone_from(&key);
        let mut events: Vec<Event> = vec![decided];
        if let Some(place) = place {
            let mut accepted = emitter.event(Kind::Accept, Outcome::Success);
            accepted.messaging_message_id = Some(id.clone().into());
            accepted.delivery_queue = Some(self.queue.to_string().into());
            accepted.delivery_key = key;
            accepted.correlation_id = letter.correlation_id().map(|id| id.to_owned().into());
            let trace = letter.trace_parent().and_then(|text| text.get(3..35));
            accepted.trace_id = trace.map(|trace| trace.to_owned().into());
            accepted.delivery_sequence = i64::try_from(place).ok();
            accepted.delivery_accepted_time = Some(accepted.event_time);
            accepted.delivery_outcome = Some("replayed".into());
            events.push(accepted);
        }
        if let Err(error) = self.with.emitter.emit_all(&mut events) {
            tracing::error!(queue = %self.queue, id, %error, "a settled letter is not told of");
        }
    }
}
