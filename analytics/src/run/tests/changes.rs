//! Queries that come, change, rest and go while they run.

use super::*;

const SUM: &str = "SELECT coalesce(sum(n), 0) FROM own WHERE replay_id IS NULL";

/// The sum that a query of a column `n` gives over all live windows that have closed.
async fn expected(node: &Node, text: &str, before_us: i64) -> i64 {
    let file = QueryFile::parse("own", text).unwrap();
    let span = Span { before_us: Some(before_us), ..Span::default() };
    let (_, rows) = node.at_once(&file, &span).await;
    rows.column_by_name("n").unwrap().as_primitive::<Int64Type>().values().iter().sum()
}

/// What might come on top of what is there would have come by then.
async fn is_and_stays(node: &Node, sql: &str, expected: i64) {
    until(node, sql, |sum| sum >= expected).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    // Of one that was changed back, the rows of its former self are replaced meanwhile.
    assert_eq!(until(node, sql, |sum| sum >= expected).await, expected, "{sql}");
}

/// Closes all that is open, but for what lies within the lateness.
async fn close(traffic: &mut Traffic) -> i64 {
    traffic.now += 600 * S;
    traffic.all(Kind::Heartbeat).await;
    traffic.now - 120 * S
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_comes_changes_and_goes_while_others_run_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut traffic = Traffic::new(4).await;
    let log = traffic.log.clone();
    traffic.requests(80).await;
    let node = Node::start(&log, dir.path()).await;
    let other =
        "SELECT coalesce(sum(requests), 0) FROM traffic_by_api_minute WHERE replay_id IS NULL";
    let changed = OWN.replace("kind = 'request'", "kind = 'request' AND api_name = 'orders'");
    let generation = async || {
        let sql = "SELECT rows_in FROM weir_queries WHERE name = 'traffic_by_api_minute'";
        until(&node, sql, |rows| rows > 0).await
    };
    let mut rows = 0;
    for text in [OWN, &changed, OWN] {
        traffic.requests(40).await;
        let before = close(&mut traffic).await;
        node.give(&log, &[("own", text)]).await;
        until(&node, "SELECT count(*) FROM weir_queries WHERE name = 'own'", |n| n == 1).await;
        let sum = expected(&node, text, before).await;
        assert!(sum > 10, "{sum}");
        is_and_stays(&node, SUM, sum).await;
        // It was not taken up again: what it took in is counted on.
        let now = generation().await;
        assert!(now >= rows, "{now} rows, {rows} before");
        rows = now;
    }
    let total = expected(&node, OWN, traffic.now).await;
    is_and_stays(&node, other, total).await;

    // A header alone is another: what it holds stays.
    let titled = OWN.replace("title: Own", "title: Another name");
    node.give(&log, &[("own", &titled)]).await;
    let sql =
        "SELECT count(*) FROM weir_queries WHERE title = 'Another name' AND origin = 'registry'";
    until(&node, sql, |n| n == 1).await;
    is_and_stays(&node, SUM, total).await;

    // One that cannot run fails alone, and says why.
    node.give(&log, &[("own", &titled.replace("count(*)", "sum(nothing)"))]).await;
    let failed = "SELECT count(*) FROM weir_queries WHERE name = 'own' AND state = 'failed' \
        AND error LIKE 'line 3: there is no column nothing%'";
    until(&node, failed, |n| n == 1).await;
    let running = "SELECT count(*) FROM weir_queries WHERE state = 'running'";
    until(&node, running, |n| n == 3).await;

    node.give(&log, &[]).await;
    until(&node, "SELECT count(*) FROM weir_queries WHERE name = 'own'", |n| n == 0).await;
    assert!(!node.status.now().contains_key("own"));
    let sql = Sql::new(node.history.clone(), Limits::default(), Threads::new().unwrap())
        .with_tables(node.tables.clone());
    let gone = sql.query("SELECT * FROM own").await.unwrap_err().to_string();
    assert!(gone.contains("there is no table own"), "{gone}");
    let files = std::fs::read_dir(dir.path().join("state")).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    assert!(names.into_iter().all(|name| !name.starts_with("own-")), "its state is left");
    node.stop().await;
}

