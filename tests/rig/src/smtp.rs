//! An SMTP server that keeps what it takes: Debian's aiosmtpd.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, bail};

use crate::Guarded;
use crate::guarded::LOOK_EVERY;
use crate::ports;

/// How long it may take to listen.
const STARTS_WITHIN: Duration = Duration::from_secs(20);
/// Debian's own, which has Debian's modules.
pub(crate) const PYTHON: &str = "/usr/bin/python3";

/// An SMTP server on a free port.
#[derive(Debug)]
pub struct Smtp {
    server: Guarded,
    port: u16,
    dir: tempfile::TempDir,
}

/// An email that the server took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The recipients of the envelope.
    pub recipients: String,
    /// The email, headers and all, as it was received.
    pub email: String,
    /// When it was kept.
    pub at: SystemTime,
}

impl Smtp {
    /// Starts it with further arguments of `tests/rig/smtp/server.py`.
    ///
    /// # Errors
    /// When it is not installed, or does not start.
    pub fn start(arguments: &[&str]) -> Result<Self> {
        let port = ports::free(1)?[0];
        Self::start_at(port, arguments)
    }

    /// As [`Self::start`], at a port that was free a moment ago.
    ///
    /// # Errors
    /// As for [`Self::start`].
    pub fn start_at(port: u16, arguments: &[&str]) -> Result<Self> {
        let dir = tempfile::tempdir().context("make a folder for emails")?;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("smtp/server.py");
        let mut command = Command::new(PYTHON);
        command.arg(script).args(["--port", &port.to_string(), "--dir"]).arg(dir.path());
        command.args(arguments);
        let log = dir.path().join("log");
        let mut server = Guarded::start(&command, &log)?;
        let began = Instant::now();
        while !fs::read_to_string(&log).unwrap_or_default().contains("listening") {
            if server.exited()?.is_some() || began.elapsed() > STARTS_WITHIN {
                bail!(
                    "the SMTP server does not start; run tests/rig/install\n{}",
                    server.log_tail()
                );
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(Self { server, port, dir })
    }

    /// Where it listens, on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What it took, in that order.
    ///
    /// # Errors
    /// When its folder cannot be read.
    pub fn kept(&self) -> Result<Vec<Kept>> {
        let files = fs::read_dir(self.dir.path())?.map(|entry| Ok(entry?.path()));
        let mut files: Vec<PathBuf> = files.collect::<Result<_>>()?;
        files.retain(|file| file.extension().is_some_and(|extension| extension == "eml"));
        files.sort();
        let read = |file: &PathBuf| {
            let text = fs::read_to_string(file)?;
            let (recipients, email) =
                text.split_once('\n').context("an email without a recipient")?;
            let at = fs::metadata(file)?.modified()?;
            Ok(Kept { recipients: recipients.to_owned(), email: email.to_owned(), at })
        };
        files.iter().map(read).collect()
    }

    /// Stops it.
    ///
    /// # Errors
    /// When it does not stop.
    pub fn stop(self) -> Result<()> {
        self.server.stop()
    }
}
