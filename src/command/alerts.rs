use std::path::{Path, PathBuf};

use anyhow::anyhow;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::answer;
use crate::cli::{Failure, Settings};

#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    action: Action,
    /// The analytics node; as the settings say, if it is left out
    #[arg(long, global = true, value_name = "URL")]
    server: Option<String>,
    /// The file of the admin token; the one in the data directory, if it is left out
    #[arg(long, global = true, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List alerts, the latest first
    List {
        /// Which of them
        #[arg(long, value_enum, default_value_t = State::Open)]
        state: State,
        /// At most so many, 1 to 1,000
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000))]
        limit: u32,
    },
    /// Show an alert with its evidence, and SQL for the events behind it
    Show {
        /// Its id, or how it begins
        id: String,
    },
    /// Acknowledge an alert: it is escalated no further
    Ack {
        /// Its id, or how it begins
        id: String,
        #[command(flatten)]
        word: Word,
    },
    /// Take an acknowledgement back: the alert is escalated again
    Unack {
        /// Its id, or how it begins
        id: String,
        #[command(flatten)]
        word: Word,
    },
    /// Let nobody be told of some alerts for a while
    Silence {
        /// Those of detections of this name; a star stands for any letters, \\* for itself
        #[arg(long, required_unless_present = "subject")]
        detection: Option<String>,
        /// Those about subjects of this name; a star stands for any letters, \\* for itself
        #[arg(long)]
        subject: Option<String>,
        /// For how long, as 90m, 2h or 7d; a minute to 30 days
        #[arg(long = "for", value_name = "TIME", value_parser = span_ms)]
        for_ms: u64,
        #[command(flatten)]
        word: Word,
    },
    /// List the silences that hold
    Silences,
    /// End a silence
    Unsilence {
        /// Its id, or how it begins
        id: String,
        #[command(flatten)]
        word: Word,
    },
}

/// Which alerts are listed.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum State {
    /// Those that go on
    Open,
    /// Those that are over
    Resolved,
    /// Both
    All,
}

#[derive(Debug, Args)]
struct Word {
    /// Who says so; the user of this shell, if it is left out
    #[arg(long, env = "USER", hide_env = true)]
    by: String,
    /// Why, for who looks at it later
    #[arg(long, default_value = "")]
    note: String,
}

impl Word {
    fn json(&self) -> Value {
        json!({"by": self.by, "note": self.note})
    }
}

/// A span of time in ms, as people write it.
fn span_ms(text: &str) -> Result<u64, String> {
    let told = || format!("{text:?} is no span of time; write 90m, 2h or 7d");
    // Days of 24 hours: no clock is put forward in them.
    let text = match text.strip_suffix('d').map(str::parse::<u32>) {
        Some(Ok(days)) => format!("{}h", u64::from(days) * 24),
        _ => text.to_owned(),
    };
    let span: jiff::SignedDuration = text.parse().map_err(|_| told())?;
    u64::try_from(span.as_millis()).map_err(|_| told())
}

/// Lists alerts, or says something of them.
pub(crate) fn run(settings: &Settings, options: &Options) -> Result<(), Failure> {
    let node = (options.server.as_deref(), options.token_file.as_deref());
    let asked = Asked { settings, node };
    match &options.action {
        Action::List { state, limit } => {
            let of = match state {
                State::Open => "WHERE state = 'open'",
                State::Resolved => "WHERE state = 'resolved'",
                State::All => "",
            };
            let sql = format!(
                "SELECT id, state, severity, begins, title, subject, findings, acknowledged_by \
                 FROM alerts {of} ORDER BY begins DESC, id LIMIT {limit}"
            );
            let rows = asked.rows(sql)?;
            print(options, &rows, "there are no such alerts", |rows| {
                let heads =
                    ["id", "severity", "state", "begins", "findings", "acknowledged by", "alert"];
                table(
                    &heads,
                    rows.iter().map(|row| {
                        let id = text(row, "id");
                        let by = row["acknowledged_by"].as_str().unwrap_or("-");
                        let what = format!("{}: {}", text(row, "title"), text(row, "subject"));
                        let short = id.get(..SHORT).unwrap_or(&id).to_owned();
                        let begins = text(row, "begins");
                        [
                            short,
                            text(row, "severity"),
                            text(row, "state"),
                            begins,
                            row["findings"].to_string(),
                            by.to_owned(),
                            what,
                        ]
                    }),
                );
            });
        }
        Action::Show { id } => {
            let id = asked.id("alerts", id)?;
            let rows = asked.rows(format!("SELECT * FROM alerts WHERE id = '{id}'"))?;
            print(options, &rows, "it is gone", |rows| rows.iter().for_each(show));
        }
        Action::Ack { id, word } => {
            let id = asked.id("alerts", id)?;
            let answer = asked.tell(&format!("/v1/alerts/{id}/acknowledge"), &word.json())?;
            let by = &answer["acknowledged"];
            done(options, &answer, &format!("alert {id} is acknowledged by {}", text(by, "by")));
        }
        Action::Unack { id, word } => {
            let id = asked.id("alerts", id)?;
            let answer = asked.tell(&format!("/v1/alerts/{id}/unacknowledge"), &word.json())?;
            done(options, &answer, &format!("alert {id} is acknowledged by nobody"));
        }
        Action::Silence { detection, subject, for_ms, word } => {
            let mut wish = word.json();
            wish["for_ms"] = (*for_ms).into();
            for (name, pattern) in [("detection", detection), ("subject", subject)] {
                if let Some(pattern) = pattern {
                    wish[name] = pattern.as_str().into();
                }
            }
            let answer = asked.tell("/v1/silences", &wish)?;
            let (id, until) = (text(&answer, "id"), text(&answer, "until"));
            done(options, &answer, &format!("silence {id} holds until {until}"));
        }
        Action::Silences => {
            let sql = "SELECT id, detection, subject, until, set_by, note FROM silences \
                       WHERE until > now() ORDER BY until";
            let rows = asked.rows(sql.to_owned())?;
            print(options, &rows, "there are no silences", |rows| {
                let heads = ["id", "detection", "subject", "until", "by", "note"];
                table(
                    &heads,
                    rows.iter().map(|row| {
                        let id = text(row, "id");
                        let pattern = |name| row[name].as_str().unwrap_or("*").to_owned();
                        [
                            id.get(..SHORT).unwrap_or(&id).to_owned(),
                            pattern("detection"),
                            pattern("subject"),
                            text(row, "until"),
                            text(row, "set_by"),
                            text(row, "note"),
                        ]
                    }),
                );
            });
        }
        Action::Unsilence { id, word } => {
            let id = asked.id("silences", id)?;
            let answer = asked.tell(&format!("/v1/silences/{id}/end"), &word.json())?;
            done(options, &answer, &format!("silence {id} has ended"));
        }
    }
    Ok(())
}

