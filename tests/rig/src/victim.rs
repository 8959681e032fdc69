//! A test's own program, started again to be killed.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};

/// Starts this program once more, with the environment variable `name` set to
/// `value` to tell it so, kills it (SIGKILL) after a while, and answers the whole
/// lines that it had written to its standard output. A last line without an end
/// was cut off by the kill, and was not said.
///
/// # Errors
/// When the program cannot be started, or writes what is not text.
pub fn kill_after(name: &str, value: impl AsRef<OsStr>, time: Duration) -> Result<Vec<String>> {
    let mut victim = Command::new(std::env::current_exe()?)
        .env(name, value)
        .stdout(Stdio::piped())
        .spawn()
        .context("start the victim")?;
    let output = victim.stdout.take().context("its output is a pipe")?;
    let reader = std::thread::spawn(move || {
        let mut output = BufReader::new(output);
        let mut lines = Vec::new();
        let mut line = Vec::new();
        while output.read_until(b'\n', &mut line)? > 0 && line.pop() == Some(b'\n') {
            lines.push(String::from_utf8(std::mem::take(&mut line))?);
        }
        Ok(lines)
    });
    std::thread::sleep(time);
    victim.kill()?;
    victim.wait()?;
    reader.join().map_err(|_| anyhow!("the thread that reads the victim panicked"))?
}

/// How often to kill: what `WEIR_KILLS` says, or `default`.
///
/// # Errors
/// When `WEIR_KILLS` is not a number.
pub fn kills(default: usize) -> Result<usize> {
    match std::env::var("WEIR_KILLS") {
        Ok(text) => text.parse().context("WEIR_KILLS is a number"),
        Err(_) => Ok(default),
    }
}
