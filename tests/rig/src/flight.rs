//! A client of Arrow Flight SQL: ADBC, in Python.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::installed::folder;
use crate::smtp::PYTHON;

/// Logs in to a server of Flight SQL at `port` of this machine and asks it some things, a line
/// of JSON each. Answers a line of JSON for each; see `flight/ask.py`.
///
/// # Errors
/// When it is not installed, or fails.
pub fn flight(port: u16, user: &str, password: &str, asked: &[String]) -> Result<Vec<String>> {
    // pyarrow is there.
    let modules = [folder("flight", "ADBC")?, folder("lake", "pyarrow")?];
    let modules = std::env::join_paths(modules).context("the folders have colons")?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("flight/ask.py");
    let mut command = Command::new(PYTHON);
    command.env("PYTHONPATH", modules).arg(script);
    command.args([&format!("grpc://127.0.0.1:{port}"), user, password]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = command.spawn().context("run Python")?;
    let mut input = running.stdin.take().context("Python takes no input")?;
    // One that is not let in does not read on.
    let _ = input.write_all(asked.join("\n").as_bytes());
    drop(input);
    let output = running.wait_with_output().context("wait for Python")?;
    if !output.status.success() {
        bail!("Python failed\n{}", String::from_utf8_lossy(&output.stderr));
    }
    let text = String::from_utf8(output.stdout).context("what was said is no text")?;
    Ok(text.lines().map(str::to_owned).collect())
}
