//! The log on Apache Kafka, 4.0 or newer.
//!
//! What the contract asks, and what keeps it here:
//!
//! | contract | Kafka |
//! | --- | --- |
//! | durable append | idempotent producer, acks=all; replicated, not synced to disk |
//! | order of one caller's appends | one producer, handed the records in the order of the calls |
//! | atomic records and offsets | a transaction; readers use read_committed |
//! | a later writer fences the earlier | transactional id, fenced by its epoch |
//! | groups | cooperative rebalancing, the client's part done by `member.rs` |
//! | the log's own time | topics are made with LogAppendTime |
//! | nothing passed over | auto.offset.reset=error |
//!
//! Offsets have gaps, where transactions put their markers.
//!
//! Topics are made by Weir. One that somebody else made is used if its settings
//! say the same; a topic with other time stamps than LogAppendTime is refused.

mod ahead;
mod ask;
mod error;
mod member;
mod reader;
mod records;
mod topics;
mod writer;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{FutureProducer, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::time::timeout;

use self::ask::{ask, ask_again, run_blocking};
use self::error::{part_of_batch, refused, unknown_outcome};
use self::member::KafkaMember;
use self::reader::KafkaReader;
use self::records::{delivered, send};
use self::writer::KafkaWriter;
use super::record::check_sizes;
use super::{
    Appended, Bounds, Error, EventLog, LogTime, Member, NewRecord, Outcome, Partition, Reader,
    Result, TopicSpec, Writer,
};

/// How Kafka is reached.
#[derive(Debug, Clone)]
pub struct Config {
    /// `host:port`, several with commas between.
    pub bootstrap: String,
    /// How many copies a new topic has; the cluster's default if absent.
    pub replication_factor: Option<NonZeroU32>,
    /// The size at which a new topic's partitions begin a new file, 1 MiB at least; if
    /// absent, Kafka's default, and 16 MiB where it is compacted. Retention and compaction
    /// work on whole files.
    pub segment_bytes: Option<u64>,
    /// How long a call may take before its outcome is called unknown; also the
    /// longest time that a transaction stays open after its writer has died.
    pub timeout: Duration,
    /// A member of a group that does not poll for so long loses its partitions.
    /// Brokers refuse less than their `group.min.session.timeout.ms`, 6 s if it
    /// is not set.
    pub member_poll_interval_max: Duration,
    /// Further settings of the client by librdkafka's names, such as
    /// `security.protocol` and `ssl.ca.location`.
    pub properties: BTreeMap<String, String>,
}

impl Config {
    /// The defaults: the cluster's replication, 10 s, 30 s between polls, no TLS.
    pub fn new(bootstrap: impl Into<String>) -> Self {
        Self {
            bootstrap: bootstrap.into(),
            replication_factor: None,
            segment_bytes: None,
            timeout: Duration::from_secs(10),
            member_poll_interval_max: Duration::from_secs(30),
            properties: BTreeMap::new(),
        }
    }

    /// What every client of ours is set up with.
    fn client(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        for (name, value) in &self.properties {
            client.set(name, value);
        }
        client.set("bootstrap.servers", &self.bootstrap).set("client.id", "weir");
        client
    }

    fn producer(&self) -> ClientConfig {
        let mut producer = self.client();
        producer
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("linger.ms", "0")
            .set("message.max.bytes", "1100000")
            .set("message.timeout.ms", self.timeout.as_millis().to_string());
        producer
    }

