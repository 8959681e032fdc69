//! The main job: a real access log, from the generator through the gateway to the site
//! behind it, to SQL, to a detection, and to an email.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rig::{Kafka, Smtp};
use serde_json::Value;

use crate::weir::{PATIENCE, Weir};

const REPLAY: &str = "may-2015";
/// Who did in which hour what nobody does, and whether an email says so: an hour that
/// follows another is of the same alert. Counted by a calculation outside of Weir.
const FOUND: [(&str, &str, bool); 11] = [
    ("130.237.218.86", "2015-05-19 13:00", true),
    ("130.237.218.86", "2015-05-19 23:00", true),
    ("130.237.218.86", "2015-05-20 00:00", false),
    ("130.237.218.86", "2015-05-20 01:00", false),
    ("144.76.95.39", "2015-05-20 09:00", true),
    ("50.139.66.106", "2015-05-17 23:00", true),
    ("75.97.9.59", "2015-05-18 08:00", true),
    ("75.97.9.59", "2015-05-18 09:00", false),
    ("75.97.9.59", "2015-05-19 01:00", true),
    ("86.76.247.183", "2015-05-18 01:00", true),
    ("91.236.75.25", "2015-05-20 05:00", true),
];

pub(crate) fn found(wanted: impl Fn(bool) -> bool) -> Vec<(String, String)> {
    let found = FOUND.iter().filter(|(_, _, told)| wanted(*told));
    found.map(|(client, hour, _)| ((*client).to_owned(), (*hour).to_owned())).collect()
}

pub(crate) fn carried() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/example/access.log.zst")
}

/// Whether an email shows a chart, which comes with it, of what its subject did. Keeps the
/// picture where `KEEP_PICTURES` says.
fn has_chart(email: &str) -> bool {
    let email = email.replace("\r\n", "\n");
    let whole = email.replace("=\n", "").replace("=3D", "=");
    if !whole.contains("cid:chart") {
        assert!(!email.contains("image/png"));
        return false;
    }
    let (client, hour) = subject_of(&email);
    assert!(whole.contains(&format!("alt=\"Events of {client}, over time. success: ")), "{whole}");
    let picture = email.split("\n--").find(|part| part.contains("Content-Type: image/png"));
    let picture = picture.unwrap();
    assert!(
        picture.contains("Content-ID: <chart>") && picture.contains("Content-Disposition: inline")
    );
    let (_, picture) = picture.split_once("\n\n").unwrap();
    let picture = STANDARD.decode(picture.replace('\n', "")).unwrap();
    assert_eq!(&picture[..8], b"\x89PNG\r\n\x1a\n");
    assert_eq!(u32::from_be_bytes(picture[16..20].try_into().unwrap()), 1_200, "its width");
    if let Some(dir) = std::env::var_os("KEEP_PICTURES") {
        let name = format!("email-{client}-{}", hour.replace([' ', ':'], "-"));
        std::fs::write(Path::new(&dir).join(format!("{name}.png")), &picture).unwrap();
        std::fs::write(Path::new(&dir).join(format!("{name}.eml")), email).unwrap();
    }
    true
}

/// How many lines of the file each minute has, by its text alone.
fn minutes() -> BTreeMap<String, usize> {
    let mut text = Vec::new();
    let file = std::fs::File::open(carried()).unwrap();
    zstd::Decoder::new(file).unwrap().read_to_end(&mut text).unwrap();
    let mut minutes = BTreeMap::new();
    for line in String::from_utf8_lossy(&text).lines() {
        let (_, time) = line.split_once('[').unwrap();
        // 17/May/2015:10:05:03 +0000
        let (day, clock) = (&time[..2], &time[12..17]);
        *minutes.entry(format!("2015-05-{day}T{clock}:00Z")).or_default() += 1;
    }
    minutes
}

/// Rows of a query.
pub(crate) fn rows(weir: &Weir, sql: &str) -> Vec<Value> {
    let (code, said) = weir.run(&["query", sql, "--json"]);
    assert_eq!(code, 0, "{said}");
    serde_json::from_str(&said).unwrap()
}

