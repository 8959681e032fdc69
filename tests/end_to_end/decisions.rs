//! From a finding to the gateway: who calls too often is blocked, and let in again.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use fantoccini::Locator;
use serde_json::Value;

use crate::browser::Browser;
use crate::queues::{click, reads};
use crate::replay::{rows, until};
use crate::weir::Weir;

const LOUD: &str = "-- title: Somebody is loud
-- owner: tests
-- lateness: 1 s
-- severity: high
-- subject: client_address
-- quiet: 1 h
-- message: '{{ client_address }} sent {{ n }} requests within a second'
-- action: {block: address, for: 1 h}
SELECT window_start, window_end, client_address, count(*) AS n
FROM TUMBLE(events, event_time, INTERVAL '1 second')
WHERE kind = 'request' AND decision_state IS DISTINCT FROM 'in_force'
GROUP BY window_start, window_end, client_address HAVING count(*) > 5
";
const ENFORCE: &str = "kind: safeguard\nname: all\nspec: {mode: enforce}\n";
const PATIENCE: Duration = Duration::from_secs(30);

fn weir(weir: &Weir, code: i32, arguments: &[&str]) -> String {
    let (found, said) = weir.run(arguments);
    assert_eq!(found, code, "{arguments:?}: {said}");
    said
}

