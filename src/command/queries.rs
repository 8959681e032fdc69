use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::answer::{Asked, Word};
use super::rows::{table, text};
use crate::cli::{Failure, Settings};

#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    asked: Asked,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the continuous queries, and how they fare
    List,
    /// Let a query rest: it takes nothing in and gives nothing, and keeps what it has
    Pause {
        /// Its name
        query: String,
        #[command(flatten)]
        word: Word,
    },
    /// Let a query that rests go on: it takes in all that came meanwhile
    Resume {
        /// Its name
        query: String,
        #[command(flatten)]
        word: Word,
    },
}

const LIST: &str = "SELECT name, kind, state, origin, owner, error, paused_by, paused_note, \
    rows_in, rows_out, rows_late, rows_behind, state_bytes, memory_bytes, watermark, closed_until, \
    committed FROM weir_queries ORDER BY name";

/// Lists the continuous queries, or lets one rest or go on.
pub(crate) fn run(settings: &Settings, options: &Options) -> Result<(), Failure> {
    let asked = &options.asked;
    let (query, order, word, told) = match &options.action {
        Action::List => {
            let rows = asked.rows(settings, LIST.to_owned())?;
            asked.print(&rows, "there are no queries", list);
            return Ok(());
        }
        Action::Pause { query, word } => (query, "pause", word, "rests until it is resumed"),
        Action::Resume { query, word } => (query, "resume", word, "goes on"),
    };
    let path = format!("/v1/queries/{query}/{order}");
    let answer = asked.tell(settings, &path, &json!(word))?;
    asked.done(&answer, &format!("{query} {told}"));
    Ok(())
}

fn list(rows: &[Value]) {
    let heads =
        ["query", "kind", "from", "state", "in", "out", "behind", "late", "state", "until", "why"];
    table(
        &heads,
        rows.iter().map(|row| {
            let or_dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
            let why = match row["paused_by"].as_str() {
                Some(by) => format!("{by}: {}", text(row, "paused_note")),
                None => text(row, "error"),
            };
            [
                text(row, "name"),
                text(row, "kind"),
                text(row, "origin"),
                text(row, "state"),
                row["rows_in"].to_string(),
                row["rows_out"].to_string(),
                row["rows_behind"].to_string(),
                row["rows_late"].to_string(),
                format!("{} of {} B", row["state_bytes"], row["memory_bytes"]),
                or_dash(text(row, "closed_until")),
                or_dash(why),
            ]
        }),
    );
}
