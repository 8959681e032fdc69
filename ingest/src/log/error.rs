use std::io;
use std::time::Duration;

use super::{Bounds, Partition};

/// Why a log call failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such topic.
    #[error("topic {0} does not exist")]
    UnknownTopic(String),
    /// The topic is missing or has fewer partitions.
    #[error("partition {0} does not exist")]
    UnknownPartition(Partition),
    /// A topic with this name has other settings.
    #[error("topic {name} exists with {existing}, asked for was {wanted}")]
    TopicDiffers {
        /// The topic's name.
        name: String,
        /// How it was made.
        existing: String,
        /// What was asked for.
        wanted: String,
    },
    /// A topic cannot be made so.
    #[error("topic {name:?}: {reason}")]
    InvalidTopic {
        /// The topic's name.
        name: String,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// A group cannot be joined so.
    #[error("group {group:?}: {reason}")]
    InvalidGroup {
        /// The group's name.
        group: String,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// An offset that the partition does not hold, any more or yet.
    #[error("offset {offset} of {partition} is outside of what it holds, {} to {}", bounds.first, bounds.end)]
    OutOfRange {
        /// The partition.
        partition: Partition,
        /// What was asked for.
        offset: u64,
        /// What there is.
        bounds: Bounds,
    },
    /// A member was given a later record than the next one. Who joins anew reads it.
    #[error("the record at {offset} of {partition} was passed over; it is read again")]
    PassedOver {
        /// The partition.
        partition: Partition,
        /// The first record that was not given.
        offset: u64,
    },
    /// More than the log takes.
    #[error("{what} of {bytes} bytes is larger than the limit of {limit}")]
    TooLarge {
        /// A record or a batch.
        what: &'static str,
        /// Its size.
        bytes: usize,
        /// What would fit.
        limit: usize,
    },
    /// Somebody else holds the name or the partition now.
    #[error("{0} was fenced: somebody else has taken over")]
    Fenced(String),
    /// There is no room; nothing was written.
    #[error(
        "no space to write in {place}; nothing was written: free some space, the log then goes on by itself"
    )]
    Full {
        /// The directory or broker.
        place: String,
    },
    /// The log did not answer in time, and may have written all the same.
    #[error("the log did not confirm within {0:?}; whether it was written is unknown")]
    TimedOut(Duration),
    /// Another process has the embedded log open.
    #[error("{0} is in use by another process; stop it, or reach the log through it")]
    Locked(String),
    /// A file of the embedded log is not as it was written.
    #[error(
        "{file} is damaged at byte {position}: {detail}; nothing was changed: restore it from a backup"
    )]
    Damaged {
        /// The file's name.
        file: String,
        /// Where in it.
        position: u64,
        /// What is wrong.
        detail: String,
    },
    /// A write or sync failed, after which nothing that the system says of the
    /// file can be trusted.
    #[error(
        "the log stopped after a failed write ({0}); restart the process, it then reads what is really there"
    )]
    Poisoned(String),
    /// The log was closed.
    #[error("the log is closed")]
    Closed,
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
    /// Kafka said no.
    #[error("kafka: {action}: {reason}")]
    Kafka {
        /// What was tried.
        action: &'static str,
        /// The client's or broker's answer.
        reason: String,
        /// Whether the same call may succeed later.
        retryable: bool,
        /// Whether the records may be there all the same.
        outcome: Outcome,
    },
}

/// What became of a write that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is not in the log, and will not be.
    NotWritten,
    /// It may be in the log, or appear there. The same identity makes it safe
    /// to write again.
    Unknown,
}

impl Error {
    /// Whether the records of a failed append may be in the log all the same.
    pub fn outcome(&self) -> Outcome {
        match self {
            // A fenced writer may not have been told of its last commit.
            Self::TimedOut(_) | Self::Poisoned(_) | Self::Closed | Self::Fenced(_) => {
                Outcome::Unknown
            }
            Self::Kafka { outcome, .. } => *outcome,
            _ => Outcome::NotWritten,
        }
    }

    /// Whether the same call may succeed later, without anybody mending anything
    /// in the call itself.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Full { .. } | Self::TimedOut(_) => true,
            Self::Kafka { retryable, .. } => *retryable,
            _ => false,
        }
    }
}
