//! Addresses of email.

use std::ops::Range;

/// The longest part before the sign and after it, in bytes (RFC 5321, section 4.5.3.1).
const LOCAL_BYTES_MAX: usize = 64;
const DOMAIN_BYTES_MAX: usize = 255;

/// Where addresses stand in a text: letters and digits of any script, `@` or `%40`, and a
/// domain of at least two parts of which the last has at least two letters and nothing else.
pub(super) fn emails(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::<Range<usize>>::new();
    for at in memchr::memchr2_iter(b'@', b'%', text.as_bytes()) {
        let sign = &text[at..];
        let after = match sign.strip_prefix('@').or_else(|| sign.strip_prefix("%40")) {
            Some(rest) => text.len() - rest.len(),
            None => continue,
        };
        // What is between two signs is the domain of the first.
        let from = found.last().map_or(0, |last| last.end);
        if at < from {
            continue;
        }
        let start = local_start(text, from, at);
        let end = domain_end(text, after);
        if let (true, Some(end)) = (start < at, end) {
            found.push(start..end);
        }
    }
    found
}

/// Where what stands before the sign begins.
fn local_start(text: &str, from: usize, at: usize) -> usize {
    let is_local = |c: char| c.is_alphanumeric() || "_.%+'-".contains(c) || !c.is_ascii();
    let before = text[from..at].char_indices().rev();
    let local = before.take_while(|(to, c)| is_local(*c) && at - from - to <= LOCAL_BYTES_MAX);
    local.last().map_or(at, |(to, _)| from + to)
}

/// Where the domain ends, if it is one.
fn domain_end(text: &str, from: usize) -> Option<usize> {
    let rest = &text[from..text.floor_char_boundary(from + DOMAIN_BYTES_MAX)];
    let is_domain = |c: char| c.is_alphanumeric() || "._-".contains(c) || !c.is_ascii();
    let mut domain = &rest[..rest.find(|c| !is_domain(c)).unwrap_or(rest.len())];
    // What ends a sentence is no part of it, nor is what no domain ends by.
    while let Some((before, last)) = domain.rsplit_once('.') {
        let is_word = last.chars().all(|c| c.is_alphabetic() || !c.is_ascii());
        let is_top = last.chars().count() >= 2 && (is_word || last.starts_with("xn--"));
        // What is tied to an address is none of it, as in `bob@example.org-17`.
        let tied = last.find(['-', '_']).filter(|at| last[..*at].chars().count() >= 2);
        let tied = tied.filter(|at| !is_top && last[..*at].chars().all(char::is_alphabetic));
        if let Some(at) = tied {
            domain = &domain[..before.len() + 1 + at];
            continue;
        }
        if is_top {
            let is_name = |part: &str| !part.is_empty() && !part.starts_with('-');
            return before.split('.').all(is_name).then_some(from + domain.len());
        }
        domain = before;
    }
    None
}
