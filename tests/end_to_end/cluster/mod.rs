//! The same job as separate processes: two of each role on three Kafka brokers, of which
//! one of each and a broker are killed while it runs.

mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use ingest::event::Timestamp;
use rig::{Guarded, Smtp};
use serde_json::{Value, json};

use self::world::{ANALYTICS, CONSOLES, Cluster, PATIENCE, REPLAY};
use crate::replay::{carried, found, subject_of};

/// Within which time after its gateway's kill a request is known to be broken off.
const BROKEN_OFF_WITHIN_US: i64 = 2_000_000;
/// How many requests are under way at most.
const CONNECTIONS: &str = "4";
/// The file's 83 hours in some 25 seconds, in which the kills are.
const SPEED: &str = "12000";

/// Orders until it is told to stop, by one gateway after another, and waits for each; the
/// customer and the id of what was accepted, in its order.
async fn order(
    gateways: [String; 2],
    token: String,
    stop: tokio::sync::watch::Receiver<bool>,
) -> Vec<(String, String)> {
    let client = reqwest::Client::builder().timeout(Duration::from_secs(20)).build().unwrap();
    let (mut accepted, mut ids) = (Vec::new(), BTreeSet::new());
    for turn in 0_usize.. {
        if *stop.borrow() {
            break;
        }
        let url = format!("{}/shop/orders", gateways[turn % 2]);
        let customer = format!("c{}", turn % 5);
        let order = json!({"customer": customer, "article": "nut", "pieces": 1});
        let request = client.post(url).bearer_auth(&token).json(&order);
        if let Ok(answer) = request.send().await
            && answer.status() == 202
            && let Ok(answer) = answer.json::<Value>().await
        {
            let id = answer["id"].as_str().expect("what is accepted has an id").to_owned();
            assert!(ids.insert(id.clone()), "{answer} is another's id");
            accepted.push((customer, id));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    accepted
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_job_is_done_by_two_of_each_role_whatever_is_killed() {
    let smtp = Smtp::start(&[]).unwrap();
    let mut cluster = Cluster::new(&smtp);
    let token = cluster.token().await;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let ordering = tokio::spawn(order(cluster.gateways.clone(), token, stopped));

    let credential = cluster.dir.path().join("replay-token").display().to_string();
    let file = carried();
    let [first, second] = cluster.gateways.clone();
    let arguments = [
        "replay-log",
        file.to_str().unwrap(),
        "--prefix",
        "/site",
        "--id",
        REPLAY,
        "--gateway",
        &first,
        "--gateway",
        &second,
        "--credential-file",
        &credential,
        "--speed",
        SPEED,
        "--connections",
        CONNECTIONS,
        "--resend",
        "--patience",
        "90",
        "--json",
    ];
    let command = cluster.nodes["keys-2"].command(&arguments);
    let answer = cluster.dir.path().join("sent");
    let mut sending = Guarded::start(&command, &answer).unwrap();
    let pause = || tokio::time::sleep(Duration::from_millis(2_000));
    pause().await;
    // One of each, and a broker, each while the others go on; then it comes back. A
    // gateway while requests are under way.
    cluster.under_way().await;
    let mut kills = vec![(0, SystemTime::now())];
    cluster.node("gateway-1").kill();
    pause().await;
    cluster.start(&["gateway-1"]);
    cluster.under_way().await;
    kills.push((1, SystemTime::now()));
    cluster.node("gateway-2").kill();
    cluster.start(&["gateway-2"]);
    cluster.kafka.kill(2).unwrap();
    // The node that runs the queries, and the console that asks it.
    let owner = cluster.owner(|_| true).await;
    cluster.node(ANALYTICS[owner]).kill();
    pause().await;
    cluster.node("mediator-1").kill();
    cluster.node("keys-1").kill();
    cluster.node(CONSOLES[owner]).kill();
    // What is left of each does the work of both.
    assert!(!cluster.token().await.is_empty());
    cluster.change().await;
    let board = cluster.board(1 - owner);
    assert!(board.contains("Requests"), "{board}");
    assert_eq!(cluster.owner(|node| node != owner).await, 1 - owner);
    cluster.kafka.restart(2).unwrap();
    cluster.start(&["mediator-1", "keys-1", CONSOLES[owner], ANALYTICS[owner]]);
    // The mediator that took over all queues, and another broker.
    cluster.node("mediator-2").kill();
    cluster.kafka.kill(3).unwrap();
    pause().await;
    cluster.kafka.restart(3).unwrap();
    cluster.start(&["mediator-2"]);
    pause().await;
    let began = Instant::now();
    let status = loop {
        if let Some(status) = sending.exited().unwrap() {
            break status;
        }
        assert!(began.elapsed() < PATIENCE, "the log is not sent");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let said = std::fs::read_to_string(&answer).unwrap();
    assert!(status.success(), "{said}");
    stop.send_replace(true);
    let accepted = ordering.await.unwrap();
    assert!(accepted.len() > 50, "{} orders", accepted.len());

    // By distinct request, the generator, the site and the lake count the same.
    let sent: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&sent["requests"], &sent["answered"]), (&10_000.into(), &10_000.into()), "{sent}");
    assert_eq!((&sent["unanswered"]["count"], &sent["unread"]["count"]), (&0.into(), &0.into()));
    assert!(sent["retried"].as_u64().unwrap() > 0, "a gateway was away: {sent}");
    let counted = cluster.counted().await;
    assert_eq!(counted["distinct"], 10_000, "{counted}");
    let told = format!(
        "SELECT count(*) AS events, count(DISTINCT correlation_id) AS requests,
            count(*) FILTER (WHERE lag_us > 60000000) AS late
         FROM events WHERE replay_id = '{REPLAY}' AND kind = 'request'"
    );
    let mut events = Value::Null;
    for node in [0, 1] {
        let told = cluster.until(node, &told, |told| told["requests"] == 10_000).await;
        assert_eq!(told["late"], 0, "{told}");
        events = told["events"].clone();
    }
    // What came more than once was sent again, and each was so for a kill.
    let line = |id: &str| id.strip_prefix(&format!("{REPLAY}-")).unwrap().to_owned();
    let lines = sent["resent"]["first"].as_array().unwrap().iter().map(|of| of.as_str().unwrap());
    let resent: BTreeSet<String> =
        lines.map(|of| explained(of, &cluster.gateways, &kills)).collect();
    // The death of a gateway breaks off what is under way: on a connection one request.
    let broken_off_max = 2 * CONNECTIONS.parse::<usize>().unwrap();
    assert!(resent.len() <= broken_off_max, "{resent:?} by two kills of a gateway");
    let repeated = counted["repeated"].as_object().unwrap().keys().map(|id| line(id));
    let repeated: BTreeSet<String> = repeated.collect();
    assert!(repeated.is_subset(&resent), "{repeated:?} of {resent:?}");
    let twice = format!(
        "SELECT correlation_id FROM events WHERE replay_id = '{REPLAY}' AND kind = 'request'
         GROUP BY 1 HAVING count(*) > 1"
    );
    let twice = cluster.rows(1, &twice).unwrap();
    let twice: BTreeSet<String> =
        twice.iter().map(|row| line(row["correlation_id"].as_str().unwrap())).collect();
    assert!(twice.is_subset(&resent), "{twice:?} of {resent:?}");
    assert_eq!(sent["different"]["count"], 0, "other answers than the file's: {sent}");
    println!(
        "{} sent again, {} of them seen twice by the site, {} told of twice; {} orders accepted",
        resent.len(),
        repeated.len(),
        twice.len(),
        accepted.len()
    );

    // Every order is accounted for, and none is left behind.
    let account = "SELECT * FROM delivery_account WHERE queue = 'orders'";
    let account = cluster
        .until(1, account, |of| of["identity"] == "holds" && of["delivered"] == of["accepted"])
        .await;
    // What the caller was told of as accepted is at the warehouse; it may have more, of which
    // the answer was lost with a gateway or a mediator.
    let url = format!("http://127.0.0.1:{}/warehouse/orders", cluster.origin);
    let taken: Vec<Value> = reqwest::get(url).await.unwrap().json().await.unwrap();
    assert_eq!(taken.len() as u64, account["delivered"].as_u64().unwrap(), "{account}");
    let mut arrived: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for order in &taken {
        let customer = order["order"]["customer"].as_str().unwrap();
        arrived.entry(customer).or_default().push(order["id"].as_str().unwrap());
    }
    for (customer, arrived) in &mut arrived {
        let told = accepted.iter().filter(|(of, _)| of == customer).map(|(_, id)| &**id);
        let told: Vec<&str> = told.collect();
        arrived.retain(|id| told.contains(id));
        assert_eq!(*arrived, told, "{customer}'s: all that was accepted, once, in its order");
    }
    let told: BTreeSet<&str> = accepted.iter().map(|(customer, _)| &**customer).collect();
    assert!(arrived.keys().eq(told.iter()), "{arrived:?}");

    // The views and the alerts are those of a run without kills.
    let view = format!(
        "SELECT count(*) AS windows, count(DISTINCT window_start) AS minutes, sum(requests) AS requests
         FROM traffic_by_api_minute WHERE replay_id = '{REPLAY}'"
    );
    let view = cluster.until(1, &view, |view| view["minutes"] == 84).await;
    assert_eq!((&view["windows"], &view["requests"]), (&84.into(), &events), "{view}");
    let wanted: BTreeSet<_> = found(|is_told| is_told).into_iter().collect();
    let began = Instant::now();
    let ids = loop {
        let mails = smtp.kept().unwrap();
        let id = |email: &str| {
            email.lines().find_map(|line| line.strip_prefix("Message-ID: ").map(str::to_owned))
        };
        let ids: BTreeSet<String> = mails.iter().filter_map(|mail| id(&mail.email)).collect();
        if ids.len() >= wanted.len() {
            let told = mails.iter().map(|mail| subject_of(&mail.email));
            assert_eq!(told.collect::<BTreeSet<_>>(), wanted, "the findings of the file");
            break ids;
        }
        assert!(began.elapsed() < PATIENCE, "{ids:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    assert_eq!(ids.len(), wanted.len(), "each once: {ids:?}");
    // Both consoles show it, also the one that was away.
    for console in [0, 1] {
        let board = cluster.board(console);
        assert!(board.contains(&events.to_string()), "{board}");
    }
    let names: Vec<&'static str> = cluster.nodes.keys().copied().collect();
    for name in names {
        cluster.node(name).stop();
    }
    let lake = read_lake(&cluster.dir.path().join("lake/events"));
    assert_eq!(lake["rows"], lake["different"], "each event once: {lake}");
    assert_eq!(lake["replayed"], 10_000, "{lake}");
}

/// The number of a line that was sent again; a gateway broke its request off, by a kill of
/// that gateway just before.
fn explained(resent: &str, gateways: &[String; 2], kills: &[(usize, SystemTime)]) -> String {
    let (number, how) = resent.strip_prefix("line ").unwrap().split_once(": ").unwrap();
    let (gateway, how) = how.split_once(" at ").unwrap();
    let at: Timestamp = how.split_once(": ").unwrap().0.parse().unwrap();
    let is_of = |(of, killed): &(usize, SystemTime)| {
        let killed = killed.duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let after = at.as_micros() - i64::try_from(killed.as_micros()).unwrap();
        gateways[*of] == gateway && (0..=BROKEN_OFF_WITHIN_US).contains(&after)
    };
    assert!(kills.iter().any(is_of), "{resent} was not for a kill: {kills:?} of {gateways:?}");
    number.to_owned()
}

/// The lake, as another engine reads it.
fn read_lake(table: &Path) -> Value {
    let lines = rig::read_lake(table, 1).unwrap();
    serde_json::from_str(&lines[0]).unwrap()
}