/// The first row of a query, as soon as it is as it is waited for.
pub(crate) async fn until(weir: &Weir, sql: &str, is_there: impl Fn(&Value) -> bool) -> Value {
    let began = Instant::now();
    loop {
        let row = rows(weir, sql).remove(0);
        if is_there(&row) {
            return row;
        }
        assert!(began.elapsed() < PATIENCE, "{row}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn one(weir: &Weir, what: &str) -> Value {
    let sql = format!("SELECT {what} AS one FROM events WHERE replay_id = '{REPLAY}'");
    rows(weir, &sql)[0]["one"].clone()
}

/// The client and the hour that an email is about, as its text says.
pub(crate) fn subject_of(email: &str) -> (String, String) {
    let field = |name: &str| {
        let line = email.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().to_owned()
    };
    let client = field("Subject      ").split(' ').next().unwrap().to_owned();
    (client, field("Window       ")[..16].to_owned())
}

async fn job(mut weir: Weir) {
    let smtp = Smtp::start(&[]).unwrap();
    let mail = format!(
        "{{host: 127.0.0.1, port: {}, security: none, from: weir@example.org, \
         recipients: [security@example.org]}}",
        smtp.port()
    );
    weir.set("WEIR_ANALYTICS__MAIL", mail);
    weir.start(&[]);
    let file = carried();
    let file = file.to_str().unwrap();
    let log = ["replay-log", file, "--prefix", "/site", "--id", REPLAY, "--json"];
    let (code, said) = weir.run(&log);
    assert_eq!(code, 0, "{said}");

    // The generator, the site behind the gateway, and the lake count the same.
    let sent: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&sent["requests"], &sent["answered"]), (&10_000.into(), &10_000.into()), "{sent}");
    for what in ["unread", "different", "unanswered", "resent"] {
        assert_eq!(sent[what]["count"], 0, "{sent}");
    }
    let counted = weir.client.get(weir.origin(&format!("/replays/{REPLAY}")));
    let counted: Value = counted.send().await.unwrap().json().await.unwrap();
    let (all, distinct) = (&counted["requests"], &counted["distinct"]);
    assert_eq!((all, distinct), (&10_000.into(), &10_000.into()), "{counted}");
    let told = format!(
        "SELECT count(*) AS events, count(DISTINCT correlation_id) AS requests,
            count(DISTINCT client_address) AS clients,
            sum(http_response_body_size) AS bytes,
            count(*) FILTER (WHERE lag_us > 60000000) AS late,
            count(*) FILTER (WHERE lag_us > 0) AS behind
         FROM events WHERE replay_id = '{REPLAY}' AND kind = 'request'"
    );
    // They are in the log by now, and in SQL a moment later.
    let told = until(&weir, &told, |told| told["events"] == 10_000).await;
    assert_eq!((&told["events"], &told["requests"]), (&10_000.into(), &10_000.into()), "{told}");
    assert_eq!((&told["clients"], &told["late"]), (&1_753.into(), &0.into()), "{told}");
    assert_eq!(told["bytes"], 2_747_282_740_u64, "{told}");
    assert!(told["behind"].as_u64().unwrap() > 1_000, "the file is out of order: {told}");
    assert_eq!(one(&weir, "count(DISTINCT kind)"), 2, "requests, and the replay's end");

    let by_minute = format!(
        "SELECT date_trunc('minute', event_time) AS minute, count(*) AS requests FROM events
         WHERE replay_id = '{REPLAY}' AND kind = 'request' GROUP BY 1"
    );
    let by_minute = rows(&weir, &by_minute).into_iter().map(|row| {
        let minute = row["minute"].as_str().unwrap().to_owned();
        (minute, usize::try_from(row["requests"].as_u64().unwrap()).unwrap())
    });
    let (by_minute, expected) = (by_minute.collect::<BTreeMap<_, _>>(), minutes());
    assert_eq!(expected.len(), 84);
    assert_eq!(by_minute, expected);
    let statuses = format!(
        "SELECT http_response_status_code AS status, count(*) AS requests FROM events
         WHERE replay_id = '{REPLAY}' AND kind = 'request' GROUP BY 1 ORDER BY 2 DESC LIMIT 4"
    );
    let statuses: Vec<_> = rows(&weir, &statuses)
        .iter()
        .map(|row| (row["status"].as_u64().unwrap(), row["requests"].as_u64().unwrap()))
        .collect();
    assert_eq!(statuses, [(200, 9_126), (304, 445), (404, 213), (301, 164)]);

    // The view has answered each minute once, with the same counts.
    let view = format!(
        "SELECT count(*) AS windows, sum(requests) AS requests FROM traffic_by_api_minute
         WHERE replay_id = '{REPLAY}'"
    );
    let view = until(&weir, &view, |view| view["requests"] == 10_000).await;
    assert_eq!(view["windows"], 84);

    // What is abnormal in it was found, and told once each, with its evidence.
    let began = Instant::now();
    let mails = loop {
        let mails = smtp.kept().unwrap();
        if mails.len() >= found(|told| told).len() {
            break mails;
        }
        assert!(began.elapsed() < PATIENCE, "{} emails\n{}", mails.len(), weir.said());
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let mut told: Vec<(String, String)> =
        mails.iter().map(|mail| subject_of(&mail.email)).collect();
    told.sort_unstable();
    assert_eq!(told, found(|told| told));
    // One that could not be drawn in time is left out.
    assert!(mails.iter().any(|mail| has_chart(&mail.email)), "no email has a chart");
    for mail in mails {
        assert!(mail.recipients.contains("security@example.org"), "{mail:?}");
        for part in [REPLAY, "requests limit", "SELECT", "client_out_of_range"] {
            assert!(mail.email.contains(part), "{part}: {}", mail.email);
        }
    }

    // The same file over history gives the same.
    let detection = "queries/detections/client_out_of_range.sql";
    let detection = Path::new(env!("CARGO_MANIFEST_DIR")).join(detection);
    let asked = ["backtest", detection.to_str().unwrap(), "--replay", REPLAY, "--json"];
    let (code, said) = weir.run(&asked);
    assert_eq!(code, 0, "{said}");
    let rows: Vec<Value> = serde_json::from_str(&said).unwrap();
    let text = |row: &Value, name: &str| row[name].as_str().unwrap().to_owned();
    let again = rows.iter().map(|row| {
        let hour = text(row, "window_start").replace('T', " ");
        (text(row, "client_address"), hour[..16].to_owned())
    });
    let mut again: Vec<(String, String)> = again.collect();
    again.sort_unstable();
    assert_eq!(again, found(|_| true));
    let unknown = ["backtest", detection.to_str().unwrap(), "--replay", "june", "--json"];
    let (code, said) = weir.run(&unknown);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("there is no event of a replay june"), "{said}");
    tried(&weir, detection.to_str().unwrap());
    weir.stop();
    assert_eq!(smtp.kept().unwrap().len(), told.len(), "no alert is told of twice");
}