/// How much of an id is listed: enough to name it by.
const SHORT: usize = 12;

/// The node that is asked.
struct Asked<'a> {
    settings: &'a Settings,
    node: (Option<&'a str>, Option<&'a Path>),
}

impl Asked<'_> {
    fn rows(&self, sql: String) -> Result<Vec<Value>, Failure> {
        answer::rows(self.settings, self.node, sql)
    }

    fn tell(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        answer::tell(self.settings, self.node, path, body)
    }

    /// The whole id of the one row of a table whose id begins so.
    fn id(&self, of: &str, given: &str) -> Result<String, Failure> {
        let usage = |what: String| Err(Failure::Usage(anyhow!(what)));
        if given.is_empty() || !given.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return usage(format!("{given:?} is no id; `weir alerts list --state all` has them"));
        }
        let given = given.to_ascii_lowercase();
        let sql = format!("SELECT id FROM {of} WHERE id LIKE '{given}%' LIMIT 2");
        match &self.rows(sql)?[..] {
            [row] => Ok(text(row, "id")),
            [] => usage(format!("nothing among the {of} has the id {given}")),
            _ => usage(format!("{given} is how several ids begin; give more of it")),
        }
    }
}

fn print(options: &Options, rows: &[Value], none: &str, table: impl FnOnce(&[Value])) {
    match rows {
        _ if options.json => println!("{}", json!(rows)),
        [] => println!("{none}"),
        rows => table(rows),
    }
}

fn done(options: &Options, answer: &Value, told: &str) {
    match options.json {
        true => println!("{answer}"),
        false => println!("{}", plain(told)),
    }
}

fn text(row: &Value, name: &str) -> String {
    row[name].as_str().unwrap_or_default().to_owned()
}

/// Without what a terminal would take for a command.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Columns that are as wide as their widest cell; the last one is not filled up.
fn table<const N: usize>(heads: &[&str; N], rows: impl Iterator<Item = [String; N]>) {
    let rows: Vec<[String; N]> = rows.map(|row| row.map(|cell| plain(&cell))).collect();
    let mut widths = heads.map(|head| head.chars().count());
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: [&str; N]| {
        let cells = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        println!("{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    };
    line(*heads);
    rows.iter().for_each(|row| line(row.each_ref().map(String::as_str)));
}

/// An alert in full.
fn show(row: &Value) {
    println!("{}\n", plain(&text(row, "message")));
    let about = format!("{} ({})", text(row, "subject"), text(row, "subject_kind"));
    let window = format!("{} to {}", text(row, "begins"), text(row, "until"));
    let detection = format!("{} (owner: {})", text(row, "detection"), text(row, "owner"));
    let by = row["acknowledged_by"].as_str().map(|by| {
        let note = row["note"].as_str().filter(|note| !note.is_empty());
        let note = note.map(|note| format!(": {note}")).unwrap_or_default();
        format!("by {by}, at {}{note}", text(row, "acknowledged"))
    });
    let facts = [
        ("alert", Some(text(row, "id"))),
        ("state", Some(text(row, "state"))),
        ("severity", Some(text(row, "severity"))),
        ("subject", Some(about)),
        ("window", Some(window)),
        ("findings", Some(row["findings"].to_string())),
        ("replay", row["replay_id"].as_str().map(str::to_owned)),
        ("detection", Some(detection)),
        ("acknowledged", by),
    ];
    for (name, value) in facts {
        if let Some(value) = value {
            println!("{name:<14}{}", plain(&value));
        }
    }
    println!("\nevidence");
    let evidence: Value = serde_json::from_str(&text(row, "evidence")).unwrap_or_default();
    for (name, value) in evidence.as_object().into_iter().flatten() {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        println!("  {name:<22}  {}", plain(&value));
    }
    println!("\nthe events behind it, by weir query:\n");
    text(row, "query").lines().for_each(|line| println!("{}", plain(line)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_written_as_people_do() {
        for (text, expected) in
            [("90m", 5_400_000), ("2h", 7_200_000), ("7d", 604_800_000), ("1h 30m", 5_400_000)]
        {
            assert_eq!(span_ms(text), Ok(expected), "{text}");
        }
        for text in ["", "soon", "-2h", "5", "d"] {
            assert!(span_ms(text).is_err(), "{text}");
        }
    }
}
