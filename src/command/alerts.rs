use anyhow::anyhow;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::answer::{Asked, Word};
use super::rows::{plain, table, text};
use super::span::span_ms;
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
        /// For how long, as 15m, 12h or 7d; a minute to 30 days
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

/// Lists alerts, or says something of them.
pub(crate) fn run(settings: &Settings, options: &Options) -> Result<(), Failure> {
    let asked = &options.asked;
    let node = Node { settings, asked };
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
            let rows = node.rows(sql)?;
            asked.print(&rows, "there are no such alerts", |rows| {
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
            let id = node.id("alerts", id)?;
            let rows = node.rows(format!("SELECT * FROM alerts WHERE id = '{id}'"))?;
            asked.print(&rows, "it is gone", |rows| rows.iter().for_each(show));
        }
        Action::Ack { id, word } => {
            let id = node.id("alerts", id)?;
            let answer = node.tell(&format!("/v1/alerts/{id}/acknowledge"), &json!(word))?;
            let by = &answer["acknowledged"];
            asked.done(&answer, &format!("alert {id} is acknowledged by {}", text(by, "by")));
        }
        Action::Unack { id, word } => {
            let id = node.id("alerts", id)?;
            let answer = node.tell(&format!("/v1/alerts/{id}/unacknowledge"), &json!(word))?;
            asked.done(&answer, &format!("alert {id} is acknowledged by nobody"));
        }
        Action::Silence { detection, subject, for_ms, word } => {
            let mut wish = json!(word);
            wish["for_ms"] = (*for_ms).into();
            for (name, pattern) in [("detection", detection), ("subject", subject)] {
                if let Some(pattern) = pattern {
                    wish[name] = pattern.as_str().into();
                }
            }
            let answer = node.tell("/v1/silences", &wish)?;
            let (id, until) = (text(&answer, "id"), text(&answer, "until"));
            asked.done(&answer, &format!("silence {id} holds until {until}"));
        }
        Action::Silences => {
            let sql = "SELECT id, detection, subject, until, set_by, note FROM silences \
                       WHERE until > now() ORDER BY until";
            let rows = node.rows(sql.to_owned())?;
            asked.print(&rows, "there are no silences", |rows| {
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
            let id = node.id("silences", id)?;
            let answer = node.tell(&format!("/v1/silences/{id}/end"), &json!(word))?;
            asked.done(&answer, &format!("silence {id} has ended"));
        }
    }
    Ok(())
}

/// How much of an id is listed: enough to name it by.
const SHORT: usize = 12;

/// The node that is asked.
struct Node<'a> {
    settings: &'a Settings,
    asked: &'a Asked,
}

impl Node<'_> {
    fn rows(&self, sql: String) -> Result<Vec<Value>, Failure> {
        self.asked.rows(self.settings, sql)
    }

    fn tell(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.asked.tell(self.settings, path, body)
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
        ("decision", row["decision"].as_str().map(str::to_owned)),
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
