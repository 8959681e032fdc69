//! Two processes of each role on three Kafka brokers, and what they are asked.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use rig::{Guarded, Kafka, Smtp};
use serde_json::Value;

/// How long anything may take that has to happen, with a broker away.
pub(super) const PATIENCE: Duration = Duration::from_secs(90);
/// How much of what each node said is shown of a case that failed.
const SAID_LINES: usize = 40;
pub(super) const REPLAY: &str = "may-2015";
const TOKEN: &str = "an-admin-token-that-all-of-the-nodes-share";
const PASSPHRASE: &str = "a-passphrase-that-key-managers-share";
const CREDENTIAL: &str = "a-replay-credential-that-gateways-share";
pub(super) const ANALYTICS: [&str; 2] = ["analytics-1", "analytics-2"];
pub(super) const CONSOLES: [&str; 2] = ["console-1", "console-2"];

/// A process, with what it is started by.
pub(super) struct Node {
    name: &'static str,
    role: &'static str,
    dir: PathBuf,
    set: Vec<(&'static str, String)>,
    running: Option<Guarded>,
    starts: usize,
}

impl Node {
    pub(super) fn command(&self, arguments: &[&str]) -> Command {
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
    pub(super) fn start(&mut self) {
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

    pub(super) fn kill(&mut self) {
        self.running.take().unwrap().kill();
    }

    pub(super) fn stop(&mut self) {
        self.running.take().unwrap().stop().unwrap_or_else(|e| panic!("{}: {e}", self.name));
    }
}

pub(super) struct Cluster {
    pub(super) kafka: Kafka,
    pub(super) nodes: BTreeMap<&'static str, Node>,
    pub(super) gateways: [String; 2],
    analytics: [String; 2],
    consoles: [String; 2],
    keys: [u16; 2],
    managers: [u16; 2],
    pub(super) origin: u16,
    pub(super) dir: tempfile::TempDir,
}

impl Drop for Cluster {
    /// A case that failed shows what the nodes said last.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for node in self.nodes.values() {
            let said = node.said();
            let lines: Vec<&str> =
                said.lines().filter(|line| !line.contains("librdkafka")).collect();
            let last = &lines[lines.len().saturating_sub(SAID_LINES)..];
            eprintln!("--- {} said last:\n{}", node.name, last.join("\n"));
        }
    }
}

impl Cluster {
    pub(super) fn new(smtp: &Smtp) -> Self {
        let kafka = Kafka::start(3).unwrap();
        let ports: [u16; 15] = rig::free_ports(15).unwrap().try_into().unwrap();
        let [gateway_1, gateway_2, keys_1, keys_2, manager_1, manager_2, rest @ ..] = ports;
        let [mediator_1, mediator_2, analytics_1, analytics_2, rest @ ..] = rest;
        let [console_1, console_2, origin, postgres_1, postgres_2] = rest;
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
        for (name, port, postgres) in
            [("analytics-1", analytics_1, postgres_1), ("analytics-2", analytics_2, postgres_2)]
        {
            let set = vec![
                ("WEIR_ANALYTICS__ADDRESS", at(port)),
                ("WEIR_ANALYTICS__POSTGRES_ADDRESS", at(postgres)),
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

    pub(super) fn node(&mut self, name: &str) -> &mut Node {
        self.nodes.get_mut(name).unwrap()
    }

    pub(super) fn start(&mut self, names: &[&str]) {
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
    pub(super) fn rows(&self, node: usize, sql: &str) -> Option<Vec<Value>> {
        let arguments = ["query", sql, "--json", "--server", &self.analytics[node]];
        let (code, said) = self.run(&arguments);
        (code == 0).then(|| serde_json::from_str(&said).unwrap())
    }

    /// The first row, as soon as it is as it is waited for.
    pub(super) async fn until(
        &self,
        node: usize,
        sql: &str,
        is_there: impl Fn(&Value) -> bool,
    ) -> Value {
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
    pub(super) async fn owner(&self, is_wanted: impl Fn(usize) -> bool) -> usize {
        let (client, began) = (reqwest::Client::new(), Instant::now());
        loop {
            for (node, url) in self.analytics.iter().enumerate() {
                let asked = client.get(format!("{url}/v1/status")).bearer_auth(TOKEN).send().await;
                let Ok(answer) = asked else { continue };
                let status: Value = answer.json().await.unwrap_or_default();
                let queries = status["queries"].as_object();
                let runs = queries.is_some_and(|of| of.values().all(|of| of["state"] == "running"));
                if runs && is_wanted(node) {
                    return node;
                }
            }
            assert!(began.elapsed() < PATIENCE, "the queries run on no such node");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The numbers of the board, by a console.
    pub(super) fn board(&self, console: usize) -> String {
        let token = self.nodes[CONSOLES[console]].dir.join("console-token").display().to_string();
        let server = &self.consoles[console];
        let arguments = ["export", "board", "traffic", "--format", "csv", "--timeline", REPLAY];
        let of = ["--server", server, "--token-file", &token];
        let (code, said) = self.run(&[&arguments[..], &of[..]].concat());
        assert_eq!(code, 0, "{said}");
        said
    }

    /// Changes the configuration, by the key manager node that is left.
    pub(super) async fn change(&self) {
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
    pub(super) async fn counted(&self) -> Value {
        let url = format!("http://127.0.0.1:{}/replays/{REPLAY}", self.origin);
        reqwest::get(url).await.unwrap().json().await.unwrap()
    }

    /// Waits until requests of the replay reach the site: more since the last look.
    pub(super) async fn under_way(&self) {
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

    pub(super) async fn token(&self) -> String {
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
