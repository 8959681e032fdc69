//! The drainer: takes the spool to the log, in order, at least once.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout};

use super::Error;
use super::records::{records_of, stand_in};
use super::spool::{Pulled, Reader, Spool};
use crate::log::{self, EventLog, NewRecord, Partition};

/// How often in a row the log may refuse a batch for what waiting does not mend,
/// before its records go one by one.
const REFUSALS_MAX: u32 = 3;

/// The drainer of an emitter, to be run once.
pub struct Service {
    spool: Arc<Spool>,
    drainer: Drainer,
}

impl Service {
    pub(super) fn new(spool: Arc<Spool>, reader: Reader, log: Arc<dyn EventLog>) -> Self {
        let drainer = Drainer { spool: spool.clone(), reader: Some(reader), log, keeps: true };
        Self { spool, drainer }
    }

    /// Runs until `shutdown`. Then the emitter takes no more events, every source
    /// says that it leaves, and the rest goes to the log.
    ///
    /// # Errors
    /// [`Error::NotDrained`] if the log did not take the rest in time: it stays in
    /// the spool. A spool that cannot be read or a position that cannot be stored
    /// ends nothing: it is counted and tried again.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) -> Result<(), Error> {
        let Self { spool, mut drainer } = self;
        let (stop, stopped) = watch::channel(false);
        let drain = drainer.run(stopped);
        tokio::pin!(drain);
        tokio::select! {
            // Neither ends before it is told to.
            _ = async { tokio::join!(&mut drain, keep_up(spool.clone())) } => {}
            () = shutdown => {}
        }
        if let Err(error) = spool.leave_sources() {
            tracing::warn!(%error, "the sources leave without a word, drops are untold");
        }
        stop.send_replace(true);
        let drained = timeout(spool.config.stop_timeout, drain).await;
        let (rest, place) = (spool.counters.lag_bytes.get(), spool.place());
        blocking(move || spool.sync()).await;
        drained.map_err(|_| Error::NotDrained { bytes: rest, place })
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "drainer of spool {} to {:?}", self.spool.place(), self.drainer.log)
    }
}

/// Syncs the spool and tells of drops, every so often, for ever.
async fn keep_up(spool: Arc<Spool>) {
    let every = spool.config.sync_interval;
    let mut ticks = interval_at(Instant::now() + every, every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let spool = spool.clone();
        blocking(move || {
            if let Err(error) = spool.tell_dropped().and_then(|()| spool.tell_lost()) {
                tracing::warn!(%error, "dropped or lost events are not told of yet");
            }
            spool.sync();
            spool.restore_reserve();
        })
        .await;
    }
}

struct Drainer {
    spool: Arc<Spool>,
    /// Away only while a blocking call has it.
    reader: Option<Reader>,
    log: Arc<dyn EventLog>,
    /// Whether the last position could be stored, so that a full disk is told once.
    keeps: bool,
}

impl Drainer {
    /// Drains for ever; once stopped, until everything is drained.
    async fn run(&mut self, mut stopped: watch::Receiver<bool>) {
        let (every, pause) =
            (self.spool.config.heartbeat_interval, self.spool.config.drain_interval);
        let mut beat_at = Instant::now() + every;
        loop {
            if !self.drain_once().await {
                continue;
            }
            if *stopped.borrow() {
                if self.reader.as_ref().is_none_or(Reader::is_at_end) {
                    return;
                }
                continue;
            }
            if Instant::now() >= beat_at {
                // Emitted to the spool, and therefore behind all that came before.
                if let Err(error) = self.spool.beat() {
                    tracing::warn!(%error, "no heartbeat could be written");
                }
                beat_at = Instant::now() + every;
            }
            tokio::select! {
                () = sleep(pause) => {}
                _ = stopped.changed() => {}
            }
        }
    }

    /// Takes one batch to the log; whether that was all there was.
    async fn drain_once(&mut self) -> bool {
        if self.reader.as_ref().is_some_and(Reader::is_at_end) {
            return true;
        }
        let (pulled, records) = self.pull().await;
        let at_end = pulled.at_end;
        if pulled.events.is_empty() {
            return at_end;
        }
        self.append_all(&pulled, records).await;
        let forgotten = self.with_reader(move |reader| reader.acknowledge(&pulled)).await;
        let kept = std::mem::replace(&mut self.keeps, forgotten.is_ok());
        if let Err(error) = forgotten {
            self.spool.counters.spool_failures.add(1);
            if kept {
                let place = self.spool.place();
                tracing::warn!(place, %error, "the spool grows, since it cannot forget");
            }
        }
        at_end
    }

