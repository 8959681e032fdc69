//! The same job as separate processes: two of each role on three Kafka brokers, of which
//! one of each and a broker are killed while it runs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use ingest::event::Timestamp;
use rig::{Guarded, Kafka, Smtp};
use serde_json::{Value, json};

use crate::replay::{carried, found, subject_of};

/// How long anything may take that has to happen, with a broker away.
const PATIENCE: Duration = Duration::from_secs(90);
const REPLAY: &str = "may-2015";
const TOKEN: &str = "an-admin-token-that-all-of-the-nodes-share";
const PASSPHRASE: &str = "a-passphrase-that-key-managers-share";
const CREDENTIAL: &str = "a-replay-credential-that-gateways-share";
/// Within which time after its gateway's kill a request is known to be broken off.
const BROKEN_OFF_WITHIN_US: i64 = 2_000_000;
/// How many requests are under way at most.
const CONNECTIONS: &str = "4";
/// The file's 83 hours in some 25 seconds, in which the kills are.
const SPEED: &str = "12000";
const ANALYTICS: [&str; 2] = ["analytics-1", "analytics-2"];
const CONSOLES: [&str; 2] = ["console-1", "console-2"];

/// A process, with what it is started by.
struct Node {
    name: &'static str,
    role: &'static str,
    dir: PathBuf,
    set: Vec<(&'static str, String)>,
    running: Option<Guarded>,
    starts: usize,
}

impl Node {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command.args(arguments).current_dir(&self.dir);
        command.env("WEIR_DATA_DIR", &self.dir).env("WEIR_NODE", self.name);
        command.envs(self.set.iter().map(|(name, value)| (*name, value)));
        command
    }

    fn log(&self) -> PathBuf {
        self.dir.join(format!("log.{}", self.starts))
    }

    fn said(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }

    /// Starts it; [`Self::wait`] says when it is there.
    fn start(&mut self) {
        self.starts += 1;
        self.running = Some(Guarded::start(&self.command(&[self.role]), &self.log()).unwrap());
    }