async fn call(weir: &Weir) -> (u16, String) {
    let answer = weir.client.get(weir.gateway("/site/")).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

/// Calls ten times at once.
async fn shout(weir: &Weir) {
    for _ in 0..10 {
        call(weir).await;
    }
}

/// Calls until the answer has a status.
async fn is_answered(weir: &Weir, status: u16) -> String {
    let began = Instant::now();
    loop {
        let (found, body) = call(weir).await;
        if found == status {
            return body;
        }
        assert!(began.elapsed() < PATIENCE, "{found}: {body}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_detection_blocks_a_caller_until_somebody_lifts_it() {
    let mut node = Weir::new();
    node.start(&[]);
    let folder = node.write("own", &[("loud.sql", LOUD)]);
    weir(&node, 0, &["apply", &folder]);
    let running =
        "SELECT count(*) AS n FROM weir_queries WHERE name = 'loud' AND state = 'running'";
    until(&node, running, |seen| seen["n"] == 1).await;
    let decided = "SELECT max(id) AS id, max(state) AS state FROM weir_decisions";
    let began = Instant::now();
    while rows(&node, decided)[0]["id"].is_null() {
        assert!(began.elapsed() < PATIENCE);
        shout(&node).await;
    }
    // Nobody has said that a detection may refuse somebody: it is told what would be.
    assert_eq!(rows(&node, decided)[0]["state"], "dry_run");
    assert_eq!(call(&node).await.0, 200);
    let tried = "SELECT count(*) AS n FROM events WHERE kind = 'request' \
        AND decision_state = 'dry_run' AND outcome = 'success'";
    until(&node, tried, |seen| seen["n"].as_i64() >= Some(1)).await;
    let listed = weir(&node, 0, &["decisions", "list"]);
    assert!(listed.contains("dry_run  address 127.0.0.1  blocked"), "{listed}");
    // From then on it counts: what is found again, of the same alert too.
    node.write("own", &[("all.yaml", ENFORCE)]);
    weir(&node, 0, &["apply", &folder]);
    let enforced = "SELECT count(*) AS n FROM weir_decisions WHERE state = 'in_force'";
    assert_eq!(rows(&node, enforced)[0]["n"], 0, "what was tried only is not enforced");
    let began = Instant::now();
    let body = loop {
        let (status, body) = call(&node).await;
        if status == 403 {
            break body;
        }
        assert!(began.elapsed() < PATIENCE, "{status}: {body}");
    };
    assert!(body.contains("\"code\":\"blocked\"") && !body.contains("loud"), "{body}");
    // What is not there is not told of either.
    let asked = node.client.get(node.gateway("/nowhere")).send().await.unwrap();
    assert_eq!(asked.status(), 403);
    // Whoever is found waits for no alert to be written.
    let alert = "SELECT max(id) AS id FROM alerts WHERE decision LIKE 'blocked until %'";
    let alert = until(&node, alert, |seen| seen["id"].is_string()).await;
    let id = alert["id"].as_str().unwrap();
    let shown = weir(&node, 0, &["alerts", "show", id]);
    assert!(shown.contains("\ndecision      blocked until "), "{shown}");
    let email = std::fs::read_to_string(emailed(&node, id).await).unwrap();
    assert!(email.contains("\nDecision     would be blocked until "), "as it was then: {email}");

    weir(&node, 0, &["decisions", "lift", &id[..9], "--by", "ann", "--note", "our load test"]);
    is_answered(&node, 200).await;
    let listed = weir(&node, 0, &["decisions", "list", "--all"]);
    assert!(listed.contains("detection loud; lifted by ann: our load test"), "{listed}");
    let told = "SELECT count(*) FILTER (WHERE decision_state = 'made') AS made, \
        count(*) FILTER (WHERE decision_state = 'lifted' AND admin_actor = 'ann') AS lifted \
        FROM events WHERE kind = 'decision' AND detection_name = 'loud'";
    until(&node, told, |seen| seen["made"] == 1 && seen["lifted"] == 1).await;
    // Found again, it stays lifted.
    shout(&node).await;
    shout(&node).await;
    let again =
        "SELECT count(*) AS n FROM alerts WHERE decision LIKE 'no more blocked; lifted by ann%'";
    until(&node, again, |seen| seen["n"] == 1).await;
    assert_eq!(call(&node).await.0, 200);
    let refused = format!(
        "SELECT count(*) AS n FROM events WHERE decision_id = '{id}' AND kind = 'request' \
         AND decision_state = 'in_force' AND error_type = 'blocked' AND outcome = 'denied'"
    );
    until(&node, &refused, |seen| seen["n"].as_i64() >= Some(1)).await;
    node.stop();
}

/// The file of the email of an alert, once it was sent.
async fn emailed(node: &Weir, id: &str) -> PathBuf {
    let began = Instant::now();
    loop {
        let mut files = std::fs::read_dir(node.data_dir().join("example/mail")).unwrap();
        let found = files.find_map(|file| {
            let path = file.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name.contains(id) && name.ends_with(".eml")).then_some(path)
        });
        if let Some(path) = found {
            return path;
        }
        assert!(began.elapsed() < PATIENCE, "no email of {id}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn id(node: &Weir) -> String {
    let found = rows(node, "SELECT id FROM weir_decisions ORDER BY made DESC LIMIT 1").remove(0);
    found["id"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_are_blocked_and_slowed_from_the_command_line() {
    let mut node = Weir::new();
    node.start(&[]);
    let block = ["decisions", "block", "address", "127.0.0.1", "--for", "1h", "--by", "ann"];
    let said = weir(&node, 0, &block);
    assert!(said.starts_with("address 127.0.0.1 is blocked until "), "{said}");
    is_answered(&node, 403).await;
    // It outlives the process.
    node.kill();
    node.start(&[]);
    assert_eq!(call(&node).await.0, 403);
    weir(&node, 0, &["decisions", "lift", &id(&node), "--by", "bob"]);
    is_answered(&node, 200).await;
    let slow = ["decisions", "slow", "address", "127.0.0.1", "--to", "3/1h", "--for", "2s"];
    weir(&node, 0, &[&slow[..], &["--by", "ann"]].concat());
    let body = is_answered(&node, 429).await;
    assert!(body.contains("\"code\":\"throttled\""), "{body}");
    // It ends by itself.
    is_answered(&node, 200).await;
    // All of a detection; here there are none, and those of people stay.
    weir(&node, 0, &[&block[..6], &["--dry-run", "--by", "ann"]].concat());
    let said = weir(&node, 0, &["decisions", "lift", "--detection", "loud", "--by", "bob"]);
    assert_eq!(said, "0 decisions of loud are lifted\n");
    let others = id(&node);
    weir(&node, 0, &block);
    let said = weir(&node, 0, &["decisions", "lift", &id(&node), "--by", "bob"]);
    assert!(said.contains(&format!("; others are against the same: {others}")), "{said}");
    let never = "kind: safeguard\nname: ours\nspec: {never: {addresses: [\"127.0.0.0/8\"]}}\n";
    let folder = node.write("own", &[("ours.yaml", never)]);
    weir(&node, 0, &["apply", &folder]);
    let said = weir(&node, 2, &block);
    assert!(said.contains("a safeguard protects address 127.0.0.1"), "{said}");
    let said = weir(&node, 2, &["decisions", "lift", "f00", "--by", "ann"]);
    assert!(said.contains("no decision has the id f00"), "{said}");
    let said = weir(
        &node,
        2,
        &["decisions", "block", "address", "10.0.0.0/8", "--for", "1h", "--by", "ann"],
    );
    assert!(said.contains("the network is larger than a /24"), "{said}");
    node.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_are_decided_of_in_a_browser() {
    let mut node = Weir::new();
    node.start(&[]);
    let dry = ["decisions", "slow", "application", "web-shop", "--to", "60/1m", "--for", "7d"];
    weir(&node, 0, &[&dry[..], &["--by", "Ann", "--dry-run", "--note", "since the sale"]].concat());
    let browser = Browser::start().await;
    let client = &browser.client;
    client.goto(&node.console("/decisions")).await.unwrap();
    reads(client, "admin-token").await;
    let field = client.find(Locator::Css("input[name=token]")).await.unwrap();
    field.send_keys(&node.read_token("admin-token")).await.unwrap();
    click(client, "form button").await;
    let page = reads(client, "What detections decide is tried only").await;
    assert!(page.contains("would be slowed to 60 requests in 60 s"), "{page}");
    let open = "document.querySelectorAll('details').forEach(of => of.open = true)";
    let fill = async |form: &str, name: &str, text: &str| {
        client.execute(open, Vec::new()).await.unwrap();
        let field = format!("form[action{form} input[name={name}]");
        client.find(Locator::Css(&field)).await.unwrap().send_keys(text).await.unwrap();
    };
    // What cannot be is said, and what was written is kept.
    fill("='/decisions']", "subject", "everybody").await;
    fill("='/decisions']", "by", "Cid").await;
    click(client, "form[action='/decisions'] button").await;
    reads(client, "subject: it is no address").await;
    let field = "return document.querySelector('input[name=subject]').value";
    assert_eq!(client.execute(field, Vec::new()).await.unwrap(), Value::from("everybody"));
    let empty = "document.querySelector('input[name=subject]').value = ''";
    client.execute(empty, Vec::new()).await.unwrap();
    fill("='/decisions']", "subject", "127.0.0.1").await;
    fill("='/decisions']", "note", "a <b>scan</b>").await;
    click(client, "form[action='/decisions'] button").await;
    reads(client, "It is decided.").await;
    is_answered(&node, 403).await;
    let page = reads(client, "in force").await;
    assert!(page.contains("a <b>scan</b>") && page.contains("by Cid"), "{page}");
    let look = "const wide = document.documentElement; return wide.scrollWidth - wide.clientWidth";
    assert_eq!(client.execute(look, Vec::new()).await.unwrap(), 0);
    client.execute(open, Vec::new()).await.unwrap();
    browser.keep("decisions").await;
    let lift = format!("='/decisions/{}/lift']", id(&node));
    fill(&lift, "by", "Dora").await;
    click(client, &format!("form[action{lift} button")).await;
    let page = reads(client, "It is lifted.").await;
    assert!(page.contains("Lifted by Dora"), "{page}");
    is_answered(&node, 200).await;
    client.set_window_size(500, 1_000).await.unwrap();
    assert_eq!(client.execute(look, Vec::new()).await.unwrap(), 0);
    browser.keep("decisions-narrow").await;
    browser.stop().await;
    node.stop();
}