    fn consumer(&self) -> ClientConfig {
        let mut consumer = self.client();
        consumer
            .set("isolation.level", "read_committed")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            .set("allow.auto.create.topics", "false")
            .set("fetch.wait.max.ms", "250")
            .set("queued.max.messages.kbytes", "16384")
            // After so long it looks whether what it had fetched is read. By default that is a
            // second, in which a reader waits that had read all of it.
            .set("fetch.queue.backoff.ms", "10");
        consumer
    }
}

/// The log on a Kafka cluster.
pub struct KafkaLog {
    config: Config,
    producer: FutureProducer,
    admin: AdminClient<DefaultClientContext>,
    /// Asked for offsets by place and time; blocks, so never on the runtime.
    asker: Arc<BaseConsumer>,
    /// Per group without members, who reads and writes its offsets.
    offset_clients: Mutex<HashMap<String, Arc<BaseConsumer>>>,
    /// Held while an append hands its records over.
    turn: tokio::sync::Mutex<()>,
    /// How topics were made; they do not change.
    topics: Mutex<HashMap<String, TopicSpec>>,
    /// Held by who makes a topic, or asks how it was made.
    describing: tokio::sync::Mutex<()>,
}

impl KafkaLog {
    /// Connects.
    ///
    /// # Errors
    /// If no broker answers within the timeout, or a setting is wrong.
    pub async fn connect(config: Config) -> Result<Self> {
        let log = Self::open(config)?;
        log.reach(log.config.timeout).await?;
        Ok(log)
    }

    /// Makes the clients, which find the brokers as soon as there are any.
    ///
    /// # Errors
    /// If a setting is wrong.
    pub fn open(config: Config) -> Result<Self> {
        let connecting = |error: KafkaError| refused("connect", &error);
        let producer: FutureProducer = config.producer().create().map_err(connecting)?;
        let admin = config.client().create().map_err(connecting)?;
        let asker: BaseConsumer = config.consumer().create().map_err(connecting)?;
        Ok(Self {
            config,
            producer,
            admin,
            asker: Arc::new(asker),
            offset_clients: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            topics: Mutex::default(),
            describing: tokio::sync::Mutex::default(),
        })
    }

    /// Waits until a broker answers.
    ///
    /// # Errors
    /// If none does in time.
    pub async fn reach(&self, within: Duration) -> Result<()> {
        let asked = ask(&self.asker, move |asker| asker.fetch_metadata(None, within)).await;
        asked.map(drop).map_err(|error| refused("connect", &error))
    }

    /// Asks a client about a topic, as [`ask_again`] does.
    async fn ask<T: Send + 'static>(
        &self,
        client: &Arc<BaseConsumer>,
        action: &'static str,
        topic: &str,
        question: impl Fn(&BaseConsumer, Duration) -> Result<T, KafkaError> + Send + 'static,
    ) -> Result<T> {
        let (topic, timeout) = (topic.to_owned(), self.config.timeout);
        let asked = ask(client, move |client| ask_again(client, &topic, timeout, question));
        asked.await.map_err(|error| refused(action, &error))
    }

    /// A client that commits and fetches a group's offsets without being a member.
    fn offset_client(&self, group: &str) -> Result<Arc<BaseConsumer>> {
        let mut clients = self.offset_clients.lock();
        if let Some(client) = clients.get(group) {
            return Ok(client.clone());
        }
        let client: BaseConsumer = self
            .config
            .consumer()
            .set("group.id", group)
            .create()
            .map_err(|e| refused("open group", &e))?;
        let client = Arc::new(client);
        clients.insert(group.to_owned(), client.clone());
        Ok(client)
    }

    /// A client that could not answer in all its time is not asked again: the next one finds
    /// the group's coordinator anew.
    async fn forget_offset_client(&self, group: &str, client: Arc<BaseConsumer>) {
        {
            let mut clients = self.offset_clients.lock();
            if clients.get(group).is_some_and(|kept| Arc::ptr_eq(kept, &client)) {
                clients.remove(group);
            }
        }
        // Closing waits for its threads.
        run_blocking(move || drop(client)).await;
    }

    fn remembered(&self, topic: &str) -> Option<TopicSpec> {
        self.topics.lock().get(topic).cloned()
    }

