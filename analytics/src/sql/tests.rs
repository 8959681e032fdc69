use super::*;

async fn sql(limits: Limits) -> (Sql, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let (history, _) = History::open(dir.path(), &[0]).await.unwrap();
    (Sql::new(Arc::new(history), limits, Threads::new().unwrap()), dir)
}

#[tokio::test]
async fn only_queries_are_run() {
    let (sql, dir) = sql(Limits::default()).await;
    let file = dir.path().join("out.csv");
    let copy = format!("COPY (SELECT 1) TO '{}'", file.display());
    let external =
        format!("CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '{}'", dir.path().display());
    for refused in [
        copy.as_str(),
        &external,
        "CREATE TABLE t AS SELECT 1",
        "CREATE VIEW v AS SELECT 1",
        "DROP TABLE events",
        "DELETE FROM events",
        "INSERT INTO events SELECT * FROM events",
        "SET datafusion.execution.target_partitions = 9",
        "SELECT * FROM '/etc/passwd'",
        "SELECT 1; SELECT 2",
    ] {
        let answer = sql.query(refused).await;
        assert!(matches!(answer, Err(Error::Query(_))), "{refused}: {answer:?}");
    }
    assert!(!file.exists());
    assert_eq!(sql.query("SELECT 1").await.unwrap().batches[0].num_rows(), 1);
}

#[tokio::test]
async fn an_error_names_what_is_wrong() {
    let (sql, _dir) = sql(Limits::default()).await;
    for (text, expected) in [
        ("SELECT", "Expected"),
        ("SELECT nothing FROM events", "nothing"),
        (
            "SELECT * FROM requests",
            "there is no table requests; there are delivery_account, events",
        ),
        (
            "SELECT * FROM evnts",
            "there is no table evnts; did you mean events? there are delivery_account, events",
        ),
        ("-- all\nCOPY (SELECT 1) TO '/tmp/x'", "COPY is not run here: only queries are"),
        ("drop table events", "DROP is not run here"),
        ("SELECT 1; SELECT 2", "these are 2 statements; ask one query at a time"),
        ("SELECT event_time + 'x' FROM events", "Timestamp"),
    ] {
        let told = sql.query(text).await.unwrap_err().to_string();
        assert!(told.contains(expected), "{text}: {told}");
        assert!(!told.contains("backtrace") && !told.contains(".rs"), "{told}");
    }
}

#[tokio::test]
async fn an_empty_lake_has_its_columns() {
    let (sql, _dir) = sql(Limits::default()).await;
    let answer = sql.query("SELECT * FROM events").await.unwrap();
    let rows: usize = answer.batches.iter().map(RecordBatch::num_rows).sum();
    assert_eq!((rows, answer.cut), (0, false));
    assert!(answer.schema.column_with_name("lag_us").is_some());
    let windows = "SELECT window_start, count(*) FROM TUMBLE(events, event_time, INTERVAL '1 minute') \
        GROUP BY window_start";
    assert_eq!(sql.query(windows).await.unwrap().schema.field(0).name(), "window_start");
    let text = "SELECT count(*) FROM information_schema.columns WHERE table_name = 'events'";
    assert_eq!(sql.query(text).await.unwrap().batches[0].num_rows(), 1);
}

/// Numbers without end, in queries of their own.
const MANY: &str = "SELECT a.value FROM range(1000000) a, range(1000000) b";

#[tokio::test]
async fn a_query_ends_at_its_limits_and_leaves_others_alone() {
    let (few, _dir) = sql(Limits { rows_max: 10, ..Limits::default() }).await;
    let answer = few.query("SELECT * FROM range(100)").await.unwrap();
    let rows: usize = answer.batches.iter().map(RecordBatch::num_rows).sum();
    assert_eq!((rows, answer.cut), (10, true));
    let answer = few.query("SELECT * FROM range(10)").await.unwrap();
    assert!(!answer.cut);

    let (short, _dir) = sql(Limits { time_ms: 300, ..Limits::default() }).await;
    let counted = format!("SELECT count(*) FROM ({MANY} WHERE a.value % 7 = b.value % 11)");
    let ended = short.query(&counted).await;
    assert!(matches!(ended, Err(Error::Time(_))), "{ended:?}");
    assert!(short.query("SELECT 1").await.is_ok());

    let (small, _dir) = sql(Limits { memory_bytes_max: 100_000, ..Limits::default() }).await;
    let ended = small.query("SELECT value, count(*) FROM range(1000000) GROUP BY value").await;
    assert!(matches!(ended, Err(Error::Memory(100_000))), "{ended:?}");
    assert!(small.query("SELECT 1").await.is_ok());
}

