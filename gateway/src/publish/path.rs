//! The form of a path that has one meaning. See the module for why.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// A path that could mean another one to an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathFault {
    /// No slash at the beginning.
    #[error("the path does not begin with a slash")]
    NotAbsolute,
    /// `.` or `..`.
    #[error("the path has a segment of dots")]
    DotSegment,
    /// `//`.
    #[error("the path has an empty segment")]
    EmptySegment,
    /// A backslash, an encoded slash or backslash, or a semicolon.
    #[error("the path holds a backslash, a semicolon or an encoded slash")]
    Separator,
    /// What is no single percent-encoding of UTF-8 without control characters.
    #[error("the path is not percent-encoded once, as UTF-8 without control characters")]
    Encoding,
}

/// The path as it is matched: decoded once, if anything is encoded.
pub(super) fn decoded(path: &str) -> Result<Cow<'_, str>, PathFault> {
    if !path.starts_with('/') {
        return Err(PathFault::NotAbsolute);
    }
    if path.contains(['\\', ';']) {
        return Err(PathFault::Separator);
    }
    let decoded = if path.contains('%') { decode(path)? } else { Cow::Borrowed(path) };
    if decoded.contains(|c: char| c.is_ascii_control()) {
        return Err(PathFault::Encoding);
    }
    let mut segments = decoded[1..].split('/').peekable();
    while let Some(segment) = segments.next() {
        match segment {
            "." | ".." => return Err(PathFault::DotSegment),
            "" if segments.peek().is_some() => return Err(PathFault::EmptySegment),
            _ => {}
        }
    }
    Ok(decoded)
}

fn decode(path: &str) -> Result<Cow<'_, str>, PathFault> {
    let bytes = path.as_bytes();
    for (i, _) in bytes.iter().enumerate().filter(|(_, byte)| **byte == b'%') {
        let digits = bytes.get(i + 1..i + 3).ok_or(PathFault::Encoding)?;
        if !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(PathFault::Encoding);
        }
        if matches!(&digits.to_ascii_lowercase()[..], b"2f" | b"5c" | b"3b") {
            return Err(PathFault::Separator);
        }
    }
    let decoded = percent_decode_str(path).decode_utf8().map_err(|_| PathFault::Encoding)?;
    let is_encoded_again = decoded.as_bytes().windows(3).any(|three| {
        three[0] == b'%' && three[1].is_ascii_hexdigit() && three[2].is_ascii_hexdigit()
    });
    if is_encoded_again { Err(PathFault::Encoding) } else { Ok(decoded) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_with_two_meanings_is_refused() {
        let check = |path: &str, expected: Result<&str, PathFault>| {
            assert_eq!(decoded(path).as_deref().map_err(|fault| *fault), expected, "{path}");
        };
        check("/", Ok("/"));
        check("/a/b/", Ok("/a/b/"));
        check("/a..b/.c/...", Ok("/a..b/.c/..."));
        check("/%61dmin", Ok("/admin"));
        check("/k%C3%A4se%20x", Ok("/käse x"));
        check("/100%25", Ok("/100%"));
        check("*", Err(PathFault::NotAbsolute));
        check("", Err(PathFault::NotAbsolute));
        for path in ["/a/../b", "/..", "/a/.", "/%2e%2E/b", "/.%2e", "/%2e"] {
            check(path, Err(PathFault::DotSegment));
        }
        for path in ["//a", "/a//b", "/a//"] {
            check(path, Err(PathFault::EmptySegment));
        }
        for path in ["/a%2Fb", "/a%2fb", "/a%5cb", "/a\\b", "/a;x=1", "/..;/b", "/a%3Bx"] {
            check(path, Err(PathFault::Separator));
        }
        for path in ["/%", "/%2", "/%zz", "/%252e", "/%25%32e", "/%00", "/a%0d%0a", "/%7f", "/%ff"]
        {
            check(path, Err(PathFault::Encoding));
        }
    }
}