    /// One asks for all who wait, or makes a topic for them: a thousand questions at once
    /// are none that is answered. Who has the turn looks first at what was found meanwhile.
    async fn turn_to_ask(&self) -> Result<tokio::sync::MutexGuard<'_, ()>> {
        timeout(self.config.timeout, self.describing.lock()).await.map_err(|_| Error::Kafka {
            action: "describe topic",
            reason: "others have asked before and got no answer".to_owned(),
            retryable: true,
            outcome: Outcome::NotWritten,
        })
    }

    /// Refuses a partition that does not exist.
    async fn check(&self, partition: &Partition) -> Result<TopicSpec> {
        let spec = self.topic(&partition.topic).await?;
        if partition.index < spec.partitions {
            Ok(spec)
        } else {
            Err(Error::UnknownPartition(partition.clone()))
        }
    }

    /// Refuses records that the log would not take, before one of them is sent.
    async fn check_records(&self, records: &[(Partition, NewRecord)]) -> Result<()> {
        check_sizes(records)?;
        for (partition, record) in records {
            let known = self.topics.lock().get(&*partition.topic).cloned();
            let spec = match known {
                Some(spec) if partition.index < spec.partitions => spec,
                _ => self.check(partition).await?,
            };
            if spec.needs_keys() && record.key.is_none() {
                let reason = "it is compacted, so each of its records needs a key".to_owned();
                return Err(Error::InvalidTopic { name: spec.name, reason });
            }
        }
        Ok(())
    }

    fn admin_options(&self) -> AdminOptions {
        AdminOptions::new()
            .request_timeout(Some(self.config.timeout))
            .operation_timeout(Some(self.config.timeout))
    }
}

fn index(partition: &Partition) -> i32 {
    i32::try_from(partition.index).unwrap_or(i32::MAX)
}

/// Offsets in the client's form.
fn offset_list<'a>(
    offsets: impl IntoIterator<Item = (&'a Partition, Offset)>,
) -> Result<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    for (partition, offset) in offsets {
        list.add_partition_offset(&partition.topic, index(partition), offset)
            .map_err(|e| refused("name an offset", &e))?;
    }
    Ok(list)
}

/// The offset in a list of one, if there is any. Errors of a partition are in its
/// element.
fn first_offset(list: &TopicPartitionList) -> Result<Option<u64>, KafkaError> {
    let elements = list.elements();
    let Some(element) = elements.first() else { return Ok(None) };
    element.error()?;
    match element.offset() {
        Offset::Offset(offset) => Ok(Some(number(offset))),
        _ => Ok(None),
    }
}

fn at(offset: u64) -> Offset {
    Offset::Offset(i64::try_from(offset).unwrap_or(i64::MAX))
}

fn number(offset: i64) -> u64 {
    u64::try_from(offset).unwrap_or(0)
}

#[async_trait]
impl EventLog for KafkaLog {
    async fn create_topic(&self, spec: &TopicSpec) -> Result<()> {
        spec.check()?;
        if let Some(found) = self.remembered(&spec.name) {
            return found.check_same(spec);
        }
        let _turn = self.turn_to_ask().await?;
        match self.remembered(&spec.name) {
            Some(found) => found.check_same(spec),
            None => topics::create(self, spec).await,
        }
    }

    async fn topic(&self, name: &str) -> Result<TopicSpec> {
        if let Some(spec) = self.remembered(name) {
            return Ok(spec);
        }
        let _turn = self.turn_to_ask().await?;
        if let Some(spec) = self.remembered(name) {
            return Ok(spec);
        }
        let spec = topics::describe(self, name).await?;
        self.topics.lock().insert(name.to_owned(), spec.clone());
        Ok(spec)
    }

    async fn bounds(&self, partition: &Partition) -> Result<Bounds> {
        self.check(partition).await?;
        let of = partition.clone();
        let fetch = move |asker: &BaseConsumer, within: Duration| {
            asker.fetch_watermarks(&of.topic, index(&of), within)
        };
        let (first, end) = self.ask(&self.asker, "ask for bounds", &partition.topic, fetch).await?;
        Ok(Bounds { first: number(first), end: number(end) })
    }

    async fn offset_at(&self, partition: &Partition, time: LogTime) -> Result<u64> {
        self.check(partition).await?;
        let list = offset_list([(partition, Offset::Offset(time.0.max(0)))])?;
        let seek = move |asker: &BaseConsumer, within: Duration| {
            let found = asker.offsets_for_times(list.clone(), within)?;
            first_offset(&found)
        };
        match self.ask(&self.asker, "seek by time", &partition.topic, seek).await? {
            Some(offset) => Ok(offset),
            None => Ok(self.bounds(partition).await?.end),
        }
    }

