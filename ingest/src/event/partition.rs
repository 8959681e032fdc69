//! Which partition an event belongs to: a function of the event alone.
//!
//! So a producer knows before it sends which sequence came before this one in its
//! partition, a retry reaches the same partition, and all that happened to one
//! message lies in one partition, in order.
//!
//! The hash is the one that Kafka's own clients use for a key (murmur2 with its seed,
//! the sign bit cleared), so that a program that writes with the same key agrees.

use std::num::NonZeroU32;

use super::Event;
use crate::log::partition_for;

impl Event {
    /// The key of the event's record: the correlation id, else the trace id, else the
    /// producer.
    pub fn partition_key(&self) -> &str {
        let joining = [self.correlation_id.as_deref(), self.trace_id.as_deref()];
        let key = joining.into_iter().flatten().find(|key| !key.is_empty());
        key.unwrap_or(self.producer.as_str())
    }

    /// The event's partition among `partitions`.
    ///
    /// An event that speaks for a source (`source_partition`) goes to the partition
    /// that it speaks for; any other goes where its key leads.
    pub fn partition(&self, partitions: NonZeroU32) -> u32 {
        match self.source_partition.map(u32::try_from) {
            Some(Ok(own)) if own < partitions.get() => own,
            _ => partition_for(self.partition_key().as_bytes(), partitions),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::sample::sample;
    use crate::event::{Kind, Text};

    fn check_key(correlation: Option<&'static str>, trace: Option<&'static str>, expected: &str) {
        let mut event = sample(Kind::Request);
        event.correlation_id = correlation.map(Text::from);
        event.trace_id = trace.map(Text::from);
        assert_eq!(event.partition_key(), expected);
    }

    #[test]
    fn the_key_is_the_most_joining_id_there_is() {
        check_key(Some("c"), Some("t"), "c");
        check_key(None, Some("t"), "t");
        check_key(None, None, "edge-1");
        check_key(Some(""), Some("t"), "t");
        check_key(Some(""), Some(""), "edge-1");
    }

    #[test]
    fn a_heartbeat_reaches_the_partition_that_it_speaks_for() {
        let six = NonZeroU32::new(6).unwrap();
        let mut event = sample(Kind::Heartbeat);
        for own in 0..6 {
            event.source_partition = Some(own);
            assert_eq!(i64::from(event.partition(six)), own);
        }
        for outside in [-1, 6, i64::MAX] {
            event.source_partition = Some(outside);
            assert_eq!(event.partition(six), partition_for(event.partition_key().as_bytes(), six));
        }
    }
}
