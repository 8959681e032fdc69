use std::num::NonZeroU32;

use arrow::array::{AsArray as _, RecordBatch};
use arrow::datatypes::Int64Type;
use fastrand::Rng;
use ingest::emit::TOPIC;
use ingest::event::{Event, EventId, Kind, Outcome, Producer, Timestamp, cloudevents};
use ingest::log::embedded::EmbeddedLog;
use ingest::log::{Headers, NewRecord};

use self::world::*;
use super::*;
use crate::detect::{Alert, Book, Detection};
use crate::follow;
use crate::query::{Plan, QueryFile, Sources, Span, backtest};
use crate::sql::{Limits, Sql};

mod backlog;
mod changes;
mod corrections;
mod decisions;
mod sessions;
mod world;

const PARTITIONS: NonZeroU32 = NonZeroU32::new(3).unwrap();
const S: i64 = 1_000_000;
const BEGIN: i64 = 1_769_904_000 * S;
const VIEW: &str = "traffic_by_api_minute";
const DETECTION: &str = "-- title: Many requests
-- owner: tests
-- severity: low
-- subject: client_address
-- quiet: 2 min
-- message: \"{{ client_address }} sent {{ n }}\"
SELECT window_start, window_end, client_address, count(*) AS n
FROM TUMBLE(events, event_time, INTERVAL '1 minute') WHERE kind = 'request'
GROUP BY window_start, window_end, client_address HAVING count(*) > 2";

/// Nodes that are killed, stopped and taken over from, while events come: the rows of
/// the view are those of all events at once, each window once; so are the alerts, and
/// each has one notice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn windows_answer_once_over_kills_and_owners() {
    for seed in 0..3 {
        let dir = tempfile::tempdir().unwrap();
        let mut traffic = Traffic::new(seed).await;
        let log = traffic.log.clone();
        let mut node = Node::start(&log, dir.path()).await;
        // From here on the detection tells what it finds.
        while log.bounds(&Partition::new(STATE_TOPIC, 0)).await.unwrap().end < 4 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        for round in 0..8 {
            traffic.requests(60).await;
            traffic.all(Kind::Heartbeat).await;
            let wait = traffic.rng.u64(0..150);
            tokio::time::sleep(Duration::from_millis(wait)).await;
            if round == 5 {
                traffic.end_replay().await;
            }
            match traffic.rng.u8(0..4) {
                0 => node.stop().await,
                1 => {
                    // Another waits for its turn, and takes over.
                    let next = Node::start(&log, dir.path()).await;
                    node.kill().await;
                    node = next;
                    continue;
                }
                _ => node.kill().await,
            }
            node = Node::start(&log, dir.path()).await;
        }
        traffic.now += 600 * S;
        traffic.all(Kind::Heartbeat).await;
        let words = i64::from(PARTITIONS.get());
        node.has_read(8 * 60 + 10 * 2 * words + words).await;

        // Only what follows the end of the replay is late, and open for ever.
        let before = (traffic.now - 60 * S).div_euclid(60 * S) * 60 * S;
        let (library, mut notices) = (library(dir.path()).await, Vec::new());
        for (replay, condition) in [(None, "IS NULL"), (Some("may".to_owned()), "= 'may'")] {
            let span = Span { replay: replay.clone(), before_us: Some(before), ..Span::default() };
            let of = |name| library.files().find(move |file| file.name == name).unwrap();
            let expected = lines(&[node.at_once(of(VIEW), &span).await.1]);
            let (plan, found) = node.at_once(of("many"), &span).await;
            let detection =
                Detection::of(of("many"), &plan.schema(), plan.order()).unwrap().unwrap();
            let mut book = Book::default();
            let changes = book.take(&detection, replay.as_deref(), &found).unwrap();
            notices.extend(changes.into_iter().filter(|of| of.opens).map(|of| of.alert));
            assert!(expected.len() > 10, "seed {seed}: {} rows", expected.len());
            let mut found = node.view(condition).await;
            for _ in 0..400 {
                if found.len() >= expected.len() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(25)).await;
                found = node.view(condition).await;
            }
            let missing: Vec<_> = expected.iter().filter(|row| !found.contains(row)).collect();
            let other: Vec<_> = found.iter().filter(|row| !expected.contains(row)).collect();
            assert!(
                found == expected,
                "seed {seed}, {condition}: {} rows of {}, missing {missing:#?}, other {other:#?}",
                found.len(),
                expected.len()
            );
        }
        // Those of the replay come last.
        let is_over = |of: &Alert| of.state == crate::detect::State::Resolved;
        let began = std::time::Instant::now();
        let (alerts, mut told) = loop {
            let alerts = values::<Alert>(&log, ALERTS_TOPIC).await;
            let told: Vec<_> = alerts.iter().filter(|of| of.revision == 1).cloned().collect();
            let last = alerts.iter().rfind(|of| of.replay_id.is_some());
            if told.len() >= notices.len() && last.is_some_and(is_over) {
                break (alerts, told);
            }
            assert!(
                began.elapsed() < Duration::from_secs(20),
                "seed {seed}: {} alerts",
                told.len()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        told.sort_by(|a, b| a.id.cmp(&b.id));
        notices.sort_by(|a, b| a.id.cmp(&b.id));
        assert!(notices.len() > 3, "seed {seed}: {} alerts", notices.len());
        assert_eq!(told, notices, "seed {seed}");
        let mut of_replay = alerts.iter().filter(|alert| alert.replay_id.is_some());
        let last = of_replay.next_back().expect("the replay has alerts");
        assert_eq!(last.state, crate::detect::State::Resolved, "its end resolves them");
        let status = node.status.now();
        assert!(status[VIEW].late > 0, "{status:?}");
        assert!(status.values().all(|of| of.state == QueryState::Running), "{status:?}");
        node.stop().await;
        let files = std::fs::read_dir(dir.path().join("state")).unwrap().count();
        assert!(files <= 20, "{files} files of state are left over kills");
    }
}

