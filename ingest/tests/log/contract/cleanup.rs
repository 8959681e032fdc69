use std::time::Duration;

use anyhow::{Result, ensure};
use ingest::log::{Cleanup, Error, LogTime, NewRecord, Partition};

use super::{eventually, numbered, read_all, text};
use crate::subject::World;

/// A record large enough to fill files soon.
fn large(partition: &Partition, key: &str, number: usize) -> (Partition, NewRecord) {
    let value = format!("{number} {}", "x".repeat(60_000));
    (partition.clone(), NewRecord::keyed(key.to_owned(), value))
}

pub(super) async fn compaction_keeps_the_last_of_each_key(world: World) -> Result<()> {
    let cleanup = Cleanup::Compact { tombstone_age: Duration::from_millis(500) };
    let partition = world.topic_with("t", 1, cleanup).await?.remove(0);
    let rare = NewRecord::keyed("rare", "written once, at the beginning");
    world.log.append(vec![(partition.clone(), rare)]).await?;
    let gone = [NewRecord::keyed("gone", "old"), NewRecord::tombstone("gone")];
    world.log.append(gone.map(|record| (partition.clone(), record)).into()).await?;
    let mut number = 0;
    // Files are cleaned when they are full, so something has to fill them.
    eventually("compaction", async || {
        for _ in 0..40 {
            number += 1;
            let key = format!("key {}", number % 4);
            world.log.append(vec![large(&partition, &key, number)]).await?;
        }
        let records = read_all(&*world.log, &partition).await?;
        ensure!(records.is_sorted_by(|a, b| a.offset < b.offset));
        let values: Vec<_> = records.iter().map(text).collect();
        ensure!(values.iter().any(|v| v.starts_with("written once")), "the rare key is there");
        for last in number - 3..=number {
            let is_there = values.iter().any(|v| v.starts_with(&format!("{last} ")));
            ensure!(is_there, "{last}, the last of its key, is there");
        }
        let has_gone = records.iter().all(|r| r.key.as_deref() != Some(b"gone"));
        Ok(has_gone && !values.iter().any(|v| v.starts_with("1 ")))
    })
    .await
}

pub(super) async fn old_records_go_by_age(world: World) -> Result<()> {
    let cleanup = Cleanup::Retain { age: Some(Duration::from_millis(1500)), bytes: None };
    let partition = world.topic_with("t", 1, cleanup).await?.remove(0);
    let first = world.log.append(numbered(&partition, "old", 10)).await?[0];
    eventually("removal by age", async || {
        // Only files that are no longer written to can go.
        let new = world.log.append(vec![large(&partition, "k", 0)]).await?[0];
        let records = read_all(&*world.log, &partition).await?;
        ensure!(records.last().map(|r| r.offset) >= Some(new.offset), "what is new stays");
        let bounds = world.log.bounds(&partition).await?;
        let removed = bounds.first > first.offset;
        if removed {
            let age = LogTime::now().0 - first.time.0;
            ensure!(age >= 1500, "it went after {age} ms already");
        }
        Ok(removed)
    })
    .await
}

pub(super) async fn a_partition_stays_within_its_size(world: World) -> Result<()> {
    let cleanup = Cleanup::Retain { age: None, bytes: Some(2_000_000) };
    let partition = world.topic_with("t", 1, cleanup).await?.remove(0);
    let mut number = 0;
    eventually("removal by size", async || {
        for _ in 0..20 {
            number += 1;
            world.log.append(vec![large(&partition, "k", number)]).await?;
        }
        let records = read_all(&*world.log, &partition).await?;
        let bytes: usize = records.iter().map(|r| r.value.as_ref().map_or(0, |v| v.len())).sum();
        let newest = records.last().map(text).unwrap_or_default();
        ensure!(newest.starts_with(&format!("{number} ")), "what is new stays");
        Ok(number > 100 && bytes < 4_000_000)
    })
    .await
}

pub(super) async fn a_trim_removes_what_is_below(world: World) -> Result<()> {
    let partition = world.topic("t", 1).await?.remove(0);
    world.log.append(numbered(&partition, "x", 10)).await?;
    world.log.trim(&partition, 6).await?;
    world.log.trim(&partition, 2).await?;
    ensure!(world.log.bounds(&partition).await?.first == 6);
    let texts: Vec<_> = read_all(&*world.log, &partition).await?.iter().map(text).collect();
    ensure!(texts == ["x 6", "x 7", "x 8", "x 9"], "{texts:?}");
    let past = world.log.trim(&partition, 11).await;
    ensure!(matches!(past, Err(Error::OutOfRange { offset: 11, .. })), "{past:?}");
    world.log.trim(&partition, 10).await?;
    ensure!(read_all(&*world.log, &partition).await?.is_empty());
    let after = world.log.append(numbered(&partition, "after", 1)).await?[0];
    ensure!(after.offset == 10, "offsets are never used again");
    Ok(())
}
