//! The lake under kill -9, at every step of its commits and merges.
//!
//! A child process appends events and follows them. It dies at a failpoint, or at any moment,
//! and is started again. Whoever reads the table meanwhile, and after each death, finds of
//! each partition every event before the offset that the commit names, once; and at the end
//! what the log has, with all that the child has said.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use datafusion::prelude::SessionContext;
use ingest::log::embedded;
use rig::victim::{self, Death};

use super::*;
use crate::lake::Table;

const VICTIM: &str = "WEIR_LAKE_VICTIM";
const TEST: &str = "follow::tests::kill::each_event_is_in_the_lake_once_after_kill_9";
/// Where it dies, and with which pass at most. Some 33 commits come before a merge.
const PLACES: [(&str, u64); 7] = [
    ("lake::drafted", 30),
    ("lake::written", 10),
    ("lake::kept", 10),
    ("lake::committed", 10),
    ("merge::written", 1),
    ("merge::committed", 1),
    ("merge::cleaned", 1),
];
const KILLS: usize = 14;
const WITHIN: Duration = Duration::from_secs(20);

async fn open_log(dir: &Path) -> Arc<dyn EventLog> {
    let log = EmbeddedLog::open(&embedded::Config::new(dir.join("log"))).unwrap();
    log.create_topic(&TopicSpec::kept(TOPIC, PARTITIONS.get())).await.unwrap();
    Arc::new(log)
}

fn config(dir: &Path) -> Config {
    Config { commit_ms: 1, ..Config::new(dir) }
}

/// Appends, says how far, and follows, until it is killed.
async fn work(dir: PathBuf, first: i64) {
    victim::prepare();
    let log = open_log(&dir).await;
    let _node = Node::start(config(&dir), &log).await;
    let mut next = first;
    loop {
        append(&log, next..next + 10).await;
        next += 10;
        let mut out = std::io::stdout().lock();
        writeln!(out, "said {next}").and_then(|()| out.flush()).unwrap();
        drop(out);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Looks at the table as it is now: how many rows it has, and the sequences among them.
async fn look(dir: &Path) -> (u64, BTreeSet<i64>) {
    let table = Table::open(dir, &[0; PARTITIONS.get() as usize]).await.unwrap();
    let session = SessionContext::new();
    session.register_table("events", table.provider().await.unwrap()).unwrap();
    let sql =
        "SELECT sequence, CAST(log_partition AS BIGINT), CAST(log_offset AS BIGINT) FROM events";
    let rows = session.sql(sql).await.unwrap().collect().await.unwrap();
    let number = |batch: &RecordBatch, at: usize, row: usize| {
        batch.column(at).as_primitive::<Int64Type>().value(row)
    };
    let (mut places, mut sequences, mut count) = (BTreeSet::new(), BTreeSet::new(), 0);
    for batch in &rows {
        for row in 0..batch.num_rows() {
            places.insert((number(batch, 1, row), number(batch, 2, row) as u64));
            sequences.insert(number(batch, 0, row));
            count += 1;
        }
    }
    let expected =
        table.stamps().iter().enumerate().flat_map(|(partition, of)| {
            (0..of.next()).map(move |offset| (partition as i64, offset))
        });
    assert_eq!(places, expected.collect(), "a gap, or rows beyond the commit");
    assert_eq!(count, places.len(), "an event is there twice");
    (count as u64, sequences)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_event_is_in_the_lake_once_after_kill_9() {
    if let Ok(told) = std::env::var(VICTIM) {
        let (dir, first) = told.split_once('|').unwrap();
        work(dir.into(), first.parse().unwrap()).await;
    }
    let dir = tempfile::tempdir().unwrap();
    let kills = victim::kills(KILLS).unwrap();
    let mut rng = fastrand::Rng::new();
    let (mut said, mut at_place, mut looks) = (1, BTreeSet::new(), 0);
    let mut acknowledged: BTreeSet<i64> = BTreeSet::new();
    for kill in 0..kills {
        let death = match PLACES.get(kill % (PLACES.len() + 1)) {
            Some((place, passes)) => {
                Death::At { place, pass: rng.u64(1..=*passes), within: WITHIN }
            }
            None => Death::After(Duration::from_millis(rng.u64(500..3_000))),
        };
        // What was not said may be there; its numbers are not used again.
        let first = said + 100_000;
        let told = format!("{}|{first}", dir.path().display());
        let killing =
            tokio::task::spawn_blocking(move || victim::kill_in_test(TEST, VICTIM, told, death));
        while !killing.is_finished() {
            if dir.path().join("events/_weir").exists() {
                look(dir.path()).await;
                looks += 1;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let died = killing.await.unwrap().unwrap();
        let last = died.said.iter().rev().find_map(|line| line.strip_prefix("said "));
        said = last.map_or(first, |last| last.parse().unwrap());
        if let (Death::At { place, .. }, true) = (death, died.at_place) {
            at_place.insert(place);
        }
        look(dir.path()).await;
        acknowledged.extend(first..said);
    }
    assert!(kills < PLACES.len() || at_place.len() == PLACES.len(), "only at {at_place:?}");
    assert!(looks > kills, "nobody looked meanwhile");

    // It comes to the end of the log.
    let log = open_log(dir.path()).await;
    let mut in_log = 0;
    for partition in 0..PARTITIONS.get() {
        in_log += log.bounds(&Partition::new(TOPIC, partition)).await.unwrap().end;
    }
    let node = Node::start(config(dir.path()), &log).await;
    while look(dir.path()).await.0 < in_log {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    node.stop().await;
    let (rows, sequences) = look(dir.path()).await;
    assert_eq!(rows, in_log);
    let missing: Vec<_> = acknowledged.difference(&sequences).take(5).collect();
    assert!(missing.is_empty(), "acknowledged, and not there: {missing:?}");
    println!("{kills} kills, {looks} looks, {rows} rows");
}
