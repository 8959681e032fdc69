use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Error, Result};

/// The most partitions that a topic may have.
const PARTITIONS_MAX: u32 = 10_000;

/// How a topic is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopicSpec {
    /// 1 to 249 of the characters `a-z A-Z 0-9 . _ -`, as in Kafka.
    pub name: String,
    /// How many partitions, from 1 to 10,000; fixed for the topic's life.
    pub partitions: u32,
    /// What is removed, and when.
    pub cleanup: Cleanup,
}

/// What a log removes from a topic by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cleanup {
    /// Old records go, by age or by the partition's size. With neither, records
    /// go only by [`super::EventLog::trim`], as a queue wants it.
    Retain {
        /// Records older than this go.
        age: Option<Duration>,
        /// The oldest records go while the partition is larger than this.
        bytes: Option<u64>,
    },
    /// Of each key the last record stays; every record needs a key.
    Compact {
        /// A tombstone stays at least this long, so that a reader who was away
        /// less than that learns of the removal.
        tombstone_age: Duration,
    },
}

impl TopicSpec {
    /// A topic that keeps records for `age`.
    pub fn retained(name: impl Into<String>, partitions: u32, age: Duration) -> Self {
        let cleanup = Cleanup::Retain { age: Some(age), bytes: None };
        Self { name: name.into(), partitions, cleanup }
    }

    /// A topic whose records stay until they are trimmed.
    pub fn kept(name: impl Into<String>, partitions: u32) -> Self {
        let cleanup = Cleanup::Retain { age: None, bytes: None };
        Self { name: name.into(), partitions, cleanup }
    }

    /// A topic that keeps the last record of each key, and tombstones for a week.
    pub fn compacted(name: impl Into<String>, partitions: u32) -> Self {
        let cleanup = Cleanup::Compact { tombstone_age: Duration::from_hours(7 * 24) };
        Self { name: name.into(), partitions, cleanup }
    }

    /// Whether records without a key are refused.
    pub fn needs_keys(&self) -> bool {
        matches!(self.cleanup, Cleanup::Compact { .. })
    }

    pub(crate) fn check(&self) -> Result<()> {
        let invalid = |reason: &str| {
            Err(Error::InvalidTopic { name: self.name.clone(), reason: reason.to_owned() })
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if self.name.is_empty() || self.name.len() > 249 || !self.name.chars().all(plain) {
            return invalid("a name has 1 to 249 of the characters a-z A-Z 0-9 . _ -");
        }
        if self.name == "." || self.name == ".." {
            return invalid("a name is not a dot or two");
        }
        if self.partitions == 0 || self.partitions > PARTITIONS_MAX {
            return invalid("a topic has 1 to 10000 partitions");
        }
        Ok(())
    }

    /// Whether this topic, which exists, is what `wanted` asks for.
    pub(crate) fn check_same(&self, wanted: &Self) -> Result<()> {
        if self == wanted {
            return Ok(());
        }
        Err(Error::TopicDiffers {
            name: wanted.name.clone(),
            existing: self.to_string(),
            wanted: wanted.to_string(),
        })
    }
}

impl fmt::Display for TopicSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} partitions, ", self.partitions)?;
        match self.cleanup {
            Cleanup::Retain { age: None, bytes: None } => write!(f, "kept until trimmed"),
            Cleanup::Retain { age, bytes } => {
                write!(f, "retained")?;
                if let Some(age) = age {
                    write!(f, " for {age:?}")?;
                }
                if let Some(bytes) = bytes {
                    write!(f, " up to {bytes} bytes")?;
                }
                Ok(())
            }
            Cleanup::Compact { tombstone_age } => {
                write!(f, "compacted with tombstones for {tombstone_age:?}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_sizes_are_checked() {
        let check = |name: &str, partitions, good| {
            assert_eq!(TopicSpec::kept(name, partitions).check().is_ok(), good, "{name:?}");
        };
        check("weir.events", 8, true);
        check(&"x".repeat(249), 1, true);
        check(&"x".repeat(250), 1, false);
        check("", 1, false);
        check("..", 1, false);
        check("a/b", 1, false);
        check("a b", 1, false);
        check("weir.events", 0, false);
        check("weir.events", PARTITIONS_MAX + 1, false);
    }
}