    fn wait(&mut self) {
        let began = Instant::now();
        while !self.said().contains("Weir runs.") && !self.said().contains("weir apply takes") {
            let ended = self.running.as_mut().unwrap().exited().unwrap();
            assert!(ended.is_none(), "{} ended with {ended:?}\n{}", self.name, self.said());
            assert!(began.elapsed() < PATIENCE, "{} does not start\n{}", self.name, self.said());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn kill(&mut self) {
        self.running.take().unwrap().kill();
    }

    fn stop(&mut self) {
        self.running.take().unwrap().stop().unwrap_or_else(|e| panic!("{}: {e}", self.name));
    }
}

struct Cluster {
    kafka: Kafka,
    nodes: BTreeMap<&'static str, Node>,
    gateways: [String; 2],
    analytics: [String; 2],
    consoles: [String; 2],
    keys: [u16; 2],
    managers: [u16; 2],
    origin: u16,
    dir: tempfile::TempDir,
}

impl Cluster {
    fn new(smtp: &Smtp) -> Self {
        let kafka = Kafka::start(3).unwrap();
        let ports: [u16; 13] = rig::free_ports(13).unwrap().try_into().unwrap();
        let [gateway_1, gateway_2, keys_1, keys_2, manager_1, manager_2, rest @ ..] = ports;
        let [mediator_1, mediator_2, analytics_1, analytics_2, console_1, console_2, origin] = rest;
        let dir = tempfile::tempdir().unwrap();
        let at = |port: u16| format!("127.0.0.1:{port}");
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let replay_token = dir.path().join("replay-token");
        std::fs::write(&replay_token, CREDENTIAL).unwrap();
        let passphrase = dir.path().join("keys-passphrase");
        std::fs::write(&passphrase, PASSPHRASE).unwrap();
        std::fs::set_permissions(&passphrase, Permissions::from_mode(0o600)).unwrap();
        let issuers = format!(
            "[{{issuer: 'http://keys.example', jwks_url: '{}/oauth2/jwks', audience: weir, \
             algorithms: [ES256, RS256]}}]",
            url(keys_2)
        );
        let mail = format!(
            "{{host: 127.0.0.1, port: {}, security: none, from: weir@example.org, \
             recipients: [security@example.org]}}",
            smtp.port()
        );
        let mut nodes = BTreeMap::new();
        let mut add = |name: &'static str, role, set: Vec<(&'static str, String)>| {
            let own = dir.path().join(name);
            std::fs::create_dir(&own).unwrap();
            std::fs::write(own.join("admin-token"), TOKEN).unwrap();
            let mut all = vec![("WEIR_LOG__KAFKA__BOOTSTRAP", kafka.bootstrap())];
            all.extend(set);
            nodes.insert(name, Node { name, role, dir: own, set: all, running: None, starts: 0 });
        };
        for (name, keys, manager) in [("keys-1", keys_1, manager_1), ("keys-2", keys_2, manager_2)]
        {
            let issuer = "http://keys.example".to_owned();
            let set = vec![
                ("WEIR_KEYS__ADDRESS", at(keys)),
                ("WEIR_KEYS__ISSUER", issuer),
                ("WEIR_KEYS__PASSPHRASE_FILE", passphrase.display().to_string()),
                ("WEIR_MANAGER__ADDRESS", at(manager)),
            ];
            add(name, "keys", set);
        }
        for (name, port) in [("gateway-1", gateway_1), ("gateway-2", gateway_2)] {
            let set = vec![
                ("WEIR_GATEWAY__LISTENERS", format!("[{{address: '{}'}}]", at(port))),
                ("WEIR_GATEWAY__THREADS", "1".to_owned()),
                ("WEIR_GATEWAY__AUTH__ISSUERS", issuers.clone()),
                ("WEIR_GATEWAY__REPLAY_TOKEN_FILE", replay_token.display().to_string()),
            ];
            add(name, "gateway", set);
        }
        for (name, port) in [("mediator-1", mediator_1), ("mediator-2", mediator_2)] {
            add(name, "mediator", vec![("WEIR_MEDIATOR__ADDRESS", at(port))]);
        }
        for (name, port) in [("analytics-1", analytics_1), ("analytics-2", analytics_2)] {
            let set = vec![
                ("WEIR_ANALYTICS__ADDRESS", at(port)),
                ("WEIR_ANALYTICS__LAKE_DIR", dir.path().join("lake").display().to_string()),
                ("WEIR_ANALYTICS__COMMIT_MS", "2000".to_owned()),
                ("WEIR_ANALYTICS__MAIL", mail.clone()),
            ];
            add(name, "analytics", set);
        }
        for (name, port, of) in
            [("console-1", console_1, analytics_1), ("console-2", console_2, analytics_2)]
        {
            let set =
                vec![("WEIR_CONSOLE__ADDRESS", at(port)), ("WEIR_CONSOLE__ANALYTICS_URL", url(of))];
            add(name, "console", set);
        }
        let set =
            vec![("WEIR_EXAMPLE__ADDRESS", at(origin)), ("WEIR_MEDIATOR__ADDRESS", at(mediator_1))];
        add("example", "example", set);
        let mut cluster = Self {
            kafka,
            nodes,
            gateways: [url(gateway_1), url(gateway_2)],
            analytics: [url(analytics_1), url(analytics_2)],
            consoles: [url(console_1), url(console_2)],
            keys: [keys_1, keys_2],
            managers: [manager_1, manager_2],
            origin,
            dir,
        };
        cluster.start(&["keys-1", "keys-2", "example"]);
        // Both mediators stand behind the shop.
        let shop = cluster.nodes["example"].dir.join("example/shop.yaml");
        let text = std::fs::read_to_string(&shop).unwrap();
        let both = format!("\"{}\"}}, {{url: \"{}\"", url(mediator_1), url(mediator_2));
        std::fs::write(&shop, text.replace(&format!("\"{}\"", url(mediator_1)), &both)).unwrap();
        let config = shop.parent().unwrap().display().to_string();
        let manager = url(cluster.managers[1]);
        let (code, said) = cluster.run(&["apply", &config, "--server", &manager]);
        assert_eq!(code, 0, "{said}");
        cluster.start(&["gateway-1", "gateway-2", "mediator-1", "mediator-2"]);
        cluster.start(&["analytics-1", "analytics-2", "console-1", "console-2"]);
        cluster
    }

    fn node(&mut self, name: &str) -> &mut Node {
        self.nodes.get_mut(name).unwrap()
    }

    fn start(&mut self, names: &[&str]) {
        for name in names {
            self.node(name).start();
        }
        for name in names {
            self.node(name).wait();
        }
    }

    /// A command with the tokens of the cluster.
    fn run(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.nodes["keys-2"].command(arguments).output().unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.code().unwrap(), said)
    }

    /// Rows of a query, by either analytics node; none while it does not answer.
    fn rows(&self, node: usize, sql: &str) -> Option<Vec<Value>> {
        let arguments = ["query", sql, "--json", "--server", &self.analytics[node]];
        let (code, said) = self.run(&arguments);
        (code == 0).then(|| serde_json::from_str(&said).unwrap())
    }

