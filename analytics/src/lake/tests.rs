use std::path::Path;

use arrow::array::AsArray as _;
use arrow::datatypes::Int64Type;
use datafusion::functions_aggregate::expr_fn::count as count_of;
use datafusion::prelude::{SessionContext, col, lit};
use ingest::event::{Event, EventId, Kind, Outcome, Producer, Timestamp};
use ingest::log::{Headers, LogTime, Record};

use super::*;
use crate::intake::Decoder;

mod evolution;

const PARTITIONS: usize = 2;
const FIRSTS: [u64; PARTITIONS] = [0; PARTITIONS];

/// What a log of two partitions holds: every third record comes again.
fn log(events: i64) -> [Vec<Record>; PARTITIONS] {
    log_from(1_769_903_900, events)
}

/// The same, of which the events begin so many seconds after 1970.
fn log_from(first: i64, events: i64) -> [Vec<Record>; PARTITIONS] {
    [0, 1].map(|partition: i64| {
        let mut records: Vec<Record> = Vec::new();
        for sequence in 1..=events {
            let producer = Producer::new("p").unwrap();
            let id = EventId { producer, boot: 1, sequence: 2 * sequence + partition };
            let time = Timestamp::from_micros((first + 7_000 * sequence) * 1_000_000);
            let mut event = Event::new(id, time, Kind::Request, Outcome::Success);
            event.sequence_before = (sequence > 1).then_some(2 * (sequence - 1) + partition);
            event.api_name = Some(["shop", "site"][(sequence % 2) as usize].into());
            for _ in 0..if sequence % 3 == 0 { 2 } else { 1 } {
                records.push(Record {
                    offset: records.len() as u64,
                    time: LogTime((first + 10_000_000) * 1_000),
                    key: None,
                    value: Some(event.to_json().into()),
                    headers: Headers::default(),
                });
            }
        }
        records
    })
}

/// A reader that follows the log from a position.
struct Follower {
    history: History,
    position: Position,
}

impl Follower {
    async fn open(dir: &Path) -> Self {
        let (history, position) = History::open(dir, &FIRSTS).await.unwrap();
        Self { history, position }
    }

    /// Reads at most `records` more of a partition. Answers whether there were any.
    async fn read(&mut self, log: &[Vec<Record>], partition: usize, records: usize) -> bool {
        let stamps = &mut self.position.stamps[partition];
        let from = usize::try_from(stamps.next()).unwrap();
        let to = (from + records).min(log[partition].len());
        let number = partition as u32;
        let batch = &log[partition][from..to];
        let stamped = stamps.stamp(&Decoder::new(), number, batch, to as u64).unwrap();
        self.history.push(number, &stamped, stamps).await.unwrap();
        to > from
    }

    async fn commit(&self) -> Result<usize, Error> {
        self.history.commit(self.position.clone()).await
    }

    /// Events, and how many different ones.
    async fn count(&self) -> (i64, i64) {
        count(&self.history, "count(*), count(DISTINCT log_partition * 1000000 + sequence)").await
    }
}

async fn count(history: &History, what: &str) -> (i64, i64) {
    let session = SessionContext::new();
    session.register_table("events", history.snapshot().await.unwrap().table).unwrap();
    let sql = format!("SELECT {what} FROM events");
    let rows = session.sql(&sql).await.unwrap().collect().await.unwrap();
    let number = |at| rows[0].column(at).as_primitive::<Int64Type>().value(0);
    (number(0), number(1))
}

/// How many files the table has.
async fn files(dir: &Path) -> usize {
    let table = deltalake::open_table(url::Url::from_directory_path(dir.join("events")).unwrap());
    table.await.unwrap().snapshot().unwrap().log_data().num_files()
}

