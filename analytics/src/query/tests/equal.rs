//! The stream's answer is that of all rows at once.

use std::sync::Arc;

use arrow::array::{RecordBatch, StringArray};
use fastrand::Rng;

use super::world::{BEGIN, S, at_once, plan, records, run, shown};
use crate::query::continuous::TIMELINES_MAX;
use crate::query::{Continuous, Error, Span};

pub(super) const TEXTS: &[&str] = &[
    "SELECT window_start, api_name, count(*) AS n, sum(http_response_body_size) AS bytes,
        min(latency_total_us) AS least, max(client_address) AS most
     FROM TUMBLE(events, event_time, INTERVAL '1 minute') WHERE kind = 'request'
     GROUP BY window_start, api_name",
    "SELECT window_end, window_start, count(DISTINCT client_address) AS clients,
        count(*) FILTER (WHERE http_response_status_code >= 400) AS errors,
        avg(CAST(http_response_body_size AS DECIMAL(20, 2))) AS mean,
        median(latency_total_us) AS middle,
        percentile_cont(0.9) WITHIN GROUP (ORDER BY latency_total_us) AS p90,
        first_value(client_address ORDER BY event_time, log_partition, log_offset) AS first
     FROM TUMBLE(events, event_time, INTERVAL '30 seconds')
     GROUP BY window_start, window_end HAVING count(*) > 2",
    "SELECT window_start, client_address, n,
        rank() OVER (PARTITION BY window_start ORDER BY n DESC) AS place
     FROM (SELECT window_start, client_address, count(*) AS n
           FROM TUMBLE(events, event_time, INTERVAL '20 seconds') AS t
           WHERE t.kind = 'request' GROUP BY t.window_start, client_address)",
    "-- title: a test
-- owner: tests
-- lateness: 20 s
-- horizon: 5 min
     WITH n AS (SELECT window_start, client_address, count(*) AS n
        FROM TUMBLE(events, event_time, INTERVAL '10 seconds') WHERE kind = 'request'
        GROUP BY window_start, client_address),
     known AS (SELECT *, sum(n) OVER own AS before, count(*) OVER everybody AS all_before FROM n
        WINDOW own AS (PARTITION BY client_address ORDER BY window_start
            RANGE BETWEEN INTERVAL '2 minutes' PRECEDING AND INTERVAL '10 seconds' PRECEDING),
        everybody AS (ORDER BY window_start
            RANGE BETWEEN INTERVAL '2 minutes' PRECEDING AND CURRENT ROW))
     SELECT window_start, client_address, n, before, all_before,
        max(before) OVER (PARTITION BY client_address ORDER BY window_start
            RANGE BETWEEN INTERVAL '3 minutes' PRECEDING AND CURRENT ROW) AS most
     FROM known WHERE all_before > 3",
    "SELECT window_start, window_end, api_name, count(*) AS n,
        count(DISTINCT client_address) AS clients, sum(http_response_body_size) AS bytes,
        median(latency_total_us) AS middle, approx_percentile(latency_total_us, 0.9) AS p90,
        stddev(latency_total_us) AS spread, var_pop(http_response_body_size) AS variance,
        first_value(client_address ORDER BY event_time, log_partition, log_offset) AS first
     FROM HOP(events, event_time, INTERVAL '10 seconds', INTERVAL '1 minute')
     WHERE kind = 'request' GROUP BY window_end, api_name, window_start HAVING count(*) > 1",
    "-- title: a test
-- owner: tests
-- lateness: 30 s
-- horizon: 90 s
     WITH n AS (SELECT window_start, client_address, count(*) AS n
        FROM HOP(events, event_time, INTERVAL '15 seconds', INTERVAL '45 seconds')
        WHERE kind = 'request' GROUP BY window_start, client_address)
     SELECT window_start, client_address, n,
        rank() OVER (PARTITION BY window_start ORDER BY n DESC) AS place,
        max(n) OVER (PARTITION BY client_address ORDER BY window_start
            RANGE BETWEEN INTERVAL '90 seconds' PRECEDING AND INTERVAL '45 seconds' PRECEDING)
            AS before
     FROM n",
    // What is asked of windows is asked of windows, not of their panes; and groups that say
    // nothing are left out before it runs.
    "SELECT window_start, 'live' AS source, api_name, lower(api_name) AS lower, n, window_end
     FROM (SELECT window_start, window_end, api_name, count(*) AS n
           FROM HOP(events, event_time, INTERVAL '10 seconds', INTERVAL '40 seconds')
           WHERE kind = 'request'
           GROUP BY 'live', lower(api_name), api_name, window_end, window_start
           HAVING extract(second FROM window_start) <> 10)
     WHERE extract(second FROM window_start) IN (0, 10, 20)
        AND extract(second FROM window_end) <> 0",
    "SELECT lower(api_name) AS lower, 'live' AS source, api_name, window_start,
        max(event_time) AS last, count(*) AS n
     FROM TUMBLE(events, event_time, INTERVAL '20 seconds')
     WHERE kind = 'request' GROUP BY 1, 2, 3, 4
     HAVING extract(second FROM window_start) <> 20",
    "SELECT window_start, window_end, client_address, count(*) AS n,
        count(DISTINCT api_name) AS apis, sum(http_response_body_size) AS bytes,
        approx_percentile(latency_total_us, 0.9) AS p90, stddev(latency_total_us) AS spread,
        last_value(api_name ORDER BY event_time, log_partition, log_offset) AS last
     FROM SESSION((SELECT * FROM events WHERE kind = 'request'), event_time, client_address,
        INTERVAL '25 seconds')
     GROUP BY window_start, window_end, client_address HAVING count(*) > 1",
    // Of all rows together; and groups within what is told apart.
    "-- title: a test
-- owner: tests
-- lateness: 20 s
     SELECT window_end, status, window_start, n FROM (
        SELECT window_start, window_end, http_response_status_code AS status, count(*) AS n
        FROM SESSION(events, event_time, INTERVAL '3 seconds')
        GROUP BY window_start, window_end, status)",
    "-- title: a test
-- owner: tests
-- lateness: 40 s
     SELECT window_start, window_end, client_address, api_name, kind, count(*) AS n,
        max(event_time) AS last
     FROM SESSION(events, event_time, api_name, client_address, INTERVAL '45 seconds') AS s
     GROUP BY api_name, kind, s.window_start, s.window_end, client_address",
    // What holds rows: three failures in a row, a sequence, pairs within a window.
    "SELECT window_start, window_end, api_name, count(*) AS n, max(at) AS last
     FROM (SELECT window_start, window_end, api_name, event_time AS at,
            sum(CASE WHEN http_response_status_code >= 400 THEN 1 ELSE 0 END) OVER (
                PARTITION BY window_start, api_name
                ORDER BY event_time, log_partition, log_offset
                ROWS BETWEEN 2 PRECEDING AND CURRENT ROW) AS failed
           FROM HOP(events, event_time, INTERVAL '20 seconds', INTERVAL '1 minute')
           WHERE kind = 'request' AND replay_id IS NULL OR kind = 'request')
     WHERE failed = 2 GROUP BY window_start, window_end, api_name",
    "-- title: a test
-- owner: tests
-- horizon: 2 min
     WITH steps AS (
        SELECT window_start, client_address, api_name,
            lag(api_name) OVER (PARTITION BY window_start, client_address
                ORDER BY event_time, log_partition, log_offset) AS before
        FROM TUMBLE(events, event_time, INTERVAL '30 seconds') AS t WHERE t.kind = 'request'),
     counted AS (
        SELECT window_start, client_address, before, api_name, count(*) AS n
        FROM steps GROUP BY window_start, client_address, before, api_name)
     SELECT DISTINCT window_start, before, api_name, sum(n) OVER (
            PARTITION BY before, api_name ORDER BY window_start
            RANGE BETWEEN INTERVAL '2 minutes' PRECEDING AND INTERVAL '30 seconds' PRECEDING)
            AS known
     FROM counted",
    "SELECT a.window_start, a.client_address, count(*) AS pairs, min(b.event_time) AS first
     FROM TUMBLE((SELECT * FROM events WHERE http_response_status_code = 500), event_time,
        INTERVAL '1 minute') AS a
     JOIN TUMBLE(events, event_time, INTERVAL '1 minute') AS b
        ON a.window_start = b.window_start AND a.client_address = b.client_address
        AND b.event_time > a.event_time AND b.event_time <= a.event_time + INTERVAL '20 seconds'
     WHERE b.http_response_status_code = 200 GROUP BY a.window_start, a.client_address",
    "SELECT a.window_start, a.n, b.n AS failed
     FROM (SELECT window_start, count(*) AS n
           FROM HOP(events, event_time, INTERVAL '15 seconds', INTERVAL '30 seconds')
           WHERE kind = 'request' GROUP BY window_start) AS a
     LEFT JOIN (SELECT window_start, count(*) AS n
           FROM HOP(events, event_time, INTERVAL '15 seconds', INTERVAL '30 seconds')
           WHERE http_response_status_code >= 500 GROUP BY window_start) AS b
        USING (window_start)",
    "SELECT window_start, 'ok' AS what, count(*) AS n
     FROM TUMBLE(events, event_time, INTERVAL '20 seconds')
     WHERE http_response_status_code < 400 GROUP BY window_start
     UNION ALL
     SELECT window_start, client_address, min(http_response_body_size)
     FROM TUMBLE(events, event_time, INTERVAL '20 seconds')
     WHERE http_response_status_code >= 400 GROUP BY window_start, client_address",
    // A row for each event.
    "-- title: a test
-- owner: tests
-- horizon: 1 min
     SELECT window_start, event_time, client_address, log_partition, log_offset, count(*) OVER (
            PARTITION BY client_address ORDER BY window_start
            RANGE BETWEEN INTERVAL '1 minute' PRECEDING AND CURRENT ROW) AS lately
     FROM TUMBLE((SELECT * FROM events WHERE kind = 'request'
        UNION ALL SELECT * FROM events WHERE http_response_status_code = 500), event_time,
        INTERVAL '10 seconds') WHERE client_address <> '198.51.100.1'",
    // A row asks of which window it is.
    "SELECT window_start, api_name, max(window_end - event_time) AS since,
        count(*) FILTER (WHERE event_time >= window_end - INTERVAL '10 seconds') AS lately
     FROM HOP(events, event_time, INTERVAL '10 seconds', INTERVAL '40 seconds')
     WHERE kind = 'request' AND event_time > window_start GROUP BY window_start, api_name",
    // Tables that stay as they are.
    "SELECT window_start, owner, count(*) AS n, max(quota) AS quota, sum(n_bytes) AS bytes
     FROM (SELECT window_start, client_address, http_response_body_size AS n_bytes
           FROM HOP(events, event_time, INTERVAL '15 seconds', INTERVAL '30 seconds')
           WHERE kind = 'request') AS t
     JOIN owners AS o ON o.address = t.client_address GROUP BY window_start, owner",
    "-- title: a test
-- owner: tests
-- horizon: 1 min
     SELECT window_start, client_address, n, coalesce(owner, 'nobody') AS owner,
        sum(n) OVER (PARTITION BY client_address, owner ORDER BY window_start
            RANGE BETWEEN INTERVAL '1 minute' PRECEDING AND CURRENT ROW) AS lately
     FROM (SELECT window_start, client_address, count(*) AS n
           FROM TUMBLE(events, event_time, INTERVAL '15 seconds')
           WHERE client_address NOT IN (SELECT address FROM owners WHERE quota > 20)
           GROUP BY window_start, client_address)
     LEFT JOIN owners ON address = client_address AND n < quota",
    "SELECT window_start, window_end, client_address, owner, count(*) AS n
     FROM SESSION((SELECT event_time, client_address, owner FROM events
            JOIN owners ON address = client_address),
        event_time, client_address, INTERVAL '20 seconds')
     GROUP BY window_start, window_end, client_address, owner",
    "SELECT window_start, client_address, row_number() OVER (PARTITION BY window_start
            ORDER BY event_time, log_partition, log_offset) AS place
     FROM TUMBLE(events, event_time, INTERVAL '10 seconds')
     WHERE client_address IN (SELECT DISTINCT address FROM owners GROUP BY address)",
    // What was configured as a row came about.
    "SELECT window_start, coalesce(a.upstream, 'none') AS upstream, lifecycle,
        max(a.timeout_ms) AS timeout, max(first_revision) AS since, count(*) AS n
     FROM HOP(events, event_time, INTERVAL '20 seconds', INTERVAL '1 minute')
     LEFT JOIN weir_apis AS a ON a.name = api_name
        AND config_revision BETWEEN a.first_revision AND a.last_revision
     WHERE kind = 'request' GROUP BY window_start, a.upstream, lifecycle",
    "-- title: a test
