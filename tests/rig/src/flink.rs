//! Apache Flink as a cluster of one JobManager and one TaskManager, each a process of its own.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::guarded::LOOK_EVERY;
use crate::{Guarded, installed, ports};

const VERSION: &str = include_str!("../flink/version");
const LOGGING: &str = include_str!("../flink/log4j.properties");

const JOB_MANAGER: &str = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint";
const TASK_MANAGER: &str = "org.apache.flink.runtime.taskexecutor.TaskManagerRunner";
const RESOURCES: &str = "org.apache.flink.runtime.util.bash.BashJavaUtils";
const CLIENT: &str = "org.apache.flink.table.client.SqlClient";
/// What Flink reflects on (its `env.java.opts.all`).
const OPENED: [&str; 13] = [
    "java.lang",
    "java.net",
    "java.io",
    "java.nio",
    "sun.nio.ch",
    "java.lang.reflect",
    "java.text",
    "java.time",
    "java.util",
    "java.util.concurrent",
    "java.util.concurrent.atomic",
    "java.util.concurrent.locks",
    "java.math",
];
/// How long the TaskManager may take to offer its slot.
const OFFERS_WITHIN: Duration = Duration::from_secs(90);
/// What the last two lines of `BashJavaUtils` begin with.
const RESULT: &str = "BASH_JAVA_UTILS_EXEC_RESULT:";

/// A cluster with one slot, on free loopback ports.
#[derive(Debug)]
pub struct Flink {
    java: Java,
    _job_manager: Guarded,
    task_manager: Guarded,
}

impl Flink {
    /// Starts it; what it writes is in `dir`. Objects are reused between operators, state is in
    /// the heap, and there is a checkpoint every second.
    ///
    /// # Errors
    /// When it is not installed, or does not start.
    pub fn start(dir: &Path) -> Result<Self> {
        let ports = ports::free(2)?;
        let (rpc, rest) = (ports[0], ports[1]);
        let java = Java::find(dir)?;
        let settings = format!(
            "jobmanager: {{rpc: {{address: 127.0.0.1, port: {rpc}}}, bind-host: 127.0.0.1, \
             memory: {{process: {{size: 1600m}}}}}}\n\
             taskmanager: {{host: 127.0.0.1, bind-host: 127.0.0.1, numberOfTaskSlots: 1, \
             memory: {{process: {{size: 3g}}}}}}\n\
             rest: {{address: 127.0.0.1, bind-address: 127.0.0.1, port: {rest}}}\n\
             execution: {{target: remote, checkpointing: {{interval: 1s, dir: \"file://{}\"}}}}\n\
             pipeline: {{object-reuse: true}}\n\
             parallelism: {{default: 1}}\n\
             table: {{dml-sync: \"true\", local-time-zone: UTC}}\n",
            dir.join("checkpoints").display()
        );
        fs::write(java.settings.join("config.yaml"), settings).context("write Flink's settings")?;
        let mut command = java.command(&["-Xmx1g"], JOB_MANAGER);
        command.arg("-c").arg(&java.settings).args(["--executionMode", "cluster"]);
        let mut job_manager = Guarded::start(&command, &dir.join("job-manager.log"))?;
        let address = SocketAddr::from(([127, 0, 0, 1], rest));
        job_manager.listens("Flink", address)?;
        let (jvm, dynamic) = java.resources()?;
        let jvm: Vec<&str> = jvm.iter().map(String::as_str).collect();
        let mut command = java.command(&jvm, TASK_MANAGER);
        command.arg("--configDir").arg(&java.settings).args(dynamic);
        let mut task_manager = Guarded::start(&command, &dir.join("task-manager.log"))?;
        let began = Instant::now();
        while !offers_a_slot(address)? {
            if task_manager.exited()?.is_some() || began.elapsed() > OFFERS_WITHIN {
                bail!("Flink's TaskManager does not start\n{}", task_manager.log_tail());
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(Self { java, _job_manager: job_manager, task_manager })
    }

    /// Runs SQL to its end. What it inserts is there then.
    ///
    /// # Errors
    /// When a statement fails.
    pub fn run(&self, sql: &str) -> Result<()> {
        let script = self.java.settings.join("job.sql");
        fs::write(&script, sql).context("write Flink's SQL")?;
        let mut command = self.java.command(&["-Xmx1g"], CLIENT);
        command.arg("-f").arg(&script).arg("-hist").arg(self.java.settings.join("history"));
        let ran = command.stdin(Stdio::null()).output().context("run Flink's SQL client")?;
        let said = String::from_utf8_lossy(&ran.stdout);
        ensure!(
            ran.status.success() && !said.contains("[ERROR]"),
            "Flink does not run the SQL\n{said}{}",
            String::from_utf8_lossy(&ran.stderr)
        );
        Ok(())
    }

    /// The process that computes.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.task_manager.pid()
    }
}

/// Flink's programs, as Java runs them.
#[derive(Debug)]
struct Java {
    home: PathBuf,
    settings: PathBuf,
}

impl Java {
    fn find(dir: &Path) -> Result<Self> {
        let version = VERSION.trim();
        let home = installed::folder(&format!("flink-{version}"), &format!("Flink {version}"))?;
        let settings = dir.join("settings");
        fs::create_dir_all(&settings).context("make the folder of Flink's settings")?;
        fs::write(settings.join("log4j.properties"), LOGGING).context("write Flink's logging")?;
        Ok(Self { home, settings })
    }

    fn command(&self, jvm: &[&str], main: &str) -> Command {
        let all = |folder: &str| self.home.join(folder).join("*").display().to_string();
        let logging = self.settings.join("log4j.properties");
        let mut command = Command::new("java");
        command
            .args(OPENED.map(|name| format!("--add-opens=java.base/{name}=ALL-UNNAMED")))
            .args(jvm)
            .arg(format!("-Dlog4j.configurationFile=file:{}", logging.display()))
            .arg("-cp")
            .arg(["lib", "opt", "bin"].map(all).join(":"))
            .arg(main)
            .env("FLINK_CONF_DIR", &self.settings);
        command
    }

    /// The options of Java, and the settings, that come of the size of the process; as
    /// Flink's own script asks for them.
    fn resources(&self) -> Result<(Vec<String>, Vec<String>)> {
        let mut command = self.command(&[], RESOURCES);
        command.args(["GET_TM_RESOURCE_PARAMS", "--configDir"]).arg(&self.settings);
        let told = command.output().context("ask Flink for its sizes")?;
        let told = String::from_utf8_lossy(&told.stdout).into_owned();
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect();
        let mut lines = told.lines().filter_map(|line| line.strip_prefix(RESULT)).map(words);
        match (lines.next(), lines.next()) {
            (Some(jvm), Some(dynamic)) => Ok((jvm, dynamic)),
            _ => bail!("Flink does not tell its sizes\n{told}"),
        }
    }
}

/// Whether a TaskManager is registered, as `GET /overview` says.
fn offers_a_slot(address: SocketAddr) -> Result<bool> {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(address).context("ask Flink how it is")?;
    stream.write_all(b"GET /overview HTTP/1.1\r\nHost: flink\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("read how Flink is")?;
    Ok(answer.contains("\"slots-available\":1"))
}