/// Over nodes that end too: what came meanwhile is taken in once it goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_that_rests_gives_nothing_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut traffic = Traffic::new(5).await;
    let log = traffic.log.clone();
    let mut node = Node::start(&log, dir.path()).await;
    node.give(&log, &[("own", OWN)]).await;
    traffic.requests(80).await;
    let before = close(&mut traffic).await;
    node.has_read(80 + 12).await;
    is_and_stays(&node, SUM, expected(&node, OWN, before).await).await;

    node.rest(&log, "own", true).await;
    let paused = "SELECT count(*) FROM weir_queries WHERE name = 'own' AND state = 'paused' \
        AND paused_by = 'ann' AND paused_note = 'too loud'";
    until(&node, paused, |n| n == 1).await;
    let rested = until(&node, SUM, |_| true).await;
    for round in 0..2 {
        traffic.requests(80).await;
        close(&mut traffic).await;
        let behind = "SELECT rows_behind FROM weir_queries WHERE name = 'own' AND state = 'paused'";
        until(&node, behind, |rows| rows >= 80 * (round + 1)).await;
        assert_eq!(until(&node, SUM, |_| true).await, rested, "it rests");
        let others = "SELECT count(*) FROM weir_queries WHERE state = 'running'";
        until(&node, others, |n| n == 3).await;
        node.kill().await;
        // The next has read the registry less far at first: it waits, and drops nothing.
        node = Node::with(&log, dir.path(), (0, &[])).await;
        tokio::time::sleep(Duration::from_millis(60)).await;
        node.give(&log, &[("own", OWN)]).await;
    }
    let before = traffic.now - 120 * S;
    node.rest(&log, "own", false).await;
    is_and_stays(&node, SUM, expected(&node, OWN, before).await).await;

    // A pause of a query that this owner does not know yet is not over.
    let pause = Pause {
        revision: 1_000,
        ..node.pauses.of("own").unwrap_or(Pause {
            by: "bob".to_owned(),
            note: String::new(),
            at: Timestamp::from_micros(BEGIN),
            revision: 0,
        })
    };
    log.append(vec![pause.record("to_come")]).await.unwrap();
    while node.pauses.of("to_come").is_none() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    node.give(&log, &[("own", OWN), ("other", OWN)]).await;
    until(&node, "SELECT count(*) FROM weir_queries WHERE name = 'other'", |n| n == 1).await;
    assert!(node.pauses.of("to_come").is_some());

    // Another one that is called so later is awake.
    node.rest(&log, "own", true).await;
    until(&node, paused, |n| n == 1).await;
    node.give(&log, &[]).await;
    while node.pauses.of("own").is_some() || node.status.now().contains_key("other") {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    node.stop().await;
}