    /// Reads one batch; repeats until the spool can be read.
    async fn pull(&mut self) -> (Pulled, Vec<(Partition, NewRecord)>) {
        let (min, max) = (self.spool.config.retry_delay_min, self.spool.config.retry_delay_max);
        let mut delay: Duration = min;
        loop {
            let (spool, now) = (self.spool.clone(), self.spool.clock.now());
            let pulled = self.with_reader(move |reader| {
                let mut pulled = reader.pull()?;
                let (records, replaced) = records_of(&pulled.events, &spool.config.producer, now);
                spool.counters.lost.add(replaced);
                if !pulled.lost.is_empty() {
                    spool.lose(std::mem::take(&mut pulled.lost));
                    // Not waited for: it may need the room that draining makes.
                    if let Err(error) = spool.tell_lost() {
                        tracing::warn!(%error, "lost events are not told of yet");
                    }
                }
                Ok((pulled, records))
            });
            match pulled.await {
                Ok(pulled) => return pulled,
                Err(error) => {
                    self.spool.counters.spool_failures.add(1);
                    let retry_ms = delay.as_millis();
                    tracing::error!(%error, retry_ms, "the spool cannot be read");
                    sleep(delay).await;
                    delay = (delay * 2).min(max);
                }
            }
        }
    }

    async fn with_reader<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Reader) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let mut reader = self.reader.take().expect("one call at a time has the reader");
        let (reader, answer) = blocking(move || {
            let answer = work(&mut reader);
            (reader, answer)
        })
        .await;
        self.reader = Some(reader);
        answer
    }

    /// Returns once the log has acknowledged every event, or what stands in for it.
    async fn append_all(&self, pulled: &Pulled, records: Vec<(Partition, NewRecord)>) {
        if self.append(&records).await.is_ok() {
            return;
        }
        // One of them is too large, or all together are, in whatever words.
        for (spooled, record) in pulled.events.iter().zip(records) {
            let Err(error) = self.append(&[record]).await else { continue };
            let (producer, now) = (&self.spool.config.producer, self.spool.clock.now());
            let (sequence, boot) = (spooled.head.sequence, spooled.head.boot);
            tracing::error!(%producer, boot, sequence, %error, "an event is lost");
            self.spool.counters.lost.add(1);
            if let Err(error) = self.append(&[stand_in(spooled, producer, now)]).await {
                tracing::error!(%error, "a loss event is too large");
            }
        }
    }

    /// Repeats until the log acknowledges. Of all errors only a size is for ever;
    /// a topic may yet be made, a log come back, a right be given. But not every
    /// log says so when it is a size: several records are given up after
    /// [`REFUSALS_MAX`], a single one never.
    async fn append(&self, records: &[(Partition, NewRecord)]) -> Result<(), log::Error> {
        let config = &self.spool.config;
        let mut delay: Duration = config.retry_delay_min;
        let mut refusals = 0;
        loop {
            match self.log.append(records.to_vec()).await {
                Ok(_) => return Ok(()),
                Err(error @ log::Error::TooLarge { .. }) => return Err(error),
                Err(error) => {
                    self.spool.counters.append_failures.add(1);
                    refusals = if error.is_retryable() { 0 } else { refusals + 1 };
                    if refusals >= REFUSALS_MAX && records.len() > 1 {
                        tracing::warn!(%error, "the log refuses a batch: one event at a time now");
                        return Err(error);
                    }
                    let retry_ms = delay.as_millis();
                    tracing::warn!(%error, retry_ms, "the log did not take events");
                    sleep(delay).await;
                    delay = (delay * 2).min(config.retry_delay_max);
                }
            }
        }
    }
}

/// Runs what blocks on a thread for it.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(answer) => answer,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is going away and takes this task with it.
            Err(_) => std::future::pending().await,
        },
    }
}
