//! Users who read what their roles give, by each way to ask.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::StreamExt as _;
use serde_json::{Value, json};

use crate::replay::until;
use crate::weir::Weir;

const PASSWORD: &str = "correct horse battery";

/// What the registry keeps of a password, as the program prints it.
fn kept_of(weir: &Weir, password: &str) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.args(["secret", "--password", "--json"]).current_dir(weir.dir());
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut running = command.spawn().unwrap();
    writeln!(running.stdin.take().unwrap(), "{password}").unwrap();
    let said: Value = serde_json::from_slice(&running.wait_with_output().unwrap().stdout).unwrap();
    said["password"].as_str().unwrap().to_owned()
}

/// Requests to two APIs, and users of two roles: `ann`, of the site alone, with addresses
/// masked, by password and key; `bob`, of everything.
async fn with_users() -> (Weir, String) {
    let mut weir = Weir::new();
    weir.start(&[]);
    for _ in 0..3 {
        weir.client.get(weir.gateway("/site/")).send().await.unwrap();
    }
    weir.client.get(weir.gateway("/orders/v1/orders/1")).send().await.unwrap();
    let seen = "SELECT count(*) AS events FROM events WHERE kind = 'request'";
    until(&weir, seen, |seen| seen["events"] == 4).await;
    let (code, made) = weir.run(&["secret", "--json"]);
    assert_eq!(code, 0, "{made}");
    let made: Value = serde_json::from_str(&made).unwrap();
    let (key, sha256) = (made["secret"].as_str().unwrap(), made["sha256"].as_str().unwrap());
    let kept = kept_of(&weir, PASSWORD);
    let users = format!(
        r#"kind: role
name: site-analysts
spec:
  description: What happens on the site, without who does it.
  tables:
    events:
      rows: "kind = 'request' AND http_route = '/site/*'"
      without: [user_agent_original]
      mask:
        client_address: "'somebody'"
    traffic_by_api_minute: {{}}
---
kind: role
name: all
spec:
  tables: {{"*": {{}}}}
---
kind: user
name: ann
spec:
  roles: [site-analysts]
  password: "{kept}"
  keys: [{{sha256: {sha256}, description: a notebook}}]
---
kind: user
name: bob
spec:
  roles: [all]
  password: "{kept}"
"#
    );
    apply(&weir, &users);
    (weir, key.to_owned())
}

fn apply(weir: &Weir, users: &str) {
    let folder = weir.write("users", &[("users.yaml", users)]);
    let (code, said) = weir.run(&["apply", &folder]);
    assert_eq!(code, 0, "{said}");
}

