//! Continuous queries that are applied, changed and let rest while the node runs.

use std::time::Duration;

use fantoccini::Locator;
use serde_json::Value;

use crate::browser::Browser;
use crate::queues::{click, reads};
use crate::replay::{rows, until};
use crate::weir::Weir;

const CALLS: &str = "-- title: Calls
-- owner: tests
-- lateness: 1 s
SELECT window_start, count(*) AS calls
FROM TUMBLE(events, event_time, INTERVAL '1 second')
WHERE kind = 'request' GROUP BY window_start
";
const ABOVE: &str = "-- title: Calls per hour
-- owner: tests
SELECT window_start, sum(calls) AS calls
FROM TUMBLE((SELECT window_start AS second, calls FROM calls), second, INTERVAL '1 hour')
GROUP BY window_start
";
const BY_OWNER: &str = "-- title: Calls by owner
-- owner: tests
-- lateness: 1 s
SELECT window_start, owner, count(*) AS calls
FROM TUMBLE(events, event_time, INTERVAL '1 second') JOIN owners ON http_route = site
WHERE kind = 'request' GROUP BY window_start, owner
";
const BY_LIMIT: &str = "-- title: Calls by the limit of then
-- owner: tests
-- lateness: 1 s
SELECT window_start, t.requests_max, min(t.first_revision) AS since, count(*) AS calls
FROM TUMBLE(events, event_time, INTERVAL '1 second')
JOIN weir_apis AS a ON a.name = api_name
    AND config_revision BETWEEN a.first_revision AND a.last_revision
JOIN weir_tiers AS t ON t.name = a.tier
    AND config_revision BETWEEN t.first_revision AND t.last_revision
WHERE kind = 'request' GROUP BY window_start, t.requests_max
";
const RUNNING: &str = "SELECT count(*) AS n FROM weir_queries WHERE state = 'running' AND name = ";

fn weir(weir: &Weir, code: i32, arguments: &[&str]) -> String {
    let (found, said) = weir.run(arguments);
    assert_eq!(found, code, "{arguments:?}: {said}");
    said
}

/// What there was before, of each route.
const USUAL: &str = "SELECT http_route AS site, count(*) AS usual, max(event_time) AS last
    FROM events WHERE kind = 'request' AND replay_id IS NULL GROUP BY http_route";
const BY_USUAL: &str = "-- title: Calls beside those before
-- owner: tests
-- lateness: 1 s
SELECT window_start, usual, count(*) AS calls
FROM TUMBLE(events, event_time, INTERVAL '1 second') JOIN usual ON http_route = site
WHERE kind = 'request' GROUP BY window_start, usual
";

/// Calls that are in the view at last, and no more.
async fn calls(weir: &Weir, expected: i64) {
    let sql = "SELECT coalesce(sum(calls), 0) AS n FROM calls WHERE replay_id IS NULL";
    until(weir, sql, |seen| seen["n"].as_i64() >= Some(expected)).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(rows(weir, sql)[0]["n"], expected);
}

