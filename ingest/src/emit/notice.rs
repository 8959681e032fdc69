//! What the emitter says for itself: that its sources are there, alive or gone,
//! and what is lost.

use super::Error;
use super::spool::{Lost, Room, Spool, segment_name};
use crate::event::{Event, EventId, Kind, Outcome};

/// Stable code of a loss by a spool that was full.
pub const SPOOL_FULL: &str = "spool_full";
/// Stable code of a loss by a spool that was damaged.
pub const SPOOL_DAMAGED: &str = "spool_damaged";
/// Stable code of a loss by an event larger than the log takes.
pub const EVENT_TOO_LARGE: &str = "event_too_large";
/// Stable code of a loss by an event that the drainer could not read.
pub const EVENT_UNREADABLE: &str = "event_unreadable";

impl Spool {
    /// An event of this producer that has no sequence yet.
    pub(super) fn event(&self, kind: Kind, outcome: Outcome) -> Event {
        let mut event = Event::new(self.unnumbered(), self.clock.now(), kind, outcome);
        event.node.clone_from(&self.config.node);
        event.zone.clone_from(&self.config.zone);
        event
    }

    /// As [`Self::event`], in the memory of another.
    pub(super) fn renew(&self, event: &mut Event, kind: Kind, outcome: Outcome) {
        event.renew(self.unnumbered(), self.clock.now(), kind, outcome);
        event.node.clone_from(&self.config.node);
        event.zone.clone_from(&self.config.zone);
    }

    fn unnumbered(&self) -> EventId {
        EventId { producer: self.config.producer.clone(), boot: self.boot, sequence: 0 }
    }

    /// An event of every partition, for the watermark.
    fn words_for(&self, kind: Kind, partitions: &[u32]) -> Vec<Event> {
        let word = |&partition: &u32| {
            let mut event = self.event(kind, Outcome::Success);
            event.source_partition = Some(i64::from(partition));
            if kind != Kind::Heartbeat {
                event.source_watermark_time = Some(event.event_time);
            }
            event
        };
        partitions.iter().map(word).collect()
    }

    fn speak_for(&self, kind: Kind, partitions: &[u32]) -> Result<(), Error> {
        if partitions.is_empty() {
            return Ok(());
        }
        self.write(&mut self.words_for(kind, partitions), Room::Beyond).map(drop)
    }

    /// Says that the producer counts from here on, as its first word.
    pub(super) fn join_sources(&self) -> Result<(), Error> {
        self.speak_for(Kind::SourceJoined, &self.all_partitions())
    }

    /// Takes no more events, and says what was dropped or lost until then and, as
    /// the last word, that the producer sends nothing more.
    pub(super) fn leave_sources(&self) -> Result<(), Error> {
        self.close(|| {
            let dropped = self.loss_of_dropped(self.counters.dropped_untold.take());
            let lost = std::mem::take(&mut *self.lost_untold.lock());
            let mut words: Vec<Event> = dropped.into_iter().collect();
            words.extend(lost.iter().map(|lost| self.loss_of(lost)));
            words.extend(self.words_for(Kind::SourceLeft, &self.all_partitions()));
            words
        })
    }

    /// Says of every partition that nothing more of a replay comes.
    pub(super) fn end_replay(&self, replay: &str) -> Result<(), Error> {
        let word = |partition: u32| {
            let mut event = self.event(Kind::ReplayEnded, Outcome::Success);
            event.source_partition = Some(i64::from(partition));
            event.replay_id = Some(replay.to_owned().into());
            event
        };
        let mut words: Vec<Event> = self.all_partitions().into_iter().map(word).collect();
        self.write(&mut words, Room::Beyond).map(drop)
    }

    /// Says of silent partitions that there is nothing older to come. To be
    /// called when the spool is drained.
    pub(super) fn beat(&self) -> Result<(), Error> {
        let silent = self.take_silent();
        self.speak_for(Kind::Heartbeat, &silent)?;
        self.hush(&silent);
        Ok(())
    }

    /// Says how many events were dropped since this was last said.
    pub(super) fn tell_dropped(&self) -> Result<(), Error> {
        let dropped = self.counters.dropped_untold.take();
        let Some(event) = self.loss_of_dropped(dropped) else { return Ok(()) };
        let told = self.write(&mut [event], Room::Beyond);
        if told.is_err() {
            self.counters.dropped_untold.add(dropped);
        }
        told.map(drop)
    }

    fn loss_of_dropped(&self, dropped: u64) -> Option<Event> {
        let mut event = self.event(Kind::Loss, Outcome::Unavailable);
        become_loss(&mut event, dropped, SPOOL_FULL);
        (dropped > 0).then_some(event)
    }

    /// Counts what damage has taken. The next [`Self::tell_lost`] says it.
    pub(super) fn lose(&self, lost: Vec<Lost>) {
        self.counters.lost.add(lost.iter().map(|lost| lost.events).sum());
        self.lost_untold.lock().extend(lost);
    }

    /// Says what damage has taken since this was last said.
    pub(super) fn tell_lost(&self) -> Result<(), Error> {
        let untold = std::mem::take(&mut *self.lost_untold.lock());
        if untold.is_empty() {
            return Ok(());
        }
        let mut events: Vec<Event> = untold.iter().map(|lost| self.loss_of(lost)).collect();
        let told = self.write(&mut events, Room::Beyond);
        if told.is_err() {
            self.lost_untold.lock().extend(untold);
        }
        told.map(drop)
    }

    fn loss_of(&self, lost: &Lost) -> Event {
        let mut event = self.event(Kind::Loss, Outcome::InternalError);
        become_loss(&mut event, lost.events, SPOOL_DAMAGED);
        event.source_producer = Some(self.config.producer.as_str().to_owned().into());
        event.source_boot = lost.boot;
        let place = format!("before byte {} of {}", lost.offset, segment_name(lost.segment));
        event.fault_message = Some(place.into());
        event
    }

    fn all_partitions(&self) -> Vec<u32> {
        (0..self.config.partitions.get()).collect()
    }
}

/// Fills what every loss event has.
pub(super) fn become_loss(event: &mut Event, events: u64, code: &'static str) {
    event.loss_events = Some(i64::try_from(events).unwrap_or(i64::MAX));
    event.fault_code = Some(code.into());
}
