//! Why an event was not emitted, or the drainer ended.

use std::io;

/// Why an event was not emitted, or the drainer ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration contradicts itself.
    #[error("emitter: {reason}")]
    Config {
        /// What has to hold.
        reason: String,
    },
    /// The spool holds as much as it may, since the log does not take it. The event was
    /// not taken; trying again later may succeed.
    #[error("spool {place} is full with {bytes} bytes: the log does not take its events")]
    Full {
        /// The spool's directory.
        place: String,
        /// What it holds.
        bytes: u64,
    },
    /// The disk has no room for the spool. The event was not taken; trying again later may
    /// succeed.
    #[error("the disk of spool {place} is full: make room on it")]
    DiskFull {
        /// The spool's directory.
        place: String,
    },
    /// A write failed and could not be taken back, so nothing may follow it. Every
    /// emit tries again to take it back, and goes on once that succeeds.
    #[error(
        "spool {place} takes no events: a failed write cannot be taken back; look at its disk, then restart"
    )]
    Broken {
        /// The spool's directory.
        place: String,
    },
    /// The event is larger than a spool takes.
    #[error("an event of {bytes} bytes is larger than the limit of {limit}")]
    TooLarge {
        /// Its size as JSON.
        bytes: usize,
        /// What would fit.
        limit: usize,
    },
    /// The producer has stopped.
    #[error("the emitter is closed")]
    Closed,
    /// Another emitter has the spool.
    #[error("spool {0} is in use by another emitter")]
    Locked(String),
    /// A file that says where to go on cannot be read.
    #[error("{file} of spool {place} is damaged: {detail}")]
    Damaged {
        /// The file's name.
        file: &'static str,
        /// The spool's directory.
        place: String,
        /// What is wrong, and what to do.
        detail: &'static str,
    },
    /// The log did not take everything before the stop; the next opening sends it.
    #[error("{bytes} bytes are left in spool {place} for the next start")]
    NotDrained {
        /// What is left.
        bytes: u64,
        /// The spool's directory.
        place: String,
    },
    /// The operating system said no.
    #[error("{action} {file}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        file: String,
        /// The system's answer.
        source: io::Error,
    },
}

impl Error {
    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Full { .. } | Self::DiskFull { .. } | Self::Locked(_))
    }

    /// Whether there was no room for the event.
    pub(crate) fn is_full(&self) -> bool {
        matches!(self, Self::Full { .. } | Self::DiskFull { .. })
    }

    pub(super) fn io(
        action: &'static str,
        file: impl Into<String>,
    ) -> impl FnOnce(io::Error) -> Self {
        let file = file.into();
        move |source| Self::Io { action, file, source }
    }
}
