//! A message as an email: text for any reader, and HTML.

mod html;
mod text;

use serde_json::Value;

use super::note::{Note, Says};
use super::outbox::What;
use super::picture::Picture;
use crate::detect::{Alert, Column, State, grouped};

/// An email, but for who sends and who receives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Email {
    /// One line.
    pub(super) subject: String,
    /// The text.
    pub(super) text: String,
    /// The same as HTML.
    pub(super) html: String,
}

/// The longest subject, in bytes.
const SUBJECT_BYTES_MAX: usize = 150;

/// By what name HTML shows the chart that comes with it (RFC 2392).
pub(super) const CHART: &str = "chart";

/// Writes the email of a note, with links to a console if there is one, and a chart if there is
/// one.
pub(super) fn compose(note: &Note, console: Option<&str>, picture: Option<&Picture>) -> Email {
    let mut subject = subject(note);
    subject.retain(|c| !c.is_control());
    if subject.len() > SUBJECT_BYTES_MAX {
        subject.truncate(subject.floor_char_boundary(SUBJECT_BYTES_MAX - 3));
        subject.push('…');
    }
    let (text, html) = match (&note.alerts[..], note.says) {
        ([alert], says) => {
            let what = match says {
                Says::One(what) => what,
                Says::Gathered => What::Opened,
            };
            (text::one(alert, what, console), html::one(alert, what, console, picture))
        }
        (alerts, _) => (text::many(alerts, console), html::many(alerts, &subject, console)),
    };
    Email { subject, text, html }
}

fn subject(note: &Note) -> String {
    let [alert] = &note.alerts[..] else {
        let alerts = &note.alerts;
        let worst = alerts.iter().map(|alert| alert.severity).max().unwrap_or_default();
        let mut titles: Vec<&str> = alerts.iter().map(|alert| alert.title.as_str()).collect();
        titles.sort_unstable();
        titles.dedup();
        return format!("[{}] {} alerts: {}", worst.word(), alerts.len(), titles.join(", "));
    };
    let replay = alert.replay_id.as_ref().map(|id| format!(" (replay {id})")).unwrap_or_default();
    let label = match (note.says, alert.state) {
        (_, State::Resolved) if alert.replay_id.is_none() => "resolved".to_owned(),
        (Says::One(What::Escalated(_)), _) => {
            format!("{}, not acknowledged", alert.severity.word())
        }
        _ => alert.severity.word().to_owned(),
    };
    format!("[{label}] {}: {}{replay}", alert.title, alert.subject)
}

/// A time as people read it: 2015-05-18 08:00:00 UTC.
fn time(text: &str) -> String {
    let text = text.split('.').next().unwrap_or(text).trim_end_matches('Z');
    format!("{} UTC", text.replace('T', " "))
}

fn window(alert: &Alert) -> String {
    format!("{} to {}", time(&alert.from.to_string()), time(&alert.until.to_string()))
}

/// What is said before all else, of an alert that has not just opened.
fn lead(alert: &Alert, what: What) -> Option<String> {
    match (what, alert.state) {
        (_, State::Resolved) if alert.replay_id.is_none() => Some(format!(
            "It is over: nothing more was found after {}.",
            time(&alert.until.to_string())
        )),
        (What::Raised(severity), _) => {
            Some(format!("It was told of before, and has become worse: {}.", severity.word()))
        }
        (What::Escalated(_), _) => {
            Some("It was told of before, and nobody has acknowledged it.".to_owned())
        }
        _ => None,
    }
}

fn facts(alert: &Alert) -> Vec<(&'static str, String)> {
    let mut facts = vec![("Subject", format!("{} ({})", alert.subject, alert.subject_kind))];
    facts.push(("Window", window(alert)));
    if let Some(replay) = &alert.replay_id {
        facts.push(("Replay", format!("{replay}: replayed history, not live traffic")));
    }
    if let Some(decision) = &alert.decision {
        facts.push(("Decision", decision.sentence(|at| time(&at.to_string()))));
    }
    if alert.findings > 1 {
        let findings = i64::try_from(alert.findings).unwrap_or(i64::MAX);
        facts.push(("Findings", grouped(findings)));
    }
    facts.push(("Severity", alert.severity.word().to_owned()));
    facts.push(("Detection", format!("{} (owner: {})", alert.detection, alert.owner)));
    facts
}

/// The columns that say more than the facts do.
fn evidence(alert: &Alert) -> impl Iterator<Item = (String, String)> {
    let told = ["window_start", "window_end", alert.subject_kind.as_str()];
    let columns = alert.evidence.iter().filter(move |of| !told.contains(&of.name.as_str()));
    columns.map(|Column { name, value }| (name.replace('_', " "), shown(value)))
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::Number(number) => match number.as_i64() {
            Some(number) => grouped(number),
            None => number.to_string(),
        },
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Where the console shows an alert.
fn link(console: &str, alert: &Alert) -> String {
    format!("{console}/alerts/{}", alert.id)
}

/// What a reader can do, and what they need not wait for.
fn closing(alert: &Alert) -> String {
    match (alert.state, &alert.replay_id) {
        (State::Open, None) => format!(
            "Acknowledge it by `weir alerts ack {}`. Further findings are counted in it and not \
             sent.",
            alert.id
        ),
        (State::Resolved, None) => format!("Alert {}.", alert.id),
        (_, Some(_)) => {
            format!("Alert {}. Further findings are counted in it and not sent.", alert.id)
        }
    }
}
