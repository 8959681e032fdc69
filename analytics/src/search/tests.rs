use std::collections::BTreeSet;
use std::io::Write as _;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{AsArray as _, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int32Type, Int64Type};
use ingest::emit::TOPIC;
use ingest::event::{Event, EventId, Kind, Outcome, Producer, Timestamp, cloudevents};
use ingest::log::embedded::{self, EmbeddedLog};
use ingest::log::{EventLog, Headers, NewRecord, Partition, TopicSpec};
use rig::victim::{self, Death};
use tokio::sync::watch;

use super::*;
use crate::compute::Threads;
use crate::follow;
use crate::lake::History;
use crate::sql::{Limits, Sql};

const PARTITIONS: NonZeroU32 = NonZeroU32::new(3).unwrap();
const VICTIM: &str = "WEIR_SEARCH_VICTIM";
const TEST: &str = "search::tests::the_index_is_in_step_with_the_lake_after_kill_9";
/// Where it dies, and with which pass at most.
const PLACES: [(&str, u64); 5] = [
    ("search::added", 40),
    ("search::prepared", 8),
    ("search::committed", 8),
    ("lake::kept", 8),
    ("lake::committed", 8),
];
const KILLS: usize = 12;
/// How many different words there are.
const WORDS: i64 = 7;

fn open_log(dir: &Path) -> Arc<EmbeddedLog> {
    Arc::new(EmbeddedLog::open(&embedded::Config::new(dir.join("log"))).unwrap())
}

async fn topic(log: &dyn EventLog) {
    log.create_topic(&TopicSpec::kept(TOPIC, PARTITIONS.get())).await.unwrap();
}

async fn append(log: &dyn EventLog, events: impl IntoIterator<Item = Event>) {
    let record = |event: Event| {
        let partition = Partition::new(TOPIC, event.partition(PARTITIONS));
        let record = cloudevents::record(&event);
        let headers = record.headers.iter().map(|(name, value)| (*name, value.as_ref()));
        let headers = Headers::new(headers);
        (partition, NewRecord { key: Some(record.key), value: Some(record.value), headers })
    };
    log.append(events.into_iter().map(record).collect()).await.unwrap();
}

fn event(sequence: i64) -> Event {
    let id = EventId { producer: Producer::new("p").unwrap(), boot: 1, sequence };
    let time = Timestamp::from_micros(1_769_903_900_000_000 + 1_000_000 * sequence);
    let mut event = Event::new(id, time, Kind::Request, Outcome::Success);
    event.correlation_id = Some(format!("c{sequence}").into());
    event
}

/// One with a word in its address, of the few that there are.
fn worded(sequence: i64) -> Event {
    let mut event = event(sequence);
    event.url_path = Some(format!("/orders/w{}/s{sequence}", sequence % WORDS).into());
    event
}

/// A node that follows a log, and its search.
struct Node {
    history: Arc<History>,
    search: Search,
    index: Service,
    sql: Sql,
    stop: watch::Sender<bool>,
}

impl Node {
    async fn start(dir: &Path, log: Arc<dyn EventLog>) -> Self {
        let config = follow::Config { commit_ms: 20, ..follow::Config::new(dir.join("lake")) };
        let (service, history, _) = follow::open(config, log).await.unwrap();
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(service.run(stopped));
        let (search, index) = open(&dir.join("search"), history.clone()).await.unwrap();
        let sql = Sql::new(history.clone(), Limits::default(), Threads::new().unwrap());
        let sql = sql.with_search(search.clone());
        Self { history, search, index, sql, stop }
    }

