//! What only a log of several brokers can get wrong.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures_util::future::try_join_all;
use ingest::log::kafka::{self, KafkaLog};
use ingest::log::{Cleanup, EventLog, LogTime, NewRecord, Partition, Scan, TopicSpec};
use rig::Kafka;

const BROKERS: usize = 3;

/// The cases, one after another on the same brokers.
pub(crate) fn run() -> Result<()> {
    let mut brokers = Kafka::start(BROKERS)?;
    rig::run_case(async {
        new_topics_are_there_for_everybody(&brokers).await?;
        questions_are_answered_though_a_leader_dies(&mut brokers).await?;
        a_scan_is_whole_or_fails(&mut brokers).await
    })
}

async fn connect(brokers: &Kafka) -> Result<Arc<KafkaLog>> {
    let config = kafka::Config {
        replication_factor: 3.try_into().ok(),
        ..kafka::Config::new(brokers.bootstrap())
    };
    Ok(Arc::new(KafkaLog::connect(config).await?))
}

fn spec(name: &str) -> TopicSpec {
    let cleanup = Cleanup::Retain { age: None, bytes: None };
    TopicSpec { name: name.to_owned(), partitions: 6, cleanup }
}

/// Two nodes make the same topics at once, and use them at once.
async fn new_topics_are_there_for_everybody(brokers: &Kafka) -> Result<()> {
    let nodes = [connect(brokers).await?, connect(brokers).await?];
    for round in 0..25 {
        let spec = spec(&format!("new-{round}"));
        let each = nodes.iter().map(|node| async {
            node.create_topic(&spec).await.context("make it")?;
            let partitions = || (0..spec.partitions).map(|i| Partition::new(spec.name.as_str(), i));
            for partition in partitions() {
                node.bounds(&partition).await.context("ask for its bounds")?;
            }
            let first = Partition::new(spec.name.as_str(), 0);
            node.commit(&spec.name, &[(first.clone(), 0)]).await.context("commit")?;
            let committed = node.committed(&spec.name, &first).await.context("ask what is")?;
            ensure!(committed == Some(0), "{committed:?}");
            let record = |of| (of, NewRecord::unkeyed(Bytes::from_static(b"first")));
            node.append(partitions().map(record).collect()).await.context("append")
        });
        try_join_all(each).await.with_context(|| format!("round {round}"))?;
    }
    Ok(())
}

/// A client knows who led a partition, and asks it no longer once it is dead.
async fn questions_are_answered_though_a_leader_dies(brokers: &mut Kafka) -> Result<()> {
    let log = connect(brokers).await?;
    let spec = spec("asked");
    log.create_topic(&spec).await?;
    let partitions = || (0..spec.partitions).map(|index| Partition::new(spec.name.as_str(), index));
    let ask = async |after: &str| {
        for partition in partitions() {
            let within = || format!("after {after}, of {partition}");
            let bounds = log.bounds(&partition).await.with_context(within)?;
            ensure!((bounds.first, bounds.end) == (0, 1), "{}: {bounds:?}", within());
            let at = log.offset_at(&partition, LogTime(0)).await.with_context(within)?;
            let committed = log.committed(&spec.name, &partition).await.with_context(within)?;
            ensure!((at, committed) == (0, Some(1)), "{}: {at} {committed:?}", within());
        }
        Ok(())
    };
    let record = |of| (of, NewRecord::unkeyed(Bytes::from_static(b"one")));
    log.append(partitions().map(record).collect()).await?;
    log.commit(&spec.name, &partitions().map(|of| (of, 1)).collect::<Vec<_>>()).await?;
    ask("the start").await?;
    for broker in [2, 3] {
        brokers.kill(broker)?;
        ask("a broker died").await?;
        brokers.restart(broker)?;
        ask("it came back").await?;
    }
    Ok(())
}

/// A broker dies while partitions are read that it leads.
async fn a_scan_is_whole_or_fails(brokers: &mut Kafka) -> Result<()> {
    const RECORDS: usize = 600;
    let log = connect(brokers).await?;
    let spec = spec("scanned");
    log.create_topic(&spec).await?;
    let partitions = || (0..spec.partitions).map(|index| Partition::new(spec.name.as_str(), index));
    let body = Bytes::from(vec![b'x'; 20_000]);
    let record = |partition| (partition, NewRecord::unkeyed(body.clone()));
    for _ in 0..RECORDS / 6 {
        log.append(partitions().map(record).collect()).await?;
    }
    for broker in [1, 2, 3] {
        let mut scan = Scan::open(&*log, partitions()).await?;
        let mut count = scan.next().await?.context("there is a first")?.records.len();
        brokers.kill(broker)?;
        while let Some(batch) = scan.next().await? {
            count += batch.records.len();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        ensure!(count == RECORDS, "{count} of {RECORDS} as broker {broker} dies");
        brokers.restart(broker)?;
    }
    Ok(())
}
