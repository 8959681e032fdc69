//! Where a queue lives in the log.

use std::num::NonZeroU32;
use std::time::Duration;

use ingest::log::{Cleanup, Error, EventLog, Partition, Result, TopicSpec};
use ingest::registry::Name;

/// What stands behind a queue's name in the names of its other topics; so no
/// queue's name ends so.
const SUFFIXES: [&str; 4] = [".dead", ".parked", ".progress", ".scheduled"];

/// How long it is told that a message is scheduled no more.
const SCHEDULE_TOMBSTONES: Duration = Duration::from_secs(3_600);

/// How often topics that another node is making are looked for, and how long after
/// each other.
const TRIES_MAX: u32 = 20;
const TRY_PAUSE: Duration = Duration::from_millis(100);

/// The topics of a queue, which all have as many partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Topics {
    pub(crate) messages: String,
    pub(crate) partitions: NonZeroU32,
}

impl Topics {
    /// Makes the topics, unless they are there. A queue keeps the number of
    /// partitions that it was made with, whatever `partitions` says later, since
    /// a key must not move.
    pub(crate) async fn prepare(log: &dyn EventLog, queue: &Name, partitions: u32) -> Result<Self> {
        let messages = format!("weir.queue.{queue}");
        if is_of_another(queue) {
            let reason = format!("a queue's name does not end in {}", SUFFIXES.join(", "));
            return Err(Error::InvalidTopic { name: messages, reason });
        }
        // Another node may make them at this very moment; Kafka then knows of them
        // before it can say how they are made.
        let mut tries = 1;
        loop {
            match Self::make(log, messages.clone(), partitions).await {
                Err(Error::UnknownTopic(_)) if tries < TRIES_MAX => {
                    tries += 1;
                    tokio::time::sleep(TRY_PAUSE).await;
                }
                made => return made,
            }
        }
    }

    /// Those of a queue that was made before.
    ///
    /// # Errors
    /// [`Error::UnknownTopic`] if there was none.
    pub(crate) async fn existing(log: &dyn EventLog, queue: &Name) -> Result<Self> {
        let messages = format!("weir.queue.{queue}");
        if is_of_another(queue) {
            return Err(Error::UnknownTopic(messages));
        }
        let partitions = log.topic(&messages).await?.partitions;
        let partitions = NonZeroU32::new(partitions).expect("a topic has a partition");
        Ok(Self { messages, partitions })
    }

    async fn make(log: &dyn EventLog, messages: String, partitions: u32) -> Result<Self> {
        let partitions = match log.topic(&messages).await {
            Ok(spec) => spec.partitions,
            Err(Error::UnknownTopic(_)) => partitions,
            Err(error) => return Err(error),
        };
        for spec in [
            TopicSpec::kept(format!("{messages}.dead"), partitions),
            TopicSpec::kept(format!("{messages}.parked"), partitions),
            TopicSpec::compacted(format!("{messages}.progress"), partitions),
            TopicSpec {
                // No reader of the topic takes so long.
                cleanup: Cleanup::Compact { tombstone_age: SCHEDULE_TOMBSTONES },
                ..TopicSpec::compacted(format!("{messages}.scheduled"), partitions)
            },
            TopicSpec::kept(messages.as_str(), partitions),
        ] {
            log.create_topic(&spec).await?;
        }
        let partitions = NonZeroU32::new(partitions).expect("a topic has a partition");
        Ok(Self { messages, partitions })
    }

    /// The group of the queue's workers.
    pub(crate) fn group(&self) -> &str {
        &self.messages
    }

    /// The name that a partition's owner writes under.
    pub(crate) fn writer(&self, index: u32) -> String {
        format!("{}.{index}", self.messages)
    }

    pub(crate) fn messages(&self, index: u32) -> Partition {
        Partition::new(self.messages.as_str(), index)
    }

    pub(crate) fn dead(&self, index: u32) -> Partition {
        Partition::new(format!("{}.dead", self.messages), index)
    }

    pub(crate) fn parked(&self, index: u32) -> Partition {
        Partition::new(format!("{}.parked", self.messages), index)
    }

    pub(crate) fn scheduled(&self, index: u32) -> Partition {
        Partition::new(format!("{}.scheduled", self.messages), index)
    }

    pub(crate) fn progress(&self, index: u32) -> Partition {
        Partition::new(format!("{}.progress", self.messages), index)
    }
}

/// Whether the name is that of another queue's topic.
fn is_of_another(queue: &Name) -> bool {
    SUFFIXES.iter().any(|suffix| queue.as_str().ends_with(suffix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ingest::log::embedded::EmbeddedLog;

    #[tokio::test]
    async fn a_queue_keeps_the_partitions_it_was_made_with() {
        let log = EmbeddedLog::in_memory();
        let name = Name::new("orders").unwrap();
        let made = Topics::prepare(&log, &name, 3).await.unwrap();
        assert_eq!(Topics::prepare(&log, &name, 5).await.unwrap(), made);
        assert_eq!(made.partitions.get(), 3);
        for topic in ["", ".dead", ".parked", ".progress", ".scheduled"] {
            let spec = log.topic(&format!("weir.queue.orders{topic}")).await.unwrap();
            assert_eq!(
                (spec.partitions, spec.needs_keys()),
                (3, topic == ".progress" || topic == ".scheduled")
            );
        }
    }

    #[tokio::test]
    async fn no_queue_takes_the_topic_of_another() {
        let log = EmbeddedLog::in_memory();
        Topics::prepare(&log, &Name::new("orders").unwrap(), 1).await.unwrap();
        for name in ["orders.dead", "orders.progress", "orders.parked", "orders.scheduled"] {
            let refused = Topics::prepare(&log, &Name::new(name).unwrap(), 1).await;
            assert!(matches!(refused, Err(Error::InvalidTopic { .. })), "{name}");
            let found = Topics::existing(&log, &Name::new(name).unwrap()).await;
            assert!(matches!(found, Err(Error::UnknownTopic(_))), "{name}");
        }
    }
}
