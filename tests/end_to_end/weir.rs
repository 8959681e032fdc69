//! The program, as a user runs it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use rig::Guarded;
use serde_json::Value;

/// How long anything may take that has to happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Mounts a disk at a place, takes some of it, says by which process it is seen, and runs.
const ON_SMALL_DISK: &str = r#"mount -t tmpfs -o "size=$3m" weir "$1"
fallocate -l "$4MiB" "$1/taken"
echo $$ > "$2"
shift 4
exec "$@""#;

/// A folder, ports, and the program that runs there, again and again.
pub(crate) struct Weir {
    dir: tempfile::TempDir,
    ports: Ports,
    running: Option<Guarded>,
    starts: usize,
    /// Further settings, as the environment gives them.
    set: Vec<(&'static str, String)>,
    pub(crate) client: reqwest::Client,
}

#[derive(Clone, Copy)]
struct Ports {
    gateway: u16,
    keys: u16,
    manager: u16,
    mediator: u16,
    origin: u16,
    analytics: u16,
    postgres: u16,
    flight: u16,
    console: u16,
    collector: u16,
    collector_grpc: u16,
}

impl Weir {
    pub(crate) fn new() -> Self {
        let mut free = rig::free_ports(11).unwrap().into_iter();
        let mut port = || free.next().unwrap();
        let ports = Ports {
            gateway: port(),
            keys: port(),
            manager: port(),
            mediator: port(),
            origin: port(),
            analytics: port(),
            postgres: port(),
            flight: port(),
            console: port(),
            collector: port(),
            collector_grpc: port(),
        };
        Self {
            dir: tempfile::tempdir().unwrap(),
            ports,
            running: None,
            starts: 0,
            set: Vec::new(),
            client: reqwest::Client::new(),
        }
    }

    /// Sets a variable of the environment, from the next start on.
    pub(crate) fn set(&mut self, name: &'static str, value: impl Into<String>) {
        self.set.push((name, value.into()));
    }

    /// `weir run`, until it says that it runs.
    pub(crate) fn start(&mut self, arguments: &[&str]) {
        self.begin(&[&["run"], arguments].concat());
    }

    /// `weir gateway`, until it says that it runs.
    pub(crate) fn start_gateway(&mut self) {
        self.begin(&["gateway"]);
    }

    /// `weir run` with its data on a disk of its own, of so many MiB, of which so many are
    /// taken; answers the file that takes them.
    pub(crate) fn start_on_small_disk(&mut self, mib: usize, taken_mib: usize) -> PathBuf {
        let (disk, pid) = (self.dir.path().join("disk"), self.dir.path().join("pid"));
        std::fs::create_dir(&disk).unwrap();
        self.set("WEIR_DATA_DIR", disk.join("data").display().to_string());
        // In a namespace of its own, where everybody may mount.
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--mount", "sh", "-euc", ON_SMALL_DISK, "sh"]);
        command.args([disk.as_path(), pid.as_path()]);
        command.args([mib.to_string(), taken_mib.to_string()]);
        command.args([env!("CARGO_BIN_EXE_weir"), "run"]);
        command.current_dir(self.dir.path()).envs(self.environment());
        self.begin_as(&command);
        // As it is seen from out here.
        let pid = std::fs::read_to_string(pid).unwrap();
        let disk = format!("/proc/{}/root{}", pid.trim(), disk.display());
        self.set("WEIR_DATA_DIR", format!("{disk}/data"));
        Path::new(&disk).join("taken")
    }

    fn begin(&mut self, arguments: &[&str]) {
        let mut command = self.command();
        command.args(arguments);
        self.begin_as(&command);
    }

    fn begin_as(&mut self, command: &Command) {
        self.starts += 1;
        let mut running = Guarded::start(command, &self.log()).unwrap();
        let began = Instant::now();
        while !self.said().contains("Weir runs.") {
            let ended = running.exited().unwrap();
            assert!(ended.is_none(), "it ended with {ended:?}\n{}", self.said());
            assert!(began.elapsed() < PATIENCE, "it does not start\n{}", self.said());
            std::thread::sleep(Duration::from_millis(10));
        }
        self.running = Some(running);
    }

    /// Asks it to stop, and waits.
    pub(crate) fn stop(&mut self) {
        self.running.take().unwrap().stop().unwrap();
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.running.take().unwrap().kill();
    }

    /// Another command, to its end: its exit code and what it said.
    pub(crate) fn run(&self, arguments: &[&str]) -> (i32, String) {
        let mut command = self.command();
        if arguments.first() == Some(&"check") {
            // What is checked is the file alone.
            command.env_remove("WEIR_GATEWAY__LISTENERS");
        }
        let Output { status, stdout, stderr } = command.args(arguments).output().unwrap();
        let said = [stdout, stderr].concat();
        (status.code().unwrap(), String::from_utf8(said).unwrap())
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command.current_dir(self.dir.path()).envs(self.environment());
        command
    }