const OWN: &str = "-- title: Own\n-- owner: tests\nSELECT window_start, count(*) AS n
FROM TUMBLE(events, event_time, INTERVAL '1 minute') WHERE kind = 'request' GROUP BY window_start";

/// The queries that have a checkpoint.
async fn checkpointed(log: &Arc<dyn EventLog>) -> Vec<String> {
    let partition = Partition::new(STATE_TOPIC, 0);
    let end = log.bounds(&partition).await.unwrap().end;
    let mut reader = log.reader(vec![(partition, 0)]).await.unwrap();
    let (mut names, mut next) = (Vec::new(), 0);
    while next < end {
        let Some(batch) = reader.next(ReadLimit::default()).await.unwrap() else { continue };
        next = batch.next;
        let keys = batch.records.into_iter().filter_map(|record| record.key);
        names.extend(keys.map(|key| String::from_utf8(key.to_vec()).unwrap()));
    }
    names
}

/// What is said to run stands: another node would go on with it, and tell what it finds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_that_runs_has_a_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let mut traffic = Traffic::new(1).await;
    traffic.requests(600).await;
    let node = Node::start(&traffic.log, dir.path()).await;
    loop {
        let status = node.status.now();
        let kept = checkpointed(&traffic.log).await;
        for (name, _) in status.iter().filter(|(_, of)| of.state == QueryState::Running) {
            assert!(kept.contains(name), "{name} runs, and has no checkpoint: {kept:?}");
        }
        if !status.is_empty() && status.values().all(|of| of.state == QueryState::Running) {
            break;
        }
    }
    node.stop().await;
}