/// What an HTTP request is answered: its status, and rows or a problem.
async fn ask(weir: &Weir, user: &str, secret: &str, sql: &str) -> (u16, Value) {
    let request = weir.client.post(weir.analytics("/v1/sql")).basic_auth(user, Some(secret));
    let request = request.header("accept", "application/json").body(sql.to_owned());
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_read_what_their_roles_give_over_http() {
    let (mut weir, key) = with_users().await;
    let counted = "SELECT count(*) AS n, min(client_address) AS who FROM events";
    for secret in [PASSWORD, &key] {
        let answer = ask(&weir, "ann", secret, counted).await;
        assert_eq!(answer, (200, json!([{"n": 3, "who": "somebody"}])));
    }
    let (_, of_bob) = ask(&weir, "bob", PASSWORD, counted).await;
    assert!(of_bob[0]["n"].as_u64().unwrap() > 3, "{of_bob}");
    let (status, tables) = ask(
        &weir,
        "ann",
        &key,
        "SELECT table_name FROM information_schema.tables
        WHERE table_schema = 'public' ORDER BY 1",
    )
    .await;
    let named = json!([{"table_name": "events"}, {"table_name": "traffic_by_api_minute"}]);
    assert_eq!((status, tables), (200, named));

    for (sql, why) in [
        (
            "SELECT * FROM alerts",
            "there is no table alerts; did you mean events? there are events, traffic_by_api",
        ),
        ("SELECT user_agent_original FROM events", "there is no column user_agent_original"),
        ("SELECT * FROM search('site')", "search is for those who may read all of events"),
        ("EXPLAIN ANALYZE SELECT * FROM events", "EXPLAIN is for those who may read every table"),
        ("SELECT * FROM events WHERE http_route <> '/site/*' LIMIT 0; SELECT 1", "one query"),
    ] {
        let (status, told) = ask(&weir, "ann", &key, sql).await;
        assert_eq!((status, &told["code"]), (400, &json!("query_invalid")), "{sql}: {told}");
        assert!(told["detail"].as_str().unwrap().contains(why), "{told}");
    }
    // Who was refused, and what is for whoever runs the node.
    for (user, secret) in [("ann", "wrong"), ("eve", PASSWORD), ("ann", ""), ("eve", &key)] {
        let (status, told) = ask(&weir, user, secret, "SELECT 1").await;
        assert_eq!((status, &told["code"]), (401, &json!("client_invalid")), "{user}: {told}");
    }
    let status = weir.client.get(weir.analytics("/v1/status")).basic_auth("bob", Some(PASSWORD));
    let status = status.send().await.unwrap();
    assert_eq!(status.status(), 403);
    assert_eq!(status.json::<Value>().await.unwrap()["code"], "right_missing");
    let search =
        weir.client.get(weir.analytics("/v1/search?q=site")).basic_auth("bob", Some(PASSWORD));
    assert_eq!(search.send().await.unwrap().status(), 200);
    until(
        &weir,
        "SELECT count(*) AS n FROM events WHERE kind = 'authentication' AND auth_method = 'basic'",
        |seen| seen["n"] == 4,
    )
    .await;

    // What the command says.
    std::fs::write(weir.dir().join("ann.key"), &key).unwrap();
    let file = weir.dir().join("ann.key").display().to_string();
    let (code, said) = weir.run(&["query", "--user", "ann", "--token-file", &file, counted]);
    assert!(code == 0 && said.contains("somebody"), "{said}");

    // What is taken away is gone at the next query.
    apply(&weir, "kind: role\nname: site-analysts\nspec:\n  tables:\n    alerts: {}\n");
    let (status, told) = ask(&weir, "ann", &key, counted).await;
    assert_eq!(status, 400, "{told}");
    assert!(told["detail"].as_str().unwrap().contains("there is no table events"), "{told}");
    weir.stop();
}

/// What psql says as a user.
fn psql(weir: &Weir, user: &str, password: &str, sql: &str) -> (String, String) {
    let url = format!("postgresql://{user}@127.0.0.1:{}/weir", weir.postgres_port());
    let mut command = Command::new("psql");
    command.env("PGPASSWORD", password).args(["-X", "-At", &url, "-c", sql]);
    let said = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(said.stdout), text(said.stderr))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_read_what_their_roles_give_over_postgres() {
    let (mut weir, key) = with_users().await;
    let ann = |sql: &str| psql(&weir, "ann", PASSWORD, sql);
    let counted = "SELECT count(*), min(client_address), current_user FROM events";
    assert_eq!(ann(counted), ("3|somebody|ann\n".to_owned(), String::new()));
    assert!(ann("SELECT * FROM alerts").1.contains("there is no table alerts"));
    let (tables, _) = ann("\\d");
    assert!(tables.contains("events") && !tables.contains("alerts"), "{tables}");
    let (columns, _) = ann("\\d events");
    assert!(columns.contains("client_address"), "{columns}");
    assert!(!columns.contains("user_agent_original"), "{columns}");
    let refused = |user, password| psql(&weir, user, password, "SELECT 1").1;
    assert!(refused("ann", "wrong").contains("password authentication failed for user \"ann\""));
    assert!(refused("ann", &key).contains("password authentication failed"));
    assert!(refused("eve", PASSWORD).contains("there is no such user"));
    // The node's token does not make anybody a user who is none, and no user more.
    let token = weir.read_token("admin-token");
    assert!(refused("ann", &token).contains("password authentication failed"));
    assert_eq!(psql(&weir, "weir", &token, "SELECT current_user").0, "weir\n");
    let script = "SELECT count(*) AS n, min(client_address) AS who FROM events;\n";
    let said = rig::jdbc(weir.postgres_port(), "ann", PASSWORD, script).unwrap();
    assert!(said.contains("'3','somebody'"), "{said}");
    // Who guesses is not let in by the right one either, for a while; the token is.
    for _ in 0..10 {
        let told = refused("ann", "wrong");
        assert!(told.contains("authentication failed") || told.contains("too many"), "{told}");
    }
    assert!(refused("ann", PASSWORD).contains("too many wrong passwords came from here"));
    assert_eq!(psql(&weir, "weir", &token, "SELECT 1").0, "1\n");
    weir.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn adbc_asks_over_flight_sql() {
    let (mut weir, key) = with_users().await;
    let port = weir.flight_port();
    let ask = |user: &str, secret: &str, asked: &[Value]| -> Vec<Value> {
        let asked: Vec<String> = asked.iter().map(ToString::to_string).collect();
        let said = rig::flight(port, user, secret, &asked).unwrap();
        said.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let counted = json!({"sql": "SELECT count(*) AS n, min(client_address) AS who FROM events"});
    let said = ask(
        "ann",
        PASSWORD,
        &[
            counted.clone(),
            json!({"sql": "SELECT event_time, http_response_status_code FROM events
            WHERE http_route = $1 AND http_response_status_code >= $2", "parameters": ["/site/*", 100]}),
            json!({"sql": "SELECT nothing FROM events"}),
            json!({"sql": "SELECT value FROM range(200000)"}),
            json!({"sql": "SELECT * FROM alerts"}),
            json!({"sql": "DROP TABLE events"}),
            json!({"tables": true}),
            counted.clone(),
        ],
    );
    assert_eq!(said.len(), 8, "{said:#?}");
    assert_eq!(said[0]["rows"], json!([[3, "somebody"]]), "{said:#?}");
    assert_eq!(said[1]["rows"].as_array().unwrap().len(), 3, "{}", said[1]);
    assert_eq!(said[1]["columns"]["event_time"], "timestamp[us, tz=UTC]", "{}", said[1]);
    for (at, why) in [
        (2, "there is no column nothing"),
        (3, "the answer has more than 100000 rows"),
        (4, "there is no table alerts"),
        (5, "DROP is not run here"),
    ] {
        assert!(said[at]["error"].as_str().unwrap().contains(why), "{}", said[at]);
    }
    let tables = said[6]["tables"].as_object().unwrap();
    assert_eq!(tables.keys().collect::<Vec<_>>(), ["events", "traffic_by_api_minute"]);
    let columns = tables["events"].as_array().unwrap();
    assert!(columns.contains(&json!("client_address")), "{columns:?}");
    assert!(!columns.contains(&json!("user_agent_original")), "{columns:?}");
    assert_eq!(said[7], said[0]);

    let token = weir.read_token("admin-token");
    let many = json!({"sql": "SELECT value, repeat('x', 100) AS text FROM range(100000)"});
    for (user, secret) in [("ann", &key), ("weir", &token)] {
        let said = ask(user, secret, std::slice::from_ref(&many));
        let rows = said[0]["rows"].as_array().unwrap_or_else(|| panic!("{user}: {said:?}"));
        assert_eq!(rows.len(), 100_000, "{user}");
    }
    for (user, secret) in [("ann", "wrong"), ("eve", PASSWORD), ("eve", &key)] {
        let said = ask(user, secret, std::slice::from_ref(&counted));
        let why = said[0]["error"].as_str().unwrap();
        assert!(why.contains("client_invalid"), "{user}: {why}");
    }
    weir.stop();
}

/// What one asks who means harm, and how it ends.
const HOSTILE: [(&str, &str); 15] = [
    ("SELECT count(*) FROM events a, events b, events c, range(1000000000) d", "query_time"),
    (
        "SELECT count(DISTINCT a.value * b.value) FROM range(10000000) a, range(10000000) b",
        "query_time or query_memory",
    ),
    (
        "WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n",
        "query_time",
    ),
    ("SELECT repeat('x', 2000000000)", "query_memory"),
    ("SELECT length(repeat(url_path, 100000000)) FROM events", "query_memory"),
    ("SELECT sum(length(lpad('x', value * 100000))) FROM range(100000)", "query_memory"),
    ("SELECT array_repeat('x', 1000000000)", "query_invalid"),
    (
        "SELECT count(*) FROM events WHERE regexp_like(url_path, '(((a{1,1000}){1,1000}){1,1000})')",
        "query_failed",
    ),
    ("COPY (SELECT 1) TO '/tmp/weir-hostile.csv'", "query_invalid"),
    ("CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'", "query_invalid"),
    ("SELECT * FROM '/etc/passwd'", "query_invalid"),
    (
        "SELECT array_agg(a.value::text || b.value) FROM range(100000) a, range(1000000) b",
        "query_time or query_memory",
    ),
    ("SELECT sum(value) OVER () FROM range(1000000000)", "query_time or query_memory"),
    ("SELECT value FROM range(1000000000) ORDER BY value DESC", "query_time or query_memory"),
    (
        "SELECT count(*) FROM range(100000) a JOIN range(100000) b ON a.value <> b.value",
        "query_time",
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_means_harm_is_stopped_and_others_are_answered() {
    let (mut weir, key) = with_users().await;
    weir.stop();
    weir.set("WEIR_ANALYTICS__QUERIES__TIME_MS", "3000");
    weir.start(&[]);
    let seen = "SELECT count(*) AS events FROM events WHERE kind = 'request'";
    until(&weir, seen, |seen| seen["events"] == 4).await;
    let over = AtomicBool::new(false);
    let hostile = async {
        // As many at once as a user may.
        let ended = futures_util::stream::iter(HOSTILE)
            .map(async |(sql, code)| (sql, code, ask(&weir, "ann", &key, sql).await))
            .buffered(2)
            .collect::<Vec<_>>()
            .await;
        over.store(true, Ordering::Relaxed);
        ended
    };
    let others = async {
        let mut answered = 0;
        while !over.load(Ordering::Relaxed) {
            let counted = "SELECT count(*) AS n FROM events WHERE http_route = '/site/*'";
            let (status, rows) = ask(&weir, "bob", PASSWORD, counted).await;
            assert_eq!((status, &rows[0]["n"]), (200, &json!(3)), "{rows}");
            answered += 1;
        }
        answered
    };
    let (ended, answered) = tokio::join!(hostile, others);
    for (sql, code, (status, told)) in ended {
        let is_known = code.split(" or ").any(|code| told["code"] == code);
        assert!(is_known, "{sql}: {status} {told}");
        assert!(!told["detail"].as_str().unwrap().contains(".rs:"), "{sql}: {told}");
    }
    assert!(answered > 5, "{answered}");
    assert!(!std::path::Path::new("/tmp/weir-hostile.csv").exists());
    weir.stop();
}
