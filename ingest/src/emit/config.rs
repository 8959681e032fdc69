//! How an emitter is set up.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::Error;
use super::spool::FRAME_BYTES_MAX;
use crate::event::{Producer, Text};
use crate::log::BATCH_BYTES_MAX;

/// What a full spool does with an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhenFull {
    /// Answer [`Error::Full`], so that the caller refuses the work.
    #[default]
    Refuse,
    /// Drop the event and count it; a loss event tells of it.
    Drop,
}

/// What an operator sets of the spools of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How much each may hold.
    pub spool_bytes_max: u64,
    /// How often each is synced: what a power cut may lose.
    pub sync_interval: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { spool_bytes_max: 1024 * 1024 * 1024, sync_interval: Duration::from_secs(1) }
    }
}

/// How an emitter is set up. [`Config::new`] has the defaults.
#[derive(Clone, Debug)]
pub struct Config {
    /// Who the events are from. One emitter at a time uses a name.
    pub producer: Producer,
    /// The node that they are from, as `node` of each.
    pub node: Option<Text>,
    /// The network zone of the node, as `zone` of each.
    pub zone: Option<Text>,
    /// Where the spool lives, on a local disk; made if it is missing.
    pub dir: PathBuf,
    /// How many partitions [`super::TOPIC`] has.
    pub partitions: NonZeroU32,
    /// The size of a spool file, which is removed when all of it is in the log:
    /// 64 KiB to 1 GiB.
    pub segment_bytes: u64,
    /// How much the spool may hold, all files together; at least two files more
    /// than the reserve.
    pub spool_bytes_max: u64,
    /// How much of that is kept for the events of work that was let in
    /// ([`super::Emitter::admit`]).
    pub reserve_bytes: u64,
    /// What a full spool does.
    pub when_full: WhenFull,
    /// How often the spool is synced: what a power cut may lose.
    pub sync_interval: Duration,
    /// How long the drainer waits for more, once it has drained everything.
    pub drain_interval: Duration,
    /// How much one append takes, in bytes of the spool: up to 8 MiB.
    pub batch_bytes: usize,
    /// How often a partition without events gets a heartbeat.
    pub heartbeat_interval: Duration,
    /// The wait before the first repetition of a failed append; it doubles.
    pub retry_delay_min: Duration,
    /// The longest wait between two repetitions.
    pub retry_delay_max: Duration,
    /// How long an orderly stop waits for the log to take the rest.
    pub stop_timeout: Duration,
}

impl Config {
    /// The defaults: 8 MiB files, 1 GiB in all with 32 MiB in reserve, refusing
    /// when full, synced every second, drained every 20 ms in batches of 1 MiB,
    /// a heartbeat every second, retries after 50 ms to 5 s, 10 s to stop.
    pub fn new(producer: Producer, dir: impl Into<PathBuf>, partitions: NonZeroU32) -> Self {
        Self {
            producer,
            node: None,
            zone: None,
            dir: dir.into(),
            partitions,
            segment_bytes: 8 * 1024 * 1024,
            spool_bytes_max: Limits::default().spool_bytes_max,
            reserve_bytes: 32 * 1024 * 1024,
            when_full: WhenFull::Refuse,
            sync_interval: Limits::default().sync_interval,
            drain_interval: Duration::from_millis(20),
            batch_bytes: 1024 * 1024,
            heartbeat_interval: Duration::from_secs(1),
            retry_delay_min: Duration::from_millis(50),
            retry_delay_max: Duration::from_secs(5),
            stop_timeout: Duration::from_secs(10),
        }
    }

    /// With what an operator has set.
    #[must_use]
    pub fn within(self, limits: Limits) -> Self {
        let Limits { spool_bytes_max, sync_interval } = limits;
        Self { spool_bytes_max, sync_interval, ..self }
    }

    /// Whether the numbers fit each other.
    pub(super) fn check(&self) -> Result<(), Error> {
        let fail = |reason: &str| Err(Error::Config { reason: reason.to_owned() });
        if !(64 * 1024..=1024 * 1024 * 1024).contains(&self.segment_bytes) {
            return fail("segment_bytes has to be from 64 KiB to 1 GiB");
        }
        // The active file counts even when all of it is drained.
        if self.spool_bytes_max.saturating_sub(self.reserve_bytes) < 2 * self.segment_bytes {
            return fail("spool_bytes_max less reserve_bytes has to be at least two segment_bytes");
        }
        // A record is larger than its frame by its headers, at most twice so large.
        if self.batch_bytes == 0 || self.batch_bytes > BATCH_BYTES_MAX / 2 {
            return fail("batch_bytes has to be from 1 to 8 MiB");
        }
        let waits = [self.sync_interval, self.drain_interval, self.heartbeat_interval];
        if waits.iter().chain([&self.retry_delay_min]).any(Duration::is_zero) {
            return fail("intervals and retry_delay_min have to be more than zero");
        }
        if self.retry_delay_max < self.retry_delay_min {
            return fail("retry_delay_max has to be at least retry_delay_min");
        }
        Ok(())
    }

    /// How much the drainer reads at once: always a whole frame.
    pub(super) fn read_bytes(&self) -> usize {
        self.batch_bytes.max(FRAME_BYTES_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(change: impl Fn(&mut Config), expected: Result<(), &str>) {
        let producer = Producer::new("edge-1").unwrap();
        let mut config = Config::new(producer, "spool", NonZeroU32::MIN);
        change(&mut config);
        let checked = config.check().map_err(|error| error.to_string());
        assert_eq!(checked, expected.map_err(|reason| format!("emitter: {reason}")));
    }

    #[test]
    fn numbers_that_do_not_fit_are_refused() {
        check(|_| {}, Ok(()));
        check(|c| c.segment_bytes = 1, Err("segment_bytes has to be from 64 KiB to 1 GiB"));
        let room = Err("spool_bytes_max less reserve_bytes has to be at least two segment_bytes");
        check(|c| c.spool_bytes_max = c.segment_bytes, room);
        check(|c| c.reserve_bytes = c.spool_bytes_max, room);
        check(|c| c.reserve_bytes = c.spool_bytes_max - 2 * c.segment_bytes + 1, room);
        check(|c| c.reserve_bytes = c.spool_bytes_max - 2 * c.segment_bytes, Ok(()));
        check(|c| c.batch_bytes = 0, Err("batch_bytes has to be from 1 to 8 MiB"));
        check(
            |c| c.sync_interval = Duration::ZERO,
            Err("intervals and retry_delay_min have to be more than zero"),
        );
        check(
            |c| c.retry_delay_max = Duration::ZERO,
            Err("retry_delay_max has to be at least retry_delay_min"),
        );
    }
}
