use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use ingest::log::{Error, Headers, LogTime, NewRecord, Partition, ReadLimit, Scan, Transaction};

use super::{WAIT, limit, numbered, read, text};
use crate::subject::World;

pub(super) async fn a_reader_waits_for_what_comes(world: World) -> Result<()> {
    let partition = world.topic("t", 1).await?.remove(0);
    let mut reader = world.log.reader(vec![(partition.clone(), 0)]).await?;
    let short = ReadLimit { wait: Duration::from_millis(300), ..ReadLimit::default() };
    ensure!(reader.next(short).await?.is_none(), "there is nothing yet");
    let log = world.log.clone();
    let records = numbered(&partition, "late", 1);
    let appended = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(300)).await;
        log.append(records).await
    });
    let start = Instant::now();
    let batch = reader.next(limit()).await?.context("it came")?;
    ensure!(start.elapsed() < WAIT / 2, "it was woken, and did not wait to the end");
    let at = appended.await??[0];
    ensure!((batch.records[0].offset, batch.next) == (at.offset, at.offset + 1));
    // A dropped wait loses nothing.
    let dropped = tokio::time::timeout(Duration::from_millis(100), reader.next(limit())).await;
    ensure!(dropped.is_err());
    world.log.append(numbered(&partition, "later", 1)).await?;
    let batch = reader.next(limit()).await?.context("the next came")?;
    ensure!(text(&batch.records[0]) == "later 0" && batch.records.len() == 1);
    Ok(())
}

pub(super) async fn partitions_take_turns(world: World) -> Result<()> {
    let partitions = world.topic("t", 3).await?;
    for partition in &partitions {
        world.log.append(numbered(partition, &partition.to_string(), 100)).await?;
    }
    let from = partitions.iter().map(|partition| (partition.clone(), 0)).collect();
    let mut reader = world.log.reader(from).await?;
    let mut seen = std::collections::HashMap::new();
    while seen.values().sum::<usize>() < 300 {
        let small = ReadLimit { bytes: 500, wait: WAIT };
        let batch = reader.next(small).await?.context("there is more")?;
        ensure!(batch.records.iter().all(|r| text(r).starts_with(&batch.partition.to_string())));
        ensure!(batch.records.is_sorted_by(|a, b| a.offset < b.offset));
        *seen.entry(batch.partition.clone()).or_insert(0) += batch.records.len();
    }
    ensure!(seen.len() == 3 && seen.values().all(|count| *count == 100), "{seen:?}");
    Ok(())
}

/// Also while it looks how far it has come; nothing of it may stay behind.
pub(super) async fn a_reader_may_be_given_up_at_any_time(world: World) -> Result<()> {
    let partition = world.topic("t", 1).await?.remove(0);
    world.log.append(numbered(&partition, "x", 3)).await?;
    for round in 0..40 {
        let mut reader = world.log.reader(vec![(partition.clone(), 0)]).await?;
        if round % 2 == 0 {
            ensure!(reader.next(limit()).await?.is_some(), "it has begun");
        }
        let brief = ReadLimit { wait: Duration::from_millis(round / 10), ..limit() };
        let _ = tokio::time::timeout(Duration::from_millis(round / 10), reader.next(brief)).await;
    }
    Ok(())
}

/// Who needs neither keys nor headers is told of every record all the same.
pub(super) async fn values_alone_are_the_same(world: World) -> Result<()> {
    let partitions = world.topic("t", 2).await?;
    let value = |n: usize| (!n.is_multiple_of(7)).then(|| Bytes::from(format!("value {n}")));
    let headers = Headers::new([("ce_id", "1"), ("content-type", "application/json")]);
    let given = (0..200).map(|n| {
        let key = Some(Bytes::from(format!("key {n}")));
        let record = NewRecord { key, value: value(n), headers: headers.clone() };
        (partitions[n % 2].clone(), record)
    });
    let appended = world.log.append(given.collect()).await?;
    let from = partitions.iter().map(|partition| (partition.clone(), 0)).collect();
    let mut reader = world.log.reader(from).await?;
    reader.need_values_alone();
    let mut told = [Vec::new(), Vec::new()];
    while told.iter().map(Vec::len).sum::<usize>() < appended.len() {
        let batch = reader.next(limit()).await?.context("there is more")?;
        let records = batch.records.into_iter();
        let records = records.map(|record| (record.offset, record.time, record.value));
        told[batch.partition.index as usize].extend(records);
    }
    for (index, told) in told.iter().enumerate() {
        let expected = appended.iter().enumerate().skip(index).step_by(2);
        let expected: Vec<_> = expected.map(|(n, at)| (at.offset, at.time, value(n))).collect();
        ensure!(*told == expected, "{told:?}");
    }
    Ok(())
}