#[tokio::test]
async fn small_files_become_one_and_rows_stay_as_they_are() {
    let (dir, log) = (tempfile::tempdir().unwrap(), log(60));
    let mut follower = Follower::open(dir.path()).await;
    // A node that has not seen any of it, and a reader of a snapshot.
    let other = Follower::open(dir.path()).await;
    let mut before = None;
    for commit in 0..90 {
        follower.read(&log, commit % PARTITIONS, 1).await;
        if commit == 60 {
            before = Some(follower.history.snapshot().await.unwrap().table);
            assert!(files(dir.path()).await > 40, "each commit is a file");
        }
        follower.commit().await.unwrap();
    }
    // Another node commits what this one has in memory.
    follower.read(&log, 0, 5).await;
    let mut ahead = Follower::open(dir.path()).await;
    ahead.read(&log, 0, 5).await;
    ahead.commit().await.unwrap();
    let rows = follower.count().await;
    assert_eq!(rows.0, rows.1);
    let before_merging = files(dir.path()).await;
    assert!(before_merging > 60, "{before_merging} files");
    let mut merges = 0;
    while follower.history.merge().await.unwrap() {
        merges += 1;
    }
    // A day after the other, until there are few: 32 beyond one for each of the five days.
    assert!(merges > 1, "{merges}");
    assert!(files(dir.path()).await <= 37, "{} files", files(dir.path()).await);
    assert_eq!(follower.count().await, rows);
    // Where to go on from is in the table still, and other nodes go on by it.
    other.history.refresh().await.unwrap();
    assert_eq!(other.count().await, rows);
    let mut next = Follower::open(dir.path()).await;
    for partition in 0..PARTITIONS {
        while next.read(&log, partition, 100).await {}
    }
    next.commit().await.unwrap();
    assert_eq!(next.count().await, (120, 120));
    // Who reads by an earlier snapshot still can.
    let session = SessionContext::new();
    let earlier = session.read_table(before.unwrap()).unwrap().count().await.unwrap();
    assert!((40..=60).contains(&earlier), "{earlier}");
}

/// How many rows there are of each day.
async fn days(history: &History) -> Vec<(String, i64)> {
    let session = SessionContext::new();
    let table = history.snapshot().await.unwrap().table;
    let rows = session.read_table(table).unwrap();
    let by = vec![col("event_date")];
    let counted = rows.aggregate(by, vec![count_of(lit(1)).alias("n")]).unwrap();
    let mut days = Vec::new();
    for batch in counted.collect().await.unwrap() {
        let batch = arrow::compute::cast(batch.column(0), &arrow::datatypes::DataType::Utf8)
            .map(|days| (days, batch.column(1).clone()))
            .unwrap();
        let counts = batch.1.as_primitive::<Int64Type>().clone();
        let texts = batch.0.as_string::<i32>().clone();
        days.extend(
            texts.iter().zip(counts.values()).map(|(day, n)| (day.unwrap().to_owned(), *n)),
        );
    }
    days.sort();
    days
}

/// What is old by its day and was written long ago goes, and nothing else; for every node,
/// beside merges, and but for those who read by an earlier snapshot.
#[tokio::test]
async fn old_days_go_and_nothing_else() {
    // As if this was written long before these days.
    let (dir, log) = (tempfile::tempdir().unwrap(), log_from(4_102_444_700, 60));
    let mut follower = Follower::open(dir.path()).await;
    for commit in 0..90 {
        follower.read(&log, commit % PARTITIONS, 1).await;
        follower.commit().await.unwrap();
    }
    let other = Follower::open(dir.path()).await;
    let before = days(&follower.history).await;
    let names: Vec<&str> = before.iter().map(|(day, _)| day.as_str()).collect();
    assert_eq!(names, ["2100-01-01", "2100-01-02", "2100-01-03"], "{before:?}");
    let earlier = follower.history.snapshot().await.unwrap().table;

    let now: jiff::Timestamp = "2100-02-01T12:00:00Z".parse().unwrap();
    let day = jiff::SignedDuration::from_hours(24);
    assert_eq!(follower.history.forget(now, 32 * day).await.unwrap(), 0);
    assert_eq!(days(&follower.history).await, before);
    let (forgot, merged) =
        tokio::join!(follower.history.forget(now, 30 * day), other.history.merge());
    assert!(forgot.is_ok() != merged.is_ok(), "{forgot:?}, {merged:?}");
    other.history.refresh().await.unwrap();
    let done = other.history.forget(now, 30 * day).await.unwrap();
    assert!(forgot.is_ok() != (done > 0), "{forgot:?}, {done}");
    follower.history.refresh().await.unwrap();
    for node in [&follower, &other, &Follower::open(dir.path()).await] {
        assert_eq!(days(&node.history).await, before[1..]);
    }
    // It goes on from where it was, and an earlier snapshot can be read for a while.
    follower.read(&log, 0, 30).await;
    follower.commit().await.unwrap();
    let session = SessionContext::new();
    let count = session.read_table(earlier).unwrap().count().await.unwrap();
    assert_eq!(count as i64, before.iter().map(|(_, n)| n).sum::<i64>());
    assert_eq!(follower.history.forget(now, 30 * day).await.unwrap(), 0);
}