-- owner: tests
-- lateness: 20 s
     SELECT window_start, client_address, place, a.upstream, u.retries_max AS retries
     FROM (SELECT window_start, client_address, api_name, config_revision, row_number() OVER (
                PARTITION BY window_start, client_address
                ORDER BY event_time, log_partition, log_offset) AS place
           FROM TUMBLE(events, event_time, INTERVAL '30 seconds')) AS t
     JOIN weir_apis AS a ON t.config_revision BETWEEN a.first_revision AND a.last_revision
        AND t.api_name = a.name
     LEFT JOIN weir_upstreams AS u ON u.name = a.upstream AND u.retries_max < 3
        AND t.config_revision BETWEEN u.first_revision AND u.last_revision",
    // Views over views.
    "SELECT window_start, window_end, client_address, sum(n) AS n, max(n) AS most,
        sum(bytes) AS bytes, count(*) AS windows
     FROM TUMBLE((SELECT window_start AS at, client_address, n, bytes, replay_id FROM of_clients),
        at, INTERVAL '1 minute') GROUP BY window_start, window_end, client_address",
    "-- title: a test
-- owner: tests
-- lateness: 5 s
-- horizon: 2 min
     SELECT window_start, client_address, most, count(*) OVER (PARTITION BY client_address
            ORDER BY window_start RANGE BETWEEN INTERVAL '2 minutes' PRECEDING
            AND INTERVAL '30 seconds' PRECEDING) AS before
     FROM (SELECT window_start, client_address, max(lately) AS most
        FROM HOP((SELECT window_start AS t, * EXCLUDE (window_start, window_end, replay_id)
            FROM of_clients_and_before), t, INTERVAL '30 seconds', INTERVAL '1 minute')
        GROUP BY window_start, client_address)",
    "SELECT window_start, client_address, n - before AS more
     FROM (SELECT window_start, client_address, n, lag(n) OVER (
            PARTITION BY window_start, client_address ORDER BY t
            ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS before
        FROM (SELECT window_start, client_address, t, sum(n) AS n
            FROM TUMBLE((SELECT window_start AS t, client_address, n FROM of_clients), t,
                INTERVAL '1 minute') GROUP BY window_start, client_address, t))
     WHERE n > before",
    // JSON that a text holds.
    r#"SELECT window_start, json_get_str('{"api": "' || api_name || '"}', 'api') AS api,
        sum(json_get_int('[' || CAST(http_response_body_size AS VARCHAR) || ']', 0)) AS bytes,
        count(*) FILTER (WHERE
            (('{"a": ' || CAST(latency_total_us AS VARCHAR) || '}') ->> 'a') LIKE '%1%') AS ones
     FROM TUMBLE(events, event_time, INTERVAL '20 seconds') WHERE kind = 'request'
     GROUP BY window_start, api"#,
];