    fn environment(&self) -> Vec<(&'static str, String)> {
        let Ports { gateway, keys, manager, mediator, origin, .. } = self.ports;
        let Ports { analytics, postgres, flight, console, collector, collector_grpc, .. } =
            self.ports;
        let at = |port: u16| format!("127.0.0.1:{port}");
        let mut all = vec![
            ("WEIR_DATA_DIR", self.data_dir().display().to_string()),
            ("WEIR_GATEWAY__LISTENERS", format!("[{{address: '{}'}}]", at(gateway))),
            ("WEIR_GATEWAY__THREADS", "2".to_owned()),
            ("WEIR_KEYS__ADDRESS", at(keys)),
            ("WEIR_MANAGER__ADDRESS", at(manager)),
            ("WEIR_MEDIATOR__ADDRESS", at(mediator)),
            ("WEIR_EXAMPLE__ADDRESS", at(origin)),
            ("WEIR_ANALYTICS__ADDRESS", at(analytics)),
            ("WEIR_ANALYTICS__POSTGRES_ADDRESS", at(postgres)),
            ("WEIR_ANALYTICS__FLIGHT_ADDRESS", at(flight)),
            ("WEIR_CONSOLE__ADDRESS", at(console)),
            ("WEIR_COLLECTOR__ADDRESS", at(collector)),
            ("WEIR_COLLECTOR__GRPC_ADDRESS", at(collector_grpc)),
            ("WEIR_EXAMPLE__REPLAY", "false".to_owned()),
        ];
        all.extend(self.set.clone());
        all
    }

    /// A folder of configuration with these files.
    pub(crate) fn write(&self, folder: &str, files: &[(&str, &str)]) -> String {
        let dir = self.dir.path().join(folder);
        std::fs::create_dir_all(&dir).unwrap();
        for (name, text) in files {
            std::fs::write(dir.join(name), text).unwrap();
        }
        dir.display().to_string()
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join(format!("weir.{}.log", self.starts))
    }

    /// What it said since it was started.
    pub(crate) fn said(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }

    /// The secret of the example's application, which is shown at the first start.
    pub(crate) fn secret(&self) -> String {
        let began = Instant::now();
        loop {
            // The ports are open a moment before the program has said so.
            let said = self.said();
            if let Some(secret) = said
                .lines()
                .find_map(|line| line.trim().starts_with("weirs_").then(|| line.trim().to_owned()))
            {
                return secret;
            }
            assert!(began.elapsed() < PATIENCE, "the first start shows the secret: {said}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn gateway(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.ports.gateway)
    }

    pub(crate) fn gateway_address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.ports.gateway).into()
    }

    pub(crate) fn mediator_address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.ports.mediator).into()
    }

    /// Where each of its services listens, by the name on their events.
    pub(crate) fn doors(&self) -> [(&'static str, SocketAddr); 7] {
        let Ports { gateway, keys, manager, mediator, analytics, console, collector, .. } =
            self.ports;
        let doors = [
            ("weir-gateway", gateway),
            ("weir-keys", keys),
            ("weir-manager", manager),
            ("weir-mediator", mediator),
            ("weir-analytics", analytics),
            ("weir-console", console),
            ("weir-collector", collector),
        ];
        doors.map(|(name, port)| (name, ([127, 0, 0, 1], port).into()))
    }

    pub(crate) fn collector(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.ports.collector)
    }

    pub(crate) fn collector_grpc(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.collector_grpc)
    }

    pub(crate) fn postgres_port(&self) -> u16 {
        self.ports.postgres
    }

    pub(crate) fn flight_port(&self) -> u16 {
        self.ports.flight
    }

    pub(crate) fn origin(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.ports.origin)
    }

    pub(crate) fn keys(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.ports.keys)
    }

    /// A token of the data directory.
    pub(crate) fn read_token(&self, file: &str) -> String {
        std::fs::read_to_string(self.data_dir().join(file)).unwrap().trim().to_owned()
    }

    pub(crate) fn console(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.ports.console)
    }

    pub(crate) fn analytics(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.ports.analytics)
    }

    /// What the analytics node says of itself.
    pub(crate) async fn analytics_status(&self) -> Value {
        let token = self.read_token("admin-token");
        let asked = self.client.get(self.analytics("/v1/status")).bearer_auth(token.trim());
        asked.send().await.unwrap().json().await.unwrap()
    }

    /// A token of the example's application.
    pub(crate) async fn token(&self, secret: &str) -> String {
        let url = format!("http://127.0.0.1:{}/oauth2/token", self.ports.keys);
        let request = self.client.post(url).basic_auth("web-shop", Some(secret));
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let response = request.body("grant_type=client_credentials").send().await.unwrap();
        assert_eq!(response.status(), 200);
        let answer: Value = response.json().await.unwrap();
        answer["access_token"].as_str().unwrap().to_owned()
    }

    /// Posts JSON with a token; status and body, or why there is none.
    pub(crate) async fn post(
        &self,
        path: &str,
        token: &str,
        body: &Value,
    ) -> reqwest::Result<(u16, Value)> {
        let request = self.client.post(self.gateway(path)).bearer_auth(token).json(body);
        let response = request.send().await?;
        let status = response.status().as_u16();
        Ok((status, response.json().await.unwrap_or(Value::Null)))
    }
}