pub(super) async fn an_offset_outside_is_an_error(world: World) -> Result<()> {
    let partition = world.topic("t", 1).await?.remove(0);
    world.log.append(numbered(&partition, "x", 10)).await?;
    world.log.trim(&partition, 4).await?;
    for offset in [0, 3, 11, 1000] {
        let mut reader = world.log.reader(vec![(partition.clone(), offset)]).await?;
        let got = reader.next(limit()).await;
        let refused = matches!(&got, Err(Error::OutOfRange { offset: o, .. }) if *o == offset);
        ensure!(refused, "{offset}: {got:?}");
    }
    ensure!(text(&read(&*world.log, &partition, 4, 6).await?[0]) == "x 4");
    let unknown = Partition::new(partition.topic.clone(), 7);
    ensure!(matches!(
        world.log.reader(vec![(unknown.clone(), 0)]).await,
        Err(Error::UnknownPartition(_))
    ));
    ensure!(matches!(world.log.bounds(&unknown).await, Err(Error::UnknownPartition(_))));
    Ok(())
}

pub(super) async fn a_time_leads_to_its_first_record(world: World) -> Result<()> {
    let partition = world.topic("t", 1).await?.remove(0);
    let mut appended = Vec::new();
    for round in 0..5 {
        let records = numbered(&partition, &format!("round {round}"), 4);
        appended.push(world.log.append(records).await?);
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    let end = world.log.bounds(&partition).await?.end;
    let seek = async |time: i64| world.log.offset_at(&partition, LogTime(time)).await;
    for round in &appended {
        let first = round[0];
        ensure!(seek(first.time.0).await? == first.offset, "the very time of {first:?}");
        ensure!(seek(first.time.0 - 1).await? == first.offset, "just before {first:?}");
    }
    for rounds in appended.windows(2) {
        // Records of one call need not have one time.
        let (last, next) = (rounds[0][3], rounds[1][0]);
        ensure!(seek(last.time.0 + 1).await? == next.offset, "between {last:?} and {next:?}");
    }
    ensure!(seek(0).await? == 0, "long before");
    ensure!(seek(LogTime::now().0 + 60_000).await? == end, "a minute ahead");
    Ok(())
}

pub(super) async fn a_scan_ends_where_its_partitions_did(world: World) -> Result<()> {
    let partitions = world.topic("t", 4).await?;
    let [plain, marked, emptied, _] = &partitions[..] else { unreachable!("four were made") };
    let (log, id) = (&*world.log, world.name("w"));
    log.append(numbered(plain, "plain", 3)).await?;
    let set = |of: &Partition, what: &str| {
        let records = numbered(of, what, 2);
        Transaction { records, offsets: Vec::new() }
    };
    // The last of these is a mark, where a log has such; in the end of one with no record.
    let mut writer = log.writer(&id).await?;
    for of in [marked, emptied] {
        let appended = writer.commit(set(of, "set")).await?;
        let last = appended.last().expect("two were appended").offset;
        // A transaction is to be seen a moment after it is committed.
        let began = Instant::now();
        while log.bounds(of).await?.end <= last {
            ensure!(began.elapsed() < WAIT, "what was committed is not to be seen");
        }
    }
    log.trim(emptied, log.bounds(emptied).await?.end).await?;
    let _heir = log.writer(&id).await?;
    ensure!(writer.commit(set(marked, "refused")).await.is_err(), "the heir fenced it");

    let mut scan = Scan::open(log, partitions.clone()).await?;
    let ends = scan.ends();
    for of in &partitions {
        log.append(numbered(of, "later", 1)).await?;
    }
    let started = Instant::now();
    let mut texts = Vec::new();
    while let Some(batch) = scan.next().await? {
        texts.extend(batch.records.iter().map(text));
    }
    texts.sort();
    ensure!(texts == ["plain 0", "plain 1", "plain 2", "set 0", "set 1"], "{texts:?}");
    ensure!(started.elapsed() < WAIT / 2, "it did not wait at the ends");

    // The same again, of which a part is gone now.
    log.trim(plain, 1).await?;
    let mut again = Scan::up_to(log, &ends).await?;
    log.trim(plain, 2).await?;
    let mut count = 0;
    while let Some(batch) = again.next().await? {
        count += batch.records.len();
    }
    ensure!(count == 3, "{count} of one and two");
    Ok(())
}
