//! How deliveries are set up.

use std::time::Duration;

use super::partition::Limits;

/// How deliveries are set up. The defaults are for production; tests take less.
#[derive(Debug, Clone)]
pub struct Config {
    /// Offsets from a partition's committed one to the last that is read; up to
    /// 10,000, so that its progress fits into one record.
    pub window_records_max: u64,
    /// Bytes of a partition's messages that are read and not completed.
    pub window_bytes_max: usize,
    /// Keys, and messages without a key, that a partition has parked at a time; up to
    /// 1,000.
    pub parked_keys_max: usize,
    /// How many messages of a partition wait for their time; no more are taken then.
    pub scheduled_max: usize,
    /// How much one read takes, in bytes. A window overruns its bounds by at most
    /// three reads.
    pub read_bytes: usize,
    /// How long one poll of the group waits.
    pub poll_wait: Duration,
    /// How long ends of attempts wait to be committed together.
    pub commit_interval: Duration,
    /// How many ends of attempts do not wait.
    pub commit_completions_max: usize,
    /// How long attempts under way may take when their partition is given up, or
    /// everything stops; then they are broken off.
    pub release_timeout: Duration,
    /// The wait after a failure of the log; it doubles.
    pub retry_delay_min: Duration,
    /// The longest such wait.
    pub retry_delay_max: Duration,
    /// How many completed records are left before a partition is trimmed.
    pub trim_records: u64,
    /// What the jitter of retries comes from.
    pub seed: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            window_records_max: 10_000,
            window_bytes_max: 32 * 1024 * 1024,
            parked_keys_max: 1_000,
            scheduled_max: 250_000,
            read_bytes: 256 * 1024,
            poll_wait: Duration::from_millis(50),
            commit_interval: Duration::from_millis(20),
            commit_completions_max: 500,
            release_timeout: Duration::from_secs(2),
            retry_delay_min: Duration::from_millis(200),
            retry_delay_max: Duration::from_secs(5),
            trim_records: 1_000,
            seed: fastrand::u64(..),
        }
    }
}

impl Config {
    pub(super) fn limits(&self) -> Limits {
        Limits {
            records: self.window_records_max.min(10_000),
            bytes: self.window_bytes_max,
            parked_keys: self.parked_keys_max.min(1_000),
        }
    }
}
