//! A view whose windows are corrected.

use super::*;

/// With a late row there may be too many, and a window has no row any more.
const FEW: &str = "-- title: Few
-- owner: tests
-- lateness: 5 s
-- corrections: 65 s
SELECT window_start, api_name, count(*) AS n
FROM TUMBLE(events, event_time, INTERVAL '10 seconds') WHERE kind = 'request'
GROUP BY window_start, api_name HAVING count(*) < 4";

/// Over nodes that are killed: the table has of each window what it gave last, once, and says
/// which were corrected.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_view_has_what_its_windows_gave_last_over_kills() {
    let dir = tempfile::tempdir().unwrap();
    let mut traffic = Traffic::new(8).await;
    let log = traffic.log.clone();
    let own = [("own", FEW)];
    let mut node = Node::with(&log, dir.path(), (1, &own)).await;
    for round in 0..8 {
        traffic.requests(60).await;
        traffic.all(Kind::Heartbeat).await;
        let wait = traffic.rng.u64(0..150);
        tokio::time::sleep(Duration::from_millis(wait)).await;
        if round == 5 {
            traffic.end_replay().await;
        }
        node.kill().await;
        node = Node::with(&log, dir.path(), (1, &own)).await;
    }
    traffic.now += 600 * S;
    traffic.all(Kind::Heartbeat).await;
    let words = i64::from(PARTITIONS.get());
    node.has_read(8 * 60 + 10 * 2 * words + words).await;
    let before = (traffic.now - 120 * S).div_euclid(10 * S) * 10 * S;
    let file = QueryFile::parse("own", FEW).unwrap();
    for (replay, condition) in [(None, "IS NULL"), (Some("may".to_owned()), "= 'may'")] {
        let before_us = replay.is_none().then_some(before);
        let span = Span { replay, before_us, corrected: true, ..Span::default() };
        let expected = lines(&[node.at_once(&file, &span).await.1]);
        let first = lines(&[node.at_once(&file, &Span { corrected: false, ..span }).await.1]);
        assert!(expected.len() > 20 && first != expected, "{condition}: {}", expected.len());
        let sql = Sql::new(node.history.clone(), Limits::default(), Threads::new().unwrap())
            .with_tables(node.tables.clone());
        let text = format!(
            "SELECT * EXCLUDE (replay_id, revision) FROM own WHERE replay_id {condition} \
             ORDER BY window_start, api_name"
        );
        let began = std::time::Instant::now();
        loop {
            let found = lines(&sql.query(&text).await.unwrap().batches);
            if found == expected {
                break;
            }
            assert!(
                began.elapsed() < Duration::from_secs(60),
                "{condition}: {found:#?}, not {expected:#?}"
            );
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(lines(&sql.query(&text).await.unwrap().batches), expected, "{condition}");
        for revision in [0, 1] {
            let rows = format!(
                "SELECT count(*) FROM own WHERE replay_id {condition} AND revision = {revision}"
            );
            until(&node, &rows, |rows| rows > 2).await;
        }
    }
    let late = "SELECT rows_late FROM weir_queries WHERE name = 'own' AND state = 'running'";
    until(&node, late, |rows| rows > 20).await;
    node.stop().await;
}

/// Windows at the end of a replay that only late rows have, behind the last that has others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_came_late_at_the_end_of_a_replay_is_corrected() {
    let dir = tempfile::tempdir().unwrap();
    let mut traffic = Traffic::new(12).await;
    let log = traffic.log.clone();
    let text = "-- title: Orders\n-- owner: tests\n-- corrections: 1 h
        SELECT window_start, count(*) AS n FROM TUMBLE(events, event_time, INTERVAL '1 minute')
        WHERE api_name = 'orders' GROUP BY window_start";
    let mut events = Vec::new();
    for (minute, api) in [(0, "orders"), (60, "prices"), (30, "orders")] {
        let mut event = traffic.event("a", 0, BEGIN + minute * 60 * S, Kind::Request);
        event.replay_id = Some("may".into());
        event.api_name = Some(api.into());
        events.push(event);
    }
    traffic.append(events).await;
    traffic.end_replay().await;
    let node = Node::with(&log, dir.path(), (1, &[("own", text)])).await;
    for (revision, minute) in [(0, 0), (1, 30)] {
        let sql = format!(
            "SELECT count(*) FROM own WHERE replay_id = 'may' AND n = 1 AND revision = {revision} \
             AND window_start = to_timestamp_micros({})",
            BEGIN + minute * 60 * S
        );
        until(&node, &sql, |rows| rows == 1).await;
    }
    node.stop().await;
}

/// One that answers and one that is corrected at the same time are no more than a window each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_windows_are_corrected_beside_others_that_answer() {
    let dir = tempfile::tempdir().unwrap();
    // The one in memory takes less at once.
    let config = ingest::log::embedded::Config::new(dir.path().join("log"));
    let mut traffic = Traffic::over(13, Arc::new(EmbeddedLog::open(&config).unwrap())).await;
    let log = traffic.log.clone();
    let text = "-- title: Large\n-- owner: tests\n-- memory_mib: 256\n-- corrections: 61 min
        SELECT window_start, concat(repeat('x', 90000), log_offset) AS x, count(*) AS n
        FROM TUMBLE(events, event_time, INTERVAL '1 hour') WHERE kind = 'request'
        GROUP BY window_start, x";
    for hour in 0..4 {
        let mut events = Vec::new();
        for row in 0..100 {
            // The last is late for its window.
            let late = if row == 99 { 600 * S } else { 0 };
            let time = BEGIN + hour * 3_600 * S + 601 * S + row * S - late;
            events.push(traffic.event("a", 0, time, Kind::Request));
        }
        traffic.append(events).await;
        traffic.now = BEGIN + (hour + 1) * 3_600 * S;
        traffic.all(Kind::Heartbeat).await;
    }
    traffic.now += 7_200 * S;
    traffic.all(Kind::Heartbeat).await;
    let node = Node::with(&log, dir.path(), (1, &[("own", text)])).await;
    until(&node, "SELECT count(*) FROM own WHERE revision = 1", |rows| rows == 400).await;
    node.stop().await;
}
