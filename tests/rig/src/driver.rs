//! A browser to be driven by WebDriver: Debian's Chromium.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::Guarded;
use crate::guarded::LOOK_EVERY;
use crate::ports;

/// How long it may take to listen.
const STARTS_WITHIN: Duration = Duration::from_secs(20);

/// `chromedriver` on a free port, which starts Chromium for each session.
#[derive(Debug)]
pub struct Driver {
    server: Guarded,
    port: u16,
    /// Where the browser's own files go.
    _dir: tempfile::TempDir,
}

impl Driver {
    /// Starts it.
    ///
    /// # Errors
    /// When it is not installed, or does not start.
    pub fn start() -> Result<Self> {
        let port = ports::free(1)?[0];
        let dir = tempfile::tempdir().context("make a folder for the browser")?;
        let log = dir.path().join("log");
        let mut command = Command::new("chromedriver");
        command.arg(format!("--port={port}")).env("HOME", dir.path()).env("TMPDIR", dir.path());
        let mut server = Guarded::start(&command, &log)?;
        let began = Instant::now();
        while !std::fs::read_to_string(&log).unwrap_or_default().contains("started successfully") {
            if server.exited()?.is_some() || began.elapsed() > STARTS_WITHIN {
                bail!("chromedriver does not start; run tests/rig/install\n{}", server.log_tail());
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(Self { server, port, _dir: dir })
    }

    /// Where sessions are asked for.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Stops it, and its browsers.
    ///
    /// # Errors
    /// When it does not stop.
    pub fn stop(self) -> Result<()> {
        self.server.stop()
    }
}