/// What each of them does is what the two tests above see it do.
#[tokio::test]
async fn what_a_change_of_queries_does_is_told_before() {
    let dir = tempfile::tempdir().unwrap();
    let base = library(dir.path()).await;
    let of = |queries: &[(&str, &str)]| base.with(&given(queries));
    let above = "-- title: a\n-- owner: b\nSELECT window_start, max(n) AS most FROM \
        TUMBLE((SELECT window_start AS minute, n FROM own), minute, INTERVAL '1 hour') \
        GROUP BY window_start";
    let told = async |before: &[(&str, &str)], after: &[(&str, &str)]| {
        let foreseen = foresee::foresee(&of(before), &of(after)).await;
        foreseen.into_iter().map(|of| (of.query, of.fate)).collect::<Vec<_>>()
    };
    let one = |name: &str, fate| vec![(name.to_owned(), fate)];
    let since = |since: &str| Fate::BeginsAnew { since: since.to_owned() };
    let late = OWN.replace("owner: tests", "owner: tests\n-- lateness: 90 s");
    let laid_out = OWN.replace("SELECT", "SELECT\n  -- as before\n ");
    let titled = OWN.replace("title: Own", "title: Mine");
    let other = OWN.replace("1 minute", "2 minutes");
    let own = ("own", OWN);
    assert_eq!(told(&[], &[own]).await, one("own", Fate::Begins));
    assert_eq!(told(&[own], &[]).await, one("own", Fate::Ends));
    assert_eq!(told(&[own], &[own]).await, []);
    assert_eq!(told(&[own], &[("own", &titled)]).await, one("own", Fate::GoesOn));
    assert_eq!(told(&[own], &[("own", &laid_out)]).await, one("own", Fate::GoesOn));
    let text = one("own", since("its text is another"));
    assert_eq!(told(&[own], &[("own", &other)]).await, text);
    let lateness = one("own", since("its lateness is another"));
    assert_eq!(told(&[own], &[("own", &late)]).await, lateness);
    let corrected = OWN.replace("owner: tests", "owner: tests\n-- corrections: 1 h");
    let corrections = one("own", since("its corrections are other"));
    assert_eq!(told(&[own], &[("own", &corrected)]).await, corrections);
    let read = [("own", corrected.as_str()), ("above", above)];
    assert_eq!(told(&[own, ("above", above)], &read).await, corrections);
    let both = told(&[own, ("above", above)], &[("own", &other), ("above", above)]).await;
    let view = since("the view own, which it reads, is another");
    assert_eq!(both, [one("above", view), text].concat());
    let joined = "-- title: a\n-- owner: b\nSELECT window_start, owner, count(*) AS n FROM \
        TUMBLE(events, event_time, INTERVAL '1 minute') JOIN owners ON client_address = address \
        GROUP BY window_start, owner";
    let by = ("by_owner", joined);
    let (north, south) =
        ("address,owner\n198.51.100.1,north\n", "address,owner\n198.51.100.1,south\n");
    let table = told(&[by, ("owners", north)], &[by, ("owners", south)]).await;
    assert_eq!(table, one("by_owner", since("the table owners, which it reads, is another")));
    assert_eq!(told(&[own, ("owners", north)], &[own, ("owners", south)]).await, []);
    let gone = told(&[by, ("owners", north)], &[by]).await;
    let [(_, Fate::Fails { why })] = &gone[..] else { panic!("{gone:?}") };
    assert!(why.contains("there is no table owners"), "{why}");
    // A change of its kind is a change of all.
    let as_view: String = DETECTION
        .lines()
        .filter(|line| {
            !["-- severity", "-- subject", "-- quiet", "-- message"]
                .iter()
                .any(|key| line.starts_with(key))
        })
        .map(|line| format!("{line}\n"))
        .collect();
    let kind = told(&[("kind", DETECTION)], &[("kind", &as_view)]).await;
    assert_eq!(kind, one("kind", since("it is a view now")));
    // What cannot run is told of once, whatever the others are.
    let broken = (
        "broken",
        "-- title: a\n-- owner: b\nSELECT window_start, n FROM TUMBLE(cells, \
        event_time, INTERVAL '1 minute')",
    );
    let first = told(&[], &[broken]).await;
    assert!(
        matches!(&first[..], [(_, Fate::Fails { why })] if why.contains("no table cells")),
        "{first:?}"
    );
    assert_eq!(told(&[broken], &[broken, own]).await, one("own", Fate::Begins));
    // A detection is whole: the column that names its subject, and those of its message.
    let over_view = "-- title: a\n-- owner: b\n-- severity: low\n-- subject: nothing\n-- message: m\n\
        SELECT window_start, window_end, most FROM TUMBLE((SELECT window_start AS minute, n AS most FROM own), \
        minute, INTERVAL '1 hour')";
    let subject = told(&[own], &[own, ("over", over_view)]).await;
    let [(_, Fate::Fails { why })] = &subject[..] else { panic!("{subject:?}") };
    assert!(why.contains("gives no column nothing"), "{why}");
    // One of the directory comes back where the registry's goes.
    let many = DETECTION.replace("> 2", "> 3");
    let stands_in = told(&[], &[("many", &many)]).await;
    assert_eq!(stands_in, one("many", since("its text is another")));
    let comes_back = told(&[("many", &many)], &[]).await;
    assert_eq!(comes_back, one("many", since("its text is another")));
    let lost = told(&[own, ("above", above)], &[("above", above)]).await;
    let [(name, Fate::Fails { why }), (_, Fate::Ends)] = &lost[..] else { panic!("{lost:?}") };
    assert!(name == "above" && why.contains("there is no table own"), "{why}");
}