/// Each makes much of little, in one call of a function, one batch, or the answer.
#[tokio::test]
async fn what_makes_much_of_little_ends_at_its_bound() {
    let limits = Limits { memory_bytes_max: 100_000_000, ..Limits::default() };
    let (sql, _dir) = sql(limits).await;
    let doubled = (1..=20).fold(
        "WITH a0 AS (SELECT 'xxxxxxxxxx' || value AS a FROM range(10000))".to_owned(),
        |with, at| format!("{with}, a{at} AS (SELECT a || a AS a FROM a{})", at - 1),
    ) + " SELECT sum(length(a)) FROM a20";
    let chained = format!(
        "SELECT {} FROM (SELECT repeat('x', 5000) AS a FROM range(8192))",
        vec!["a"; 900].join(" || ")
    );
    let joined = format!(
        "SELECT concat({}) FROM (SELECT repeat('x', 5000) AS a FROM range(8192))",
        vec!["a"; 2_000].join(", ")
    );
    let literal = format!("SELECT length('{}') FROM range(1000000)", "x".repeat(1_000_000));
    for (text, is_too_much) in [
        ("SELECT repeat('x', 2000000000)", true),
        ("SELECT sum(length(repeat('x', value * 1000))) FROM range(8192)", true),
        ("SELECT lpad('x', 10000000) FROM range(8192)", true),
        ("SELECT sum(length(lpad('x', value * 1000))) FROM range(8192)", true),
        ("SELECT rpad('x', 2000000000, 'ab')", true),
        (
            "SELECT sum(length(replace(repeat('x', 5000), 'x', repeat('y', 5000)))) FROM range(9)",
            true,
        ),
        (
            "SELECT sum(length(regexp_replace(repeat('x', 5000), 'x', repeat('y', 5000), 'g'))) FROM range(9)",
            true,
        ),
        (&doubled, true),
        (&chained, true),
        (&joined, true),
        ("SELECT value, repeat('x', 5000) FROM range(100000)", true),
        ("SELECT max(s) FROM (SELECT sum(value) OVER () AS s FROM range(100000000))", true),
        (
            "SELECT concat_ws(repeat('x', 5000), value, value, value, value, value, value, value, \
          value, value, value, value, value, value) FROM range(8192)",
            true,
        ),
        ("SELECT count(*) FROM range(8192) WHERE regexp_like('a', 'a' || value)", true),
        (
            "SELECT s, 'a longer text' FROM (SELECT sum(value) OVER () AS s FROM range(9000000))",
            false,
        ),
        // These are as people ask.
        (
            "SELECT count(*) FROM (SELECT sum(value) OVER () AS s, 'a' AS t FROM range(1000000))",
            false,
        ),
        ("SELECT count(*) FROM range(100000) WHERE regexp_like('a' || value, '^a[0-9]+$')", false),
        ("SELECT count(*) FROM range(100000) WHERE value::text ~ '^[0-9]+$'", false),
        (&literal, false),
        ("SELECT sum(length(repeat('x', 1000))) FROM range(8192)", false),
        ("SELECT sum(length(lpad(value::text, 12, '0'))) FROM range(1000000)", false),
        (
            "SELECT sum(length(replace(repeat('abc', 30), 'b', 'a longer text'))) FROM range(100000)",
            false,
        ),
        (
            "SELECT sum(length(regexp_replace(repeat('/orders/1', 20), '[0-9]+', '{a number of an order}', 'g'))) FROM range(100000)",
            false,
        ),
        ("SELECT sum(length('a' || value || 'b' || value)) FROM range(100000)", false),
    ] {
        let shown = text.get(..100).unwrap_or(text);
        let ended = sql.query(text).await;
        match is_too_much {
            true => assert!(
                matches!(ended, Err(Error::Memory(_) | Error::TooMuch(_))),
                "{shown}: {ended:?}"
            ),
            false => assert!(ended.is_ok(), "{shown}: {ended:?}"),
        }
    }
    for list in ["array_repeat(1, 1000000000)", "generate_series(1, 1000000000)", "range(1, 9)"] {
        let told = sql.query(&format!("SELECT {list}")).await.unwrap_err().to_string();
        assert!(
            told.contains("has no bound to what it makes or takes, and is not there"),
            "{told}"
        );
    }
    let operator = "SELECT bool_and(('a' || NULL) IS NULL AND ('a' || t || 1 || 'b') IS NULL = (t IS NULL) \
        AND coalesce('a' || t || 1 || 'b' = 'at1b', true)) AS joined, bool_and(concat('a', NULL) = 'a') AS called
        FROM (VALUES ('t'), (NULL)) AS given(t)";
    let answer = sql.query(operator).await.unwrap();
    let shown = arrow::util::pretty::pretty_format_batches(&answer.batches).unwrap().to_string();
    assert!(shown.contains("| true   | true   |"), "{shown}");
}

