//! Other engines over the lake: DuckDB, with the files that the Python package deltalake
//! lists.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::installed::folder;
use crate::smtp::PYTHON;

/// Looks at a table of events so many times, with 0.2 s between. Answers a line of JSON
/// for each look: `version`, `files`, `rows`, and if there are rows `different` ones by
/// their identity, `places` in the log, `requests`, those of them that were `replayed` by
/// their ids, and the partitions that have rows `beyond` the offset that the commit names.
///
/// # Errors
/// When it is not installed, or cannot read the table.
pub fn read_lake(table: &Path, looks: usize) -> Result<Vec<String>> {
    let modules = folder("lake", "DuckDB")?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("lake/read.py");
    let mut command = Command::new(PYTHON);
    command.env("PYTHONPATH", modules).arg(script).arg(table).arg(looks.to_string());
    let output = command.output().context("run Python")?;
    if !output.status.success() {
        bail!("the lake cannot be read\n{}", String::from_utf8_lossy(&output.stderr));
    }
    let text = String::from_utf8(output.stdout).context("what was read is no text")?;
    Ok(text.lines().map(str::to_owned).collect())
}