/// Random events of several sources, late ones and replays among them, in random batches,
/// interleavings and restarts.
#[tokio::test]
async fn a_stream_answers_as_all_rows_at_once() {
    for seed in 0..4 * TEXTS.len() as u64 {
        let mut rng = Rng::with_seed(seed);
        let text = TEXTS[seed as usize % TEXTS.len()];
        let count = rng.usize(150..500);
        let partitions = records(&mut rng, 1 + seed as usize % 3, count);
        let mut ran = run(text, &partitions, &mut rng).await;
        assert!(ran.query.late() > 0, "seed {seed}: nothing was late");

        // Live, what is closed until now: as much as the watermark allows, and no more.
        let closed = Span { floor_us: ran.floor, ..Span::default() };
        let live = ran.answers.remove(&None).unwrap_or_default();
        assert!(!live.is_empty(), "seed {seed}: no window closed");
        let expected = at_once(text, &ran.rows, &closed).await;
        assert_eq!(shown(&ran.query, &live), expected, "seed {seed}");

        // And when all have been closed.
        let mut all = live;
        all.extend(ran.query.end(None).await.unwrap());
        let expected = at_once(text, &ran.rows, &Span::default()).await;
        assert_eq!(shown(&ran.query, &all), expected, "seed {seed}");

        for (replay, answers) in ran.answers {
            let expected = at_once(text, &ran.rows, &Span { replay, ..Span::default() }).await;
            assert_eq!(shown(&ran.query, &answers), expected, "seed {seed}");
        }
        assert_eq!(ran.query.timelines().count(), 0, "seed {seed}");
    }
}