/// Waits until a query's first row is as it is waited for.
async fn until(node: &Node, sql: &str, is_there: impl Fn(i64) -> bool) -> i64 {
    let queries = Sql::new(node.history.clone(), Limits::default(), Threads::new().unwrap())
        .with_tables(node.tables.clone())
        .with_queries(node.queries.clone());
    let began = std::time::Instant::now();
    loop {
        let answer = queries.query(sql).await.unwrap();
        let found = answer.batches.iter().find(|batch| batch.num_rows() > 0);
        let found = found.map_or(0, |of| of.column(0).as_primitive::<Int64Type>().value(0));
        if is_there(found) {
            return found;
        }
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "{sql}: {found}, {:?}",
            node.status.now()
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_that_is_changed_and_changed_back_answers_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut traffic = Traffic::new(1).await;
    let log = traffic.log.clone();
    traffic.requests(80).await;
    traffic.now += 600 * S;
    traffic.all(Kind::Heartbeat).await;
    let file = dir.path().join("queries/own.sql");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    let changed = OWN.replace("kind = 'request'", "kind = 'request' AND api_name = 'orders'");
    let mut counts = Vec::new();
    for text in [OWN, &changed, OWN] {
        std::fs::write(&file, text).unwrap();
        let node = Node::start(&log, dir.path()).await;
        let spans = "SELECT coalesce(sum(n), 0) FROM own WHERE replay_id IS NULL";
        let plan =
            Plan::new(QueryFile::parse("own", text).unwrap(), &Sources::default()).await.unwrap();
        let span = Span { before_us: Some(traffic.now - 120 * S), ..Span::default() };
        node.has_read(80 + 12).await;
        let history = node.history.snapshot().await.unwrap().table;
        let at_once = backtest(&plan, history, &span, Arc::default()).await.unwrap();
        let expected: i64 =
            at_once.column_by_name("n").unwrap().as_primitive::<Int64Type>().values().iter().sum();
        assert!(expected > 10, "{expected}");
        until(&node, spans, |sum| sum >= expected).await;
        // Those of its former self may be there still; what might come on top would have come by
        // then.
        tokio::time::sleep(Duration::from_millis(100)).await;
        counts.push((expected, until(&node, spans, |sum| sum >= expected).await));
        node.stop().await;
    }
    assert!(counts.iter().all(|(expected, found)| expected == found), "{counts:?}");
    assert_ne!(counts[0].0, counts[1].0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_alerts_of_a_query_that_is_gone_are_resolved() {
    let dir = tempfile::tempdir().unwrap();
    let mut traffic = Traffic::new(2).await;
    let log = traffic.log.clone();
    let file = dir.path().join("queries/own.sql");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    let changed = DETECTION.replace("> 2", "> 1");
    let alerts = async |state: crate::detect::State| {
        let mut last = std::collections::BTreeMap::new();
        for alert in values::<Alert>(&log, ALERTS_TOPIC).await {
            last.insert(alert.id.clone(), alert);
        }
        last.values().filter(|of| of.detection == "own" && of.state == state).count()
    };
    for (text, replaced) in [(DETECTION, false), (&changed, true)] {
        std::fs::write(&file, text).unwrap();
        let node = Node::start(&log, dir.path()).await;
        while node.status.now().get("own").is_none_or(|of| of.closed_until.is_none()) {
            traffic.now += 60 * S;
            traffic.all(Kind::Heartbeat).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        if replaced {
            assert_eq!(alerts(crate::detect::State::Open).await, 0, "those of the former are over");
        }
        // Within a few minutes: `quiet` is two.
        let began = std::time::Instant::now();
        while alerts(crate::detect::State::Open).await == 0 {
            assert!(began.elapsed() < Duration::from_secs(60), "nothing is found");
            traffic.requests(20).await;
            traffic.all(Kind::Heartbeat).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        node.stop().await;
    }
    assert!(alerts(crate::detect::State::Open).await > 0);
    std::fs::remove_file(&file).unwrap();
    let node = Node::start(&log, dir.path()).await;
    let began = std::time::Instant::now();
    while alerts(crate::detect::State::Open).await > 0 {
        assert!(began.elapsed() < Duration::from_secs(60), "they stay open");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    node.stop().await;
}

/// What the log does not take at once fails the query that gave it, alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_too_large_stops_no_other_query() {
    let dir = tempfile::tempdir().unwrap();
    // The one in memory takes less at once.
    let config = ingest::log::embedded::Config::new(dir.path().join("log"));
    let mut traffic = Traffic::over(3, Arc::new(EmbeddedLog::open(&config).unwrap())).await;
    let log = traffic.log.clone();
    traffic.requests(600).await;
    traffic.now += 7_200 * S;
    traffic.all(Kind::Heartbeat).await;
    let file = dir.path().join("queries/own.sql");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    let large = OWN
        .replace("count(*) AS n", "concat(repeat('x', 90000), log_offset) AS x, count(*) AS n")
        .replace("'1 minute'", "'1 hour'")
        .replace("BY window_start", "BY window_start, x")
        .replace("tests\n", "tests\n-- memory_mib: 256\n");
    std::fs::write(&file, large).unwrap();
    let node = Node::start(&log, dir.path()).await;
    let began = std::time::Instant::now();
    loop {
        let status = node.status.now();
        if let Some(of) = status.get("own").filter(|of| of.state == QueryState::Failed) {
            assert!(of.error.as_ref().unwrap().contains("make the window shorter"), "{of:?}");
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "{status:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    until(&node, &format!("SELECT count(*) FROM {VIEW}"), |rows| rows > 5).await;
    assert_eq!(node.status.now()[VIEW].state, QueryState::Running);
    // Who asks is told of both.
    let of = |name: &str, what: &str| {
        format!(
            "SELECT count(*) FROM weir_queries WHERE name = '{name}' AND kind = 'view' AND {what}"
        )
    };
    let failed = "state = 'failed' AND error LIKE '%make the window shorter%'";
    until(&node, &of("own", failed), |rows| rows == 1).await;
    let runs = "state = 'running' AND error IS NULL AND rows_in >= 600 AND rows_late > 0 \
                AND rows_out > 5 AND rows_behind = 0 AND state_bytes BETWEEN 1 AND memory_bytes \
                AND watermark >= closed_until AND told >= committed";
    until(&node, &of(VIEW, runs), |rows| rows == 1).await;
    node.stop().await;
}
