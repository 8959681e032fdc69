//! A history that is longer than what a query may hold.

use std::collections::BTreeSet;

use super::*;

/// Holds the rows of its windows.
const HELD: &str = "-- title: Held\n-- owner: tests\n-- memory_mib: 1
SELECT window_start, count(*) AS n, count(before) AS others, sum(latency_total_us) AS took
FROM (SELECT window_start, latency_total_us,
        lag(client_address) OVER (PARTITION BY window_start
            ORDER BY event_time, log_partition, log_offset) AS before
    FROM TUMBLE(events, event_time, INTERVAL '1 minute') WHERE kind = 'request')
GROUP BY window_start";
const OWN: [(&str, &str); 1] = [("own", HELD)];
const SLICE: u64 = 2_000;

/// Until when the checkpoint of a query says that its history is taken in, in microseconds:
/// absent unless it is in the middle of it.
async fn way(log: &Arc<dyn EventLog>, query: &str) -> Option<i64> {
    let partition = Partition::new(STATE_TOPIC, 0);
    let end = log.bounds(&partition).await.unwrap().end;
    let mut reader = log.reader(vec![(partition, 0)]).await.unwrap();
    let (mut last, mut next) = (None, 0);
    while next < end {
        let Some(batch) = reader.next(ReadLimit::default()).await.unwrap() else { continue };
        next = batch.next;
        for record in batch.records {
            if record.key.as_deref() == Some(query.as_bytes()) {
                last = record.value;
            }
        }
    }
    let checkpoint: serde_json::Value = serde_json::from_slice(&last?).unwrap();
    let before = checkpoint.pointer("/catch_up/before_us")?.as_i64();
    before.filter(|us| *us > i64::MIN && *us < i64::MAX)
}

/// Waits until the way of a query is another.
async fn goes_on(log: &Arc<dyn EventLog>, node: &Node, from: Option<i64>) {
    let began = std::time::Instant::now();
    while way(log, "own").await.is_none_or(|way| Some(way) == from) {
        assert!(began.elapsed() < Duration::from_secs(60), "{:?}", node.status.now());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Requests, thousand by thousand, of which the first third are of a replay that ends too.
async fn fill(traffic: &mut Traffic, thousands: usize) {
    for part in 0..thousands {
        traffic.requests(1_000).await;
        traffic.all(Kind::Heartbeat).await;
        if part == thousands / 3 {
            traffic.end_replay().await;
        }
    }
}

/// Waits until a node has read so many requests.
async fn has(node: &Node, requests: i64) {
    let all = "SELECT count(*) FROM events WHERE kind = 'request'";
    until(node, all, |rows| rows == requests).await;
}

/// Waits until a node has read so many requests, and has all of them in the lake's table.
async fn has_at_rest(node: &Node, requests: i64) {
    has(node, requests).await;
    while node.history.tail_bytes().await > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The view has each window once, as all rows at once give it: of live traffic and the replay.
async fn answers_as_all_at_once(node: &Node, traffic: &Traffic) {
    let before = (traffic.now - 120 * S).div_euclid(60 * S) * 60 * S;
    for (replay, condition) in [(None, "IS NULL"), (Some("may".to_owned()), "= 'may'")] {
        let span = Span { replay, before_us: Some(before), ..Span::default() };
        let file = QueryFile::parse("own", &HELD.replace("mib: 1\n", "mib: 64\n")).unwrap();
        let expected = lines(&[node.at_once(&file, &span).await.1]);
        assert!(expected.len() > 100, "{condition}: {} rows", expected.len());
        let rows = format!("SELECT count(*) FROM own WHERE replay_id {condition}");
        until(node, &rows, |rows| rows >= expected.len() as i64).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        let sql = Sql::new(node.history.clone(), Limits::default(), Threads::new().unwrap())
            .with_tables(node.tables.clone());
        let text = format!(
            "SELECT * EXCLUDE (replay_id) FROM own WHERE replay_id {condition} ORDER BY window_start"
        );
        assert_eq!(lines(&sql.query(&text).await.unwrap().batches), expected, "{condition}");
    }
    let behind = "SELECT rows_behind FROM weir_queries WHERE name = 'own' AND state = 'running'";
    until(node, behind, |rows| rows == 0).await;
}

/// By nodes that are killed on the way, while more comes; all of it at once is more than the
/// query may hold.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_history_is_taken_in_by_event_time_over_kills() {
    let dir = tempfile::tempdir().unwrap();
    let mut traffic = Traffic::new(6).await;
    let log = traffic.log.clone();
    fill(&mut traffic, 24).await;
    // Only what the table has is taken in so: the rest is in memory.
    let node = Node::start(&log, dir.path()).await;
    has_at_rest(&node, 24_000).await;
    node.kill().await;
    let mut stops = BTreeSet::new();
    while stops.len() < 4 {
        let node = Node::by_slices(&log, dir.path(), (1, &OWN), SLICE).await;
        goes_on(&log, &node, way(&log, "own").await).await;
        traffic.requests(20).await;
        traffic.all(Kind::Heartbeat).await;
        node.kill().await;
        stops.insert(way(&log, "own").await.expect("it was killed on the way"));
    }
    let node = Node::by_slices(&log, dir.path(), (1, &OWN), SLICE).await;
    traffic.now += 600 * S;
    traffic.all(Kind::Heartbeat).await;
    has(&node, 24_000 + 4 * 20).await;
    answers_as_all_at_once(&node, &traffic).await;
    node.stop().await;
}

/// A query that may hold little takes in as little at once, though its node would take more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slice_is_no_more_than_its_query_may_hold() {
    let dir = tempfile::tempdir().unwrap();
    let mut traffic = Traffic::new(9).await;
    let log = traffic.log.clone();
    fill(&mut traffic, 24).await;
    traffic.now += 600 * S;
    traffic.all(Kind::Heartbeat).await;
    let node = Node::by_slices(&log, dir.path(), (1, &[]), u64::MAX).await;
    has_at_rest(&node, 24_000).await;
    node.give(&log, &OWN).await;
    answers_as_all_at_once(&node, &traffic).await;
    node.stop().await;
}

/// Who takes over in the middle may have in memory alone what the other has seen in the table.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_takes_over_a_history_reads_all_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut traffic = Traffic::new(10).await;
    let log = traffic.log.clone();
    let first = Node::by_slices(&log, dir.path(), (1, &[]), SLICE).await;
    fill(&mut traffic, 12).await;
    has(&first, 12_000).await;
    let second = Node::by(&log, dir.path(), (2, &OWN), SLICE, 3_600_000).await;
    fill(&mut traffic, 12).await;
    for node in [&first, &second] {
        has(node, 24_000).await;
    }
    has_at_rest(&first, 24_000).await;
    assert!(second.history.tail_bytes().await > 0, "it commits once an hour");
    first.give(&log, &OWN).await;
    goes_on(&log, &first, None).await;
    first.kill().await;
    traffic.now += 600 * S;
    traffic.all(Kind::Heartbeat).await;
    answers_as_all_at_once(&second, &traffic).await;
    second.kill().await;
}