    async fn append(&self, records: Vec<(Partition, NewRecord)>) -> Result<Vec<Appended>> {
        let mut deliveries = Vec::with_capacity(records.len());
        {
            // From looking at the records to handing them over, nobody overtakes.
            let _turn = self.turn.lock().await;
            self.check_records(&records).await?;
            for (partition, record) in &records {
                let sent = send(&self.producer, partition, record).await;
                deliveries.push(sent.map_err(|error| match deliveries.is_empty() {
                    true => refused("append", &error),
                    false => unknown_outcome("append", &error),
                })?);
            }
        }
        let is_alone = deliveries.len() == 1;
        let mut appended = Vec::with_capacity(deliveries.len());
        for delivery in deliveries {
            let delivered = delivered(delivery, self.config.timeout).await;
            // The others of the batch may be there.
            appended.push(delivered.map_err(|error| match error.outcome() {
                Outcome::NotWritten if !is_alone => part_of_batch(&error),
                _ => error,
            })?);
        }
        Ok(appended)
    }

    async fn reader(&self, from: Vec<(Partition, u64)>) -> Result<Box<dyn Reader>> {
        for (partition, _) in &from {
            self.check(partition).await?;
        }
        Ok(Box::new(KafkaReader::new(&self.config, from, self.asker.clone())?))
    }

    async fn trim(&self, partition: &Partition, before: u64) -> Result<()> {
        let bounds = self.bounds(partition).await?;
        if before > bounds.end {
            let partition = partition.clone();
            return Err(Error::OutOfRange { partition, offset: before, bounds });
        }
        if before <= bounds.first {
            return Ok(());
        }
        let list = offset_list([(partition, at(before))])?;
        let trimmed = self.admin.delete_records(&list, &self.admin_options()).await;
        let answer = trimmed.map_err(|e| unknown_outcome("trim", &e))?;
        let failed = answer.elements().into_iter().find_map(|element| element.error().err());
        failed.map_or(Ok(()), |e| Err(unknown_outcome("trim", &e)))
    }

    async fn committed(&self, group: &str, partition: &Partition) -> Result<Option<u64>> {
        self.check(partition).await?;
        let client = self.offset_client(group)?;
        let list = offset_list([(partition, Offset::Invalid)])?;
        let fetch = move |client: &BaseConsumer, within: Duration| {
            first_offset(&client.committed_offsets(list.clone(), within)?)
        };
        let asked = self.ask(&client, "ask for committed offsets", &partition.topic, fetch).await;
        if asked.is_err() {
            self.forget_offset_client(group, client).await;
        }
        asked
    }

    async fn commit(&self, group: &str, offsets: &[(Partition, u64)]) -> Result<()> {
        for (partition, _) in offsets {
            self.check(partition).await?;
        }
        let client = self.offset_client(group)?;
        let list = offset_list(offsets.iter().map(|(partition, offset)| (partition, at(*offset))))?;
        let committed = run_blocking(move || client.commit(&list, CommitMode::Sync)).await;
        committed.map_err(|e| match e.rdkafka_error_code() {
            Some(RDKafkaErrorCode::UnknownMemberId | RDKafkaErrorCode::IllegalGeneration) => {
                Error::Fenced(format!("a commit from outside of group {group:?}"))
            }
            _ => unknown_outcome("commit offsets", &e),
        })
    }

    async fn writer(&self, id: &str) -> Result<Box<dyn Writer>> {
        Ok(Box::new(KafkaWriter::new(&self.config, id).await?))
    }

    async fn join(&self, group: &str, topics: &[&str]) -> Result<Box<dyn Member>> {
        for topic in topics {
            self.topic(topic).await?;
        }
        let asker = self.asker.clone();
        Ok(Box::new(KafkaMember::join(&self.config, group, topics, asker)?))
    }
}

impl fmt::Debug for KafkaLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KafkaLog({})", self.config.bootstrap)
    }
}

impl Drop for KafkaLog {
    fn drop(&mut self) {
        // What was appended without waiting for the answer is sent all the same.
        if let Err(error) = self.producer.flush(self.config.timeout) {
            tracing::warn!(%error, "some records were not sent when the log was closed");
        }
    }
}
