//! What was told, asked for in SQL.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::replay::until;
use crate::weir::{PATIENCE, Weir};

const REQUESTS: &str = "SELECT url_path, http_response_status_code AS status, count(*) AS requests
    FROM events WHERE kind = 'request' GROUP BY 1, 2 ORDER BY requests DESC";

/// Asks until the answer is this one.
async fn answers(weir: &Weir, sql: &str, expected: &str) {
    let began = Instant::now();
    loop {
        let (code, said) = weir.run(&["query", sql, "--format", "csv"]);
        assert_eq!(code, 0, "{said}");
        if said == expected {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "{said}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn requests_are_in_sql_and_once_after_a_stop_and_a_kill() {
    let mut weir = Weir::new();
    weir.start(&[]);
    for _ in 0..3 {
        assert_eq!(weir.client.get(weir.gateway("/site/")).send().await.unwrap().status(), 200);
    }
    assert_eq!(weir.client.get(weir.gateway("/nothing")).send().await.unwrap().status(), 404);
    let told = "url_path,status,requests\n/site/,200,3\n/nothing,404,1\n";
    answers(&weir, REQUESTS, told).await;
    // Nothing was committed yet at a kill; at a stop all is.
    weir.kill();
    weir.start(&[]);
    answers(&weir, REQUESTS, told).await;
    weir.stop();
    assert!(weir.data_dir().join("lake/events/_delta_log/00000000000000000001.json").exists());
    weir.start(&[]);
    // Not by a connection that the stop has closed.
    assert_eq!(reqwest::get(weir.gateway("/site/")).await.unwrap().status(), 200);
    answers(&weir, REQUESTS, "url_path,status,requests\n/site/,200,4\n/nothing,404,1\n").await;

    let check = |sql: &str, expected: &str| {
        let (code, said) = weir.run(&["query", sql]);
        assert_eq!(code, 2, "{said}");
        assert!(said.contains(expected), "{said}");
    };
    check("SELECT nothing FROM events", "nothing");
    check("DROP TABLE events", "query_invalid");
    let (code, said) = weir.run(&["query", "SELECT 1 AS one", "--json"]);
    assert_eq!((code, said.as_str()), (0, "[{\"one\":1}]\n"));
    let wrong = weir.write("wrong", &[("token", "not-the-token-of-this-node-but-another")]);
    let wrong = format!("{wrong}/token");
    let (code, said) = weir.run(&["query", "SELECT 1", "--token-file", &wrong]);
    assert_eq!(code, 2);
    assert!(said.contains("the bearer token is not valid"), "{said}");
    weir.stop();
    let (code, said) = weir.run(&["query", "SELECT 1"]);
    assert_eq!(code, 1);
    assert!(said.contains("is weir running there?"), "{said}");
}

/// Another engine reads the table while it is written: each look is a whole snapshot.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_engines_read_the_lake_while_it_is_written() {
    let mut weir = Weir::new();
    weir.set("WEIR_ANALYTICS__COMMIT_MS", "150");
    weir.start(&[]);
    let table = weir.data_dir().join("lake/events");
    let read = |looks| {
        let table = table.clone();
        let read = tokio::task::spawn_blocking(move || rig::read_lake(&table, looks).unwrap());
        async move {
            let lines = read.await.unwrap();
            lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>()
        }
    };
    let mut looking = tokio::spawn(read(12));
    let mut sent = 0;
    while !looking.is_finished() {
        assert_eq!(weir.client.get(weir.gateway("/site/")).send().await.unwrap().status(), 200);
        sent += 1;
    }
    let looks = (&mut looking).await.unwrap();
    let versions: std::collections::BTreeSet<_> =
        looks.iter().map(|look| look["version"].as_u64()).collect();
    assert!(versions.len() > 3, "it was not written meanwhile: {looks:?}");
    weir.stop();
    let last = read(1).await;
    for look in looks.iter().chain(&last).filter(|look| look["rows"] != 0) {
        assert_eq!(look["rows"], look["different"], "{look}");
        assert_eq!(look["rows"], look["places"], "{look}");
        assert_eq!(look["beyond"], Value::Array(Vec::new()), "{look}");
        let by_duckdb = json!([look["rows"], look["different"], look["requests"]]);
        assert_eq!(look["others"], json!({"polars": by_duckdb, "pandas": by_duckdb}));
    }
    assert_eq!(last[0]["requests"], sent, "{last:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_token_for_sql_is_a_problem_and_an_event() {
    let mut weir = Weir::new();
    tokio::task::block_in_place(|| weir.start(&[]));
    let asked = |token: Option<&str>, id: &str| {
        let asked = weir.client.post(weir.analytics("/v1/sql")).header("x-correlation-id", id);
        let asked = if let Some(token) = token { asked.bearer_auth(token) } else { asked };
        asked.body("SELECT 1").send()
    };
    for (token, id, code) in
        [(Some("wrong"), "an-1", "token_malformed"), (None, "an-2", "token_missing")]
    {
        let answer = asked(token, id).await.unwrap();
        assert_eq!(answer.status(), 401);
        assert_eq!(answer.headers()["x-correlation-id"], id);
        assert_eq!(answer.headers()["www-authenticate"], "Bearer realm=\"weir admin\"");
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
        let problem: Value = answer.json().await.unwrap();
        let expected = format!("urn:weir:problem:{code}");
        assert_eq!((&problem["type"], &problem["correlation_id"]), (&expected.into(), &id.into()));
        let told = format!(
            "SELECT count(*) AS events FROM events WHERE correlation_id = '{id}'
                AND kind = 'authentication' AND outcome = 'denied' AND error_type = '{code}'"
        );
        until(&weir, &told, |found| found["events"] == 1).await;
    }
    weir.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_of_the_events_up_to_a_position_or_says_why_not() {
    let mut weir = Weir::new();
    tokio::task::block_in_place(|| weir.start(&[]));
    let token = std::fs::read_to_string(weir.data_dir().join("admin-token")).unwrap();
    let asked = |position: &str| {
        let asked = weir.client.post(weir.analytics("/v1/sql")).bearer_auth(token.trim());
        asked.header("weir-position", position).body("SELECT count(*) AS n FROM events").send()
    };
    for (position, status, why) in [
        ("some", 400, "give what an earlier answer had there"),
        ("0,0", 400, "2 offsets are given, the log of events has 4 partitions"),
        ("9000000000,0,0,0", 503, "has not read the log as far"),
    ] {
        let answer = asked(position).await.unwrap();
        assert_eq!(answer.status(), status);
        let problem: Value = answer.json().await.unwrap();
        assert!(problem["detail"].as_str().unwrap().contains(why), "{problem}");
    }
    let answer = asked("0,0,0,0").await.unwrap();
    assert_eq!(answer.headers()["weir-position"], "0,0,0,0");
    assert_eq!(answer.json::<Value>().await.unwrap()[0]["n"], 0);
    weir.stop();
}

#[tokio::test]
async fn words_are_searched_for_in_sql_and_over_http() {
    let mut weir = Weir::new();
    weir.start(&[]);
    for path in ["/nothing/of/the/kind", "/site/zebrafish/4711?colour=blue", "/site/zebrafish/4712"]
    {
        weir.client.get(weir.gateway(path)).send().await.unwrap();
    }
    // At once, though the index takes rows up every ten seconds.
    let sql = "SELECT url_path, error_type FROM search('error:\"api_not_found\" kind') ORDER BY 1";
    let told = "url_path,error_type\n/nothing/of/the/kind,api_not_found\n";
    answers(&weir, sql, told).await;
    let count = |text: &str| format!("SELECT count(*) AS events FROM search('{text}')");
    answers(&weir, &count("zebrafish"), "events\n2\n").await;
    answers(&weir, &count("4711 blue"), "events\n1\n").await;
    weir.kill();
    weir.start(&[]);
    answers(&weir, &count("zebrafish"), "events\n2\n").await;

    let token = weir.read_token("admin-token");
    let ask = async |asked: &str| {
        let url = weir.analytics(&format!("/v1/search?{asked}"));
        let answer = weir.client.get(url).bearer_auth(token.trim()).send().await.unwrap();
        let status = answer.status().as_u16();
        (status, answer.json::<Value>().await.unwrap())
    };
    let (status, found) = ask("q=url%3Azebrafish&limit=1").await;
    assert_eq!((status, found.as_array().unwrap().len()), (200, 1), "{found}");
    let row = &found[0];
    assert!(row["url_path"].as_str().unwrap().starts_with("/site/zebrafish/"), "{row}");
    assert!(row["score"].as_f64() > Some(0.0), "{row}");
    let (_, found) = ask("q=url%3Azebrafish&before=2020-01-01T00%3A00%3A00Z").await;
    assert_eq!(found, json!([]));
    for (asked, expected) in [
        ("q=http%3A%2F%2Fhost", "there is no field http to search in"),
        ("q=it's+%22", "is no search: put what is not a word in double quotes"),
        ("q=a&limit=0", "limit: 0 is out of range; use 1 to 1000"),
        ("q=a&from=yesterday", "yesterday"),
        ("query=a", "unknown field `query`"),
    ] {
        let (status, said) = ask(asked).await;
        let detail = said["detail"].as_str().unwrap_or_default();
        assert!(status == 400 && detail.contains(expected), "{asked}: {status} {said}");
    }
    let bare = weir.client.get(weir.analytics("/v1/search?q=a")).send().await.unwrap();
    assert_eq!(bare.status(), 401);
    weir.stop();
}

/// The files of the lake's table, as they lie in their days.
fn lake_files(weir: &Weir) -> Vec<std::path::PathBuf> {
    let days = std::fs::read_dir(weir.data_dir().join("lake/events")).unwrap();
    let days = days.map(|day| day.unwrap().path());
    let days = days.filter(|day| day.to_string_lossy().contains("event_date="));
    let files = days.flat_map(|day| std::fs::read_dir(day).unwrap());
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    files
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_file_of_the_lake_is_named_and_set_aside_by_command() {
    let mut weir = Weir::new();
    weir.set("WEIR_ANALYTICS__COMMIT_MS", "100");
    weir.start(&[]);
    weir.client.get(weir.gateway("/site/")).send().await.unwrap();
    let seen = "SELECT count(*) AS n FROM events WHERE kind = 'request'";
    until(&weir, seen, |seen| seen["n"] == 1).await;
    let began = Instant::now();
    while lake_files(&weir).is_empty() {
        assert!(began.elapsed() < PATIENCE, "nothing was committed");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    weir.stop();
    let (code, said) = weir.run(&["lake", "check"]);
    assert!(code == 1 && said.contains("is weir running there?"), "{said}");
    let file = lake_files(&weir).remove(0);
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    weir.start(&[]);
    let name = file.file_name().unwrap().to_str().unwrap();
    let (code, said) = weir.run(&["query", "SELECT * FROM events"]);
    assert!(code == 1 && said.contains("`weir lake check` says which"), "{said}");
    let (code, said) = weir.run(&["lake", "check"]);
    assert!(code == 1 && said.contains(name) && said.contains("1 of "), "{said}");
    assert!(said.contains(" bytes, of ") && said.contains("--set-aside"), "{said}");
    let (code, said) = weir.run(&["lake", "check", "--set-aside", "--by", "ann"]);
    assert!(code == 0 && said.contains("they are set aside") && said.contains(name), "{said}");
    let (code, said) = weir.run(&["lake", "check"]);
    assert!(code == 0 && said.contains(" files, all of them whole"), "{said}");
    let told = "SELECT count(*) AS n FROM events WHERE admin_action = 'set_aside' \
        AND admin_actor = 'ann' AND admin_entity_kind = 'lake_file'";
    until(&weir, told, |seen| seen["n"] == 1).await;
    weir.stop();
}
