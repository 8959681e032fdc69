use std::collections::HashMap;

use anyhow::{Result, ensure};
use bytes::Bytes;
use ingest::log::{
    BATCH_BYTES_MAX, Cleanup, Error, Headers, LogTime, NewRecord, Outcome, Partition,
    RECORD_BYTES_MAX, TopicSpec,
};

use super::{numbered, read, text};
use crate::subject::World;

pub(super) async fn what_is_read_is_what_was_appended(world: World) -> Result<()> {
    let partitions = world.topic("t", 3).await?;
    let binary: Bytes = (0..=255).collect();
    let largest = Bytes::from(vec![7; RECORD_BYTES_MAX]);
    let given = [
        NewRecord::keyed("key", "value"),
        NewRecord::unkeyed("without a key"),
        NewRecord::keyed("", "an empty key is a key"),
        NewRecord::keyed("an empty value is a value", ""),
        NewRecord::tombstone("removed"),
        NewRecord::keyed(binary.clone(), binary.clone()),
        NewRecord {
            headers: Headers::new([("ce_id", &b"1"[..]), ("b", &binary), ("ce_id", b"")]),
            ..NewRecord::keyed("with headers", "twice the same name")
        },
        NewRecord::unkeyed(largest),
    ];
    let before = LogTime::now();
    for partition in &partitions[1..] {
        let batch: Vec<_> = given.iter().map(|r| (partition.clone(), r.clone())).collect();
        let appended = world.log.append(batch).await?;
        let after = LogTime::now();
        let records = read(&*world.log, partition, 0, given.len()).await?;
        for ((record, given), at) in records.iter().zip(&given).zip(&appended) {
            ensure!(
                (record.offset, record.time) == (at.offset, at.time),
                "{record:?} is at {at:?}"
            );
            ensure!((&record.key, &record.value) == (&given.key, &given.value), "{record:?}");
            ensure!(record.headers == given.headers, "{:?}", record.headers);
            ensure!((before..=after).contains(&record.time), "{:?} is not now", record.time);
        }
    }
    let untouched = world.log.bounds(&partitions[0]).await?;
    ensure!(untouched.first == untouched.end, "another partition has {untouched:?}");
    Ok(())
}

pub(super) async fn appends_of_one_caller_keep_their_order(world: World) -> Result<()> {
    let partition = world.topic("t", 1).await?.remove(0);
    // Started one after another, and awaited only when all are under way.
    let mut appends = Vec::new();
    for record in numbered(&partition, "record", 300) {
        let mut append = Box::pin(world.log.append(vec![record]));
        let started = futures_util::poll!(&mut append);
        appends.push((append, started));
    }
    let mut offsets = Vec::new();
    for (append, started) in appends {
        let appended = match started {
            std::task::Poll::Ready(appended) => appended?,
            std::task::Poll::Pending => append.await?,
        };
        offsets.push(appended[0].offset);
    }
    ensure!(offsets.is_sorted_by(|a, b| a < b), "offsets {offsets:?}");
    let records = read(&*world.log, &partition, 0, 300).await?;
    for (i, record) in records.iter().enumerate() {
        ensure!(text(record) == format!("record {i}"), "{record:?} is number {i}");
        ensure!(record.offset == offsets[i], "{record:?} was acknowledged at {}", offsets[i]);
    }
    Ok(())
}

pub(super) async fn writers_at_once_each_keep_their_order(world: World) -> Result<()> {
    let partitions = world.topic("t", 2).await?;
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..8 {
        let (log, partitions) = (world.log.clone(), partitions.clone());
        writers.spawn(async move {
            for i in 0..50 {
                let of = |p: &Partition| numbered(p, &format!("{writer} {i}"), 2);
                let records = partitions.iter().flat_map(of).collect();
                log.append(records).await?;
            }
            Ok::<_, Error>(())
        });
    }
    while let Some(done) = writers.join_next().await {
        done??;
    }
    for partition in &partitions {
        let records = read(&*world.log, partition, 0, 8 * 50 * 2).await?;
        ensure!(records.is_sorted_by(|a, b| a.offset < b.offset), "{partition}: offsets");
        let mut next = HashMap::new();
        for record in &records {
            let text = text(record);
            let numbers: Vec<usize> =
                text.split(' ').map(|n| n.parse().expect("a number")).collect();
            let expected = next.entry(numbers[0]).or_insert(0);
            ensure!(numbers[1] * 2 + numbers[2] == *expected, "{partition}: {text} at {expected}");
            *expected += 1;
        }
        ensure!(records.len() == 800, "{partition}: {} records", records.len());
    }
    Ok(())
}