    /// The first row, as soon as it is as it is waited for.
    async fn until(&self, node: usize, sql: &str, is_there: impl Fn(&Value) -> bool) -> Value {
        let began = Instant::now();
        loop {
            let row = self.rows(node, sql).and_then(|mut rows| rows.pop()).unwrap_or_default();
            if is_there(&row) {
                return row;
            }
            assert!(began.elapsed() < PATIENCE, "{row}\n{sql}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// The analytics node on which the continuous queries run, once it is as wanted.
    async fn owner(&self, is_wanted: impl Fn(usize) -> bool) -> usize {
        let (client, began) = (reqwest::Client::new(), Instant::now());
        loop {
            for (node, url) in self.analytics.iter().enumerate() {
                let asked = client.get(format!("{url}/v1/status")).bearer_auth(TOKEN).send().await;
                let Ok(answer) = asked else { continue };
                let status: Value = answer.json().await.unwrap_or_default();
                let queries = status["queries"].as_object();
                let runs = queries.is_some_and(|of| of.values().any(|of| of["state"] == "running"));
                if runs && is_wanted(node) {
                    return node;
                }
            }
            assert!(began.elapsed() < PATIENCE, "the queries run on no such node");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The numbers of the board, by a console.
    fn board(&self, console: usize) -> String {
        let token = self.nodes[CONSOLES[console]].dir.join("console-token").display().to_string();
        let server = &self.consoles[console];
        let arguments = ["export", "board", "traffic", "--format", "csv", "--timeline", REPLAY];
        let of = ["--server", server, "--token-file", &token];
        let (code, said) = self.run(&[&arguments[..], &of[..]].concat());
        assert_eq!(code, 0, "{said}");
        said
    }

    /// Changes the configuration, by the key manager node that is left.
    async fn change(&self) {
        let dir = self.dir.path().join("change");
        std::fs::create_dir_all(&dir).unwrap();
        let tier = "kind: tier\nname: spare\nspec: {burst_requests_max: 5}\n";
        std::fs::write(dir.join("tier.yaml"), tier).unwrap();
        let (dir, began) = (dir.display().to_string(), Instant::now());
        let manager = format!("http://127.0.0.1:{}", self.managers[1]);
        loop {
            let (code, said) = self.run(&["apply", &dir, "--server", &manager]);
            if code == 0 {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "{said}");
        }
    }

    /// How often the site was asked, and by whom more than once.
    async fn counted(&self) -> Value {
        let url = format!("http://127.0.0.1:{}/replays/{REPLAY}", self.origin);
        reqwest::get(url).await.unwrap().json().await.unwrap()
    }

    /// Waits until requests of the replay reach the site: more since the last look.
    async fn under_way(&self) {
        let (began, mut before) = (Instant::now(), self.counted().await["requests"].clone());
        loop {
            let now = self.counted().await["requests"].clone();
            if now != before {
                return;
            }
            before = now;
            assert!(began.elapsed() < PATIENCE, "no request reaches the site: {before}");
        }
    }

    async fn token(&self) -> String {
        let secret = self.nodes["example"].said();
        let secret = secret.split_whitespace().find(|word| word.starts_with("weirs_")).unwrap();
        let url = format!("http://127.0.0.1:{}/oauth2/token", self.keys[1]);
        let request = reqwest::Client::new().post(url).basic_auth("web-shop", Some(secret));
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let answer = request.body("grant_type=client_credentials").send().await.unwrap();
        let answer: Value = answer.json().await.unwrap();
        answer["access_token"].as_str().unwrap().to_owned()
    }
}

/// Orders until it is told to stop, by one gateway after another; the ids of what was
/// accepted.
async fn order(
    gateways: [String; 2],
    token: String,
    stop: tokio::sync::watch::Receiver<bool>,
) -> BTreeSet<String> {
    let client = reqwest::Client::builder().timeout(Duration::from_secs(20)).build().unwrap();
    let mut accepted = BTreeSet::new();
    for turn in 0_usize.. {
        if *stop.borrow() {
            break;
        }
        let url = format!("{}/shop/orders", gateways[turn % 2]);
        let order = json!({"customer": format!("c{}", turn % 5), "article": "nut", "pieces": 1});
        let request = client.post(url).bearer_auth(&token).json(&order);
        if let Ok(answer) = request.send().await
            && answer.status() == 202
            && let Ok(answer) = answer.json::<Value>().await
        {
            let id = answer["id"].as_str().expect("what is accepted has an id").to_owned();
            assert!(accepted.insert(id), "{answer} is another's id");
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
    let account = "SELECT count(DISTINCT messaging_message_id) AS accepted,
            count(DISTINCT messaging_message_id) FILTER (WHERE delivery_outcome = 'delivered') AS delivered
         FROM events WHERE delivery_queue = 'orders'";
    let account = cluster
        .until(1, account, |of| of["delivered"] == of["accepted"] && of["accepted"] != 0)
        .await;
    // What the caller was told of as accepted is at the warehouse; it may have more, of which
    // the answer was lost with a gateway or a mediator.
    let url = format!("http://127.0.0.1:{}/warehouse/orders", cluster.origin);
    let taken: Vec<Value> = reqwest::get(url).await.unwrap().json().await.unwrap();
    assert_eq!(taken.len() as u64, account["delivered"].as_u64().unwrap(), "{account}");
    let taken: BTreeSet<String> =
        taken.iter().map(|order| order["id"].as_str().unwrap().to_owned()).collect();
    let lost: Vec<&String> = accepted.difference(&taken).collect();
    assert!(lost.is_empty(), "{lost:?} were accepted, and did not arrive");

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