/// Who goes on with a history goes on to where it ends now; what has come since, of times that
/// were taken in before, counts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_late_while_a_history_is_taken_in_counts() {
    let dir = tempfile::tempdir().unwrap();
    let mut traffic = Traffic::new(11).await;
    let log = traffic.log.clone();
    fill(&mut traffic, 12).await;
    let committed = async |requests: i64| {
        // Its queries wait for the registry, and drop nothing.
        let node = Node::start(&log, dir.path()).await;
        has_at_rest(&node, requests).await;
        node.kill().await;
    };
    committed(12_000).await;
    let text = OWN[0].1.replace("-- memory_mib: 1\n", "-- lateness: 12 h\n");
    let own = [("own", text.as_str())];
    let node = Node::by_slices(&log, dir.path(), (1, &own), SLICE).await;
    goes_on(&log, &node, None).await;
    node.kill().await;
    let until_us = way(&log, "own").await.expect("it was killed on the way");
    let mut events = Vec::new();
    for _ in 0..500 {
        let partition = traffic.rng.u32(0..PARTITIONS.get());
        let time = traffic.rng.i64(BEGIN..until_us);
        let mut event = traffic.event("b", partition, time, Kind::Request);
        event.client_address = Some("198.51.100.1".into());
        event.latency_total_us = Some(1);
        events.push(event);
    }
    traffic.append(events).await;
    committed(12_500).await;
    let node = Node::by_slices(&log, dir.path(), (1, &own), SLICE).await;
    traffic.now += 13 * 3_600 * S;
    traffic.all(Kind::Heartbeat).await;
    has(&node, 12_500).await;
    let file = QueryFile::parse("own", &text).unwrap();
    let before = Some((traffic.now - 12 * 3_600 * S).div_euclid(60 * S) * 60 * S);
    let (_, rows) = node.at_once(&file, &Span { before_us: before, ..Span::default() }).await;
    let sum = |name: &str| -> i64 {
        let column = rows.column_by_name(name).unwrap();
        column.as_primitive::<Int64Type>().values().iter().sum()
    };
    assert!(sum("n") > 9_000, "{}", sum("n"));
    let found = "SELECT CAST(coalesce(sum(n), 0) AS BIGINT) FROM own WHERE replay_id IS NULL";
    until(&node, found, |n| n >= sum("n")).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(until(&node, found, |_| true).await, sum("n"));
    node.stop().await;
}

/// Behind its last slice: what has come since is another history, with slices of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_history_that_is_taken_in_goes_on_to_no_later_end() {
    let dir = tempfile::tempdir().unwrap();
    let mut traffic = Traffic::new(14).await;
    let log = traffic.log.clone();
    fill(&mut traffic, 2).await;
    let node = Node::start(&log, dir.path()).await;
    has_at_rest(&node, 2_000).await;
    let floor_us = node.history.floor().await.unwrap();
    for (before_us, extends) in [(i64::MIN, false), (BEGIN + 60 * S, true), (i64::MAX, false)] {
        let of = serde_json::json!({"to": [1, 1, 1], "floor_us": floor_us});
        let kept = serde_json::json!({"of": of, "before_us": before_us, "left": 5});
        let mut kept: catch_up::CatchUp = serde_json::from_value(kept).unwrap();
        assert!(kept.is_closing, "windows of it may be left to close");
        let more = kept.extend(&node.history).await;
        assert_eq!(more.is_some(), extends, "{before_us}: {more:?}");
    }
    node.stop().await;
}
