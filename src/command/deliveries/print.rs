//! What the commands about queues print.

use ingest::registry::Name;
use serde_json::Value;

/// `1 dead letter`, `2 dead letters`.
pub(super) fn counted(count: &Value, what: &str) -> String {
    match count.as_u64() {
        Some(1) => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    }
}

pub(super) fn queues(queues: &[Value]) {
    if queues.is_empty() {
        println!("there are no queues");
        return;
    }
    let heads = ["queue", "waiting", "scheduled", "parked", "retrying", "held", "oldest"];
    table(&heads, queues);
    for of in queues.iter().filter(|of| !of["paused"].is_null()) {
        let pause = &of["paused"];
        let (queue, since, by) = (text(&of["queue"]), text(&pause["since"]), text(&pause["by"]));
        let reason = pause["reason"].as_str().filter(|reason| !reason.is_empty());
        let reason = reason.map(|reason| format!(": {}", shown(reason, |_| false)));
        println!("{queue} is paused since {since} by {by}{}", reason.unwrap_or_default());
    }
}

pub(super) fn waiting(queue: &Name, answer: &Value) {
    let none = format!("no message of queue {queue} that had an attempt waits");
    let heads = ["accepted", "state", "due", "attempts", "key", "id"];
    listed(queue, answer, ("messages", "message"), &heads, &none);
}

pub(super) fn scheduled(queue: &Name, answer: &Value) {
    let none = format!("no message of queue {queue} is scheduled");
    let heads = ["due", "accepted", "key", "id"];
    listed(queue, answer, ("messages", "scheduled message"), &heads, &none);
}

pub(super) fn history(queue: &Name, answer: &Value) {
    let none = format!("the history of queue {queue} has no such message");
    let heads = ["accepted", "body_bytes", "key", "id"];
    listed(queue, answer, ("messages", "message"), &heads, &none);
}

pub(super) fn dead(queue: &Name, answer: &Value) {
    let none = format!("queue {queue} has no dead letters");
    let heads = ["died", "reason", "status", "error", "attempts", "key", "id"];
    listed(queue, answer, ("letters", "dead letter"), &heads, &none);
}

/// A table of what stands under a name in the answer, and how many there are.
fn listed(queue: &Name, answer: &Value, (name, what): (&str, &str), heads: &[&str], none: &str) {
    let of = answer[name].as_array().map_or(&[][..], Vec::as_slice);
    if of.is_empty() {
        println!("{none}");
        return;
    }
    table(heads, of);
    total(queue, of.len(), &answer["total"], what);
}

fn total(queue: &Name, shown: usize, total: &Value, what: &str) {
    let of = counted(total, what);
    match total.as_u64() == Some(shown as u64) {
        true => println!("{of} in queue {queue}"),
        false => println!("the first {shown} of {of} in queue {queue}"),
    }
}

/// The named values of each, in columns.
fn table(heads: &[&str], of: &[Value]) {
    let mut rows = vec![heads.iter().map(|head| (*head).to_owned()).collect::<Vec<_>>()];
    rows.extend(of.iter().map(|one| heads.iter().map(|name| text(&one[*name])).collect()));
    let widths: Vec<usize> = (0..heads.len())
        .map(|i| rows.iter().map(|row| row[i].chars().count()).max().unwrap_or(0))
        .collect();
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
        println!("{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
}

pub(super) fn letters(answer: &Value) {
    for letter in answer["letters"].as_array().into_iter().flatten() {
        for name in [
            "id",
            "key",
            "reason",
            "status",
            "error",
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
