//! A server process that cannot outlive its holder.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

const GUARD: &str = include_str!("guard.sh");

/// How long a server may take to listen.
const STARTS_WITHIN: Duration = Duration::from_secs(60);

/// How long a server may take to stop when asked.
const STOP_WITHIN: Duration = Duration::from_secs(30);

/// How often a wait looks again.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(25);

/// Lines of a log that an error carries.
const TAIL_LINES: usize = 25;

/// A server running under a guard: a small shell that ends it when the pipe to
/// this value closes, whether by drop or by the death of this process.
///
/// What the server prints is appended to its log file. The server must stay in the
/// foreground: one that turns itself into a daemon leaves its guard.
#[derive(Debug)]
pub struct Guarded {
    guard: Child,
    /// The guard's standard input. Closing it ends the server.
    pipe: Option<ChildStdin>,
    server_pid: u32,
    log: PathBuf,
}

impl Guarded {
    /// Starts `command`, with its environment and folder, under a guard.
    ///
    /// That the process exists says nothing of whether it will serve; a command
    /// that cannot be run shows in the log, and in [`Guarded::exited`].
    ///
    /// # Errors
    /// When the guard itself cannot start.
    pub fn start(command: &Command, log: &Path) -> Result<Self> {
        let mut guard = Command::new("sh");
        guard.args(["-c", GUARD, "guard"]).arg(log);
        guard.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => guard.env(name, value),
                None => guard.env_remove(name),
            };
        }
        if let Some(folder) = command.get_current_dir() {
            guard.current_dir(folder);
        }
        // In a group of its own, the guard survives the terminal's interrupt long
        // enough to see its holder die of it.
        guard.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped());

        let mut guard = guard.spawn().context("cannot start sh, the guard of a server")?;
        let pipe = guard.stdin.take();
        let mut line = String::new();
        if let Some(stdout) = guard.stdout.take() {
            BufReader::new(stdout).read_line(&mut line).context("cannot read from the guard")?;
        }
        let server_pid =
            line.trim().parse().with_context(|| format!("the guard names no process: {line:?}"))?;
        Ok(Self { guard, pipe, server_pid, log: log.to_owned() })
    }

    /// The server's process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.server_pid
    }

    /// The status the server ended with, or `None` while it runs. A server ended
    /// by a signal shows the shell's status for it, 128 and the signal's number.
    ///
    /// # Errors
    /// When the guard cannot be waited for.
    pub fn exited(&mut self) -> Result<Option<ExitStatus>> {
        self.guard.try_wait().context("cannot wait for the guard")
    }

    /// Waits until the server, called `name`, takes connections at `address`.
    ///
    /// # Errors
    /// When it ended, or takes none within a minute; with the end of its log.
    pub fn listens(&mut self, name: &str, address: SocketAddr) -> Result<()> {
        let started = Instant::now();
        while TcpStream::connect(address).is_err() {
            if self.exited()?.is_some() || started.elapsed() > STARTS_WITHIN {
                bail!(
                    "{name} does not start; `tests/rig/install bench` installs it\n{}",
                    self.log_tail()
                );
            }
            thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    /// Asks the server to stop, as an operator would, and waits until it has.
    ///
    /// # Errors
    /// When it still runs after 30 seconds; it is killed then.
    pub fn stop(mut self) -> Result<()> {
        self.signal("TERM");
        let asked = Instant::now();
        while self.exited()?.is_none() {
            if asked.elapsed() > STOP_WITHIN {
                bail!("the server does not stop within {STOP_WITHIN:?}\n{}", self.log_tail());
            }
            thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    /// Kills the server and its children without warning, and waits until they
    /// are gone.
    pub fn kill(self) {
        drop(self);
    }

    /// The last lines of the server's log, headed by its name, for an error.
    #[must_use]
    pub fn log_tail(&self) -> String {
        tail(&self.log)
    }

    fn signal(&mut self, signal: &str) {
        if let Some(pipe) = &mut self.pipe {
            // A guard that is gone needs no signal: its server is gone too.
            let _ = writeln!(pipe, "{signal}");
        }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.pipe = None;
        let _ = self.guard.wait();
    }
}

/// The last lines of the file `log`, headed by its name.
pub(crate) fn tail(log: &Path) -> String {
    let bytes = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(TAIL_LINES)..];
    let name = log.file_name().unwrap_or_default().display();
    if last.is_empty() {
        return format!("--- {name} is empty");
    }
    format!("--- end of {name}\n{}", last.join("\n"))
}
