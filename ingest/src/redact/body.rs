//! Bodies, by their content types.

use std::borrow::Cow;

use super::json::{Looked, json};
use super::query::query;
use super::rules::{Place, Rules};
use super::xml::xml;

/// What is kept of a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Kept<'a> {
    pub(super) text: Cow<'a, str>,
    /// Whether it is less than there was: it was cut before, or holds a fault.
    pub(super) is_cut: bool,
}

/// A body without what is to be taken out, or none if it is of no type that can be looked into:
/// JSON, lines of JSON, XML, a form or plain text. Of one that was cut, what may be the beginning
/// of something to be taken out is not kept.
pub(super) fn body<'a>(
    text: &'a str,
    content_type: Option<&str>,
    is_cut: bool,
    rules: &Rules,
) -> Option<Kept<'a>> {
    let essence = content_type?.split(';').next()?.trim().to_ascii_lowercase();
    let (kind, format) = essence.split_once('/')?;
    let suffix = format.rsplit_once('+').map_or(format, |(_, suffix)| suffix);
    match (kind, suffix) {
        ("application", "json") => Some(looked(json(text, rules, Place::Member), is_cut)),
        ("application", "x-ndjson" | "jsonl" | "jsonlines") => Some(lines(text, is_cut, rules)),
        ("application" | "text", "xml") => Some(looked(xml(text, rules), is_cut)),
        ("application", "x-www-form-urlencoded") => {
            let text = if is_cut { until(text, '&') } else { text };
            Some(Kept { text: query(text, rules), is_cut })
        }
        ("text", _) => {
            let text = if is_cut { without_tail(text) } else { text };
            Some(Kept { text: rules.text(text), is_cut })
        }
        // Other types of JSON, as `application/problem+json` has it, were above.
        _ => None,
    }
}

fn looked(looked: Looked<'_>, is_cut: bool) -> Kept<'_> {
    match looked {
        Looked::Whole(text) => Kept { text, is_cut },
        Looked::Beginning(text) => Kept { text: Cow::Owned(text), is_cut: true },
    }
}

/// Values of JSON, each on its line.
fn lines<'a>(text: &'a str, is_cut: bool, rules: &Rules) -> Kept<'a> {
    let (mut out, mut is_less) = (String::with_capacity(text.len()), is_cut);
    for line in text.split_inclusive('\n') {
        let value = line.trim_end_matches(['\n', '\r']);
        if value.trim().is_empty() {
            out.push_str(line);
            continue;
        }
        match json(value, rules, Place::Member) {
            Looked::Whole(masked) => {
                out.push_str(&masked);
                out.push_str(&line[value.len()..]);
            }
            Looked::Beginning(masked) => {
                out.push_str(&masked);
                is_less = true;
                break;
            }
        }
    }
    Kept { text: Cow::Owned(out), is_cut: is_less }
}

/// What stands before the last of these signs.
fn until(text: &str, sign: char) -> &str {
    text.rfind(sign).map_or("", |at| &text[..at])
}

/// Without the signs at its end that a number, a token or an address may consist of.
fn without_tail(text: &str) -> &str {
    text.trim_end_matches(|c: char| c.is_alphanumeric() || "-_.+/=~%@: ".contains(c))
}
