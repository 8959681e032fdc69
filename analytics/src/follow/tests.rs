mod kill;

use std::num::NonZeroU32;

use arrow::array::AsArray as _;
use arrow::datatypes::Int64Type;
use arrow::util::pretty::pretty_format_batches;
use ingest::event::{Event, EventId, Kind, Outcome, Producer, Timestamp, cloudevents};
use ingest::log::embedded::EmbeddedLog;
use ingest::log::{Headers, NewRecord, TopicSpec};

use super::*;
use crate::compute::Threads;
use crate::sql::{Limits, Sql};

const PARTITIONS: NonZeroU32 = NonZeroU32::new(3).unwrap();

async fn log() -> Arc<dyn EventLog> {
    let log = EmbeddedLog::in_memory();
    log.create_topic(&TopicSpec::kept(TOPIC, PARTITIONS.get())).await.unwrap();
    Arc::new(log)
}

async fn append(log: &Arc<dyn EventLog>, sequences: std::ops::Range<i64>) {
    let record = |sequence| {
        let id = EventId { producer: Producer::new("p").unwrap(), boot: 1, sequence };
        let time = Timestamp::from_micros(1_769_903_900_000_000 + sequence);
        let mut event = Event::new(id, time, Kind::Request, Outcome::Success);
        event.correlation_id = Some(format!("c{sequence}").into());
        let partition = Partition::new(TOPIC, event.partition(PARTITIONS));
        let record = cloudevents::record(&event);
        let headers = record.headers.iter().map(|(name, value)| (*name, value.as_ref()));
        let headers = Headers::new(headers);
        let (key, value) = (Some(record.key), Some(record.value));
        (partition, NewRecord { key, value, headers })
    };
    log.append(sequences.map(record).collect()).await.unwrap();
}

/// A node, in the middle of its life.
struct Node {
    sql: Sql,
    status: Status,
    stop: watch::Sender<bool>,
    running: JoinHandle<Result<(), Error>>,
}

impl Node {
    async fn start(config: Config, log: &Arc<dyn EventLog>) -> Self {
        let (service, history, status) = open(config, log.clone()).await.unwrap();
        let (stop, stopped) = watch::channel(false);
        let running = tokio::spawn(service.run(stopped));
        Self {
            sql: Sql::new(history, Limits::default(), Threads::new().unwrap()),
            status,
            stop,
            running,
        }
    }

    async fn count(&self) -> i64 {
        let answer = self.sql.query("SELECT count(*) FROM events").await.unwrap();
        answer.batches[0].column(0).as_primitive::<Int64Type>().value(0)
    }