/// How long a window lasts and how often one begins are what is written.
#[tokio::test]
async fn a_row_is_in_each_window_that_it_lies_in() {
    let text = "SELECT window_start, window_end, count(*) AS n
        FROM HOP(events, event_time, INTERVAL '20 seconds', INTERVAL '1 minute')
        GROUP BY window_start, window_end";
    let mut rng = Rng::with_seed(3);
    let partitions = records(&mut rng, 1, 1);
    let mut ran = run(text, &partitions, &mut rng).await;
    let plan = ran.query.plan();
    assert_eq!((plan.slide_us(), plan.width_us()), (20 * S, 60 * S));
    let rows: Vec<_> = ran.query.end(None).await.unwrap().into_iter().collect();
    let shown = shown(&ran.query, &rows);
    let written = at_once(text, &ran.rows, &Span::default()).await;
    assert_eq!(shown, written);
    let lines: Vec<&str> = shown.lines().filter(|line| line.contains("T")).collect();
    assert_eq!(lines.len() % 3, 0, "{shown}");
}

/// What is held is counted as much after a restart as before.
#[tokio::test]
async fn what_is_held_is_counted_the_same_after_a_restart() {
    for text in [TEXTS[1], TEXTS[4], TEXTS[8], TEXTS[10]] {
        let mut rng = Rng::with_seed(5);
        let partitions = records(&mut rng, 2, 1_000);
        let mut ran = run(text, &partitions, &mut rng).await;
        let saved = ran.query.save().await.unwrap();
        let before = ran.query.state_bytes();
        let restored = Continuous::restore(plan(text).await, &saved).unwrap();
        let after = restored.state_bytes();
        assert!(before > 500 && after <= before + before / 4, "{before}, then {after}");
    }
}