/// A plan is worked through by calls within calls, and without ever giving way.
#[tokio::test]
async fn a_text_that_makes_too_deep_a_plan_is_refused() {
    let (sql, _dir) = sql(Limits::default()).await;
    let many = |of: &str, times: usize, by: &str| vec![of; times].join(by);
    for (text, expected) in [
        (format!("SELECT {}", many("1", 100_000, " + ")), "the query has 99999 operators"),
        (format!("SELECT 1 WHERE {}", many("true", 1_100, " OR ")), "1099 operators"),
        (format!("SELECT {}1{}", "(".repeat(50_000), ")".repeat(50_000)), "too deep"),
        (format!("SELECT {}1{}", "abs(".repeat(5_000), ")".repeat(5_000)), "too deep"),
        (many("SELECT 1", 200, " UNION "), "200 SELECTs"),
        (format!("SELECT 1 FROM {}", many("events", 60, " CROSS JOIN ")), "reads 60 tables"),
    ] {
        let told = sql.query(&text).await.unwrap_err();
        assert!(matches!(told, Error::Query(_)) && told.to_string().contains(expected), "{told}");
    }
    for text in [
        format!("SELECT {}", many("1", 1_001, " + ")),
        format!("SELECT 1 FROM events WHERE {}", many("kind = 'a'", 500, " OR ")),
        format!("SELECT 1 FROM events WHERE kind IN ({})", many("'a'", 20_000, ", ")),
        many("SELECT 1", 100, " UNION ALL "),
        format!("SELECT {}1{}", "(".repeat(20), ")".repeat(20)),
        (0..50).fold(String::from("SELECT 1 FROM"), |of, at| {
            format!("{of}{} events e{at}", if at == 0 { "" } else { "," })
        }),
    ] {
        let answer = sql.query(&text).await;
        assert!(answer.is_ok(), "{text:.60}: {answer:?}");
    }
}

/// What makes very much out of a few batches never waits for anything by itself.
#[tokio::test]
async fn a_query_that_would_never_give_way_ends_at_its_limit() {
    let limits = Limits { time_ms: 500, at_once_max: 1, ..Limits::default() };
    let (sql, _dir) = sql(limits).await;
    for endless in [
        "SELECT array_agg(a.value + b.value) FROM range(100000) a, range(1000000) b",
        "SELECT count(DISTINCT a.value * b.value % 7) FROM range(10000000) a, range(10000000) b",
        "WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n",
        "SELECT count(*) FROM range(1000000) a JOIN range(1000000) b ON a.value % 2 = b.value % 2",
    ] {
        let ended = sql.query(endless).await;
        assert!(matches!(ended, Err(Error::Time(_) | Error::Memory(_))), "{endless}: {ended:?}");
        // The one place is free again: it did end.
        assert!(sql.query("SELECT 1").await.is_ok(), "{endless}");
    }
}

