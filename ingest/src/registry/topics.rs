use std::time::Duration;

use super::Error;
use crate::log::{EventLog, Partition, TopicSpec};

/// Verdicts are kept for so long.
const VERDICTS_AGE: Duration = Duration::from_hours(30 * 24);

/// Where a registry lives in the log.
#[derive(Debug, Clone)]
pub struct Topics {
    /// `weir.registry.log`: proposals, for ever.
    pub proposals: Partition,
    /// `weir.registry`: accepted entities, the last version of each.
    pub entities: Partition,
    /// `weir.registry.history`: what some kinds were at each revision, for ever.
    pub history: Partition,
    /// `weir.registry.verdicts`: one for each proposal, for 30 days.
    pub verdicts: Partition,
    /// The name of the one writer, and of the group that holds its offset.
    pub applier: String,
}

impl Default for Topics {
    fn default() -> Self {
        Self::prefixed("")
    }
}

impl Topics {
    /// The topics with `prefix` before their names, for several registries on
    /// one Kafka cluster.
    pub fn prefixed(prefix: &str) -> Self {
        let partition = |name| Partition::new(format!("{prefix}{name}"), 0);
        Self {
            proposals: partition("weir.registry.log"),
            entities: partition("weir.registry"),
            history: partition("weir.registry.history"),
            verdicts: partition("weir.registry.verdicts"),
            applier: format!("{prefix}weir-registry-applier"),
        }
    }

    /// Makes the topics, unless they are there.
    ///
    /// # Errors
    /// [`Error::Log`], also if a topic is there with other settings.
    pub async fn create(&self, log: &dyn EventLog) -> Result<(), Error> {
        let name = |partition: &Partition| partition.topic.to_string();
        for spec in [
            TopicSpec::kept(name(&self.proposals), 1),
            TopicSpec::compacted(name(&self.entities), 1),
            TopicSpec::kept(name(&self.history), 1),
            TopicSpec::retained(name(&self.verdicts), 1, VERDICTS_AGE),
        ] {
            log.create_topic(&spec).await.map_err(Error::log("create its topics"))?;
        }
        Ok(())
    }
}
