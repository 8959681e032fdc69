use anyhow::anyhow;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::admin::{self, Api};
use super::answer::Word;
use super::rows::{plain, table, text};
use super::span::span_ms;
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
    /// List the decisions that are in force or in dry run, the latest first
    List {
        /// Those too that were lifted or ended in the last seven days
        #[arg(long)]
        all: bool,
    },
    /// Refuse all requests of somebody, at every gateway, for a time
    Block {
        #[command(flatten)]
        whom: Whom,
    },
    /// Refuse the requests of somebody beyond so many, at each gateway, for a time
    Slow {
        #[command(flatten)]
        whom: Whom,
        /// How many requests, in which time: 10/1m; 1 to 1,000,000 in a second to an hour
        #[arg(long, value_name = "REQUESTS/TIME", value_parser = quota)]
        to: Quota,
    },
    /// Take a decision back, whoever made it
    #[command(override_usage = "weir decisions lift [OPTIONS] --by <BY> <ID|--detection NAME>")]
    Lift {
        /// Its id, or how it begins
        #[arg(required_unless_present = "detection")]
        id: Option<String>,
        /// All of a detection that are in force or in dry run
        #[arg(long, value_name = "NAME", conflicts_with = "id")]
        detection: Option<String>,
        #[command(flatten)]
        word: Word,
    },
}

