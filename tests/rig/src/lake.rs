//! Other engines over the lake: DuckDB, polars and pandas, with the files that the Python package
//! deltalake lists.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::installed::folder;
use crate::smtp::PYTHON;

/// Looks at a table of events so many times, with 0.2 s between. Answers a line of JSON
/// for each look: `version`, `files`, `rows`, and if there are rows `different` ones by
/// their identity, `places` in the log, `requests`, those of them that were `replayed` by
/// their ids, and the partitions that have rows `beyond` the offset that the commit names, all
/// by DuckDB; and by the `others`, `polars` and `pandas`, a list of rows, different ones and
/// requests.
///
/// # Errors
/// When it is not installed, or cannot read the table.
pub fn read_lake(table: &Path, looks: usize) -> Result<Vec<String>> {
    let mut command = python("read.py")?;
    lines(command.arg(table).arg(looks.to_string()), "")
}

/// Runs SQL by DuckDB: some statements, and answers the rows of the last, each as a list in
/// JSON.
///
/// # Errors
/// When it is not installed, or does not take a statement.
pub fn duckdb(sql: &str) -> Result<Vec<String>> {
    lines(&mut python("query.py")?, sql)
}

/// Times queries by DuckDB over the files of a table, which they call `events`: `asked` is what
/// `time.py` takes, as JSON. Answers a line for each, the seconds of its fastest round and the
/// number of its rows.
///
/// # Errors
/// When it is not installed, or does not take a query.
pub fn time_duckdb(asked: &str) -> Result<Vec<String>> {
    lines(&mut python("time.py")?, asked)
}

fn python(script: &str) -> Result<Command> {
    let modules = folder("lake", "DuckDB")?;
    let mut command = Command::new(PYTHON);
    command.env("PYTHONPATH", modules);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("lake").join(script));
    Ok(command)
}

/// What a command prints, given `input`.
fn lines(command: &mut Command, input: &str) -> Result<Vec<String>> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = command.spawn().context("run Python")?;
    let mut stdin = running.stdin.take().context("Python takes no input")?;
    // One that fails does not read on; what it says is told below.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = running.wait_with_output().context("wait for Python")?;
    if !output.status.success() {
        bail!("Python failed\n{}", String::from_utf8_lossy(&output.stderr));
    }
    let text = String::from_utf8(output.stdout).context("what was read is no text")?;
    Ok(text.lines().map(str::to_owned).collect())
}
