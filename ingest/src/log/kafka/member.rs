//! Members of Kafka's groups.
//!
//! The client tells of a rebalance by a callback, and waits until it is
//! answered. The callback only takes note; [`KafkaMember::poll`] tells the caller
//! and answers the client: for partitions that come, at once, for those that go,
//! at the next poll, so that the caller can commit in between.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, StreamConsumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaRespErr;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::ask::{ask_again, run_blocking};
use super::error::{is_fenced, refused, unknown_outcome};
use super::reader::{Positions, read_error};
use super::{Config, at, index, number, offset_list};
use crate::log::group::Proof;
use crate::log::{Error, Member, Membership, Partition, Polled, ReadLimit, Result};

/// A rebalance that the client waits to have answered.
#[derive(Debug)]
enum Rebalance {
    Comes(Vec<Partition>),
    Goes(Vec<Partition>),
}

#[derive(Debug, Default)]
struct Context {
    rebalances: Mutex<VecDeque<Rebalance>>,
    happened: Notify,
    /// Nobody polls any more, so the callback has to answer.
    closing: AtomicBool,
}

impl ClientContext for Context {}

impl ConsumerContext for Context {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        err: RDKafkaRespErr,
        list: &mut TopicPartitionList,
    ) {
        if self.closing.load(Ordering::Acquire) {
            give_up_all(consumer);
            return;
        }
        let partitions = partitions(list);
        let rebalance = match err {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => Rebalance::Comes(partitions),
            _ => Rebalance::Goes(partitions),
        };
        self.rebalances.lock().push_back(rebalance);
        self.happened.notify_one();
    }
}

fn give_up_all<C: ConsumerContext>(consumer: &impl Consumer<C>) {
    if let Err(error) = consumer.unassign() {
        tracing::debug!(%error, "could not give up the partitions of a closed member");
    }
}

fn partitions(list: &TopicPartitionList) -> Vec<Partition> {
    let elements = list.elements();
    let partition = |index: i32| u32::try_from(index).unwrap_or(u32::MAX);
    elements.iter().map(|e| Partition::new(e.topic(), partition(e.partition()))).collect()
}

pub(super) struct KafkaMember {
    group: String,
    config: Config,
    consumer: Arc<StreamConsumer<Context>>,
    asker: Arc<BaseConsumer>,
    positions: Positions,
    /// Told to the caller as going; handed over at the next poll.
    going: Vec<Partition>,
}

impl KafkaMember {
    pub(super) fn join(
        config: &Config,
        group: &str,
        topics: &[&str],
        asker: Arc<BaseConsumer>,
    ) -> Result<Self> {
        let joining = |error: KafkaError| refused("join group", &error);
        let poll_max = config.member_poll_interval_max;
        let session = poll_max.min(Duration::from_secs(45));
        let consumer: StreamConsumer<Context> = config
            .consumer()
            .set("group.id", group)
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("max.poll.interval.ms", poll_max.as_millis().to_string())
            .set("session.timeout.ms", session.as_millis().to_string())
            .set("heartbeat.interval.ms", (session / 10).as_millis().to_string())
            .create_with_context(Context::default())
            .map_err(joining)?;
        consumer.subscribe(topics).map_err(joining)?;
        Ok(Self {
            group: group.to_owned(),
            config: config.clone(),
            consumer: Arc::new(consumer),
            asker,
            positions: Positions::default(),
            going: Vec::new(),
        })
    }

    /// Hands over what the caller was told about by the poll before.
    fn hand_over(&mut self) -> Result<()> {
        if !self.going.is_empty() {
            let going = std::mem::take(&mut self.going);
            let list = offset_list(going.iter().map(|of| (of, Offset::Invalid)))?;
            self.consumer
                .incremental_unassign(&list)
                .map_err(|e| refused("hand over partitions", &e))?;
        }
        Ok(())
    }

