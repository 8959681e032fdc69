//! Readers of Kafka's log.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::{FutureExt, StreamExt};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, StreamConsumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionListElem};
use tokio::time::{Instant, timeout_at};

use super::ahead::Ahead;
use super::ask::{ask_again, run_blocking};
use super::error::refused;
use super::{Config, at, index, number, offset_list, records};
use crate::log::{Batch, Bounds, Error, Partition, ReadLimit, Reader, Record, Result};

/// The positions of a consumer, and the records that it read too far.
#[derive(Debug, Default)]
pub(super) struct Positions {
    pub(super) next: BTreeMap<Partition, u64>,
    /// What the client had given already when a batch ended, or a partition was paused.
    ahead: Ahead,
    /// Partitions that are not read for now.
    paused: BTreeSet<Partition>,
    /// Whether records are told without keys and headers.
    values_alone: bool,
    /// An error that the client says once, after which it reads the partition no
    /// more; so it is said again until the partition is given up.
    lasting: Option<KafkaError>,
}

impl Positions {
    /// Forgets a partition that is read no longer.
    pub(super) fn remove(&mut self, partition: &Partition) {
        self.next.remove(partition);
        self.paused.remove(partition);
        self.ahead.forget(partition);
        self.lasting = None;
    }

    /// Those of the partitions that are read here.
    pub(super) fn ours(&self, partitions: &[Partition]) -> Vec<Partition> {
        partitions.iter().filter(|of| self.next.contains_key(*of)).cloned().collect()
    }

    /// Tells no more of the partitions, once the client reads them no more.
    pub(super) fn pause(&mut self, partitions: &[Partition]) {
        self.paused.extend(partitions.iter().cloned());
    }

    /// Tells of the partitions again, before the client reads them.
    pub(super) fn resume(&mut self, partitions: &[Partition]) {
        self.paused.retain(|of| !partitions.contains(of));
    }

    /// The next records of one partition; pending while there are none. Cancel
    /// safe: a record is taken from the client only when it is kept here.
    pub(super) async fn read<C: ConsumerContext + 'static>(
        &mut self,
        consumer: &StreamConsumer<C>,
        bytes: usize,
    ) -> Result<Batch, KafkaError> {
        if let Some(error) = &self.lasting {
            return Err(error.clone());
        }
        let paused = &self.paused;
        let mut messages = consumer.stream();
        let mut size = 0;
        let (partition, mut records) = match self.ahead.take(|of| !paused.contains(of)) {
            Some(ahead) => ahead,
            None => loop {
                let message = messages.next().await.expect("the client's messages never end");
                let message = message.map_err(|error| self.keep(error))?;
                if let Some(partition) = self.partition(&message) {
                    size = bytes_of(&message);
                    break (partition, vec![self.record(&message)]);
                }
            },
        };
        // What the client has at hand, without waiting for more.
        while size < bytes {
            let message = match messages.next().now_or_never().flatten() {
                Some(Ok(message)) => message,
                Some(Err(error)) => {
                    self.keep(error);
                    break;
                }
                None => break,
            };
            if is_of(&message, &partition) {
                size += bytes_of(&message);
                records.push(self.record(&message));
            } else if let Some(of) = self.partition(&message) {
                self.ahead.keep(of, self.record(&message));
                break;
            }
        }
        let next = records.last().map_or(0, |record| record.offset + 1);
        self.next.insert(partition.clone(), next);
        Ok(Batch { partition, records, next })
    }

    fn keep(&mut self, error: KafkaError) -> KafkaError {
        if is_lasting(&error) {
            self.lasting = Some(error.clone());
        }
        error
    }

    /// Where the message comes from, if that is read.
    fn partition(&self, message: &BorrowedMessage<'_>) -> Option<Partition> {
        let index = u32::try_from(message.partition()).ok()?;
        let partition = Partition::new(message.topic(), index);
        self.next.contains_key(&partition).then_some(partition)
    }

    fn record(&self, message: &BorrowedMessage<'_>) -> Record {
        if self.values_alone { records::value_alone(message) } else { records::record(message) }
    }
}

/// Whether the message comes from there; asked of each one, so without a name made for it.
fn is_of(message: &BorrowedMessage<'_>, partition: &Partition) -> bool {
    message.partition() == index(partition) && message.topic() == &*partition.topic
}

fn is_lasting(error: &KafkaError) -> bool {
    let code = error.rdkafka_error_code();
    matches!(code, Some(Code::AutoOffsetReset | Code::OffsetOutOfRange))
}

/// What a message has of keys and values, also where its record has the value alone.
fn bytes_of(message: &BorrowedMessage<'_>) -> usize {
    message.key_len() + message.payload_len()
}