    /// The correlation ids of what a query answers, in order.
    async fn found(&self, sql: &str) -> Vec<String> {
        let answer = self.sql.query(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        texts(&answer)
    }

    /// The places of the rows of a query, and how many rows they are.
    async fn places(&self, of: &str) -> (BTreeSet<(i32, i64)>, usize) {
        let sql = format!("SELECT log_partition, log_offset FROM {of}");
        let answer = self.sql.query(&sql).await.unwrap();
        let (mut places, mut rows) = (BTreeSet::new(), 0);
        for batch in &answer.batches {
            let partitions = batch.column(0).as_primitive::<Int32Type>().values();
            let offsets = batch.column(1).as_primitive::<Int64Type>().values();
            places.extend(partitions.iter().copied().zip(offsets.iter().copied()));
            rows += batch.num_rows();
        }
        (places, rows)
    }
}

/// Waits until a history has come to the end of its log, and says where that is.
async fn has_read(history: &History, log: &dyn EventLog) -> Vec<u64> {
    let mut ends = Vec::new();
    for partition in 0..PARTITIONS.get() {
        ends.push(log.bounds(&Partition::new(TOPIC, partition)).await.unwrap().end);
    }
    loop {
        let reached = history.snapshot().await.unwrap().offsets;
        if reached.iter().zip(&ends).all(|(reached, end)| reached >= end) {
            return reached;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The texts of an answer's first column.
fn texts(answer: &crate::sql::Answer) -> Vec<String> {
    let column = |rows: &RecordBatch| cast(rows.column(0), &DataType::Utf8).unwrap();
    let columns = answer.batches.iter().map(column).collect::<Vec<_>>();
    let texts = columns.iter().flat_map(|column| column.as_string::<i32>().iter().flatten());
    texts.map(str::to_owned).collect()
}

async fn memory() -> Arc<dyn EventLog> {
    let log = EmbeddedLog::in_memory();
    topic(&log).await;
    Arc::new(log)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_said_is_found_by_its_words() {
    let (dir, log) = (tempfile::tempdir().unwrap(), memory().await);
    let node = Node::start(dir.path(), log.clone()).await;
    let mut events = (1..=6).map(event).collect::<Vec<_>>();
    events[0].url_path = Some("/orders/4711/lines".into());
    events[0].url_query = Some("customer=ada".into());
    events[1].error_type = Some("upstream_timeout".into());
    events[1].fault_message = Some("The warehouse did not answer: connection refused".into());
    events[2].fault_message = Some("refused the connection, timeout after 5 s".into());
    events[3].payload_request = Some(r#"{"article":"Schraube M8","größe":"XL"}"#.into());
    events[3].client_address = Some("203.0.113.77".into());
    events[4].external_data = Some(r#"{"article":"nut","customer":"ada"}"#.into());
    append(&*log, events).await;
    has_read(&node.history, &*log).await;
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(node.index.run(stopped));
    let sql = node.sql;
    let found = async |text: &str| {
        let text = text.replace('\'', "''");
        let asked = format!("SELECT correlation_id FROM search('{text}') ORDER BY correlation_id");
        let answer = sql.query(&asked).await.unwrap_or_else(|error| panic!("{text}: {error}"));
        texts(&answer).join(" ")
    };
    for (text, expected) in [
        ("refused", "c2 c3"),
        ("REFUSED connection", "c2 c3"),
        ("\"connection refused\"", "c2"),
        ("timeout", "c2 c3"),
        ("upstream_timeout", "c2"),
        ("error:refused -warehouse", "c3"),
        ("4711 OR nut", "c1 c5"),
        ("ada", "c1 c5"),
        ("url:ada", "c1"),
        ("body:ada", "c5"),
        ("url:\"orders 4711\"", "c1"),
        ("\"/orders/4711\"", "c1"),
        ("schraube", "c4"),
        ("größe xl", "c4"),
        ("\"schraube m\"*", "c4"),
        ("body:/schr.*/", "c4"),
        ("/orders/4711", "c1"),
        ("\"203.0.113.77\"", "c4"),
        ("about:c6", "c6"),
        ("\"it's\"", ""),
        ("nothing of it", ""),
    ] {
        assert_eq!(found(text).await, expected, "{text}");
    }
    let long = "x".repeat(1_025);
    for (text, expected) in [
        ("http://host", "there is no field http to search in; there are error, url, body, about"),
        ("-refused", "a search has to say what is there, not only what is not"),
        ("\"schr\"*", "as url:/ord.*/, not \"\\\"schr\\\"*\""),
        ("/orders/", "a path is put in double quotes"),
        ("url:/(/", "a path is put in double quotes"),
        ("\"refused", "is no search: put what is not a word in double quotes"),
        (long.as_str(), "a search has up to 1024 bytes, not 1025"),
    ] {
        let asked = format!("SELECT * FROM search('{text}')");
        let told = sql.query(&asked).await.unwrap_err().to_string();
        assert!(told.contains(expected), "{text}: {told}");
    }
    for asked in
        ["SELECT * FROM search()", "SELECT * FROM search(1)", "SELECT * FROM search('a', 'b')"]
    {
        let told = sql.query(asked).await.unwrap_err().to_string();
        assert!(
            told.contains("search takes one text, as in search('connection refused')"),
            "{told}"
        );
    }
    stop.send_replace(true);
    node.stop.send_replace(true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_search_is_of_the_rows_that_its_query_sees() {
    let (dir, log) = (tempfile::tempdir().unwrap(), memory().await);
    let node = Node::start(dir.path(), log.clone()).await;
    append(&*log, (1..=40).map(worded)).await;
    let before = has_read(&node.history, &*log).await;
    append(&*log, (41..=80).map(worded)).await;
    has_read(&node.history, &*log).await;
    let (stop, stopped) = watch::channel(false);
    let (sql, index) = (node.sql.clone(), node.index);
    tokio::spawn(index.run(stopped));
    let text = "SELECT count(*), count(DISTINCT correlation_id) FROM search('w3')";
    let number = |answer: &crate::sql::Answer, at: usize| {
        answer.batches[0].column(at).as_primitive::<Int64Type>().value(0)
    };
    let (now, then) =
        (sql.query(text).await.unwrap(), sql.query_before(text, &before).await.unwrap());
    let having = |last: i64| (1..=last).filter(|sequence| sequence % WORDS == 3).count() as i64;
    assert_eq!((number(&now, 0), number(&now, 1)), (having(80), having(80)));
    assert_eq!((number(&then, 0), number(&then, 1)), (having(40), having(40)));
    // It is a table as any other: with conditions, joins and its own column.
    let joined = "SELECT e.correlation_id FROM search('w3') f JOIN events e USING (correlation_id)
        WHERE f.score > 0 AND f.url_path LIKE '%s1_' ORDER BY 1";
    let answer = sql.query(joined).await.unwrap();
    assert_eq!(texts(&answer), ["c10", "c17"]);
    stop.send_replace(true);
    node.stop.send_replace(true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_that_is_damaged_or_of_another_lake_is_made_anew() {
    let (dir, log) = (tempfile::tempdir().unwrap(), memory().await);
    let mut node = Node::start(dir.path(), log.clone()).await;
    append(&*log, (1..=30).map(worded)).await;
    has_read(&node.history, &*log).await;
    node.index.step().await.unwrap();
    // One process at a time.
    let taken = open(&dir.path().join("search"), node.history.clone()).await;
    assert!(matches!(taken, Err(Error::InUse(_))), "{taken:?}");
    let history = node.history.clone();
    drop((node.index, node.search, node.sql));
    let index = dir.path().join("search");
    let cases: [(&str, &dyn Fn()); 3] = [
        ("as it is", &|| {}),
        ("of another lake", &|| {
            let meta = std::fs::read_to_string(index.join("meta.json")).unwrap();
            let other = meta.replace(r#"\"lake\":\""#, r#"\"lake\":\"other-"#);
            assert_ne!(other, meta);
            std::fs::write(index.join("meta.json"), other).unwrap();
        }),
        ("damaged", &|| std::fs::write(index.join("meta.json"), "{").unwrap()),
    ];
    for (case, change) in cases {
        change();
        let (search, mut service) = open(&index, history.clone()).await.unwrap();
        let was_there = service.reached() != [0; 3];
        assert_eq!(was_there, case == "as it is", "{case}");
        service.step().await.unwrap();
        let reached = history.snapshot().await.unwrap().offsets;
        let hits = search.find("w3", &reached).await.unwrap().rows;
        assert_eq!(hits.len(), 4, "{case}");
    }
    node.stop.send_replace(true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_that_is_ahead_of_its_history_has_each_row_once() {
    let (dir, log) = (tempfile::tempdir().unwrap(), memory().await);
    let opened = async || {
        // Nothing is committed to the lake in the time of this test.
        let config = follow::Config { commit_ms: 60_000, ..follow::Config::new(dir.path()) };
        let (service, history, _) = follow::open(config, log.clone()).await.unwrap();
        let (search, index) = open(&dir.path().join("search"), history.clone()).await.unwrap();
        (service, history, search, index)
    };
    let (service, history, search, mut index) = opened().await;
    let (stop, stopped) = watch::channel(false);
    let first = tokio::spawn(service.run(stopped.clone()));
    append(&*log, (1..=30).map(worded)).await;
    let ends = has_read(&history, &*log).await;
    index.step().await.unwrap();
    // As a kill: what it has read is in memory only.
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    drop((history, search, index));

    let (service, history, search, mut index) = opened().await;
    assert_eq!(history.snapshot().await.unwrap().offsets, [0; 3]);
    index.step().await.unwrap();
    assert_eq!(index.reached(), ends);
    tokio::spawn(service.run(stopped));
    has_read(&history, &*log).await;
    index.step().await.unwrap();
    let hits = search.find("w3", &ends).await.unwrap().rows;
    assert_eq!(hits.len(), 4);
    stop.send_replace(true);
}

/// Appends, says how far, and follows, until it is killed.
async fn work(dir: PathBuf, first: i64) {
    victim::prepare();
    let log = open_log(&dir);
    topic(&*log).await;
    let mut node = Node::start(&dir, log.clone()).await;
    let mut next = first;
    loop {
        append(&*log, (next..next + 10).map(worded)).await;
        next += 10;
        let mut out = std::io::stdout().lock();
        writeln!(out, "said {next}").and_then(|()| out.flush()).unwrap();
        drop(out);
        tokio::time::sleep(Duration::from_millis(10)).await;
        node.index.step().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_index_is_in_step_with_the_lake_after_kill_9() {
    if let Ok(told) = std::env::var(VICTIM) {
        let (dir, first) = told.split_once('|').unwrap();
        work(dir.into(), first.parse().unwrap()).await;
    }
    let dir = tempfile::tempdir().unwrap();
    let kills = victim::kills(KILLS).unwrap();
    let mut rng = fastrand::Rng::new();
    let (mut said, mut at_place, mut rows) = (1, BTreeSet::new(), 0);
    for kill in 0..kills {
        let death = match PLACES.get(kill % (PLACES.len() + 1)) {
            Some((place, passes)) => {
                let within = Duration::from_secs(20);
                Death::At { place, pass: rng.u64(1..=*passes), within }
            }
            None => Death::After(Duration::from_millis(rng.u64(500..3_000))),
        };
        // What was not said may be there; its numbers are not used again.
        let first = said + 100_000;
        let told = format!("{}|{first}", dir.path().display());
        let killing =
            tokio::task::spawn_blocking(move || victim::kill_in_test(TEST, VICTIM, told, death));
        let died = killing.await.unwrap().unwrap();
        let last = died.said.iter().rev().find_map(|line| line.strip_prefix("said "));
        said = last.map_or(first, |last| last.parse().unwrap());
        if let (Death::At { place, .. }, true) = (death, died.at_place) {
            at_place.insert(place);
        }
        // Whoever opens it finds each row by its words, once, and no other.
        let log = open_log(dir.path());
        topic(&*log).await;
        let mut node = Node::start(dir.path(), log.clone()).await;
        has_read(&node.history, &*log).await;
        node.index.step().await.unwrap();
        rows = 0;
        for word in 0..WORDS {
            let found = node.places(&format!("search('w{word}')")).await;
            let like = format!("events WHERE url_path LIKE '/orders/w{word}/%'");
            let expected = node.places(&like).await;
            assert_eq!(found, expected, "kill {kill} ({death:?}): w{word}");
            rows += found.1;
        }
        assert!(rows > 0 || kill == 0, "nothing was found");
        let last = said - 1;
        if last > first {
            let by_number = format!("SELECT correlation_id FROM search('s{last}')");
            assert_eq!(node.found(&by_number).await, [format!("c{last}")]);
        }
        node.stop.send_replace(true);
        drop(node);
        // Its tasks let go of the files.
        while Arc::strong_count(&log) > 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    assert!(kills < PLACES.len() || at_place.len() == PLACES.len(), "only at {at_place:?}");
    println!("{kills} kills, {rows} rows found");
}