/// As the events of a replay are.
#[tokio::test]
async fn old_days_that_were_written_just_now_stay() {
    let (dir, log) = (tempfile::tempdir().unwrap(), log(20));
    let mut follower = Follower::open(dir.path()).await;
    follower.read(&log, 0, 20).await;
    follower.commit().await.unwrap();
    let day = jiff::SignedDuration::from_hours(24);
    let now = jiff::Timestamp::now();
    assert_eq!(follower.history.forget(now, 2 * day).await.unwrap(), 0);
    assert!(follower.history.forget(now + 3 * day, 2 * day).await.unwrap() > 0);
    assert_eq!(days(&follower.history).await, []);
}

/// Cut short, written over in its middle, or gone: each is named, and once it is set aside
/// all else can be read again.
#[tokio::test]
async fn a_damaged_file_is_named_and_set_aside() {
    let (dir, log) = (tempfile::tempdir().unwrap(), log(20));
    let mut follower = Follower::open(dir.path()).await;
    for commit in 0..20 {
        follower.read(&log, commit % PARTITIONS, 1).await;
        follower.commit().await.unwrap();
    }
    let files = follower.history.files().await.unwrap();
    let paths = files.iter().map(|file| file.path.clone()).collect();
    assert!(files.len() > 10 && files.iter().all(|file| file.rows == Some(1)), "{files:?}");
    assert_eq!(follower.history.check(&paths).await.unwrap(), []);
    assert_eq!(follower.history.set_aside(&paths).await.unwrap(), []);

    let path = |at: usize| dir.path().join("events").join(&files[at].path);
    let mut bytes = std::fs::read(path(1)).unwrap();
    std::fs::write(path(1), &bytes[..bytes.len() / 2]).unwrap();
    bytes = std::fs::read(path(3)).unwrap();
    bytes[4..200].fill(0x5a);
    std::fs::write(path(3), &bytes).unwrap();
    std::fs::remove_file(path(5)).unwrap();
    let session = SessionContext::new();
    let table = follower.history.snapshot().await.unwrap().table;
    session.read_table(table).unwrap().collect().await.unwrap_err();

    let damaged = follower.history.check(&paths).await.unwrap();
    let told: Vec<_> = damaged.iter().map(|of| (&of.file, &*of.why)).collect();
    let [(cut, why_cut), (over, why_over), (gone, why_gone)] = told[..] else { panic!("{told:?}") };
    assert_eq!([cut, over, gone], [&files[1], &files[3], &files[5]]);
    assert!(why_cut.starts_with("it has ") && why_cut.contains(" bytes, of "), "{why_cut}");
    assert!(why_over.starts_with("it is no whole Parquet: "), "{why_over}");
    assert_eq!(why_gone, "it is not there");

    let other = Follower::open(dir.path()).await;
    assert_eq!(follower.history.set_aside(&paths).await.unwrap(), damaged);
    assert_eq!(follower.count().await, (files.len() as i64 - 3, files.len() as i64 - 3));
    other.history.refresh().await.unwrap();
    assert_eq!(other.count().await.0, files.len() as i64 - 3);
    let aside = std::fs::read_dir(dir.path().join("events/_weir/damaged")).unwrap().count();
    assert_eq!(aside, 2, "they are kept, but for the one that was gone");
    // It goes on from where it was.
    assert!(follower.read(&log, 0, 5).await);
    follower.commit().await.unwrap();
    assert_eq!(Follower::open(dir.path()).await.count().await, follower.count().await);
}

/// Of two that merge the same files, one is refused: by Delta's own rules both may.
#[tokio::test]
async fn files_that_two_merge_at_once_are_merged_once() {
    let (dir, log) = (tempfile::tempdir().unwrap(), log(60));
    let mut follower = Follower::open(dir.path()).await;
    for commit in 0..90 {
        follower.read(&log, commit % PARTITIONS, 1).await;
        follower.commit().await.unwrap();
    }
    let rows = follower.count().await;
    // Each has the snapshot of before.
    let others = [Follower::open(dir.path()).await, Follower::open(dir.path()).await];
    let merged = [&follower, &others[0], &others[1]].map(|of| of.history.merge());
    let merged = futures_util::future::join_all(merged).await;
    let done = merged.iter().filter(|merged| matches!(merged, Ok(true))).count();
    let overtaken = |merged: &&Result<bool, Error>| matches!(merged, Err(Error::Overtaken { .. }));
    assert_eq!((done, merged.iter().filter(overtaken).count()), (1, 2), "{merged:?}");
    for of in [&follower, &others[0], &others[1], &Follower::open(dir.path()).await] {
        assert_eq!(of.count().await, rows);
    }
}