/// The shipped account, by its own SQL, over events as given.
#[tokio::test]
async fn an_account_that_does_not_hold_says_by_how_much() {
    let account = super::ACCOUNT_SQL;
    let (sql, _dir) = sql(Limits::default()).await;
    // Messages' events, a second apart from an hour ago on, then what the log says: of a
    // partition, by an owner, how many wait.
    let check = async |events: &[(&str, &str)], told: &[(i64, i64, i64)], expected: &str| {
        let message = |(at, (kind, outcome)): (usize, &(&str, &str))| {
            // Put back, it stands at another place of the queue.
            let before = events[..=at].iter().filter(|(_, outcome)| *outcome == "replayed");
            let sequence = 7 + before.count();
            let sequence = match *outcome {
                "scheduled" => "NULL".to_owned(),
                "given_up" => "-1".to_owned(),
                _ => sequence.to_string(),
            };
            format!("('{kind}', 'm1', nullif('{outcome}', ''), {sequence}, {at}, NULL, NULL, NULL)")
        };
        let of_log = |(at, (partition, epoch, waiting)): (usize, &(i64, i64, i64))| {
            format!("('queue', NULL, NULL, NULL, {}, {partition}, {epoch}, {waiting})", at + 60)
        };
        let rows = events.iter().enumerate().map(message);
        let rows: Vec<String> = rows.chain(told.iter().enumerate().map(of_log)).collect();
        let time = "now() - INTERVAL '1 hour' + CAST(concat(at, ' seconds') AS INTERVAL)";
        let events = format!(
            "events AS (SELECT 'orders' AS delivery_queue, {time} AS event_time,
                {time} AS delivery_accepted_time, * EXCLUDE (waiting), CAST(waiting AS BIGINT) AS delivery_waiting
                FROM (VALUES {}) AS given(kind,
                messaging_message_id, delivery_outcome, delivery_sequence, at, delivery_partition,
                delivery_owner_epoch, waiting))",
            rows.join(", ")
        );
        let text = account.replacen("WITH ", &format!("WITH {events}, "), 1);
        let answer = sql.query(&text).await.unwrap();
        let shown =
            arrow::util::pretty::pretty_format_batches(&answer.batches).unwrap().to_string();
        assert!(shown.contains(expected), "{shown}");
    };
    let (accepted, tried) = (("accept", ""), ("delivery", "retry"));
    let (delivered, dead) = (("delivery", "delivered"), ("dead_letter", ""));
    let (one, none) = ([(0, 1, 1)], [(0, 1, 0)]);
    check(&[accepted], &one, "| orders | 1        | 0         | 1       | 0    | holds").await;
    check(&[accepted, tried], &one, "| 1       | 0    | holds").await;
    check(&[accepted, tried, delivered], &none, "| 1         | 0       | 0    | holds").await;
    check(&[accepted, dead], &none, "| 0         | 0       | 1    | holds").await;
    // An event that came again is the same message, and one that was delivered is no more
    // dead than that.
    check(&[accepted, delivered, delivered, dead], &none, "| 1         | 0       | 0    | holds")
        .await;
    // Put back from the dead letters it waits again, and may die again.
    let replayed = ("accept", "replayed");
    check(&[accepted, dead, replayed], &one, "| 0         | 1       | 0    | holds").await;
    check(&[accepted, dead, replayed, dead], &none, "| 0         | 0       | 1    | holds").await;
    check(&[accepted, dead, replayed, delivered], &none, "| 1         | 0       | 0    | holds")
        .await;
    // Sent again it waits, and is delivered again.
    check(&[accepted, delivered, replayed], &one, "| 0         | 1       | 0    | holds").await;
    check(
        &[accepted, delivered, replayed, delivered],
        &none,
        "| 1         | 0       | 0    | holds",
    )
    .await;
    // What is scheduled waits, also if its id was delivered before; given up it is dead.
    let (scheduled, due) = (("accept", "scheduled"), ("accept", "due"));
    check(&[scheduled], &one, "| 1        | 0         | 1       | 0    | holds").await;
    check(&[scheduled, due, delivered], &none, "| 1         | 0       | 0    | holds").await;
    check(&[accepted, delivered, scheduled], &one, "| 0         | 1       | 0    | holds").await;
    let given_up = ("dead_letter", "given_up");
    check(&[scheduled, given_up], &none, "| 0         | 0       | 1    | holds").await;
    check(&[scheduled, given_up, replayed], &one, "| 0         | 1       | 0    | holds").await;
    // Its mediator was killed before it could tell of the acceptance.
    check(&[delivered], &none, "| 1        | 1         | 0       | 0    | holds").await;
    // What the log says of a partition last counts, whoever said it before.
    check(&[accepted], &[(0, 1, 5), (0, 2, 0), (1, 1, 0), (1, 1, 1)], "holds").await;
    // The log has passed over a message that nobody delivered; or has one that nobody told of.
    check(&[accepted], &none, "off by 1").await;
    check(&[accepted, delivered], &one, "off by -1").await;
    check(&[accepted], &[], "not told yet").await;
    // It is there for everybody, over the events that there are.
    let answer = sql.query("SELECT identity FROM delivery_account WHERE accepted > 0").await;
    assert_eq!(answer.unwrap().batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 0);
}
