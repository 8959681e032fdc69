use std::io::IsTerminal as _;

use anyhow::{Context as _, anyhow};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::answer::Asked;
use super::rows::{plain, text};
use crate::cli::{Failure, Settings};

/// How many files are looked at by one request: some are 64 MB.
const AT_ONCE: usize = 16;

#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    asked: Asked,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Read every file of the lake to its end, and name those that are damaged
    Check {
        /// Take damaged files out of the table: their events are lost, all others can be
        /// queried again
        #[arg(long)]
        set_aside: bool,
        /// Who says so; the user of this shell, if it is left out
        #[arg(long, env = "USER", hide_env = true, default_value = "weir lake")]
        by: String,
    },
}

/// Looks at the files of the lake.
pub(crate) fn run(settings: &Settings, options: &Options) -> Result<(), Failure> {
    let Action::Check { set_aside, by } = &options.action;
    let asked = &options.asked;
    let listed = asked.get(settings, "/v1/lake/files")?;
    let files = list(&listed, "files")?;
    let paths: Vec<String> = files.iter().map(|file| text(file, "path")).collect();
    let mut damaged = Vec::new();
    for (at, some) in paths.chunks(AT_ONCE).enumerate() {
        if std::io::stderr().is_terminal() {
            eprint!("\r{} of {} files", at * AT_ONCE, paths.len());
        }
        let answer = match set_aside {
            true => asked.tell(settings, "/v1/lake/set-aside", &json!({"files": some, "by": by})),
            false => asked.tell(settings, "/v1/lake/check", &json!({"files": some})),
        };
        // What was found before is told all the same.
        let answer = answer.inspect_err(|_| {
            damaged.iter().for_each(|of| eprintln!("{}", plain(&line(of))));
        })?;
        damaged.extend(list(&answer, if *set_aside { "set_aside" } else { "damaged" })?);
    }
    if std::io::stderr().is_terminal() {
        eprintln!("\r{0} of {0} files", paths.len());
    }
    let answer = json!({"files": paths.len(), "damaged": damaged, "set_aside": set_aside});
    if damaged.is_empty() {
        asked.done(&answer, &format!("{} files, all of them whole", paths.len()));
        return Ok(());
    }
    let lines: Vec<String> = damaged.iter().map(line).collect();
    let rows: u64 = damaged.iter().filter_map(|of| of["rows"].as_u64()).sum();
    let told = format!("{} of {} files are damaged, with {rows} events", lines.len(), paths.len());
    if *set_aside {
        asked.done(&answer, &format!("{told}; they are set aside, in _weir/damaged of the table"));
        if !asked.wants_json() {
            lines.iter().for_each(|line| println!("{}", plain(line)));
        }
        return Ok(());
    }
    if asked.wants_json() {
        println!("{answer}");
    }
    let mend = "bring them back from a copy of the lake's directory, or --set-aside takes them out \
                of the table";
    Err(Failure::Other(anyhow!("{told}; {mend}\n{}", lines.join("\n"))))
}

fn line(of: &Value) -> String {
    format!("{}: {}", text(of, "path"), text(of, "why"))
}

fn list(answer: &Value, name: &str) -> Result<Vec<Value>, Failure> {
    Ok(serde_json::from_value(answer[name].clone()).context("read the answer")?)
}
