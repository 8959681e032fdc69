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
    let messages = answer["messages"].as_array().map_or(&[][..], Vec::as_slice);
    if messages.is_empty() {
        println!("no message of queue {queue} that had an attempt waits");
        return;
    }
    table(&["accepted", "state", "due", "attempts", "key", "id"], messages);
    total(queue, messages.len(), &answer["total"], "message");
}

pub(super) fn scheduled(queue: &Name, answer: &Value) {
    let messages = answer["messages"].as_array().map_or(&[][..], Vec::as_slice);
    if messages.is_empty() {
        println!("no message of queue {queue} is scheduled");
        return;
    }
    table(&["due", "accepted", "key", "id"], messages);
    total(queue, messages.len(), &answer["total"], "scheduled message");
}

pub(super) fn history(queue: &Name, answer: &Value) {
    let messages = answer["messages"].as_array().map_or(&[][..], Vec::as_slice);
    if messages.is_empty() {
        println!("the history of queue {queue} has no such message");
        return;
    }
    table(&["accepted", "body_bytes", "key", "id"], messages);
    total(queue, messages.len(), &answer["total"], "message");
}

pub(super) fn dead(queue: &Name, answer: &Value) {
    let letters = answer["letters"].as_array().map_or(&[][..], Vec::as_slice);
    if letters.is_empty() {
        println!("queue {queue} has no dead letters");
        return;
    }
    table(&["died", "reason", "status", "error", "attempts", "key", "id"], letters);
    total(queue, letters.len(), &answer["total"], "dead letter");
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