pub(super) async fn what_does_not_fit_is_refused(world: World) -> Result<()> {
    let partition = world.topic("t", 1).await?.remove(0);
    let compacted = world
        .topic_with("compacted", 1, Cleanup::Compact { tombstone_age: super::WAIT })
        .await?
        .remove(0);
    let check = async |records: Vec<(Partition, NewRecord)>, is: fn(&Error) -> bool| {
        let error = match world.log.append(records).await {
            Err(error) => error,
            Ok(appended) => anyhow::bail!("{appended:?} was taken"),
        };
        ensure!(is(&error), "{error:?}");
        ensure!(error.outcome() == Outcome::NotWritten && !error.is_retryable(), "{error:?}");
        Ok(())
    };
    let too_large = NewRecord::unkeyed(vec![0; RECORD_BYTES_MAX + 1]);
    check(vec![(partition.clone(), too_large)], |e| {
        matches!(e, Error::TooLarge { what: "a record", .. })
    })
    .await?;
    let record = NewRecord::unkeyed(vec![0; RECORD_BYTES_MAX]);
    let batch = vec![(partition.clone(), record); BATCH_BYTES_MAX / RECORD_BYTES_MAX + 1];
    check(batch, |e| matches!(e, Error::TooLarge { what: "a batch", .. })).await?;
    let nowhere = Partition::new(world.name("nowhere"), 0);
    check(numbered(&nowhere, "x", 1), |e| matches!(e, Error::UnknownTopic(_))).await?;
    let beyond = Partition::new(partition.topic.clone(), 1);
    check(numbered(&beyond, "x", 1), |e| matches!(e, Error::UnknownPartition(_))).await?;
    // The good record of a bad batch is not written either.
    let mixed = [numbered(&partition, "x", 1), numbered(&compacted, "no key", 1)].concat();
    check(mixed, |e| matches!(e, Error::InvalidTopic { .. })).await?;
    let bounds = world.log.bounds(&partition).await?;
    ensure!(bounds.first == bounds.end, "{bounds:?}");
    Ok(())
}

pub(super) async fn topics_are_made_once_and_just_so(world: World) -> Result<()> {
    let log = &world.log;
    let specs = [
        TopicSpec::retained(world.name("retained"), 3, std::time::Duration::from_secs(3600)),
        TopicSpec::kept(world.name("kept"), 1),
        TopicSpec::compacted(world.name("compacted"), 2),
    ];
    for spec in &specs {
        log.create_topic(spec).await?;
        log.create_topic(spec).await?;
        ensure!(log.topic(&spec.name).await? == *spec);
        let other = TopicSpec { partitions: spec.partitions + 1, ..spec.clone() };
        let differs = log.create_topic(&other).await;
        ensure!(matches!(differs, Err(Error::TopicDiffers { .. })), "{differs:?}");
    }
    let bad = log.create_topic(&TopicSpec::kept("a/b", 1)).await;
    ensure!(matches!(bad, Err(Error::InvalidTopic { .. })), "{bad:?}");
    let unknown = log.topic(&world.name("unknown")).await;
    ensure!(matches!(unknown, Err(Error::UnknownTopic(_))), "{unknown:?}");
    Ok(())
}

pub(super) async fn everything_is_there_after_reopening(mut world: World) -> Result<()> {
    let partitions = world.topic("t", 2).await?;
    let group = world.name("g");
    for round in 0..3 {
        world.log.append(numbered(&partitions[0], &format!("round {round}"), 10)).await?;
        world.log.commit(&group, &[(partitions[0].clone(), 10 * (round + 1))]).await?;
        world.reopen().await?;
        let records = read(&*world.log, &partitions[0], 0, 10 * (round as usize + 1)).await?;
        ensure!(text(&records[0]) == "round 0 0");
        ensure!(text(&records[records.len() - 1]) == format!("round {round} 9"));
        let committed = world.log.committed(&group, &partitions[0]).await?;
        ensure!(committed == Some(10 * (round + 1)), "{committed:?}");
        ensure!(world.log.topic(&world.name("t")).await?.partitions == 2);
    }
    Ok(())
}

pub(super) async fn many_ask_at_once_after_reopening(mut world: World) -> Result<()> {
    let partitions = world.topic("t", 2).await?;
    world.reopen().await?;
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..5_000 {
        let (log, name) = (world.log.clone(), partitions[0].topic.clone());
        asking.spawn(async move { log.topic(&name).await });
    }
    while let Some(answer) = asking.join_next().await {
        ensure!(answer??.partitions == 2);
    }
    Ok(())
}
