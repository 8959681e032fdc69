//! An alert as an email: text for any reader, and HTML.

use std::fmt::Write as _;

use serde_json::Value;

use crate::detect::{Alert, Column, grouped};
use crate::query::Severity;

/// An email, but for who sends and who receives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Email {
    /// One line.
    pub subject: String,
    /// The text.
    pub text: String,
    /// The same as HTML.
    pub html: String,
}

/// The longest subject, in bytes.
const SUBJECT_BYTES_MAX: usize = 150;

/// Writes the email of an alert that has opened.
pub fn compose(alert: &Alert) -> Email {
    let mut subject = format!(
        "[{}] {}: {}{}",
        word(alert.severity),
        alert.title,
        alert.subject,
        alert.replay_id.as_ref().map(|id| format!(" (replay {id})")).unwrap_or_default()
    );
    subject.retain(|c| !c.is_control());
    if subject.len() > SUBJECT_BYTES_MAX {
        subject.truncate(subject.floor_char_boundary(SUBJECT_BYTES_MAX - 3));
        subject.push('…');
    }
    Email { subject, text: text(alert), html: html(alert) }
}

fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Low => "low",
        Severity::Medium => "medium",
        Severity::High => "high",
        Severity::Critical => "critical",
    }
}

/// A time as people read it: 2015-05-18 08:00:00 UTC.
fn time(text: &str) -> String {
    let text = text.split('.').next().unwrap_or(text).trim_end_matches('Z');
    format!("{} UTC", text.replace('T', " "))
}

fn facts(alert: &Alert) -> Vec<(&'static str, String)> {
    let window = format!("{} to {}", time(&alert.from.to_string()), time(&alert.until.to_string()));
    let mut facts = vec![
        ("Subject", format!("{} ({})", alert.subject, alert.subject_kind)),
        ("Window", window),
        ("Severity", word(alert.severity).to_owned()),
        ("Detection", format!("{} (owner: {})", alert.detection, alert.owner)),
    ];
    if let Some(replay) = &alert.replay_id {
        let what = format!("{replay}: replayed history, not live traffic");
        facts.insert(2, ("Replay", what));
    }
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

fn text(alert: &Alert) -> String {
    let mut text = format!("{}\n\n", alert.message);
    for (name, value) in facts(alert) {
        let _ = writeln!(text, "{name:<12} {value}");
    }
    text.push_str("\nEvidence\n");
    for (name, value) in evidence(alert) {
        let _ = writeln!(text, "  {name:<20} {value}");
    }
    let _ = writeln!(text, "\nThe events behind it, by `weir query`:\n\n{}\n", alert.query);
    let _ = writeln!(text, "Alert {}. Further findings are counted in it and not sent.", alert.id);
    text
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            c => escaped.push(c),
        }
    }
    escaped
}

fn html(alert: &Alert) -> String {
    let colour = match alert.severity {
        Severity::Low => "#5b6b7b",
        Severity::Medium => "#9a6700",
        Severity::High => "#bc4c00",
        Severity::Critical => "#b3261e",
    };
    let rows = |rows: &mut dyn Iterator<Item = (String, String)>| {
        let row = |(name, value): (String, String)| {
            format!(
                "<tr><td style=\"padding:5px 16px 5px 0;opacity:.7;vertical-align:top;white-space:nowrap\">{}</td>\
                 <td style=\"padding:5px 0;word-break:break-word\">{}</td></tr>\n",
                escaped(&name),
                escaped(&value)
            )
        };
        rows.map(row).collect::<String>()
    };
    let facts = rows(&mut facts(alert).into_iter().map(|(name, value)| (name.to_owned(), value)));
    let evidence = rows(&mut evidence(alert));
    let table = "<table role=\"presentation\" style=\"border-collapse:collapse;font-size:14px;line-height:20px\">";
    let heading = "<h2 style=\"font-size:14px;margin:24px 0 6px\">";
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
<meta name=\"viewport\" content=\"width=device-width\"><meta name=\"color-scheme\" content=\"light dark\">\
<title>{title}</title></head>\n<body style=\"margin:0;padding:20px;font-family:system-ui,-apple-system,'Segoe UI',sans-serif\">\n\
<div style=\"max-width:600px;margin:0 auto;border-top:4px solid {colour};padding-top:16px\">\n\
<p style=\"margin:0;font-size:12px;font-weight:600;letter-spacing:.06em;text-transform:uppercase;color:{colour}\">{severity}</p>\n\
<h1 style=\"font-size:20px;line-height:26px;margin:4px 0 12px\">{title}</h1>\n\
<p style=\"font-size:15px;line-height:22px;margin:0 0 16px\">{message}</p>\n\
{table}\n{facts}</table>\n{heading}Evidence</h2>\n{table}\n{evidence}</table>\n\
{heading}The events behind it</h2>\n\
<pre style=\"font:12px/18px ui-monospace,Menlo,Consolas,monospace;white-space:pre-wrap;word-break:break-word;margin:0;padding:12px;border:1px solid #8886;border-radius:6px\">{query}</pre>\n\
<p style=\"font-size:12px;line-height:18px;opacity:.7;margin:20px 0 0\">Alert {id}. Further findings are counted in it and not sent.</p>\n\
</div></body></html>\n",
        title = escaped(&alert.title),
        severity = word(alert.severity),
        message = escaped(&alert.message),
        query = escaped(&alert.query),
        id = escaped(&alert.id),
    )
}