    /// Waits until it has read so many events, each once.
    async fn has_read(&self, rows: u64) {
        while self.status.now().rows < rows {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn stop(self) {
        self.stop.send_replace(true);
        self.running.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn events_of_the_log_are_in_queries_and_after_a_restart_once() {
    let (dir, log) = (tempfile::tempdir().unwrap(), log().await);
    append(&log, 1..501).await;
    let node = Node::start(Config::new(dir.path()), &log).await;
    node.has_read(500).await;
    assert_eq!(node.count().await, 500);
    append(&log, 400..601).await;
    node.has_read(600).await;
    assert_eq!(node.count().await, 600);
    node.stop().await;

    append(&log, 601..651).await;
    let node = Node::start(Config::new(dir.path()), &log).await;
    node.has_read(50).await;
    assert_eq!(node.count().await, 650);
    let state = node.status.now();
    assert_eq!((state.rows, state.failing), (50, false));
    // Broken off in its middle, as by a kill: the lake goes on from its last commit.
    node.running.abort();
    let _ = node.running.await;
    let node = Node::start(Config::new(dir.path()), &log).await;
    node.has_read(50).await;
    assert_eq!(node.count().await, 650);
    node.stop().await;
}

/// Two nodes that commit as often as they can share one lake.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_keep_each_event_once() {
    let (dir, log) = (tempfile::tempdir().unwrap(), log().await);
    let config = Config { commit_ms: 1, ..Config::new(dir.path()) };
    let one = Node::start(config.clone(), &log).await;
    let two = Node::start(config.clone(), &log).await;
    for round in 0..50 {
        append(&log, 1 + 20 * round..21 + 20 * round).await;
        let rows = 20 * (round as u64 + 1);
        one.has_read(rows).await;
        two.has_read(rows).await;
        // At least one commit a round.
        let committed = || one.status.now().committed + two.status.now().committed;
        while committed() < rows {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!((one.count().await, two.count().await), (rows as i64, rows as i64));
    }
    let committed = one.status.now().committed + two.status.now().committed;
    assert_eq!(committed, 1000);
    one.stop().await;
    two.stop().await;
    let node = Node::start(config, &log).await;
    assert_eq!(node.count().await, 1000);
    node.stop().await;
    // Whoever commits merges: there are as many small files as may be, of a commit each
    // of the 50 rounds at the least.
    let events = url::Url::from_directory_path(dir.path().join("events")).unwrap();
    let table = deltalake::open_table(events).await.unwrap();
    assert!(table.version() > Some(50), "{:?}", table.version());
    assert!(table.snapshot().unwrap().log_data().num_files() <= 33);
}

#[tokio::test]
async fn what_is_no_event_stops_nothing() {
    let (dir, log) = (tempfile::tempdir().unwrap(), log().await);
    append(&log, 1..4).await;
    let bad = NewRecord::unkeyed(&b"{\"kind\":\"request\"}"[..]);
    log.append(vec![(Partition::new(TOPIC, 0), bad)]).await.unwrap();
    append(&log, 4..101).await;
    // Read again by a node that was killed, it is kept once.
    for _ in 0..2 {
        let node = Node::start(Config::new(dir.path()), &log).await;
        node.has_read(100).await;
        let state = node.status.now();
        assert_eq!((node.count().await, state.unreadable, state.unkept), (100, 1, 0));
        let told = node.sql.query("SELECT why, value, bytes FROM weir_quarantine").await.unwrap();
        let told = pretty_format_batches(&told.batches).unwrap().to_string();
        let row = "| a field is missing, or of another type | {\"kind\":\"request\"} | 18    |";
        assert_eq!(told.lines().filter(|line| line.starts_with("| a ")).collect::<Vec<_>>(), [row]);
        node.running.abort();
        let _ = node.running.await;
    }
    let kept = std::fs::read_dir(dir.path().join("quarantine")).unwrap();
    let kept: Vec<_> = kept.map(|file| std::fs::read_to_string(file.unwrap().path())).collect();
    let [Ok(kept)] = &kept[..] else { panic!("{kept:?}") };
    let kept: serde_json::Value = serde_json::from_str(kept).unwrap();
    assert_eq!(kept["value"], "eyJraW5kIjoicmVxdWVzdCJ9", "its bytes");
    assert_eq!(kept["why"], "a field is missing, or of another type");
    assert!(kept["log_partition"] == 0 && kept["log_offset"].is_u64(), "{kept}");
}

#[tokio::test]
async fn a_lake_that_takes_nothing_holds_the_reading_back() {
    let (dir, log) = (tempfile::tempdir().unwrap(), log().await);
    append(&log, 1..1001).await;
    let config = Config { tail_bytes_max: 1, retry_ms: 5, ..Config::new(dir.path()) };
    let (service, history, status) = open(config, log.clone()).await.unwrap();
    // Where the stamps of a commit are kept.
    let in_the_way = dir.path().join("events/_weir");
    std::fs::write(&in_the_way, "").unwrap();
    let (stop, stopped) = watch::channel(false);
    let running = tokio::spawn(service.run(stopped));
    while status.now().failures < 5 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // What one read gives, of the first partition alone.
    let (state, held) = (status.now(), history.tail_bytes().await);
    assert!(state.failing && state.rows > 0 && state.rows < 1000, "{state:?}");
    while status.now().failures < 10 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!((status.now().rows, history.tail_bytes().await), (state.rows, held));
    std::fs::remove_file(&in_the_way).unwrap();
    while status.now().committed < 1000 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(!status.now().failing);
    stop.send_replace(true);
    running.await.unwrap().unwrap();
}
