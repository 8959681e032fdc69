//! SQL by PostgreSQL's protocol, as people's own tools speak it.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use crate::replay::until;
use crate::weir::{PATIENCE, Weir};

/// What psql says to a script, and how it ended.
fn psql(weir: &Weir, password: &str, arguments: &[&str]) -> (i32, String, String) {
    let port = weir.postgres_port();
    let mut command = Command::new("psql");
    command.env("PGPASSWORD", password).env("PGCONNECT_TIMEOUT", "10");
    command.arg("-X").arg(format!("postgresql://weir@127.0.0.1:{port}/weir")).args(arguments);
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// A driver's client.
async fn connected(weir: &Weir, token: &str) -> tokio_postgres::Client {
    let mut config = tokio_postgres::Config::new();
    config.host("127.0.0.1").port(weir.postgres_port());
    config.user("weir").password(token).dbname("weir");
    let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Three requests are in SQL.
async fn asked() -> (Weir, String) {
    let mut weir = Weir::new();
    weir.start(&[]);
    for _ in 0..3 {
        weir.client.get(weir.gateway("/site/")).send().await.unwrap();
    }
    let seen = "SELECT count(*) AS events FROM events WHERE kind = 'request'";
    until(&weir, seen, |seen| seen["events"] == 3).await;
    let token = weir.read_token("admin-token");
    (weir, token)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn psql_asks_describes_and_is_told_what_is_wrong() {
    let (mut weir, token) = asked().await;
    let ask = |sql: &str| psql(&weir, &token, &["-At", "-v", "VERBOSITY=verbose", "-c", sql]);
    let of_requests = "SELECT http_route, http_response_status_code, count(*) FROM events
        WHERE kind = 'request' GROUP BY 1, 2";
    assert_eq!(ask(of_requests), (0, "/site/*|200|3\n".to_owned(), String::new()));
    let times = ask("SELECT event_time, event_time > TIMESTAMP '2020-01-01' FROM events LIMIT 1");
    assert!(times.1.contains("+00|t"), "{times:?}");
    let windows = "SELECT count(*) FROM HOP(events, event_time, INTERVAL '1 minute',
        INTERVAL '5 minutes') WHERE kind = 'request'";
    assert_eq!(ask(windows).1, "15\n");

    // The tables, and the columns of one.
    let (_, tables, _) = psql(&weir, &token, &["-c", "\\d"]);
    for table in ["events", "alerts", "delivery_account", "traffic_by_api_minute"] {
        assert!(tables.contains(table), "{tables}");
    }
    let (_, columns, _) = psql(&weir, &token, &["-c", "\\d alerts"]);
    for column in ["severity", "begins", "timestamp with time zone", "text", "not null"] {
        assert!(columns.contains(column), "{columns}");
    }
    for listed in ["\\l", "\\dn", "\\dt", "\\dv", "\\conninfo"] {
        let (code, said, wrong) = psql(&weir, &token, &["-c", listed]);
        assert!(code == 0 && wrong.is_empty(), "{listed}: {said}\n{wrong}");
    }

    // Settings and transactions, of which nothing comes; and what is none of these.
    let script = "BEGIN; SET application_name = 'a test'; SHOW transaction_isolation; COMMIT;";
    assert_eq!(ask(script).1, "BEGIN\nSET\nread committed\nCOMMIT\n");
    for (sql, expected) in [
        ("SELECT nothing FROM events", "ERROR:  42703: there is no column nothing"),
        ("SELECT * FROM evnts", "ERROR:  42P01: there is no table evnts; did you mean events?"),
        ("SELEC 1", "ERROR:  42601:"),
        ("DELETE FROM events", "ERROR:  0A000: DELETE is not run here: only queries are"),
        ("CREATE TABLE t AS SELECT 1", "ERROR:  0A000: CREATE is not run here"),
        ("COPY events TO '/tmp/events'", "ERROR:  0A000: COPY is not run here"),
        ("SET work_mem = '1GB'", "ERROR:  42704: there is no setting work_mem"),
        ("SET search_path = other", "ERROR:  22023: search_path is public here"),
    ] {
        let (code, _, wrong) = ask(sql);
        assert!(code == 1 && wrong.contains(expected), "{sql}: {wrong}");
    }
    // Of several statements, those before one that fails are answered, and none after it.
    let script = "SELECT 1; SELECT nothing; SELECT 2";
    let (code, said, wrong) = ask(script);
    assert!(code == 1 && said == "1\n" && wrong.contains("42703"), "{said} {wrong}");
    let script = ["-At", "-c", "BEGIN; SELECT nothing", "-c", "ROLLBACK; SELECT 3"];
    assert_eq!(psql(&weir, &token, &script).1, "BEGIN\nROLLBACK\n3\n");
    assert!(ask("ROLLBACK TO SAVEPOINT s").2.contains("0A000"));
    // A failed transaction is over at its end alone.
    let (_, said, wrong) = psql(
        &weir,
        &token,
        &[
            "-At", "-c", "BEGIN", "-c", "SELECT x", "-c", "SELECT 1", "-c", "ROLLBACK", "-c",
            "SELECT 2",
        ],
    );
    assert!(wrong.contains("the transaction has failed; end it by ROLLBACK"), "{wrong}");
    assert_eq!(said, "BEGIN\nROLLBACK\n2\n");
    weir.stop();
}

/// A message of the protocol.
fn framed(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[kind][..], &length.to_be_bytes(), body].concat()
}

/// What opens a session.
fn startup() -> Vec<u8> {
    let body = b"\0\x03\0\0user\0weir\0database\0weir\0\0";
    framed(b' ', body)[1..].to_vec()
}

/// What is said to bytes until the connection is closed.
fn said_to(port: u16, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // It may be closed before all is sent.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    if let Err(error) = stream.read_to_end(&mut answer) {
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "it is not closed");
    }
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_not_the_token_is_told_of_and_reads_nothing() {
    let (mut weir, token) = asked().await;
    for (password, expected) in
        [("wrong", "password authentication failed"), ("", "no password supplied")]
    {
        let (code, said, wrong) = psql(&weir, password, &["-w", "-c", "SELECT 1"]);
        assert!(code == 2 && said.is_empty() && wrong.contains(expected), "{wrong}");
    }
    assert_eq!(psql(&weir, &token, &["-At", "-c", "SELECT 1"]).1, "1\n");
    // Whatever else is sent before the token: the door closes, and has run nothing.
    let query = framed(b'Q', b"SELECT 4711\0");
    let unknown = framed(b'p', b"NO-SUCH-WAY\0\0\0\0\0");
    let huge = [&[b'Q'][..], &1_000_000_000_u32.to_be_bytes(), &[b'x'; 60_000]].concat();
    let huge_first = [&1_000_000_u32.to_be_bytes()[..], &[b'x'; 60_000]].concat();
    let begun = |then: &[u8]| [&startup(), then].concat();
    for sent in [
        begun(&query),
        begun(&[unknown.clone(), query.clone(), query.clone()].concat()),
        begun(&huge),
        begun(&framed(b'p', b"")),
        begun(&[b'p', 0, 0, 0, 1]),
        huge_first,
        b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n".to_vec(),
    ] {
        let answer = said_to(weir.postgres_port(), &sent);
        assert!(!answer.contains("4711") && !answer.contains("SELECT"), "{answer:?}");
    }
    let told = "SELECT auth_method, auth_outcome, client_address FROM events
        WHERE kind = 'authentication' AND service_name = 'weir-analytics'";
    let told = until(&weir, told, |told| told["auth_outcome"] == "denied").await;
    assert_eq!(
        (&told["auth_method"], &told["client_address"]),
        (&"scram".into(), &"127.0.0.1".into())
    );
    weir.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_that_is_cancelled_or_takes_too_long_ends() {
    let mut weir = Weir::new();
    weir.set("WEIR_ANALYTICS__QUERIES__TIME_MS", "4000");
    weir.set("WEIR_ANALYTICS__QUERIES__ROWS_MAX", "1000");
    weir.start(&[]);
    let token = weir.read_token("admin-token");
    let endless =
        "SELECT count(*) FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b";
    let began = Instant::now();
    let (code, _, wrong) = psql(&weir, &token, &["-v", "VERBOSITY=verbose", "-c", endless]);
    assert!(code == 1 && wrong.contains("57014: the query took longer than 4 s"), "{wrong}");
    assert!(began.elapsed() >= Duration::from_secs(4));

    // As by Ctrl-C.
    let mut command = Command::new("psql");
    command.env("PGPASSWORD", &token).arg("-X");
    command.arg(format!("postgresql://weir@127.0.0.1:{}/weir", weir.postgres_port()));
    command.args(["-c", endless]).stderr(std::process::Stdio::piped());
    let running = command.spawn().unwrap();
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let began = Instant::now();
    let pid = rustix::process::Pid::from_raw(running.id() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let output = running.wait_with_output().unwrap();
    let wrong = String::from_utf8(output.stderr).unwrap();
    assert!(wrong.contains("cancel"), "{wrong}");
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());

    // An answer is whole, or none.
    let series = "SELECT * FROM generate_series(1, 2000)";
    let (code, said, wrong) = psql(&weir, &token, &["-v", "VERBOSITY=verbose", "-c", series]);
    assert!(code == 1 && said.is_empty(), "{said}");
    assert!(wrong.contains("54000: the answer has more than 1000 rows"), "{wrong}");
    let limited = format!("{series} LIMIT 1000");
    let (_, said, _) = psql(&weir, &token, &["-At", "-c", &limited]);
    assert_eq!(said.lines().count(), 1_000);
    // Nor is one that is fetched in parts; whatever a client says that it wants.
    let mut client = connected(&weir, &token).await;
    let asked = client.transaction().await.unwrap();
    let portal = asked.bind(series, &[]).await.unwrap();
    for _ in 0..3 {
        assert_eq!(asked.query_portal(&portal, 300).await.unwrap().len(), 300);
    }
    let missing = asked.query_portal(&portal, 300).await.unwrap_err();
    assert_eq!(missing.code().unwrap().code(), "54000");
    asked.rollback().await.unwrap();
    let asked = client.transaction().await.unwrap();
    let portal = asked.bind(limited.as_str(), &[]).await.unwrap();
    assert_eq!(asked.query_portal(&portal, i32::MAX).await.unwrap().len(), 1_000);
    asked.commit().await.unwrap();
    // A statement that was broken off is not in the way of the next.
    let stop = client.cancel_token();
    let (broken_off, ()) = tokio::join!(client.simple_query(endless), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        stop.cancel_query(tokio_postgres::NoTls).await.unwrap();
    });
    assert_eq!(broken_off.unwrap_err().code().unwrap().code(), "57014");
    for _ in 0..5 {
        client.query("SELECT count(*) FROM events", &[]).await.unwrap();
    }
    // A message that is too long ends the connection, with its reason.
    let long = format!("SELECT '{}'", "x".repeat(2 * 1024 * 1024));
    let refused = client.simple_query(&long).await.unwrap_err();
    assert!(refused.is_closed() || refused.code().is_some_and(|of| of.code() == "08P01"));
    weir.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_jdbc_client_asks_and_finds_the_tables() {
    let (mut weir, token) = asked().await;
    let script = "!tables
!describe alerts
SELECT http_route, count(*) AS n FROM events WHERE kind = 'request' GROUP BY 1;
SELECT max(event_time) > TIMESTAMP '2020-01-01' AS is_new, avg(latency_total_us) > 0 AS took FROM events;
SELECT nothing FROM events;
";
    let said = rig::jdbc(weir.postgres_port(), "anybody", &token, script).unwrap();
    for part in [
        "'traffic_by_api_minute'",
        "'alerts','severity'",
        "'/site/*','3'",
        "'true','true'",
        "ERROR: there is no column nothing",
    ] {
        assert!(said.contains(part), "{part}\n{said}");
    }
    weir.stop();
}

/// What Grafana's PostgreSQL data source asks, to try a connection, to help with a query, and
/// for a panel; by its own macros, as it puts them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grafana_finds_its_way() {
    let (mut weir, token) = asked().await;
    let ask = |sql: &str| {
        let (code, said, wrong) = psql(&weir, &token, &["-At", "-c", sql]);
        assert_eq!((code, wrong.as_str()), (0, ""), "{sql}");
        said
    };
    assert_eq!(ask("SELECT 1"), "1\n");
    assert!(ask("SELECT version()").starts_with("PostgreSQL 16"));
    assert_eq!(ask("SELECT current_setting('server_version_num')::int/100 as version"), "1600\n");
    let tables = ask("SELECT
        CASE WHEN quote_ident(table_schema) IN (
            SELECT CASE WHEN trim(s[i]) = '\"$user\"' THEN user ELSE trim(s[i]) END
            FROM generate_series(
                array_lower(string_to_array(current_setting('search_path'),','),1),
                array_upper(string_to_array(current_setting('search_path'),','),1)
            ) as i,
            string_to_array(current_setting('search_path'),',') s
        ) THEN quote_ident(table_name)
        ELSE quote_ident(table_schema) || '.' || quote_ident(table_name) END AS \"table\"
        FROM information_schema.tables
        WHERE quote_ident(table_schema) NOT IN ('information_schema', 'pg_catalog')
        ORDER BY 1");
    assert!(tables.lines().any(|table| table.ends_with("events")), "{tables}");
    let columns = ask("SELECT quote_ident(column_name) AS \"column\", data_type AS \"type\"
        FROM information_schema.columns WHERE quote_ident(table_name) = 'alerts'");
    assert!(columns.contains("severity"), "{columns}");
    let panel = "SELECT floor(extract(epoch from event_time)/60)*60 AS \"time\",
        count(*) AS \"requests\" FROM events
        WHERE event_time BETWEEN '2020-01-01T00:00:00Z' AND '2100-01-01T00:00:00Z'
            AND kind = 'request'
        GROUP BY 1 ORDER BY 1";
    let counted: u64 = ask(panel)
        .lines()
        .map(|line| line.split_once('|').unwrap().1.parse::<u64>().unwrap())
        .sum();
    assert_eq!(counted, 3);
    let began = Instant::now();
    // And each answer is of what was read by then.
    weir.client.get(weir.gateway("/site/")).send().await.unwrap();
    while ask("SELECT count(*) FROM events WHERE kind = 'request'") != "4\n" {
        assert!(began.elapsed() < PATIENCE);
    }
    weir.stop();
}

/// As drivers do: parameters by their types, results in binary, one statement many times.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_is_prepared_once_and_asked_with_parameters() {
    let (mut weir, token) = asked().await;
    let client = connected(&weir, &token).await;
    let text =
        "SELECT http_route, event_time, latency_total_us, latency_total_us > $3, count(*) OVER ()
        FROM events WHERE kind = $1 AND http_response_status_code = $2 AND event_time > $4
        ORDER BY event_time LIMIT 1";
    let statement = client.prepare(text).await.unwrap();
    let types: Vec<&str> = statement.params().iter().map(|of| of.name()).collect();
    assert_eq!(types, ["text", "int8", "int8", "timestamptz"]);
    let since = std::time::SystemTime::now() - Duration::from_secs(3_600);
    for (status, expected) in [(200_i64, Some(3_i64)), (404, None)] {
        let rows = client.query(&statement, &[&"request", &status, &-1_i64, &since]).await.unwrap();
        let counted = rows.first().map(|row| row.get::<_, i64>(4));
        assert_eq!(counted, expected);
        for row in &rows {
            assert_eq!(row.get::<_, &str>(0), "/site/*");
            assert!(row.get::<_, std::time::SystemTime>(1) > since);
            assert!(row.get::<_, i64>(2) > 0 && row.get::<_, bool>(3));
        }
    }
    // It sees what came after it was prepared.
    weir.client.get(weir.gateway("/site/")).send().await.unwrap();
    let began = Instant::now();
    loop {
        let rows = client.query(&statement, &[&"request", &200_i64, &-1_i64, &since]).await;
        if rows.unwrap()[0].get::<_, i64>(4) == 4 {
            break;
        }
        assert!(began.elapsed() < PATIENCE);
    }
    let wrong = client.prepare("SELECT $1 + nothing FROM events").await.unwrap_err();
    assert_eq!(wrong.code().unwrap().code(), "42703");
    let several = client.prepare("SELECT 1; SELECT 2").await.unwrap_err();
    assert!(several.as_db_error().unwrap().message().contains("one statement at a time"));
    // The connection goes on.
    assert_eq!(client.query_one("SELECT 7", &[]).await.unwrap().get::<_, i64>(0), 7);
    weir.stop();
}
