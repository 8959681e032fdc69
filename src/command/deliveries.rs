use std::path::PathBuf;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use ingest::registry::Name;
use serde_json::{Value, json};

use super::admin::{self, Api};
use crate::cli::{Failure, Settings};

#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    admin: admin::Options,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the dead letters of a queue that nobody has decided of, oldest first
    List {
        /// The queue
        queue: Name,
        /// At most so many, 1 to 1,000
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// Show the dead letters of one message, with their bodies
    Show {
        /// The queue
        queue: Name,
        /// The message's id
        id: String,
    },
    /// Put dead letters back into their queue, with the same ids, behind what it has
    #[command(override_usage = "weir deliveries replay [OPTIONS] <QUEUE> <IDS...|--all>")]
    Replay {
        /// The queue
        queue: Name,
        #[command(flatten)]
        which: Which,
        /// A file that goes in the place of the body; for one letter only
        #[arg(long, value_name = "FILE")]
        body: Option<PathBuf>,
        /// The media type of that file; as before, if it is left out
        #[arg(long, value_name = "TYPE", requires = "body")]
        content_type: Option<String>,
    },
    /// Decide that dead letters stay dead: they are listed no more
    #[command(override_usage = "weir deliveries drop [OPTIONS] <QUEUE> <IDS...|--all>")]
    Drop {
        /// The queue
        queue: Name,
        #[command(flatten)]
        which: Which,
    },
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// The ids of the messages
    ids: Vec<String>,
    /// All that are there now
    #[arg(long)]
    all: bool,
}

/// Shows the dead letters of a queue, or decides what becomes of them.
pub(crate) fn run(settings: &Settings, options: &Options) -> Result<(), Failure> {
    let api = Api::open(settings, &options.admin)?;
    let path = |queue: &Name, rest: &str| format!("/admin/v1/queues/{queue}/dead{rest}");
    let wish = |which: &Which| match which.all {
        true => json!({"all": true}),
        false => json!({"ids": which.ids}),
    };
    let answer = match &options.action {
        Action::List { queue, limit } => {
            api.get(&path(queue, ""), &[("limit", limit.to_string())])?
        }
        Action::Show { queue, id } => api.get(&path(queue, ""), &[("id", id.clone())])?,
        Action::Replay { queue, which, body, content_type } => {
            let mut wish = wish(which);
            if let Some(file) = body {
                let read = std::fs::read(file);
                let read = read.with_context(|| format!("read the body {}", file.display()));
                wish["body_base64"] = STANDARD.encode(read.map_err(Failure::Usage)?).into();
            }
            if let Some(content_type) = content_type {
                wish["content_type"] = content_type.as_str().into();
            }
            api.post(&path(queue, "/replay"), &wish)?
        }
        Action::Drop { queue, which } => api.post(&path(queue, "/drop"), &wish(which))?,
    };
    if options.admin.json {
        println!("{answer}");
        return Ok(());
    }
    match &options.action {
        Action::List { queue, .. } => print_list(queue, &answer),
        Action::Show { .. } => print_letters(&answer),
        Action::Replay { queue, .. } => {
            println!("{} put back into queue {queue}", counted(&answer["settled"]));
        }
        Action::Drop { queue, .. } => {
            println!("{} of queue {queue} dropped", counted(&answer["settled"]));
        }
    }
    Ok(())
}

fn counted(count: &Value) -> String {
    match count.as_u64() {
        Some(1) => "1 dead letter".to_owned(),
        _ => format!("{count} dead letters"),
    }
}

fn print_list(queue: &Name, answer: &Value) {
    let letters = answer["letters"].as_array().map_or(&[][..], Vec::as_slice);
    let total = &answer["total"];
    if letters.is_empty() {
        println!("queue {queue} has no dead letters");
        return;
    }
    let heads = ["died", "reason", "status", "attempts", "key", "id"];
    let row = |letter: &Value| heads.map(|name| text(&letter[name]));
    let mut rows = vec![heads.map(str::to_owned)];
    rows.extend(letters.iter().map(row));
    let widths: Vec<usize> = (0..heads.len())
        .map(|i| rows.iter().map(|row| row[i].chars().count()).max().unwrap_or(0))
        .collect();
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
        println!("{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
    if letters.len() as u64 == total.as_u64().unwrap_or(0) {
        println!("{} in queue {queue}", counted(total));
    } else {
        println!("the first {} of {} in queue {queue}", letters.len(), counted(total));
    }
}

fn print_letters(answer: &Value) {
    for letter in answer["letters"].as_array().into_iter().flatten() {
        for name in [
            "id",
            "key",
            "reason",
            "status",
            "attempts",
            "accepted",
            "died",
            "correlation_id",
            "content_type",
            "body_bytes",
        ] {
            println!("{name:15} {}", text(&letter[name]));
        }
        match letter["body"].as_str() {
            Some(body) => println!("\n{}", shown(body, |c| matches!(c, '\n' | '\t'))),
            None => println!("\n(base64) {}", text(&letter["body_base64"])),
        }
    }
}

/// A value in a cell: one line, without what a terminal would obey.
fn text(value: &Value) -> String {
    let text = match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    shown(&text, |_| false)
}

fn shown(text: &str, is_kept: impl Fn(char) -> bool) -> String {
    let visible = |c: char| if c.is_control() && !is_kept(c) { '\u{fffd}' } else { c };
    text.chars().map(visible).collect()
}
