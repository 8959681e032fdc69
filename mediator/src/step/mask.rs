//! What operators may read of errors that quote a message.

/// The longest text, in characters.
const CHARS_MAX: usize = 200;

/// A short form of a text without values of a message: quoted texts and numbers that
/// do not stand in `known`, such as the expression that failed, are left out, and so
/// is every word with an `@`.
pub(crate) fn mask(text: &str, known: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let length = match c {
            '"' => quoted(rest),
            c if c.is_ascii_digit() => {
                rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len())
            }
            c if c.is_control() => {
                rest = &rest[c.len_utf8()..];
                out.push(' ');
                continue;
            }
            c if c.is_alphabetic() => {
                rest.find(|c: char| c.is_whitespace() || c == '"').unwrap_or(rest.len())
            }
            c => {
                out.push(c);
                rest = &rest[c.len_utf8()..];
                continue;
            }
        };
        let (part, after) = rest.split_at(length);
        let is_word = c.is_alphabetic() && !part.contains('@') && !has_digits(part);
        let is_short_number = c.is_ascii_digit() && part.len() <= 3;
        if is_word || is_short_number || known.contains(part) {
            out.push_str(part);
        } else {
            out.push('…');
        }
        rest = after;
    }
    match out.char_indices().nth(CHARS_MAX) {
        Some((at, _)) => format!("{}…", &out[..at]),
        None => out,
    }
}

/// Four digits or more, as accounts and cards have them.
fn has_digits(word: &str) -> bool {
    word.bytes().filter(u8::is_ascii_digit).count() >= 4
}

/// The length of a quoted text, with its quotes.
fn quoted(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_left_out_and_words_stay() {
        let check = |text: &str, known: &str, expected: &str| {
            assert_eq!(mask(text, known), expected, "{text}");
        };
        check(r#"cannot index "hush" with "amount""#, ".amount", "cannot index … with …");
        check(
            r#"cannot index "hush" with "amount""#,
            r#".["amount"]"#,
            r#"cannot index … with "amount""#,
        );
        check("cannot index 4929123456 with 12", "", "cannot index … with 12");
        check(r#""a \" hush" x"#, "", "… x");
        check("\"hush", "", "…");
        check("no order for me@example.org, sorry", "", "no order for … sorry");
        check("account DE4412345678 locked\nnow", "", "account … locked now");
        assert_eq!(mask(&"ä".repeat(300), "").chars().count(), 201);
    }
}
