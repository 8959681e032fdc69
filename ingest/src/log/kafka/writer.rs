//! Writers: transactions under a name.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use parking_lot::Mutex;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerGroupMetadata};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::producer::future_producer::DeliveryFuture;
use rdkafka::producer::{FutureProducer, Producer};
use rdkafka::topic_partition_list::TopicPartitionList;

use super::error::{is_fenced, refused, unknown_outcome};
use super::records::{delivered, try_send};
use super::{Config, at, index, run_blocking};
use crate::log::group::Proof;
use crate::log::record::check_sizes;
use crate::log::{Appended, Error, GroupOffsets, Result, Transaction, Writer};

pub(super) struct KafkaWriter {
    id: String,
    config: Config,
    /// Locked for the length of a transaction, also when its caller has gone.
    producer: Arc<Mutex<FutureProducer>>,
}

impl KafkaWriter {
    /// Takes the name; whoever had it is refused from now on.
    pub(super) async fn new(config: &Config, id: &str) -> Result<Self> {
        let timeout = config.timeout;
        let opening = |error: KafkaError| refused("open writer", &error);
        let producer: FutureProducer = config
            .producer()
            .set("transactional.id", id)
            .set("transaction.timeout.ms", timeout.as_millis().to_string())
            .create()
            .map_err(opening)?;
        let (started, producer) =
            run_blocking(move || (producer.init_transactions(timeout), producer)).await;
        started.map_err(opening)?;
        let producer = Arc::new(Mutex::new(producer));
        Ok(Self { id: id.to_owned(), config: config.clone(), producer })
    }
}

#[async_trait]
impl Writer for KafkaWriter {
    async fn commit(&mut self, transaction: Transaction) -> Result<Vec<Appended>> {
        check_sizes(&transaction.records)?;
        if transaction.records.is_empty() && transaction.offsets.is_empty() {
            return Ok(Vec::new());
        }
        let (producer, config, id) = (self.producer.clone(), self.config.clone(), self.id.clone());
        let deliveries = run_blocking(move || {
            let producer = producer.lock();
            commit(&producer, &config, &id, &transaction)
        })
        .await?;
        let mut appended = Vec::with_capacity(deliveries.len());
        for delivery in deliveries {
            appended.push(delivered(delivery, self.config.timeout).await?);
        }
        Ok(appended)
    }
}

/// Blocks. The transaction is committed, or it is aborted and the error says why.
fn commit(
    producer: &FutureProducer,
    config: &Config,
    id: &str,
    transaction: &Transaction,
) -> Result<Vec<DeliveryFuture>> {
    let timeout = config.timeout;
    if let Err(error) = producer.begin_transaction() {
        // The transaction before this one may not have been ended yet.
        producer.abort_transaction(timeout).map_err(|_| failed(id, &error))?;
        producer.begin_transaction().map_err(|e| failed(id, &e))?;
    }
    let filled = fill(producer, config, transaction);
    let deliveries = match filled {
        Ok(deliveries) => deliveries,
        Err(error) => return Err(abort(producer, timeout, id, &error)),
    };
    let deadline = Instant::now() + timeout;
    loop {
        match producer.commit_transaction(timeout) {
            Ok(()) => return Ok(deliveries),
            Err(KafkaError::Transaction(error)) if error.txn_requires_abort() => {
                return Err(abort(producer, timeout, id, &KafkaError::Transaction(error)));
            }
            // The same commit goes on; it succeeds or says why not.
            Err(KafkaError::Transaction(error)) if error.is_retriable() => {
                if Instant::now() > deadline {
                    return Err(Error::TimedOut(timeout));
                }
            }
            Err(error) => return Err(unless_fenced(id, &error, unknown_outcome)),
        }
    }
}

fn fill(
    producer: &FutureProducer,
    config: &Config,
    transaction: &Transaction,
) -> Result<Vec<DeliveryFuture>, KafkaError> {
    let mut deliveries = Vec::with_capacity(transaction.records.len());
    for (partition, record) in &transaction.records {
        let delivery = loop {
            match try_send(producer, partition, record) {
                Err(error) if error.rdkafka_error_code() == Some(Code::QueueFull) => {
                    producer.poll(Duration::from_millis(5));
                }
                sent => break sent?,
            }
        };
        deliveries.push(delivery);
    }
    for group in &transaction.offsets {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in &group.offsets {
            list.add_partition_offset(&partition.topic, index(partition), at(*offset))?;
        }
        match group.membership.as_ref().map(|membership| &membership.0) {
            Some(Proof::Kafka(member)) => {
                producer.send_offsets_to_transaction(&list, member, config.timeout)?;
            }
            Some(Proof::Local(_)) => return Err(KafkaError::Canceled),
            None => {
                let outsider = outsider(config, group)?;
                producer.send_offsets_to_transaction(&list, &outsider, config.timeout)?;
            }
        }
    }
    Ok(deliveries)
}

/// What stands for a group without members.
fn outsider(config: &Config, group: &GroupOffsets) -> Result<ConsumerGroupMetadata, KafkaError> {
    let client: BaseConsumer = config.consumer().set("group.id", &group.group).create()?;
    client.group_metadata().ok_or(KafkaError::Canceled)
}

/// Nothing of the transaction stays. If even that cannot be told to the broker,
/// it ends by its timeout.
fn abort(producer: &FutureProducer, timeout: Duration, id: &str, why: &KafkaError) -> Error {
    if let Err(error) = producer.abort_transaction(timeout) {
        tracing::debug!(%error, writer = id, "could not abort a transaction");
    }
    failed(id, why)
}

fn failed(id: &str, error: &KafkaError) -> Error {
    unless_fenced(id, error, refused)
}

fn unless_fenced(
    id: &str,
    error: &KafkaError,
    otherwise: fn(&'static str, &KafkaError) -> Error,
) -> Error {
    match error.rdkafka_error_code() {
        Some(code) if is_fenced(code) => Error::Fenced(format!("writer {id:?}")),
        _ => otherwise("commit transaction", error),
    }
}

impl fmt::Debug for KafkaWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KafkaWriter({:?})", self.id)
    }
}