/// However long it runs, what is held is of the open windows and the horizon.
#[tokio::test]
async fn what_is_held_does_not_grow_with_history() {
    for (text, panes) in [(TEXTS[0], 8), (TEXTS[3], 60), (TEXTS[4], 24), (TEXTS[5], 24)] {
        let mut rng = Rng::with_seed(7);
        let partitions = records(&mut rng, 2, 2_000);
        let ran = run(text, &partitions, &mut rng).await;
        let held = &ran.query.timelines[&None];
        assert!(held.closed > BEGIN + 1_000 * S, "it has closed windows of long ago");
        assert!(held.panes.len() <= panes, "{} panes", held.panes.len());
        assert!(ran.query.state_bytes() < 512 * 1024, "{} bytes", ran.query.state_bytes());
    }
}

/// Of sessions, those that are open: of each, one row for each of its groups.
#[tokio::test]
async fn sessions_that_are_over_are_not_held() {
    for text in [TEXTS[8], TEXTS[9], TEXTS[10]] {
        let mut rng = Rng::with_seed(7);
        let partitions = records(&mut rng, 2, 2_000);
        let mut ran = run(text, &partitions, &mut rng).await;
        ran.query.shrink().await.unwrap();
        let held = &ran.query.timelines[&None];
        assert!(held.closed > BEGIN + 1_000 * S, "it has closed sessions of long ago");
        let rows: usize =
            held.panes.values().flat_map(|of| &of.state).map(|of| of.num_rows()).sum();
        assert!((1..=60).contains(&rows), "{rows} rows of state");
    }
}

