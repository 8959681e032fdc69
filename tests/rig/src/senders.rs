//! Senders of events: the SDKs of CloudEvents and OpenTelemetry, in Python.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::installed::folder;
use crate::smtp::PYTHON;

/// Sends some events: `how` is cloudevents, otlp-http or otlp-grpc. Answers what was said of
/// it, in lines.
///
/// # Errors
/// When it is not installed, or fails.
pub fn send(how: &str, to: &str, name: &str, secret: &str) -> Result<Vec<String>> {
    let modules = folder("senders", "the SDKs of CloudEvents and OpenTelemetry")?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("senders/send.py");
    let mut command = Command::new(PYTHON);
    command.env("PYTHONPATH", modules).arg(script).args([how, to, name, secret]);
    let output = command.output().context("run Python")?;
    if !output.status.success() {
        bail!("Python failed\n{}", String::from_utf8_lossy(&output.stderr));
    }
    let text = String::from_utf8(output.stdout).context("what was said is no text")?;
    Ok(text.lines().map(str::to_owned).collect())
}