/// Before it is applied; what may be among the other files is no fault of one.
#[test]
fn what_is_wrong_with_a_query_is_found_before_it_is_applied() {
    let faults = |name: &str, text: &str| {
        let faults = library::check(name, text).err().unwrap_or_default();
        faults.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert!(faults("own", OWN).is_empty() && faults("many", DETECTION).is_empty());
    assert!(faults("own", &OWN.replace("(events", "(elsewhere")).is_empty());
    // The shipped view may be another one here.
    let over = "-- title: a\n-- owner: b\nSELECT window_start, max(added) AS added FROM TUMBLE((SELECT \
        window_start AS minute, added FROM traffic_by_api_minute), minute, INTERVAL '1 hour') GROUP BY 1";
    assert!(faults("over", over).is_empty());
    for (name, text, expected) in [
        ("Own", OWN, "sql: `Own` is no name of a query; use 1 to 64 of a-z, 0-9 and _"),
        ("events", OWN, "sql: `events` is a table already; give the file another name"),
        ("own", "SELECT 1", "sql: line 1: has no header; begin it with lines such as"),
        (
            "own",
            &OWN.replace("count(*)", "sum(nothing)"),
            "sql: line 3: there is no column nothing",
        ),
        ("own", &OWN.replace("count(*)", "now()"), "sql: line 3: "),
        ("many", &DETECTION.replace("{{ n }}", "{{ m }}"), "sql: line 6: "),
    ] {
        let found = faults(name, text);
        assert!(found.len() == 1 && found[0].starts_with(expected), "{found:#?}");
    }
    let of_table = |name: &str, csv: &str| {
        let faults = library::check_table(name, csv).err().unwrap_or_default();
        faults.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert!(of_table("owners", "a,b\n1,2\n").is_empty());
    for (name, csv, expected) in [
        ("owners", "a,b\n1\n", "csv: is no table: "),
        ("owners", "a,a\n1,2\n", "csv: line 1: `a` cannot be the name of a column; "),
        ("alerts", "a\n1\n", "csv: `alerts` is a table already; "),
        ("scanner", "a\n1\n", "csv: there is a query called scanner, which comes with Weir; "),
    ] {
        let found = of_table(name, csv);
        assert!(found.len() == 1 && found[0].starts_with(expected), "{found:#?}");
    }
}

/// Of one that fails it is still known how far it came, and others go on; removed, it is told of
/// no more, though it never had a checkpoint.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_that_fails_says_how_far_behind_it_is_and_goes_when_it_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let mut traffic = Traffic::new(6).await;
    let log = traffic.log.clone();
    traffic.requests(80).await;
    close(&mut traffic).await;
    let node = Node::start(&log, dir.path()).await;
    let broken = OWN.replace("(events", "(elsewhere");
    node.give(&log, &[("own", &broken)]).await;
    let behind = "SELECT rows_behind FROM weir_queries WHERE name = 'own' AND state = 'failed' \
        AND error LIKE 'line 4: there is no table elsewhere%'";
    until(&node, behind, |rows| rows >= 80).await;
    let running = "SELECT count(*) FROM weir_queries WHERE state = 'running'";
    until(&node, running, |n| n == 3).await;
    node.give(&log, &[]).await;
    until(&node, "SELECT count(*) FROM weir_queries WHERE name = 'own'", |n| n == 0).await;
    node.stop().await;
}

/// What an earlier owner was broken off in, and nothing else.
#[test]
fn files_of_state_that_nobody_names_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    let old = std::time::SystemTime::now() - Duration::from_secs(2 * 3_600);
    for (name, is_old) in
        [("a-1.arrow", true), ("a-2.arrow", true), ("a-3.arrow", false), ("b", true)]
    {
        let file = std::fs::File::create(dir.path().join(name)).unwrap();
        if is_old {
            file.set_modified(old).unwrap();
        }
    }
    let named = ["a-2.arrow".to_owned()].into();
    assert_eq!(checkpoint::sweep(dir.path(), &named).unwrap(), 1);
    assert!(!dir.path().join("a-1.arrow").exists());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3);
}