async fn call(weir: &Weir, times: usize) {
    for _ in 0..times {
        weir.client.get(weir.gateway("/site/")).send().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_are_joined_with_what_was_configured_as_they_came() {
    let mut node = Weir::new();
    node.start(&[]);
    let folder = node.write("own", &[("by_limit.sql", BY_LIMIT)]);
    weir(&node, 0, &["apply", &folder]);
    call(&node, 2).await;
    let tier = "kind: tier\nname: everybody\nspec: {requests: {max: 50000, window_ms: 60000}}\n";
    let tier = node.write("change", &[("tier.yaml", tier)]);
    weir(&node, 0, &["apply", &tier]);
    // The gateway goes by it a moment later; a call says by what it came about.
    let said = "SELECT count(DISTINCT config_revision) AS n, count(*) AS calls, \
        min(config_revision) AS first FROM events WHERE kind = 'request'";
    let mut made = 2;
    let seen = loop {
        call(&node, 1).await;
        made += 1;
        let seen = until(&node, said, |seen| seen["calls"] == made).await;
        if seen["n"] == 2 {
            break seen;
        }
        assert!(made < 1_000, "no call comes about by the new limit");
    };
    let of_before = format!(
        "SELECT count(*) AS n FROM events WHERE kind = 'request' AND config_revision = {}",
        seen["first"]
    );
    let before = rows(&node, &of_before)[0]["n"].as_i64().unwrap();
    assert!((2..made).contains(&before));

    let sums = "SELECT requests_max, sum(calls) AS calls, max(since) AS since FROM by_limit \
        WHERE replay_id IS NULL GROUP BY requests_max ORDER BY requests_max";
    let counted = "SELECT coalesce(sum(calls), 0) AS n FROM by_limit WHERE replay_id IS NULL";
    until(&node, counted, |seen| seen["n"] == made).await;
    let limits = "SELECT requests_max, first_revision AS since, is_current FROM weir_tiers \
        WHERE name = 'everybody' ORDER BY requests_max";
    let limits = rows(&node, limits);
    assert_eq!(limits.len(), 2);
    assert_eq!((&limits[0]["is_current"], &limits[1]["is_current"]), (&true.into(), &false.into()));
    let expected = serde_json::json!([
        {"requests_max": 50_000, "calls": made - before, "since": limits[0]["since"]},
        {"requests_max": 100_000, "calls": before, "since": limits[1]["since"]},
    ]);
    assert_eq!(serde_json::json!(rows(&node, sums)), expected);

    // It answers the same over history; and after a restart, which reads the history anew.
    let file = format!("{folder}/by_limit.sql");
    let answer = weir(&node, 0, &["backtest", &file, "--json"]);
    let answer: Value = serde_json::from_str(&answer).unwrap_or_else(|_| panic!("{answer}"));
    let of = |limit: i64| -> i64 {
        let rows = answer.as_array().unwrap().iter().filter(|row| row["requests_max"] == limit);
        rows.map(|row| row["calls"].as_i64().unwrap()).sum()
    };
    assert_eq!((of(50_000), of(100_000)), (made - before, before), "{answer}");
    node.stop();
    node.start(&[]);
    call(&node, 1).await;
    until(&node, counted, |seen| seen["n"] == made + 1).await;
    assert_eq!(rows(&node, sums)[1], expected[1]);
}

/// As a table that a query of the lake gave: as CSV in the registry, and as Parquet in the
/// directory of a node.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_are_joined_with_what_history_has() {
    let mut node = Weir::new();
    node.start(&[]);
    let folder = node.write("own", &[("by_usual.sql", BY_USUAL)]);
    let tables = format!("own{}tables", std::path::MAIN_SEPARATOR);
    let counted = "SELECT count(*) AS n FROM events WHERE kind = 'request'";
    let joined = "SELECT coalesce(sum(calls), 0) AS n, min(usual) AS first, max(usual) AS last \
        FROM by_usual WHERE replay_id IS NULL";
    let mut made = 0;
    for (more, begins) in [
        (3, "+ by_usual begins"),
        (4, "! by_usual begins anew: the table usual, which it reads, is another; "),
    ] {
        call(&node, more).await;
        made += more as i64;
        until(&node, counted, |seen| seen["n"] == made).await;
        let taken = weir(&node, 0, &["query", "--format", "csv", USUAL]);
        node.write(&tables, &[("usual.csv", &taken)]);
        let told = weir(&node, 0, &["apply", &folder]);
        assert!(told.contains(begins), "{told}");
        until(&node, &format!("{RUNNING}'by_usual'"), |seen| seen["n"] == 1).await;
        // All windows, those from before the table was taken too, and none by an earlier one.
        until(&node, joined, |seen| {
            (&seen["n"], &seen["first"], &seen["last"])
                == (&made.into(), &made.into(), &made.into())
        })
        .await;
    }

    let request = node.client.post(node.analytics("/v1/sql")).body(USUAL);
    let request = request.header("accept", "application/vnd.apache.parquet");
    let answer = request.bearer_auth(node.read_token("admin-token")).send().await.unwrap();
    let parquet = answer.error_for_status().unwrap().bytes().await.unwrap();
    let own = std::path::PathBuf::from(node.write("files", &[("empty.txt", "")]));
    std::fs::create_dir(own.join("tables")).unwrap();
    std::fs::write(own.join("tables").join("was.parquet"), parquet).unwrap();
    node.stop();
    node.set("WEIR_ANALYTICS__QUERIES_DIR", own.display().to_string());
    node.start(&[]);
    let same = "SELECT w.usual AS n, w.last = (SELECT max(event_time) FROM events \
        WHERE kind = 'request') AS is_of_its_type FROM was AS w JOIN usual AS u ON w.site = u.site";
    let same = &rows(&node, same)[0];
    assert_eq!((&same["n"], &same["is_of_its_type"]), (&made.into(), &true.into()), "{same}");
    node.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queries_are_applied_changed_and_rest_while_the_node_runs() {
    let mut node = Weir::new();
    node.start(&[]);
    call(&node, 3).await;
    let folder = node.write("own", &[("calls.sql", CALLS), ("above.sql", ABOVE)]);
    assert!(weir(&node, 0, &["check", &folder]).contains("2 entities, all of them right"));
    let told = weir(&node, 0, &["apply", &folder, "--plan"]);
    assert!(
        told.contains("+ query/calls\n") && told.contains("  + above begins, and reads "),
        "{told}"
    );
    assert_eq!(rows(&node, &format!("{RUNNING}'calls'"))[0]["n"], 0, "it was a plan");
    weir(&node, 0, &["apply", &folder]);
    for name in ["calls", "above"] {
        until(&node, &format!("{RUNNING}'{name}'"), |seen| seen["n"] == 1).await;
    }
    calls(&node, 3).await;

    // What becomes of both is told, and done.
    node.write("own", &[("calls.sql", &CALLS.replace("'request'", "'request' AND 1 = 1"))]);
    let told = weir(&node, 0, &["apply", &folder]);
    let lines = [
        "  ! above begins anew: the view calls, which it reads, is another; its state (",
        "  ! calls begins anew: its text is another; its state (",
        " is dropped, and it reads ",
        "rows of its table go as the first new ones come",
    ];
    assert!(lines.iter().all(|line| told.contains(line)), "{told}");
    calls(&node, 3).await;

    // One that could not run is refused by name and line, and nothing is applied.
    let wrong = CALLS.replace("count(*)", "count(nothing)");
    node.write("own", &[("calls.sql", &wrong)]);
    let told = weir(&node, 2, &["apply", &folder]);
    assert!(told.contains("calls.sql: line 4: there is no column nothing; "), "{told}");
    node.write(
        "own",
        &[("calls.sql", CALLS), ("above.sql", &ABOVE.replace("FROM calls", "FROM cells"))],
    );
    let told = weir(&node, 2, &["apply", &folder]);
    let expected = "query/above: line 4: there is no table cells; did you mean calls? there are ";
    assert!(told.contains(expected), "{told}");
    assert_eq!(rows(&node, &format!("{RUNNING}'above'"))[0]["n"], 1);
    node.write("own", &[("above.sql", ABOVE)]);
    weir(&node, 0, &["apply", &folder]);
    calls(&node, 3).await;

    // A table that a query is joined with is an entity too.
    let tables = format!("own{}tables", std::path::MAIN_SEPARATOR);
    for (owner, begins) in [
        ("north", "+ by_owner begins"),
        ("south", "! by_owner begins anew: the table owners, which it reads, is another; "),
    ] {
        node.write(&tables, &[("owners.csv", &format!("site,owner\n/site/*,{owner}\n"))]);
        node.write("own", &[("by_owner.sql", BY_OWNER)]);
        let told = weir(&node, 0, &["apply", &folder]);
        assert!(told.contains(begins), "{told}");
        until(&node, &format!("{RUNNING}'by_owner'"), |seen| seen["n"] == 1).await;
        let sql = "SELECT coalesce(sum(calls), 0) AS n, max(owner) AS owner FROM by_owner WHERE replay_id IS NULL";
        let seen = until(&node, sql, |seen| seen["n"] == 3 && seen["owner"] == owner).await;
        assert_eq!(seen["n"], 3);
    }

    // Let rest, it gives nothing, over a restart too; then it has all that came meanwhile.
    let said = weir(&node, 0, &["queries", "pause", "calls", "--by", "ann", "--note", "too loud"]);
    assert_eq!(said, "calls rests until it is resumed\n");
    node.stop();
    node.start(&[]);
    call(&node, 4).await;
    let behind = "SELECT coalesce(max(rows_behind), 0) AS n FROM weir_queries \
        WHERE name = 'calls' AND state = 'paused' AND paused_by = 'ann'";
    until(&node, behind, |seen| seen["n"].as_i64() >= Some(4)).await;
    calls(&node, 3).await;
    let listed = weir(&node, 0, &["queries", "list"]);
    let line = listed.lines().find(|line| line.starts_with("calls ")).unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(words[..4], ["calls", "view", "registry", "paused"], "{listed}");
    assert!(line.ends_with("ann: too loud"), "{listed}");
    let asked = node.client.get(node.analytics("/metrics"));
    let metrics = asked.bearer_auth(node.read_token("admin-token")).send().await.unwrap();
    let metrics = metrics.text().await.unwrap();
    assert!(metrics.contains("\nweir_query_paused{query=\"calls\"} 1\n"), "{metrics}");
    assert!(metrics.contains("\nweir_query_running{query=\"above\"} 1\n"), "{metrics}");
    weir(&node, 0, &["queries", "resume", "calls", "--by", "bob"]);
    calls(&node, 7).await;
    let told = weir(&node, 2, &["queries", "pause", "cells", "--by", "ann"]);
    assert!(told.contains("there is no query cells; there are above, by_owner, calls, "), "{told}");
    let orders = "SELECT admin_action AS did, admin_actor AS who FROM events WHERE kind = 'admin' \
        AND admin_entity_kind = 'query' AND admin_action IN ('pause', 'resume') ORDER BY event_time";
    let orders: Vec<Value> = rows(&node, orders);
    assert_eq!(
        serde_json::json!(orders),
        serde_json::json!([
        {"did": "pause", "who": "ann"}, {"did": "resume", "who": "bob"}])
    );

    // Where it cannot be asked what becomes of queries, nothing is applied unasked.
    node.write("own", &[("calls.sql", &CALLS.replace("title: Calls", "title: All calls"))]);
    let away = ["apply", &folder, "--analytics", "http://127.0.0.1:9"];
    let told = weir(&node, 1, &away);
    assert!(told.contains("nothing was applied, and --without-analytics applies it"), "{told}");
    weir(&node, 0, &["apply", &folder, "--without-analytics"]);
    let titled = "SELECT count(*) AS n FROM weir_queries WHERE title = 'All calls'";
    until(&node, titled, |seen| seen["n"] == 1).await;
    calls(&node, 7).await;
    node.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queries_rest_and_go_on_in_a_browser() {
    let mut node = Weir::new();
    node.start(&[]);
    call(&node, 3).await;
    let broken = ABOVE.replace("FROM calls", "FROM cells");
    let folder = node.write("own", &[("calls.sql", CALLS), ("above.sql", &broken)]);
    weir(&node, 0, &["apply", &folder, "--without-analytics"]);
    until(&node, &format!("{RUNNING}'calls'"), |seen| seen["n"] == 1).await;
    calls(&node, 3).await;
    let browser = Browser::start().await;
    let client = &browser.client;
    client.goto(&node.console("/queries")).await.unwrap();
    reads(client, "admin-token").await;
    let field = client.find(Locator::Css("input[name=token]")).await.unwrap();
    field.send_keys(&node.read_token("admin-token")).await.unwrap();
    click(client, "form button").await;
    let page = reads(client, "1 failed").await;
    assert!(page.contains("line 4: there is no table cells; did you mean calls?"), "{page}");
    let fill = async |form: &str, name: &str, text: &str| {
        let field = format!("form[action$='/queries/calls/{form}'] input[name={name}]");
        client.find(Locator::Css(&field)).await.unwrap().send_keys(text).await.unwrap();
    };
    let look = "const wide = document.documentElement; return wide.scrollWidth - wide.clientWidth";
    let open = "document.querySelectorAll('details').forEach(of => of.open = true)";
    client.execute(open, Vec::new()).await.unwrap();
    fill("pause", "by", "Cid").await;
    fill("pause", "note", "a <b>load</b> test").await;
    browser.keep("queries").await;
    click(client, "form[action$='/queries/calls/pause'] button").await;
    reads(client, "It rests until it is resumed").await;
    let paused = "SELECT count(*) AS n FROM weir_queries WHERE state = 'paused' AND name = 'calls'";
    until(&node, paused, |seen| seen["n"] == 1).await;
    client.goto(&node.console("/queries")).await.unwrap();
    let page = reads(client, "1 paused").await;
    assert!(page.contains("by Cid: a <b>load</b> test"), "{page}");
    assert_eq!(client.execute(look, Vec::new()).await.unwrap(), 0);
    browser.keep("queries-paused").await;
    client.set_window_size(500, 1_000).await.unwrap();
    assert_eq!(client.execute(look, Vec::new()).await.unwrap(), 0);
    browser.keep("queries-narrow").await;
    client.execute(open, Vec::new()).await.unwrap();
    fill("resume", "by", "Cid").await;
    click(client, "form[action$='/queries/calls/resume'] button").await;
    reads(client, "It goes on, and takes in what came meanwhile.").await;
    until(&node, &format!("{RUNNING}'calls'"), |seen| seen["n"] == 1).await;
    browser.stop().await;
    let bare = node.client.get(node.console("/queries")).send().await.unwrap();
    assert_eq!(bare.status(), 401);
    node.stop();
}
