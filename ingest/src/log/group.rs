use std::fmt;
use std::sync::Arc;

use rdkafka::consumer::ConsumerGroupMetadata;

/// Proves that a member of a group still has its partitions, when it commits
/// offsets in a [`super::Transaction`].
#[derive(Clone)]
pub struct Membership(pub(crate) Proof);

#[derive(Clone)]
pub(crate) enum Proof {
    /// A member of the embedded log's own group coordinator.
    Local(u64),
    /// What Kafka's coordinator checks.
    Kafka(Arc<ConsumerGroupMetadata>),
}

impl fmt::Debug for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Proof::Local(member) => write!(f, "Membership(local {member})"),
            Proof::Kafka(_) => write!(f, "Membership(kafka)"),
        }
    }
}
