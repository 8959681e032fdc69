use std::time::Duration;

use super::{Name, Refusal};
use crate::log::{self, Partition};

/// Why the registry could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log failed.
    #[error("registry: {action}: {source}")]
    Log {
        /// What was tried.
        action: &'static str,
        /// What the log said.
        source: log::Error,
    },
    /// The accepted entities are not what the last change set left. Whatever was
    /// configured before goes on.
    #[error(
        "topic {topic} is not whole: {detail}; restore it from a backup, or remove what else wrote to it"
    )]
    Damaged {
        /// The topic.
        topic: String,
        /// What does not fit.
        detail: String,
    },
    /// The log holds more than it gave in time.
    #[error(
        "topic {topic} could not be read to its end: nothing came at offset {next} of {end}; see that the log answers"
    )]
    Unread {
        /// The topic.
        topic: String,
        /// The offset from which nothing came.
        next: u64,
        /// The offset up to which there is something.
        end: u64,
    },
    /// The change set is refused before it is proposed. The caller's fault.
    #[error("change set {id} was not proposed: {}", .reasons[0])]
    Invalid {
        /// The change set.
        id: Name,
        /// Why, at least one.
        reasons: Vec<Refusal>,
    },
    /// No verdict came in time. Whether the change set is made is unknown;
    /// proposing it again under the same id is safe, and tells.
    #[error(
        "no verdict on change set {id} within {waited:?}; propose it again under the same id, it is made once"
    )]
    NoVerdict {
        /// The change set.
        id: Name,
        /// How long it was waited for.
        waited: Duration,
    },
    /// An applier that has failed does nothing more.
    #[error("the applier failed before; open another")]
    Spent,
}

impl Error {
    pub(super) fn log(action: &'static str) -> impl FnOnce(log::Error) -> Self {
        move |source| Self::Log { action, source }
    }

    pub(super) fn damaged(partition: &Partition, detail: String) -> Self {
        Self::Damaged { topic: partition.topic.to_string(), detail }
    }

    pub(super) fn unread(partition: &Partition, next: u64, end: u64) -> Self {
        Self::Unread { topic: partition.topic.to_string(), next, end }
    }

    /// Whether another applier has taken over.
    pub fn is_fenced(&self) -> bool {
        matches!(self, Self::Log { source: log::Error::Fenced(_), .. })
    }

    /// Whether the same call may succeed later as it is.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Log { source, .. } => source.is_retryable(),
            Self::NoVerdict { .. } | Self::Unread { .. } => true,
            Self::Damaged { .. } | Self::Invalid { .. } | Self::Spent => false,
        }
    }
}
