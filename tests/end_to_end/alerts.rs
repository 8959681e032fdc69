//! Alerts, as people are told of them and answer.

use std::path::Path;
use std::time::{Duration, Instant};

use fantoccini::Locator;
use serde_json::Value;

use crate::browser::Browser;
use crate::queues::{click, reads};
use crate::weir::{PATIENCE, Weir};

/// It finds whoever asks for what is not there, within a few seconds.
const DETECTION: &str = "-- title: Somebody looks for what is not there
-- owner: security
-- lateness: 1 s
-- severity: high
-- subject: user_agent_original
-- quiet: 30 min
-- message: \"{{ user_agent_original }} asked {{ requests | grouped }} times for nothing\"
SELECT window_start, window_end, user_agent_original, count(*) AS requests
FROM TUMBLE(events, event_time, INTERVAL '1 second')
WHERE kind = 'request' AND http_response_status_code = 404 AND user_agent_original IS NOT NULL
GROUP BY window_start, window_end, user_agent_original
";

/// A node whose detection is [`DETECTION`], and whose emails are files; where those are.
fn begin() -> (Weir, String) {
    let mut weir = Weir::new();
    weir.write("queries/detections", &[("seeker.sql", DETECTION)]);
    let mail = format!("{}/mail", weir.write("mail", &[]));
    let settings = format!(
        "example: {{replay: false}}
analytics:
  queries_dir: queries
  shipped: []
  mail: {{directory: {mail}, from: weir@example.org, recipients: [first@example.org]}}
  routes:
  - detections: [seek*]
    escalate:
    - {{after_ms: 2000, emails: [lead@example.org]}}
    - {{after_ms: 12000, emails: [boss@example.org]}}
"
    );
    let file = weir.write("settings", &[("weir.yaml", &settings)]);
    weir.start(&["--config", &format!("{file}/weir.yaml")]);
    (weir, mail)
}