/// What a text names and does not need is there; and a query that it names is its table.
#[tokio::test]
async fn a_table_of_a_function_may_be_a_query() {
    let mut rng = Rng::with_seed(11);
    let partitions = records(&mut rng, 2, 300);
    for (text, same) in [
        (
            "SELECT window_start, count(*) AS n FROM TUMBLE((SELECT event_time, api_name, zone
                FROM events WHERE kind = 'request'), event_time, INTERVAL '1 minute') GROUP BY 1",
            "SELECT window_start, count(*) AS n FROM TUMBLE(events, event_time,
                INTERVAL '1 minute') WHERE kind = 'request' GROUP BY 1",
        ),
        (
            "WITH events AS (SELECT * FROM events WHERE http_response_status_code >= 500)
             SELECT window_start, count(*) AS n
             FROM TUMBLE(events, event_time, INTERVAL '1 minute') GROUP BY 1",
            "SELECT window_start, count(*) AS n FROM TUMBLE(events, event_time,
                INTERVAL '1 minute') WHERE http_response_status_code >= 500 GROUP BY 1",
        ),
    ] {
        let mut ran = run(text, &partitions, &mut rng).await;
        let mut rows = ran.answers.remove(&None).unwrap_or_default();
        rows.extend(ran.query.end(None).await.unwrap());
        let expected = at_once(same, &ran.rows, &Span::default()).await;
        assert_eq!(shown(&ran.query, &rows), expected, "{text}");
        assert_eq!(at_once(text, &ran.rows, &Span::default()).await, expected, "{text}");
        assert!(expected.lines().count() > 6, "{expected}");
    }
}

#[tokio::test]
async fn a_query_beyond_its_memory_fails_by_itself_and_says_so() {
    let text = "-- title: a test\n-- owner: tests\n-- memory_mib: 1\nSELECT window_start, \
        concat(repeat('x', 500), log_offset) AS x, count(*) AS n \
        FROM TUMBLE(events, event_time, INTERVAL '1 day') GROUP BY window_start, x";
    let mut rng = Rng::with_seed(1);
    let partitions = records(&mut rng, 1, 20_000);
    let mut stamps = crate::intake::Stamps::new(0);
    let decoder = crate::intake::Decoder::new();
    let mut query = Continuous::new(plan(text).await);
    let mut failed = None;
    for records in partitions[0].chunks(1_000) {
        let next = records.last().unwrap().offset + 1;
        let rows = stamps.stamp(&decoder, 0, records, next).unwrap().rows;
        failed = query.feed(&rows).await.err();
        if failed.is_some() {
            break;
        }
    }
    let failed = failed.expect("4,000 groups of 500 bytes do not fit a megabyte");
    assert!(matches!(failed, Error::Memory { mib: 1, .. }), "{failed}");
    assert!(failed.to_string().contains("memory_mib"), "{failed}");
}

/// A replay whose partial aggregates do not fit gives no answer; live traffic gives its own.
#[tokio::test]
async fn a_replay_that_is_too_large_stops_nothing_else() {
    let text = "-- title: a test\n-- owner: tests\n-- memory_mib: 1\nSELECT window_start, \
        CASE WHEN replay_id IS NULL THEN api_name ELSE concat(repeat('x', 400), log_offset) END \
        AS x, count(*) AS n FROM TUMBLE(events, event_time, INTERVAL '1 hour') \
        WHERE kind = 'request' GROUP BY window_start, x";
    let mut rng = Rng::with_seed(1);
    let partitions = records(&mut rng, 2, 24_000);
    let mut ran = run(text, &partitions, &mut rng).await;
    assert_eq!(ran.query.given_up().collect::<Vec<_>>(), ["june", "may"]);
    let mut of_replays = ran.answers.iter().filter(|(replay, _)| replay.is_some());
    assert!(of_replays.all(|(_, rows)| rows.is_empty()), "neither gives an answer");
    let before = ran.query.closed(None);
    let expected = at_once(text, &ran.rows, &Span { before_us: before, ..Span::default() }).await;
    assert_eq!(shown(&ran.query, &ran.answers[&None]), expected);
    assert!(expected.lines().count() > 8, "{expected}");
    ran.query.forget_given_up(&["may".to_owned()]);
    assert_eq!(ran.query.given_up().collect::<Vec<_>>(), ["june"]);
}