#[derive(Debug, Args)]
struct Whom {
    /// What the subject is
    kind: SubjectKind,
    /// An address or a network such as 192.0.2.0/24, or the name of an application or a user
    subject: String,
    /// For how long, as 15m, 12h or 7d; a second to 30 days
    #[arg(long = "for", value_name = "TIME", value_parser = span_ms)]
    for_ms: u64,
    /// Refuse nothing: events say what would have been refused
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    word: Word,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum SubjectKind {
    /// Clients of an address or a network
    Address,
    /// An application
    Application,
    /// A user: the subject of a token
    User,
}

#[derive(Debug, Clone, Copy)]
struct Quota {
    max: u64,
    window_ms: u64,
}

fn quota(text: &str) -> Result<Quota, String> {
    let told = || format!("{text:?} is no number of requests in a time; write 10/1m");
    let (max, window) = text.split_once('/').ok_or_else(told)?;
    let max = max.parse().map_err(|_| told())?;
    // A second is written as 1s, and as s.
    let window = if window.starts_with(|c: char| c.is_ascii_digit()) {
        window.to_owned()
    } else {
        format!("1{window}")
    };
    Ok(Quota { max, window_ms: span_ms(&window).map_err(|_| told())? })
}

/// Lists decisions, or decides.
pub(crate) fn run(settings: &Settings, options: &Options) -> Result<(), Failure> {
    let api = Api::open(settings, &options.admin)?;
    let as_json = options.admin.json;
    match &options.action {
        Action::List { all } => {
            let found = api.get("/admin/v1/decisions", &[("all", all.to_string())])?;
            match found["decisions"].as_array() {
                _ if as_json => println!("{found}"),
                Some(rows) if !rows.is_empty() => list(rows),
                _ => println!("nobody is blocked or slowed down"),
            }
        }
        Action::Block { whom } => make(&api, as_json, whom, json!("block"))?,
        Action::Slow { whom, to: Quota { max, window_ms } } => {
            let action = json!({"slow": {"max": max, "window_ms": window_ms}});
            make(&api, as_json, whom, action)?;
        }
        Action::Lift { id: Some(id), word, .. } => {
            let id = whole(&api, id)?;
            let answer = lift(&api, &id, word)?;
            let by = text(&answer["lifted"], "by");
            let mut told = format!("decision {id} is lifted, by {by}");
            let others: Vec<&str> = answer["others"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect();
            if !others.is_empty() {
                told = format!("{told}; others are against the same: {}", others.join(", "));
            }
            done(as_json, &answer, &told);
        }
        Action::Lift { id: None, detection, word } => {
            let detection = detection.as_deref().unwrap_or_default();
            let found = api.get("/admin/v1/decisions", &[])?;
            let of_it = found["decisions"].as_array().into_iter().flatten();
            let of_it = of_it.filter(|of| of["detection"] == detection);
            let ids: Vec<String> = of_it.map(|of| text(of, "id")).collect();
            for id in &ids {
                lift(&api, id, word)?;
            }
            let told = format!("{} decisions of {detection} are lifted", ids.len());
            done(as_json, &json!({"lifted": ids}), &told);
        }
    }
    Ok(())
}

fn lift(api: &Api, id: &str, word: &Word) -> Result<Value, Failure> {
    api.post(&format!("/admin/v1/decisions/{id}/lift"), &json!(word))
}

fn make(api: &Api, as_json: bool, whom: &Whom, action: Value) -> Result<(), Failure> {
    let mut wish = json!(whom.word);
    let kind = match whom.kind {
        SubjectKind::Address => "address",
        SubjectKind::Application => "application",
        SubjectKind::User => "user",
    };
    wish["subject_kind"] = kind.into();
    wish["subject"] = whom.subject.as_str().into();
    wish["action"] = action;
    wish["for_ms"] = whom.for_ms.into();
    wish["mode"] = if whom.dry_run { "dry_run" } else { "enforce" }.into();
    let made = api.post("/admin/v1/decisions", &wish)?;
    let (who, does) = (text(&made, "subject"), text(&made, "does"));
    let (until, id) = (text(&made, "until"), text(&made, "id"));
    let would = if whom.dry_run { "would be (dry run)" } else { "is" };
    let told = format!("{kind} {who} {would} {does} until {until}: decision {id}");
    done(as_json, &made, &told);
    Ok(())
}

fn done(as_json: bool, answer: &Value, told: &str) {
    match as_json {
        true => println!("{answer}"),
        false => println!("{}", plain(told)),
    }
}

/// The whole id of the one decision whose id begins so.
fn whole(api: &Api, given: &str) -> Result<String, Failure> {
    let usage = |what: String| Err(Failure::Usage(anyhow!(what)));
    if given.is_empty() || !given.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return usage(format!("{given:?} is no id; `weir decisions list` has them"));
    }
    let given = given.to_ascii_lowercase();
    let found = api.get("/admin/v1/decisions", &[("all", "true".to_owned())])?;
    let ids = found["decisions"].as_array().into_iter().flatten().map(|of| text(of, "id"));
    match &ids.filter(|id| id.starts_with(&given)).take(2).collect::<Vec<_>>()[..] {
        [id] => Ok(id.clone()),
        [] => usage(format!("no decision has the id {given}")),
        _ => usage(format!("{given} is how several ids begin; give more of it")),
    }
}

/// How much of an id is listed: enough to name it by.
const SHORT: usize = 12;

fn list(rows: &[Value]) {
    let heads = ["id", "state", "who", "is", "until", "by", "why"];
    table(
        &heads,
        rows.iter().map(|row| {
            let id = text(row, "id");
            let by = row["by"].as_str().unwrap_or("a detection").to_owned();
            let why = match row["detection"].as_str() {
                Some(name) => format!("detection {name}"),
                None => text(row, "note"),
            };
            let lifted = &row["lifted"];
            let why = match lifted["by"].as_str() {
                Some(by) => format!("{why}; lifted by {by}: {}", text(lifted, "note")),
                None if row["protected"] == true => format!("{why}; a safeguard protects it"),
                None => why,
            };
            [
                id.get(..SHORT).unwrap_or(&id).to_owned(),
                text(row, "state"),
                format!("{} {}", text(row, "subject_kind"), text(row, "subject")),
                text(row, "does"),
                text(row, "until"),
                by,
                if why.is_empty() { "-".to_owned() } else { why },
            ]
        }),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_written_as_requests_in_a_time() {
        for (text, expected) in
            [("10/1m", (10, 60_000)), ("5/s", (5, 1_000)), ("100/1h", (100, 3_600_000))]
        {
            let found = quota(text).unwrap();
            assert_eq!((found.max, found.window_ms), expected, "{text}");
        }
        for text in ["10", "10/", "/1m", "x/1m", "10/soon"] {
            assert!(quota(text).is_err(), "{text}");
        }
    }
}