/// Asks for nothing under a name until an alert of it is open; answers its id.
async fn found(weir: &Weir, agent: &str) -> String {
    let began = Instant::now();
    loop {
        let asked = weir.client.get(weir.gateway("/nothing")).header("user-agent", agent);
        assert_eq!(asked.send().await.unwrap().status(), 404);
        let sql = format!("SELECT id FROM alerts WHERE subject = '{agent}' AND state = 'open'");
        let (code, said) = weir.run(&["query", &sql, "--json"]);
        assert_eq!(code, 0, "{said}");
        let rows: Value = serde_json::from_str(&said).unwrap();
        if let Some(id) = rows[0]["id"].as_str() {
            return id.to_owned();
        }
        assert!(began.elapsed() < PATIENCE, "no alert of {agent}");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

/// The emails that were written about an alert, by their names.
fn emails(mail: &str, id: &str) -> Vec<String> {
    let files = std::fs::read_dir(Path::new(mail)).map(Iterator::flatten).into_iter().flatten();
    let names = files.map(|file| file.file_name().into_string().unwrap());
    let mut names: Vec<String> = names
        .filter_map(|name| Some(name.strip_prefix(id)?.strip_suffix(".eml")?.to_owned()))
        .collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alerts_are_answered_from_the_command_line() {
    let (weir, mail) = begin();
    let id = found(&weir, "seeker/1").await;
    let began = Instant::now();
    while emails(&mail, &id) != [".escalated-1.lead@example.org", ".first@example.org"] {
        assert!(began.elapsed() < PATIENCE, "{:?}", emails(&mail, &id));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let short = &id[..8];
    let (code, said) = weir.run(&["alerts", "ack", short, "--by", "ann", "--note", "our own scan"]);
    assert_eq!((code, said), (0, format!("alert {id} is acknowledged by ann\n")));
    let (_, list) = weir.run(&["alerts", "list"]);
    let row = list.lines().find(|line| line.starts_with(short)).unwrap_or_default();
    assert!(row.contains("ann") && row.contains("seeker/1"), "{list}");
    let (_, shown) = weir.run(&["alerts", "show", short]);
    for expected in [
        "times for nothing",
        "our own scan",
        "requests",
        "FROM events",
        "detection     seeker (owner: security)",
    ] {
        assert!(shown.contains(expected), "{expected}\n{shown}");
    }

    // Of what is silenced nobody is told.
    let silence = ["alerts", "silence", "--subject", "seeker/2*", "--for", "90m", "--by", "ann"];
    let (code, said) = weir.run(&silence);
    assert_eq!(code, 0, "{said}");
    assert!(said.starts_with("silence ") && said.contains(" holds until "), "{said}");
    let silent = found(&weir, "seeker/2").await;
    let (_, said) = weir.run(&["alerts", "silences"]);
    assert!(said.contains("seeker/2*") && said.contains("ann"), "{said}");
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(emails(&mail, &silent), [""; 0]);
    let (_, silences) = weir.run(&["alerts", "silences", "--json"]);
    let silences: Value = serde_json::from_str(&silences).unwrap();
    let of = silences[0]["id"].as_str().unwrap();
    let (code, said) = weir.run(&["alerts", "unsilence", of, "--by", "ann"]);
    assert_eq!((code, said), (0, format!("silence {of} has ended\n")));
    let began = Instant::now();
    while emails(&mail, &silent).is_empty() {
        assert!(began.elapsed() < PATIENCE, "nobody is told after the silence");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // The second step would have been told long ago.
    let told = [".escalated-1.lead@example.org", ".first@example.org"];
    assert_eq!(emails(&mail, &id), told);
    let acts = "SELECT admin_action, admin_entity_kind, admin_actor FROM events
        WHERE kind = 'admin' AND admin_entity_kind IN ('alert', 'silence') ORDER BY event_time";
    let (_, acts) = weir.run(&["query", acts, "--format", "csv"]);
    let expected = "admin_action,admin_entity_kind,admin_actor\nacknowledge,alert,ann\n\
        create,silence,ann\ndelete,silence,ann\n";
    assert_eq!(acts, expected);

    for (arguments, expected) in [
        (&["alerts", "ack", "ffffffff", "--by", "ann"][..], "nothing among the alerts has the id"),
        (&["alerts", "ack", "x'; --", "--by", "ann"], "is no id; `weir alerts list"),
        (&["alerts", "ack", "", "--by", "ann"], "is no id"),
        (&["alerts", "silence", "--for", "2h", "--by", "ann"], "--detection"),
        (&["alerts", "silence", "--subject", "a", "--for", "40d", "--by", "ann"], "30 days"),
        (
            &["alerts", "silence", "--subject", "a", "--for", "soon", "--by", "ann"],
            "15m, 12h or 7d",
        ),
        (&["alerts", "ack", short, "--by", " "], "by: give 1 to 200 bytes"),
    ] {
        let (code, said) = weir.run(arguments);
        assert_eq!(code, 2, "{said}");
        assert!(said.contains(expected), "{arguments:?}: {said}");
    }
    let mut weir = weir;
    weir.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alerts_are_answered_in_a_browser() {
    let (mut weir, mail) = begin();
    let id = found(&weir, "<b>seeker</b>").await;
    let browser = Browser::start().await;
    let client = &browser.client;
    client.goto(&weir.console("/alerts")).await.unwrap();
    reads(client, "admin-token").await;
    let field = client.find(Locator::Css("input[name=token]")).await.unwrap();
    field.send_keys(&weir.read_token("admin-token")).await.unwrap();
    click(client, "form button").await;
    let page = reads(client, "not acknowledged").await;
    assert!(page.contains("Somebody looks for what is not there: <b>seeker</b>"), "{page}");
    let look = "const wide = document.documentElement; return wide.scrollWidth - wide.clientWidth";
    assert_eq!(client.execute(look, Vec::new()).await.unwrap(), 0);
    browser.keep("alerts").await;
    click(client, ".alerts a").await;
    reads(client, "The events behind it").await;
    browser.keep("alert").await;
    let fill = async |form: &str, name: &str, text: &str| {
        let field = format!("form[action$='/{form}'] input[name={name}]");
        client.find(Locator::Css(&field)).await.unwrap().send_keys(text).await.unwrap();
    };
    fill("acknowledge", "by", "Ann").await;
    fill("acknowledge", "note", "ours <i>").await;
    click(client, "form[action$='/acknowledge'] button").await;
    let page = reads(client, "it is escalated no further").await;
    assert!(page.contains("Acknowledged by Ann at") && page.contains("ours <i>"), "{page}");
    fill("silence", "by", "Ann").await;
    click(client, "form[action$='/silence'] button").await;
    reads(client, "Nobody is told of such alerts until then.").await;
    browser.keep("alert-seen").await;
    client.set_window_size(500, 1_000).await.unwrap();
    assert_eq!(client.execute(look, Vec::new()).await.unwrap(), 0);
    browser.keep("alert-narrow").await;
    client.goto(&weir.console("/alerts")).await.unwrap();
    let page = reads(client, "Silences").await;
    assert!(page.contains("acknowledged by Ann") && page.contains("seeker"), "{page}");
    assert_eq!(client.execute(look, Vec::new()).await.unwrap(), 0);
    browser.keep("alerts-narrow").await;
    fill("end", "by", "Ann").await;
    click(client, "form[action$='/end'] button").await;
    let page = reads(client, "The silence has ended.").await;
    assert!(!page.contains("Silences"), "{page}");
    client
        .find(Locator::Css("select[name=state] option[value=resolved]"))
        .await
        .unwrap()
        .click()
        .await
        .unwrap();
    click(client, ".asked button").await;
    reads(client, "There are no such alerts.").await;
    browser.stop().await;

    let bare = weir.client.get(weir.console("/alerts")).send().await.unwrap();
    assert_eq!(bare.status(), 401);
    assert!(emails(&mail, &id).contains(&".first@example.org".to_owned()));
    weir.stop();
}
