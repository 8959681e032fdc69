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
                began.elapsed() < Duration::from_secs(20),
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