/// Which partition's offset it was that the broker did not have. The client
/// does not say.
pub(super) async fn out_of_range(
    asker: &Arc<BaseConsumer>,
    next: &BTreeMap<Partition, u64>,
    config: &Config,
) -> Option<Error> {
    let (asker, next, timeout) = (asker.clone(), next.clone(), config.timeout);
    run_blocking(move || {
        next.into_iter().find_map(|(partition, offset)| {
            let watermarks = |asker: &BaseConsumer, within| {
                asker.fetch_watermarks(&partition.topic, index(&partition), within)
            };
            let (first, end) = ask_again(&asker, &partition.topic, timeout, watermarks).ok()?;
            let bounds = Bounds { first: number(first), end: number(end) };
            let is_inside = (bounds.first..=bounds.end).contains(&offset);
            (!is_inside).then_some(Error::OutOfRange { partition, offset, bounds })
        })
    })
    .await
}

/// Turns a read error into ours; `None` if it passes by itself.
pub(super) async fn read_error(
    error: &KafkaError,
    asker: &Arc<BaseConsumer>,
    next: &BTreeMap<Partition, u64>,
    config: &Config,
) -> Option<Error> {
    match error.rdkafka_error_code() {
        _ if is_lasting(error) => {
            let found = out_of_range(asker, next, config).await;
            Some(found.unwrap_or_else(|| refused("read", error)))
        }
        // The client goes on trying; the reader sees no records meanwhile.
        Some(
            Code::BrokerTransportFailure
            | Code::AllBrokersDown
            | Code::OperationTimedOut
            | Code::NotLeaderForPartition
            | Code::Resolve,
        ) => None,
        _ => Some(refused("read", error)),
    }
}

pub(super) struct KafkaReader {
    consumer: Arc<StreamConsumer>,
    /// How far the client has come, when nothing came last: past marks of transactions too.
    passed: BTreeMap<Partition, u64>,
    positions: Positions,
    asker: Arc<BaseConsumer>,
    config: Config,
}

impl KafkaReader {
    pub(super) fn new(
        config: &Config,
        from: Vec<(Partition, u64)>,
        asker: Arc<BaseConsumer>,
    ) -> Result<Self> {
        let opening = |error: KafkaError| refused("open reader", &error);
        // The client wants a group, also from who commits nothing.
        let mut client = config.consumer();
        client.set("group.id", "weir-readers");
        let consumer: StreamConsumer = client.create().map_err(opening)?;
        let list = offset_list(from.iter().map(|(partition, offset)| (partition, at(*offset))))?;
        consumer.assign(&list).map_err(opening)?;
        let positions = Positions { next: from.into_iter().collect(), ..Positions::default() };
        let (consumer, passed) = (Arc::new(consumer), BTreeMap::new());
        Ok(Self { consumer, passed, positions, asker, config: config.clone() })
    }

    /// Sees how far the client has come. That it says that a partition has ended would be no
    /// proof: after a leader has died it says so where the new one believes for a moment that
    /// the log ends, which may be before.
    async fn look(&mut self) {
        let consumer = self.consumer.clone();
        let passed = run_blocking(move || passed(&consumer)).await;
        self.passed.extend(passed);
    }
}

/// How far a client has come in each partition. The client's own list of it never leaves:
/// it holds on to the client's partitions, so where the reader is dropped meanwhile and this
/// thread is the last to hold the client, its end would wait for the list's for ever.
fn passed(consumer: &StreamConsumer) -> Vec<(Partition, u64)> {
    let Ok(all) = consumer.position() else { return Vec::new() };
    let passed = |of: &TopicPartitionListElem<'_>| match (of.offset(), of.partition().try_into()) {
        (Offset::Offset(offset), Ok(index)) => {
            Some((Partition::new(of.topic(), index), number(offset)))
        }
        _ => None,
    };
    all.elements().iter().filter_map(passed).collect()
}

#[async_trait]
impl Reader for KafkaReader {
    async fn next(&mut self, limit: ReadLimit) -> Result<Option<Batch>> {
        let deadline = Instant::now() + limit.wait;
        loop {
            let read = self.positions.read(&self.consumer, limit.bytes);
            match timeout_at(deadline, read).await {
                Err(_) => {
                    self.look().await;
                    return Ok(None);
                }
                Ok(Ok(batch)) => return Ok(Some(batch)),
                Ok(Err(error)) => {
                    let next = &self.positions.next;
                    let error = read_error(&error, &self.asker, next, &self.config).await;
                    if let Some(error) = error {
                        return Err(error);
                    }
                }
            }
        }
    }

    fn has_reached(&self, partition: &Partition, end: u64) -> bool {
        let has_passed = self.passed.get(partition).is_some_and(|passed| *passed >= end);
        has_passed && !self.positions.ahead.has(partition)
    }

    fn need_values_alone(&mut self) {
        self.positions.values_alone = true;
    }
}

impl fmt::Debug for KafkaReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaReader").field("positions", &self.positions).finish_non_exhaustive()
    }
}