    /// Where the group has left off, for partitions that come.
    async fn starts(&self, coming: &[Partition]) -> Result<Vec<(Partition, u64)>> {
        let list = offset_list(coming.iter().map(|of| (of, Offset::Invalid)))?;
        let (consumer, asker) = (self.consumer.clone(), self.asker.clone());
        let timeout = self.config.timeout;
        let asked = run_blocking(move || {
            let committed = consumer.committed_offsets(list, timeout)?;
            let start = |element: &rdkafka::topic_partition_list::TopicPartitionListElem<'_>| {
                let partition = Partition::new(
                    element.topic(),
                    u32::try_from(element.partition()).unwrap_or(0),
                );
                element.error()?;
                let offset = match element.offset() {
                    Offset::Offset(offset) => number(offset),
                    _ => {
                        let (topic, index) = (&partition.topic, index(&partition));
                        let first = |asker: &BaseConsumer, within| {
                            asker.fetch_watermarks(topic, index, within)
                        };
                        number(ask_again(&asker, topic, timeout, first)?.0)
                    }
                };
                Ok((partition, offset))
            };
            committed.elements().iter().map(start).collect::<Result<Vec<_>, KafkaError>>()
        });
        asked.await.map_err(|e| refused("ask for committed offsets", &e))
    }

    /// Tells of a rebalance. It is taken off the queue only when it is done, so
    /// that a dropped poll loses none.
    async fn rebalance(&mut self) -> Result<Option<Polled>> {
        let coming = match self.consumer.context().rebalances.lock().front() {
            None => return Ok(None),
            Some(Rebalance::Comes(coming)) => Some(coming.clone()),
            Some(Rebalance::Goes(_)) => None,
        };
        if let Some(coming) = coming {
            let starts = self.starts(&coming).await?;
            let list = offset_list(starts.iter().map(|(of, offset)| (of, at(*offset))))?;
            self.consumer.incremental_assign(&list).map_err(|e| refused("take partitions", &e))?;
            // The client may remember a pause from before.
            self.consumer.resume(&list).map_err(|e| refused("resume partitions", &e))?;
            self.consumer.context().rebalances.lock().pop_front();
            self.positions.next.extend(starts.iter().cloned());
            return Ok((!starts.is_empty()).then_some(Polled::Assigned(starts)));
        }
        let first = self.consumer.context().rebalances.lock().pop_front();
        let Some(Rebalance::Goes(going)) = first else { return Ok(None) };
        going.iter().for_each(|partition| self.positions.remove(partition));
        self.going.clone_from(&going);
        if self.consumer.assignment_lost() {
            self.hand_over()?;
            return Ok((!going.is_empty()).then_some(Polled::Lost(going)));
        }
        Ok((!going.is_empty()).then_some(Polled::Revoked(going)))
    }
}

#[async_trait]
impl Member for KafkaMember {
    async fn poll(&mut self, limit: ReadLimit) -> Result<Polled> {
        let deadline = Instant::now() + limit.wait;
        self.hand_over()?;
        loop {
            while !self.consumer.context().rebalances.lock().is_empty() {
                if let Some(polled) = self.rebalance().await? {
                    return Ok(polled);
                }
            }
            let consumer = self.consumer.clone();
            let error = tokio::select! {
                biased;
                () = consumer.context().happened.notified() => continue,
                read = self.positions.read(&consumer, limit.bytes) => match read {
                    Ok(batch) => return Ok(Polled::Records(batch)),
                    Err(error) => error,
                },
                () = sleep_until(deadline) => return Ok(Polled::Idle),
            };
            // Having been silent too long is told by the rebalance that follows.
            if error.rdkafka_error_code() == Some(Code::PollExceeded) {
                continue;
            }
            let next = &self.positions.next;
            if let Some(error) = read_error(&error, &self.asker, next, &self.config).await {
                return Err(error);
            }
        }
    }

    fn pause(&mut self, partitions: &[Partition]) -> Result<()> {
        let ours = self.positions.ours(partitions);
        let list = offset_list(ours.iter().map(|of| (of, Offset::Invalid)))?;
        self.consumer.pause(&list).map_err(|e| refused("pause partitions", &e))?;
        self.positions.pause(&ours);
        Ok(())
    }

    fn resume(&mut self, partitions: &[Partition]) -> Result<()> {
        let ours = self.positions.ours(partitions);
        self.positions.resume(&ours);
        let list = offset_list(ours.iter().map(|of| (of, Offset::Invalid)))?;
        self.consumer.resume(&list).map_err(|e| refused("resume partitions", &e))
    }

    async fn commit(&mut self, offsets: &[(Partition, u64)]) -> Result<()> {
        let fenced = || Error::Fenced(format!("a member of group {:?}", self.group));
        let has = |of: &Partition| self.positions.next.contains_key(of) || self.going.contains(of);
        if !offsets.iter().all(|(partition, _)| has(partition)) {
            return Err(fenced());
        }
        let list = offset_list(offsets.iter().map(|(of, offset)| (of, at(*offset))))?;
        let consumer = self.consumer.clone();
        let committed = run_blocking(move || consumer.commit(&list, CommitMode::Sync)).await;
        committed.map_err(|e| match e.rdkafka_error_code() {
            Some(code) if is_fenced(code) => fenced(),
            _ => unknown_outcome("commit offsets", &e),
        })
    }

    fn membership(&self) -> Membership {
        let metadata = self.consumer.group_metadata().expect("a member has a group");
        Membership(Proof::Kafka(Arc::new(metadata)))
    }

    fn poll_interval_max(&self) -> Duration {
        self.config.member_poll_interval_max
    }

    async fn leave(self: Box<Self>) -> Result<()> {
        // Closing waits for the coordinator.
        run_blocking(move || drop(self)).await;
        Ok(())
    }
}

impl Drop for KafkaMember {
    fn drop(&mut self) {
        // The client waits for the answer to each rebalance before it closes.
        self.consumer.context().closing.store(true, Ordering::Release);
        give_up_all(&*self.consumer);
    }
}

impl fmt::Debug for KafkaMember {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaMember")
            .field("group", &self.group)
            .field("positions", &self.positions)
            .finish_non_exhaustive()
    }
}