/// Replays that are broken off never end.
#[tokio::test]
async fn of_too_many_replays_the_one_silent_for_longest_is_given_up() {
    let mut rng = Rng::with_seed(1);
    let records = records(&mut rng, 1, 60).remove(0);
    let next = records.last().unwrap().offset + 1;
    let stamped =
        crate::intake::Stamps::new(0).stamp(&crate::intake::Decoder::new(), 0, &records, next);
    let rows = stamped.unwrap().rows;
    let at = rows.schema().index_of("replay_id").unwrap();
    let of_replay = |replay: Option<&str>| {
        let mut columns = rows.columns().to_vec();
        columns[at] = Arc::new(StringArray::from(vec![replay; rows.num_rows()]));
        RecordBatch::try_new(rows.schema(), columns).unwrap()
    };
    let mut query = Continuous::new(plan(TEXTS[0]).await);
    query.feed(&of_replay(None)).await.unwrap();
    for replay in 0..TIMELINES_MAX {
        query.feed(&of_replay(Some(&format!("r{replay}")))).await.unwrap();
    }
    assert_eq!(query.given_up().collect::<Vec<_>>(), ["r0"]);
    // One that speaks again is not silent.
    query.feed(&of_replay(Some("r1"))).await.unwrap();
    query.feed(&of_replay(Some("another"))).await.unwrap();
    assert_eq!(query.given_up().collect::<Vec<_>>(), ["r0", "r2"]);
    let saved = query.save().await.unwrap();
    let mut query = Continuous::restore(plan(TEXTS[0]).await, &saved).unwrap();
    query.feed(&of_replay(Some("r0"))).await.unwrap();
    query.feed(&of_replay(None)).await.unwrap();
    let timelines: Vec<_> = query.timelines().collect();
    assert!(timelines.contains(&None) && timelines.contains(&Some("r1")));
    assert!(!timelines.contains(&Some("r0")), "what was given up gives no half answer");
    assert_eq!((timelines.len(), query.given_up().len()), (TIMELINES_MAX, 2));
}

#[tokio::test]
async fn what_another_version_kept_is_not_gone_on_from() {
    let saved = Continuous::new(plan(TEXTS[0]).await).save().await.unwrap();
    let other = Continuous::restore(plan(TEXTS[1]).await, &saved).unwrap_err();
    assert!(other.to_string().contains("another version"), "{other}");
    // A comment is no other version; a lateness is.
    let (head, query) = ("-- title: a test\n-- owner: tests\n", TEXTS[0]);
    let commented = plan(&format!("{head}\n-- as it was\n{query}")).await;
    assert_eq!(commented.hash(), plan(query).await.hash());
    let spread = plan(&query.replace('\n', "\n\n\t")).await;
    assert_eq!(spread.hash(), plan(query).await.hash(), "nor is how it is laid out");
    let named = |name: &str| {
        format!(
            "{head}{}",
            query.replace("count(*)", &format!("count(*) FILTER (WHERE zone <> '{name}')"))
        )
    };
    assert_ne!(plan(&named("a  b")).await.hash(), plan(&named("a b")).await.hash());
    assert_ne!(plan(&named("a\n--b")).await.hash(), plan(&named("a\n--c")).await.hash());
    let later = plan(&format!("{head}-- lateness: 61 s\n{query}")).await;
    assert_ne!(later.hash(), plan(query).await.hash());
}
