//! A client of databases over JDBC: SQLLine, with the driver of PostgreSQL.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

use crate::installed::folder;

/// Runs a script of SQLLine, SQL and its own commands, on a database at `port` of this
/// machine, and answers all that it says.
///
/// # Errors
/// When it is not installed, or cannot run.
pub fn jdbc(port: u16, user: &str, password: &str, script: &str) -> Result<String> {
    let jars = folder("jdbc", "the JDBC driver")?;
    let mut command = Command::new("java");
    command.arg("-cp").arg(jars.join("*")).arg("sqlline.SqlLine");
    command.args(["-u", &format!("jdbc:postgresql://127.0.0.1:{port}/weir"), "-n", user]);
    command.args(["-p", password, "--outputformat=csv", "--color=false", "--silent=true"]);
    // What it keeps of what was asked goes nowhere.
    command.args(["--historyFile=/dev/null", "--maxWidth=1000"]);
    command.env("HOME", Path::new("/nonexistent"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = command.spawn().context("run java")?;
    let mut input = running.stdin.take().context("java takes no input")?;
    input.write_all(script.as_bytes()).context("hand over the script")?;
    drop(input);
    let output = running.wait_with_output().context("wait for java")?;
    let said = [output.stdout, output.stderr].concat();
    Ok(String::from_utf8_lossy(&said).into_owned())
}
