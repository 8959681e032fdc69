//! A detection over sessions.

use super::*;

const VISITS: &str = "-- title: Many in one go
-- owner: tests
-- severity: low
-- subject: client_address
-- quiet: 2 min
-- message: \"{{ client_address }} sent {{ n }}\"
SELECT window_start, window_end, client_address, api_name, count(*) AS n
FROM SESSION((SELECT * FROM events WHERE kind = 'request'), event_time, client_address, api_name,
    INTERVAL '40 seconds')
GROUP BY window_start, window_end, client_address, api_name HAVING count(*) > 2";

/// Sessions end in another order than they begin, and nodes are killed: the alerts are those of
/// all events at once, each has one notice, and no two one id.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_detection_over_sessions_tells_once_over_kills() {
    let dir = tempfile::tempdir().unwrap();
    let mut traffic = Traffic::new(7).await;
    let log = traffic.log.clone();
    let own = [("own", VISITS)];
    let mut node = Node::with(&log, dir.path(), (1, &own)).await;
    let runs = "SELECT count(*) FROM weir_queries WHERE name = 'own' AND state = 'running'";
    until(&node, runs, |n| n == 1).await;
    for _ in 0..8 {
        traffic.requests(60).await;
        traffic.all(Kind::Heartbeat).await;
        let wait = traffic.rng.u64(0..150);
        tokio::time::sleep(Duration::from_millis(wait)).await;
        node.kill().await;
        node = Node::with(&log, dir.path(), (1, &own)).await;
    }
    traffic.now += 600 * S;
    traffic.all(Kind::Heartbeat).await;
    let words = i64::from(PARTITIONS.get());
    node.has_read(8 * 60 + 9 * 2 * words + 2 * words).await;

    let file = QueryFile::parse("own", VISITS).unwrap();
    let span = Span { floor_us: node.history.floor().await, ..Span::default() };
    let (plan, found) = node.at_once(&file, &span).await;
    let detection = Detection::of(&file, &plan.schema(), plan.order()).unwrap().unwrap();
    let changes = Book::default().take(&detection, None, &found).unwrap();
    let mut expected: Vec<Alert> =
        changes.into_iter().filter(|of| of.opens).map(|of| of.alert).collect();
    assert!(expected.len() > 10, "{} alerts", expected.len());
    let began = std::time::Instant::now();
    loop {
        let alerts = values::<Alert>(&log, ALERTS_TOPIC).await;
        let is_new = |of: &&Alert| of.detection == "own" && of.revision == 1;
        let mut told: Vec<Alert> = alerts.iter().filter(is_new).cloned().collect();
        if told.len() < expected.len() {
            assert!(began.elapsed() < Duration::from_secs(60), "{} alerts", told.len());
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        }
        // What goes on until it is quiet is over by now.
        let state = |id: &str| alerts.iter().rfind(|of| of.id == id).map(|of| of.state);
        let open = expected.iter().filter(|of| state(&of.id) == Some(crate::detect::State::Open));
        if open.count() > 0 {
            assert!(began.elapsed() < Duration::from_secs(60), "alerts stay open");
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        }
        told.sort_by(|a, b| a.id.cmp(&b.id));
        expected.sort_by(|a, b| a.id.cmp(&b.id));
        assert_eq!(told, expected);
        let ids: std::collections::BTreeSet<&str> = told.iter().map(|of| of.id.as_str()).collect();
        assert_eq!(ids.len(), told.len(), "two alerts have one id");
        break;
    }
    node.stop().await;
}