#[tokio::test]
async fn each_event_is_in_the_lake_once_over_restarts() {
    let (dir, log) = (tempfile::tempdir().unwrap(), log(60));
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    let mut follower = Follower::open(dir.path()).await;
    let mut silent = 0;
    while silent < 4 {
        let partition = random.usize(..PARTITIONS);
        let read = follower.read(&log, partition, random.usize(1..30)).await;
        silent = if read { 0 } else { silent + 1 };
        match random.u8(0..6) {
            0 | 1 => {
                follower.commit().await.unwrap();
            }
            // What was not committed is read again.
            2 => follower = Follower::open(dir.path()).await,
            _ => {}
        }
        let (events, different) = follower.count().await;
        assert_eq!(events, different, "seed {seed}");
    }
    for partition in 0..PARTITIONS {
        while follower.read(&log, partition, 100).await {}
    }
    assert_eq!(follower.count().await, (120, 120), "seed {seed}");
    follower.commit().await.unwrap();
    assert_eq!(follower.history.tail_bytes().await, 0);
    let mut again = Follower::open(dir.path()).await;
    assert_eq!(again.count().await, (120, 120), "seed {seed}");
    // A repetition at the end is no row to commit, and read again.
    for partition in 0..PARTITIONS {
        while again.read(&log, partition, 100).await {}
    }
    assert_eq!(again.count().await, (120, 120), "seed {seed}");
    assert_eq!(again.position.stamps, follower.position.stamps, "seed {seed}");
    let dates = count(&again.history, "count(DISTINCT event_date), count(DISTINCT lag_us)").await;
    assert_eq!(dates, (5, 1));
}

#[tokio::test]
async fn a_table_that_keeps_everything_for_longer_is_set_right() {
    let dir = tempfile::tempdir().unwrap();
    let name = "delta.deletedFileRetentionDuration";
    let table = Table::open(dir.path(), &FIRSTS).await.unwrap();
    let week = [(name.to_owned(), "interval 1 weeks".to_owned())];
    table.table.set_tbl_properties().with_properties(week.into()).await.unwrap();
    let kept = async || {
        let table = Table::open(dir.path(), &FIRSTS).await.unwrap();
        let metadata = table.table.snapshot().unwrap().metadata().clone();
        (table.version(), metadata.configuration()[name].clone())
    };
    assert_eq!(kept().await, (2, "interval 6 hours".to_owned()));
    assert_eq!(kept().await.0, 2, "once");
}

#[tokio::test]
async fn a_row_is_seen_before_it_is_committed_and_a_snapshot_stays() {
    let (dir, log) = (tempfile::tempdir().unwrap(), log(10));
    let mut follower = Follower::open(dir.path()).await;
    follower.read(&log, 0, 4).await;
    assert_eq!(follower.count().await.0, 3);
    let position = follower.position.clone();
    let session = SessionContext::new();
    let Snapshot { table, offsets } = follower.history.snapshot().await.unwrap();
    session.register_table("events", table).unwrap();
    follower.read(&log, 0, 100).await;
    // Rows after the position stay in memory.
    assert_eq!(follower.history.commit(position).await.unwrap(), 3);
    assert!(follower.history.tail_bytes().await > 0);
    assert_eq!(follower.count().await, (10, 10));
    let before = session.sql("SELECT * FROM events").await.unwrap().count().await.unwrap();
    assert_eq!(before, 3);
    // Asked for by its place it is the same, from memory and from the table.
    let again = follower.history.snapshot_before(&offsets).await.unwrap();
    let session = SessionContext::new();
    session.register_table("events", again.table).unwrap();
    let again = session.sql("SELECT * FROM events").await.unwrap().count().await.unwrap();
    assert_eq!(again, 3);
    let ahead: Vec<u64> = offsets.iter().map(|offset| offset + 100).collect();
    let refused = follower.history.snapshot_before(&ahead).await;
    assert!(matches!(refused, Err(Error::Ahead)), "{refused:?}");
    for wrong in [&[][..], &offsets[1..]] {
        let refused = follower.history.snapshot_before(wrong).await;
        assert!(matches!(refused, Err(Error::NoPlace { .. })), "{refused:?}");
    }
}

