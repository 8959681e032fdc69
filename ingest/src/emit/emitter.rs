//! The handle that threads emit by.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use super::spool::{Room, Spool};
use super::{Error, Metrics, WhenFull};
use crate::event::{Event, EventId, Kind, Outcome, Producer};
use crate::redact::Redactor;

/// How often a flush looks.
const FLUSH_LOOK: Duration = Duration::from_millis(5);

/// What became of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Emitted {
    /// It is in the spool under this identity; a kill does not lose it.
    Spooled(EventId),
    /// The spool was full, and is configured to drop. It was counted.
    Dropped,
}

/// Writes events to the spool, without what may not be written. Cloning it is cheap; the
/// clones are one producer.
#[derive(Clone)]
pub struct Emitter(Arc<Spool>, Arc<ArcSwap<Redactor>>);

impl Emitter {
    pub(super) fn new(spool: Arc<Spool>) -> Self {
        Self(spool, Arc::default())
    }

    /// From now on, what these rules take out is taken out of what its clones emit too; before
    /// the first call, what is known for a secret without any.
    pub fn redact_by(&self, redactor: Arc<Redactor>) {
        self.1.store(redactor);
    }

    /// An event of this producer, of now. Its sequence is given when it is emitted.
    pub fn event(&self, kind: Kind, outcome: Outcome) -> Event {
        self.0.event(kind, outcome)
    }

    /// As [`Self::event`], in the memory of another, which is gone by that.
    pub fn renew(&self, event: &mut Event, kind: Kind, outcome: Outcome) {
        self.0.renew(event, kind, outcome);
    }

    /// Who tells what it emits.
    pub fn producer(&self) -> &Producer {
        &self.0.config.producer
    }

    /// Which start of the producer this is.
    pub fn boot(&self) -> i64 {
        self.0.boot
    }

    /// Whether new work may be let in. What passes here finds the reserve when it
    /// emits, so that work is refused before it is done, not after.
    ///
    /// # Errors
    /// [`Error::Full`] or [`Error::DiskFull`] if the spool has no more than its reserve, and
    /// is not configured to drop.
    pub fn admit(&self) -> Result<(), Error> {
        if self.0.config.when_full == WhenFull::Drop {
            return Ok(());
        }
        self.0.check_disk()?;
        self.0.check_room(0, Room::Admission)
    }

    /// Gives the event its identity and writes it to the spool: when this answers,
    /// the event is in the page cache and a kill does not lose it.
    ///
    /// The producer, boot, sequence and sequence before are set here, whatever
    /// the event came with.
    ///
    /// # Errors
    /// [`Error::Full`] or [`Error::DiskFull`] unless configured to drop, [`Error::TooLarge`],
    /// [`Error::Closed`] after the stop, [`Error::Broken`], [`Error::Io`]. The event
    /// was not taken.
    pub fn emit(&self, event: Event) -> Result<Emitted, Error> {
        let mut one = [event];
        let ids = self.write(&mut one)?;
        Ok(ids.into_iter().next().map_or(Emitted::Dropped, Emitted::Spooled))
    }

    /// As [`Self::emit`], for several events with one write: all or none. The
    /// identities come in the order of the events; none of them if all were
    /// dropped. 256 events are a good number; they stay in one file.
    ///
    /// # Errors
    /// As [`Self::emit`].
    pub fn emit_all(&self, events: &mut [Event]) -> Result<Vec<EventId>, Error> {
        if events.is_empty() {
            return Ok(Vec::new());
        }
        self.write(events)
    }

    /// As [`Self::emit`], by the rules that held when the event began, and for who wants it
    /// back: it has its identity then, and may be filled again.
    ///
    /// # Errors
    /// As [`Self::emit`].
    pub fn emit_in_place(&self, event: &mut Event, redactor: &Redactor) -> Result<(), Error> {
        let spool = &self.0;
        redactor.apply(event);
        event.producer.clone_from(&spool.config.producer);
        self.counted(spool.write_one(event, Room::Whole), 1)
    }

    fn write(&self, events: &mut [Event]) -> Result<Vec<EventId>, Error> {
        let spool = &self.0;
        let redactor = self.1.load();
        for event in events.iter_mut() {
            event.producer = spool.config.producer.clone();
            redactor.apply(event);
        }
        let written = spool.write(events, Room::Whole);
        self.counted(written, events.len() as u64)
    }

    /// Counts what a full spool did not take; it is no error where it is to be dropped.
    fn counted<T: Default>(&self, written: Result<T, Error>, events: u64) -> Result<T, Error> {
        let spool = &self.0;
        if !written.as_ref().is_err_and(Error::is_full) {
            return written;
        }
        match spool.config.when_full {
            WhenFull::Refuse => {
                spool.counters.refused.add(events);
                written
            }
            WhenFull::Drop => {
                spool.counters.dropped.add(events);
                Ok(T::default())
            }
        }
    }

    /// Waits until the log has acknowledged all that was emitted before the call, for
    /// as long as the log is away.
    pub async fn flushed(&self) {
        let counters = &self.0.counters;
        // In this order: what is acknowledged between the two is then waited for twice,
        // rather than not at all. A byte is acknowledged before it is counted, now and then.
        let lag = counters.lag_bytes.get();
        let until = lag.wrapping_add(counters.acknowledged_bytes.get());
        while counters.lag_bytes.get() > 0 && counters.acknowledged_bytes.get() < until {
            tokio::time::sleep(FLUSH_LOOK).await;
        }
    }

    /// Says in every partition that a replay is over, which closes its windows. To be
    /// called when the log has all events of the replay, whoever emitted them.
    ///
    /// # Errors
    /// As [`Self::emit`].
    pub fn end_replay(&self, replay: &str) -> Result<(), Error> {
        self.0.end_replay(replay)
    }

    /// What was counted so far.
    pub fn metrics(&self) -> Metrics {
        self.0.counters.snapshot()
    }
}

impl fmt::Debug for Emitter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let producer = self.0.config.producer.as_str();
        let (boot, place) = (self.0.boot, self.0.place());
        write!(f, "emitter {producer} of boot {boot} with spool {place}")
    }
}