/// A detection is tried before it runs: whom it would have told of, what would have been
/// refused, and what another version would have done.
fn tried(weir: &Weir, detection: &str) {
    let backtest = |file: &str, more: &[&str]| {
        let asked = [&["backtest", file, "--replay", REPLAY, "--alerts"], more].concat();
        let (code, said) = weir.run(&asked);
        assert_eq!(code, 0, "{said}");
        said
    };
    let text = |row: &Value, name: &str| row[name].as_str().unwrap().to_owned();
    let begin = |row: &Value| text(row, "begins")[..16].replace('T', " ");
    let of = |said: &str| -> Vec<(String, String)> {
        let alerts: Vec<Value> = serde_json::from_str(said).unwrap();
        let mut alerts: Vec<_> =
            alerts.iter().map(|row| (text(row, "subject"), begin(row))).collect();
        alerts.sort_unstable();
        alerts
    };
    let said = backtest(detection, &["--block", "24h", "--json"]);
    assert_eq!(of(&said), found(|told| told));
    let alerts: Vec<Value> = serde_json::from_str(&said).unwrap();
    for alert in &alerts {
        let (client, since) = (text(alert, "subject"), text(alert, "told"));
        let sql = format!(
            "SELECT count(*) AS n, count(*) FILTER (WHERE outcome = 'success') AS good FROM events \
             WHERE kind = 'request' AND replay_id = '{REPLAY}' AND client_address = '{client}' \
             AND event_time >= '{since}' AND event_time < TIMESTAMP '{since}' + INTERVAL '24 hours'"
        );
        let counted = rows(weir, &sql).remove(0);
        assert_eq!((&alert["blocked"], &alert["blocked_good"]), (&counted["n"], &counted["good"]));
    }
    assert!(alerts.iter().any(|alert| alert["blocked"].as_u64() > Some(0)), "{said}");

    let text_of = std::fs::read_to_string(detection).unwrap();
    let other = text_of.replace("greatest(30,", "greatest(150,");
    assert_ne!(other, text_of);
    let folder = weir.write("other", &[("milder.sql", &other)]);
    let other = format!("{folder}/milder.sql");
    let milder = of(&backtest(&other, &["--json"]));
    assert!(!milder.is_empty() && milder.len() < alerts.len(), "{milder:?}");
    let chart = format!("{folder}/alerts.png");
    let said = backtest(detection, &["--against", &other, "--chart", &chart, "--json"]);
    let compared: Vec<Value> = serde_json::from_str(&said).unwrap();
    let only =
        |name: Option<&str>| compared.iter().filter(|row| row["only_in"].as_str() == name).count();
    let counts = (only(None), only(Some("client_out_of_range.sql")), only(Some("milder.sql")));
    assert_eq!(counts, (milder.len(), alerts.len() - milder.len(), 0), "{said}");
    let picture = std::fs::read(&chart).unwrap();
    assert_eq!(&picture[..8], b"\x89PNG\r\n\x1a\n");
    if let Ok(kept) = std::env::var("KEEP_PICTURES") {
        std::fs::copy(&chart, Path::new(&kept).join("backtest.png")).unwrap();
    }
    let told = backtest(detection, &["--against", &other]);
    let last = format!(
        "{} alerts in both, {} only in client_out_of_range.sql, 0 only in milder.sql\n",
        counts.0, counts.1
    );
    assert!(told.ends_with(&last), "{told}");
    let view = Path::new(env!("CARGO_MANIFEST_DIR")).join("queries/views/latency_by_resource.sql");
    let (code, said) = weir.run(&["backtest", view.to_str().unwrap(), "--alerts"]);
    assert!(code == 2 && said.contains("it is a view"), "{said}");
    let (code, said) = weir.run(&["backtest", detection, "--since", "soon"]);
    assert!(code == 2 && said.contains("is no time; write 2026-01-31T10:00:00Z"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_access_log_is_counted_everywhere_and_its_abnormal_clients_are_told_of() {
    job(Weir::new()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_access_log_is_counted_everywhere_on_kafka_too() {
    let kafka = Kafka::start(1).unwrap();
    let mut weir = Weir::new();
    weir.set("WEIR_LOG__KAFKA__BOOTSTRAP", kafka.bootstrap());
    job(weir).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_sends_its_log_once_and_anew_if_it_was_broken_off() {
    let mut weir = Weir::new();
    weir.set("WEIR_EXAMPLE__REPLAY", "true");
    weir.start(&[]);
    // Killed at once: what was begun is ended by the next start, which begins anew.
    weir.kill();
    weir.start(&[]);
    let began = Instant::now();
    while !weir.said().contains("The example has sent its access log:") {
        assert!(began.elapsed() < PATIENCE, "{}", weir.said());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Its findings are emails, which are files where there is no mail server.
    let wanted: BTreeSet<_> = found(|is_told| is_told).into_iter().collect();
    loop {
        let files = std::fs::read_dir(weir.data_dir().join("example/mail")).unwrap();
        let files = files.map(|file| file.unwrap().path());
        let emails = files.filter(|file| file.extension().is_some_and(|of| of == "eml"));
        let subject = |file: PathBuf| subject_of(&std::fs::read_to_string(file).unwrap());
        let subjects: BTreeSet<_> = emails.map(subject).collect();
        if subjects.len() >= wanted.len() {
            assert_eq!(subjects, wanted);
            break;
        }
        assert!(began.elapsed() < PATIENCE, "{subjects:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    weir.stop();
    weir.start(&[]);
    let told = "SELECT replay_id FROM events WHERE kind = 'request' AND replay_id IS NOT NULL
        GROUP BY 1 HAVING count(*) = 10000";
    assert_eq!(rows(&weir, told).len(), 1);
    assert!(!weir.said().contains("has sent"), "{}", weir.said());
    weir.stop();
}

#[tokio::test]
async fn a_replay_needs_its_credential_and_a_log() {
    let mut weir = Weir::new();
    weir.start(&[]);
    let dir = weir
        .write("files", &[("token", "not-the-credential-of-this-node-at-all"), ("a.csv", "a,b\n")]);
    let (table, token) = (format!("{dir}/a.csv"), format!("{dir}/token"));
    let log = carried();
    let log = log.to_str().unwrap();
    let check = |arguments: &[&str], code: i32, expected: &str| {
        let (ended, said) = weir.run(&[&["replay-log"], arguments].concat());
        assert_eq!(ended, code, "{said}");
        assert!(said.contains(expected), "{said}");
    };
    check(&["nowhere.log"], 2, "open nowhere.log");
    check(&[&table], 2, "no access log in the combined format");
    check(&[log, "--id", "A b"], 2, "is to be 1 to 64 of a-z 0-9 . _ -");
    check(&[log, "--speed", "fast"], 2, "or max");
    check(&[log, "--prefix", "site"], 2, "give it as /site");
    check(&[log, "--gateway", "here"], 2, "give it as http://host:port");
    check(
        &[log, "--credential-file", &token, "--patience", "1"],
        2,
        "takes no replay by this credential",
    );
    weir.stop();
}

/// Three requests of one minute of the file, a second of ours at this speed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chosen_speed_keeps_the_requests_of_a_minute_apart() {
    let mut weir = Weir::new();
    weir.start(&[]);
    let line = |second: u32| {
        format!(
            "203.0.113.7 - - [17/May/2015:10:05:{second:02} +0000] \"GET /a HTTP/1.1\" 200 5 \"-\" \"-\"\n"
        )
    };
    let dir = weir.write("log", &[("access.log", &[line(0), line(30), line(59)].concat())]);
    let log = format!("{dir}/access.log");
    let began = Instant::now();
    let asked = ["replay-log", &log, "--prefix", "/site", "--id", "slow", "--speed", "60"];
    let (code, said) = weir.run(&asked);
    assert_eq!(code, 0, "{said}");
    assert!(began.elapsed() >= Duration::from_millis(59_000 / 60), "{said}");
    let spread = "SELECT extract(EPOCH FROM max(log_time) - min(log_time)) * 1000 AS ms,
        count(*) AS events FROM events WHERE replay_id = 'slow' AND kind = 'request'";
    let spread = until(&weir, spread, |found| found["events"] == 3).await;
    assert!(spread["ms"].as_f64() >= Some(800.0), "{spread}");
    weir.stop();
}

/// What a URL library would tidy up, and so send elsewhere, comes as it was sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scanners_targets_are_sent_as_they_were() {
    let mut weir = Weir::new();
    weir.start(&[]);
    let targets = ["/../shop/orders", "/a/%2e%2e/b", "/a\\b", "//c", "/d?e=../f"];
    let line = |(second, target): (usize, &&str)| {
        format!(
            "203.0.113.7 - - [17/May/2015:10:05:{second:02} +0000] \"GET {target} HTTP/1.1\" 404 5 \"-\" \"-\"\n"
        )
    };
    let log: String = targets.iter().enumerate().map(line).collect();
    let log = weir.write("log", &[("access.log", &log)]) + "/access.log";
    let (code, said) = weir.run(&["replay-log", &log, "--prefix", "/site", "--id", "scan"]);
    assert_eq!(code, 0, "{said}");
    let told =
        "SELECT count(*) AS events FROM events WHERE replay_id = 'scan' AND kind = 'request'";
    until(&weir, told, |found| found["events"] == targets.len()).await;
    let told = "SELECT url_path || coalesce('?' || url_query, '') AS target FROM events
        WHERE replay_id = 'scan' AND kind = 'request' ORDER BY event_time";
    let found = rows(&weir, told);
    let found: Vec<&str> = found.iter().map(|row| row["target"].as_str().unwrap()).collect();
    let sent: Vec<String> = targets.iter().map(|target| format!("/site{target}")).collect();
    assert_eq!(found, sent);
    weir.stop();
}
