//! A client of the log that passes a record over.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use ingest::log::{
    Appended, Bounds, Error, EventLog, LogTime, Member, Membership, NewRecord, Partition, Polled,
    ReadLimit, Reader, Result, TopicSpec, Writer,
};
use ingest::registry::Name;

use super::spool::{target, until};
use super::{World, message};
use crate::deliver::{Config, Delivery, Parts, gap};
use crate::endpoint::http::Caller;

/// A log whose first member does not give the record at an offset of queues.
#[derive(Debug)]
struct Skipping {
    log: Arc<dyn EventLog>,
    skipped: u64,
    joins: AtomicU64,
}

#[derive(Debug)]
struct SkippingMember {
    member: Box<dyn Member>,
    skipped: u64,
}

#[async_trait]
impl EventLog for Skipping {
    async fn create_topic(&self, spec: &TopicSpec) -> Result<()> {
        self.log.create_topic(spec).await
    }

    async fn topic(&self, name: &str) -> Result<TopicSpec> {
        self.log.topic(name).await
    }

    async fn bounds(&self, partition: &Partition) -> Result<Bounds> {
        self.log.bounds(partition).await
    }

    async fn offset_at(&self, partition: &Partition, time: LogTime) -> Result<u64> {
        self.log.offset_at(partition, time).await
    }

    async fn append(&self, records: Vec<(Partition, NewRecord)>) -> Result<Vec<Appended>> {
        self.log.append(records).await
    }

    async fn reader(&self, from: Vec<(Partition, u64)>) -> Result<Box<dyn Reader>> {
        self.log.reader(from).await
    }

    async fn trim(&self, partition: &Partition, before: u64) -> Result<()> {
        self.log.trim(partition, before).await
    }

    async fn committed(&self, group: &str, partition: &Partition) -> Result<Option<u64>> {
        self.log.committed(group, partition).await
    }

    async fn commit(&self, group: &str, offsets: &[(Partition, u64)]) -> Result<()> {
        self.log.commit(group, offsets).await
    }

    async fn writer(&self, id: &str) -> Result<Box<dyn Writer>> {
        self.log.writer(id).await
    }

    async fn join(&self, group: &str, topics: &[&str]) -> Result<Box<dyn Member>> {
        let member = self.log.join(group, topics).await?;
        match self.joins.fetch_add(1, Ordering::SeqCst) {
            0 => Ok(Box::new(SkippingMember { member, skipped: self.skipped })),
            _ => Ok(member),
        }
    }
}

#[async_trait]
impl Member for SkippingMember {
    async fn poll(&mut self, limit: ReadLimit) -> Result<Polled> {
        Ok(match self.member.poll(limit).await? {
            Polled::Records(mut batch) => {
                batch.records.retain(|record| record.offset != self.skipped);
                match batch.records.is_empty() {
                    true => Polled::Idle,
                    false => Polled::Records(batch),
                }
            }
            other => other,
        })
    }

    fn pause(&mut self, partitions: &[Partition]) -> Result<()> {
        self.member.pause(partitions)
    }

    fn resume(&mut self, partitions: &[Partition]) -> Result<()> {
        self.member.resume(partitions)
    }

    async fn commit(&mut self, offsets: &[(Partition, u64)]) -> Result<()> {
        self.member.commit(offsets).await
    }

    fn membership(&self) -> Membership {
        self.member.membership()
    }

    fn poll_interval_max(&self) -> Duration {
        self.member.poll_interval_max()
    }

    async fn leave(self: Box<Self>) -> Result<()> {
        self.member.leave().await
    }
}

#[tokio::test]
async fn a_message_that_was_passed_over_is_delivered() {
    for skipped in [0, 2] {
        let mut world = World::new(|_| {}).await;
        let (url, taken) = target().await;
        world.put("upstream/shop", &format!(r#"{{"targets": [{{"url": "{url}"}}]}}"#)).await;
        let queue = r#"{"partitions": 1, "deliver": {"upstream": "shop", "path": "/"}}"#;
        world.put("queue/orders", queue).await;
        let orders = Name::new("orders").unwrap();
        for id in ["a", "b", "c", "d"] {
            world.queues().accept(&orders, message(id, None, "")).await.unwrap();
        }
        let service = world.service.take().unwrap();
        let service = tokio::spawn(Box::pin(service.run(std::future::pending())));
        let log = Arc::new(Skipping { log: world.log.clone(), skipped, joins: AtomicU64::new(0) });
        let (view, emitter, queues) = (world.view.clone(), world.emitter.clone(), world.queues());
        let (caller, clock) = (Caller::new(), world.clock.clone());
        let parts = Parts { log: log.clone(), view, caller, emitter, clock, queues };
        let delivery = Delivery::start(Config::default(), parts);
        let messages = Partition::new("weir.queue.orders", 0);
        until("all is delivered", async || {
            world.log.committed("weir.queue.orders", &messages).await.unwrap() == Some(4)
        })
        .await;
        // What came before the gap may have been attempted by who found it.
        assert!((4..=6).contains(&taken.load(Ordering::SeqCst)), "{taken:?}");
        assert_eq!(log.joins.load(Ordering::SeqCst), 2, "the first member was let go");
        delivery.shutdown().await;
        service.abort();
    }
}

#[tokio::test]
async fn what_is_not_there_was_not_passed_over() {
    let world = World::new(|_| {}).await;
    let partition = Partition::new("t", 0);
    world.log.create_topic(&TopicSpec::kept("t", 1)).await.unwrap();
    let records = (0..5).map(|_| (partition.clone(), NewRecord::unkeyed("r"))).collect();
    world.log.append(records).await.unwrap();
    let check = async |next, given| gap::check(&*world.log, &partition, next, given).await;
    assert!(check(2, 2).await.is_ok());
    let found = check(1, 4).await;
    assert!(matches!(found, Err(Error::PassedOver { offset: 1, .. })), "{found:?}");
    world.log.trim(&partition, 4).await.unwrap();
    assert!(check(1, 4).await.is_ok(), "what was removed is not there");
}
