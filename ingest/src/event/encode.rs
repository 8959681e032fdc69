//! Writing the JSON of values (RFC 8259) to the end of a buffer.
//!
//! `Event::write_json`, which the table generates, writes names and commas as constant
//! bytes and calls these for the values.

use super::Event;

impl Event {
    /// The event as one flat JSON object, in a buffer of its own. What writes many
    /// events uses [`Event::write_json`] and keeps its buffer.
    pub fn to_json(&self) -> Vec<u8> {
        const USUAL_BYTES: usize = 2048;
        let mut out = Vec::with_capacity(USUAL_BYTES);
        self.write_json(&mut out);
        out
    }
}

/// Bytes that a JSON text cannot hold as they are. All bytes of a multi-byte UTF-8
/// character are 0x80 or above, so such characters pass whole.
const ESCAPED: [bool; 256] = {
    let mut escaped = [false; 256];
    let mut control = 0;
    while control < 0x20 {
        escaped[control] = true;
        control += 1;
    }
    escaped[b'"' as usize] = true;
    escaped[b'\\' as usize] = true;
    escaped
};

/// Appends a text in quotes, escaped.
pub(super) fn text(text: &str, out: &mut Vec<u8>) {
    let mut rest = text.as_bytes();
    out.reserve(rest.len() + 2);
    out.push(b'"');
    while let Some(at) = first_escaped(rest) {
        out.extend_from_slice(&rest[..at]);
        escape(rest[at], out);
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

/// Where the first byte is that has to be escaped. Eight are looked at at once: most
/// texts hold none.
fn first_escaped(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::MAX / 255;
    const HIGHS: u64 = 0x80 * ONES;
    // The high bit of the first byte below `limit`, 128 at most, and perhaps of later
    // ones; none if there is no such byte.
    let below = |word: u64, limit: u64| word.wrapping_sub(limit * ONES) & !word & HIGHS;
    let (words, _) = bytes.as_chunks::<8>();
    let plain = words.iter().take_while(|bytes| {
        let word = u64::from_le_bytes(**bytes);
        let equal = |byte: u8| below(word ^ (u64::from(byte) * ONES), 1);
        below(word, 0x20) | equal(b'"') | equal(b'\\') == 0
    });
    let from = 8 * plain.count();
    let at = bytes[from..].iter().position(|&byte| ESCAPED[usize::from(byte)])?;
    Some(from + at)
}

/// Appends ASCII in quotes that is known to hold nothing to escape.
pub(super) fn plain_ascii(ascii: &[u8], out: &mut Vec<u8>) {
    debug_assert!(ascii.iter().all(|&byte| byte.is_ascii() && !ESCAPED[usize::from(byte)]));
    out.push(b'"');
    out.extend_from_slice(ascii);
    out.push(b'"');
}

/// Appends an integer.
pub(super) fn integer(integer: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(integer).as_bytes());
}

#[cold]
fn escape(byte: u8, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let short = match byte {
        b'"' | b'\\' => byte,
        0x08 => b'b',
        0x09 => b't',
        0x0a => b'n',
        0x0c => b'f',
        0x0d => b'r',
        _ => {
            out.extend_from_slice(b"\\u00");
            out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_text(input: &str, expected: &str) {
        let mut out = Vec::new();
        text(input, &mut out);
        assert_eq!(std::str::from_utf8(&out).unwrap(), expected);
        assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), input);
    }

    #[test]
    fn hostile_texts_are_escaped() {
        check_text("", r#""""#);
        check_text("plain / text", r#""plain / text""#);
        check_text(r#"a"b\c"#, r#""a\"b\\c""#);
        check_text("\u{8}\t\n\u{c}\r", r#""\b\t\n\f\r""#);
        check_text("\0\u{1}\u{1f}\u{7f}", "\"\\u0000\\u0001\\u001f\u{7f}\"");
        check_text("é\u{2028}😀\u{10ffff}", "\"é\u{2028}😀\u{10ffff}\"");
        check_text("\"}],\"kind\":\"admin", r#""\"}],\"kind\":\"admin""#);
    }

    #[test]
    fn what_is_to_be_escaped_is_found_wherever_it_stands() {
        for byte in 0..=255 {
            for length in [1, 7, 8, 9, 16, 21] {
                for at in 0..length {
                    let mut bytes = vec![b'x'; length];
                    bytes[at] = byte;
                    let expected = ESCAPED[usize::from(byte)].then_some(at);
                    assert_eq!(first_escaped(&bytes), expected, "{byte} at {at} of {length}");
                }
            }
        }
    }

    #[test]
    fn every_character_reads_back() {
        let all: String = ('\0'..='\u{ffff}').chain('\u{1f600}'..='\u{1f64f}').collect();
        let mut out = Vec::new();
        text(&all, &mut out);
        assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), all);
    }

    #[test]
    fn extreme_integers_are_written() {
        for number in [0, -1, i64::MAX, i64::MIN] {
            let mut out = Vec::new();
            integer(number, &mut out);
            assert_eq!(out, number.to_string().as_bytes());
        }
    }
}
