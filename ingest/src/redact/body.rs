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
    let form = match (kind, suffix) {
        ("application" | "text", "json") => Form::Json,
        ("application", "x-ndjson" | "ndjson" | "jsonl" | "jsonlines" | "json-seq") => Form::Lines,
        ("application" | "text", "xml") => Form::Xml,
        ("application", "x-www-form-urlencoded") => Form::Pairs,
        ("text", "plain" | "csv") => Form::Text,
        _ => return None,
    };
    // Many send JSON and XML by names that they are not.
    let form = match form {
        Form::Pairs | Form::Text if begins_as_json(text) => Form::Json,
        Form::Pairs | Form::Text if text.trim_start().starts_with('<') => Form::Xml,
        form => form,
    };
    Some(match form {
        Form::Json if is_cut && is_number(text) => Kept { text: Cow::Borrowed(""), is_cut },
        Form::Json => looked(json(text, rules, Place::Member), is_cut),
        Form::Lines => lines(text, is_cut, rules),
        Form::Xml => looked(xml(text, rules), is_cut),
        Form::Pairs => {
            let text = if is_cut { until(text, '&') } else { text };
            Kept { text: query(text, rules), is_cut }
        }
        Form::Text => {
            let text = if is_cut { without_tail(text) } else { text };
            Kept { text: rules.plain(text), is_cut }
        }
    })
}

/// How a body is read.
enum Form {
    Json,
    /// Values of JSON, each on its line.
    Lines,
    Xml,
    /// Of names and values, as a query has them.
    Pairs,
    Text,
}

/// Whether a text begins as an object or an array does; `[card]` is none.
fn begins_as_json(text: &str) -> bool {
    let mut signs = text.bytes().filter(|byte| !byte.is_ascii_whitespace());
    match signs.next() {
        Some(b'{') => true,
        Some(b'[') => signs.next().is_none_or(|next| b"{]\"-0123456789".contains(&next)),
        _ => false,
    }
}

/// Whether a text, which was cut, is a number that may go on.
fn is_number(text: &str) -> bool {
    text.trim_start().starts_with(|c: char| c.is_ascii_digit() || c == '-')
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
        if is_cut && line.len() == value.len() && is_number(value) {
            break;
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

/// Without its last word, and what may be the beginning of a number in groups before it.
fn without_tail(text: &str) -> &str {
    let words = text.rfind(char::is_whitespace).map_or("", |at| &text[..at]);
    words.trim_end_matches(|c: char| c.is_ascii_digit() || c.is_whitespace() || c == '-')
}