#[tokio::test]
async fn a_second_writer_is_refused_and_goes_on_from_the_first() {
    let (dir, log) = (tempfile::tempdir().unwrap(), log(20));
    let mut one = Follower::open(dir.path()).await;
    let mut two = Follower::open(dir.path()).await;
    for partition in 0..PARTITIONS {
        one.read(&log, partition, 10).await;
        two.read(&log, partition, 15).await;
    }
    one.commit().await.unwrap();
    let refused = two.commit().await;
    assert!(matches!(refused, Err(Error::Overtaken { .. })), "{refused:?}");
    assert_eq!(two.count().await, two.count().await);
    // What the first had not read is still to be committed, by whoever does.
    two.commit().await.unwrap();
    one.read(&log, 0, 100).await;
    let refused = one.commit().await;
    assert!(matches!(refused, Err(Error::Overtaken { .. })), "{refused:?}");
    one.read(&log, 1, 100).await;
    one.commit().await.unwrap();
    two.history.refresh().await.unwrap();
    for follower in [&one, &two] {
        assert_eq!(follower.count().await, (40, 40));
    }
}

/// Each is ahead of the other in one partition, and the one that is refused commits again.
#[tokio::test]
async fn a_commit_never_goes_back_in_a_partition() {
    let (dir, log) = (tempfile::tempdir().unwrap(), log(40));
    let mut one = Follower::open(dir.path()).await;
    let mut two = Follower::open(dir.path()).await;
    for (follower, ahead) in [(&mut one, 0), (&mut two, 1)] {
        follower.read(&log, ahead, 30).await;
        follower.read(&log, 1 - ahead, 10).await;
    }
    one.commit().await.unwrap();
    let refused = two.commit().await;
    assert!(matches!(refused, Err(Error::Overtaken { .. })), "{refused:?}");
    assert!(two.commit().await.unwrap() > 0);
    for partition in 0..PARTITIONS {
        two.read(&log, partition, 100).await;
    }
    two.commit().await.unwrap();
    one.history.refresh().await.unwrap();
    let again = Follower::open(dir.path()).await;
    for follower in [&one, &two, &again] {
        assert_eq!(follower.count().await, (80, 80));
    }
}

/// Both have the same snapshot when they begin to write; the table's log decides.
#[tokio::test]
async fn of_two_writers_at_once_one_commits() {
    let (dir, log) = (tempfile::tempdir().unwrap(), log(20));
    for _ in 0..5 {
        let mut one = Follower::open(dir.path()).await;
        let mut two = Follower::open(dir.path()).await;
        for follower in [&mut one, &mut two] {
            follower.read(&log, 0, 3).await;
            follower.read(&log, 1, 3).await;
        }
        let (first, second) = tokio::join!(one.commit(), two.commit());
        let overtaken = |result: &Result<_, _>| matches!(result, Err(Error::Overtaken { .. }));
        assert!(first.is_ok() || second.is_ok(), "{first:?} {second:?}");
        assert!(overtaken(&first) || overtaken(&second), "{first:?} {second:?}");
        for follower in [&one, &two] {
            let (events, different) = follower.count().await;
            assert_eq!(events, different);
        }
    }
}

#[tokio::test]
async fn stamps_that_are_not_those_of_the_commit_are_told_of() {
    let (dir, log) = (tempfile::tempdir().unwrap(), log(10));
    let mut follower = Follower::open(dir.path()).await;
    follower.read(&log, 0, 3).await;
    // As a killed process leaves it: written, and never committed.
    let left = dir.path().join("events/_weir");
    std::fs::create_dir_all(&left).unwrap();
    std::fs::write(left.join("stamps-1.json"), "[]").unwrap();
    follower.commit().await.unwrap();
    assert!(History::open(dir.path(), &FIRSTS).await.is_ok());

    let kept = left.join("stamps-2.json");
    let text = std::fs::read_to_string(&kept).unwrap();
    std::fs::write(&kept, text.replacen("\"next\":3", "\"next\":2", 1)).unwrap();
    let told = History::open(dir.path(), &FIRSTS).await.map(|_| ()).unwrap_err().to_string();
    assert!(told.contains("is of offset 2 in partition 0, the commit of Some(3)"), "{told}");
}

#[tokio::test]
async fn a_lake_of_another_log_is_told_of() {
    let (dir, log) = (tempfile::tempdir().unwrap(), log(3));
    let mut follower = Follower::open(dir.path()).await;
    follower.read(&log, 0, 3).await;
    follower.commit().await.unwrap();
    let told = History::open(dir.path(), &[0; 3]).await.map(|_| ()).unwrap_err().to_string();
    assert!(told.contains("2 partitions are kept, the log has 3"), "{told}");
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let opened = History::open(&file, &FIRSTS).await;
    assert!(matches!(opened, Err(Error::Directory { .. })), "{opened:?}");
}
