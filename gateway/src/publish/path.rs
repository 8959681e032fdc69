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
    if is_plain(path) {
        return Ok(Cow::Borrowed(path));
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

/// Whether a path holds nothing that has to be looked at: most do.
fn is_plain(path: &str) -> bool {
    let mut before = b'.';
    path.bytes().all(|byte| {
        let fits = match byte {
            b'/' | b'.' => before != b'/',
            _ => byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~' | b',' | b':'),
        };
        before = byte;
        fits
    })
}

/// Whether a path may be passed on as it is where nothing depends on how it is read
/// below the context: it cannot leave that. The rest of [`decoded`]'s rules is left out.
pub(super) fn is_contained(path: &str) -> Result<(), PathFault> {
    check_percent_signs(path, &[b"2f", b"5c"])?;
    // A tab is somebody's typing. Some readers leave it out, so dots are looked for
    // without it.
    let bytes: Vec<u8> = percent_decode_str(path).filter(|byte| *byte != b'\t').collect();
    if bytes.contains(&b'\\') {
        return Err(PathFault::Separator);
    }
    if bytes.iter().any(u8::is_ascii_control) || is_encoded(&bytes) {
        return Err(PathFault::Encoding);
    }
    let segments = bytes.split(|byte| *byte == b'/');
    // Servlet containers cut off what a semicolon begins.
    let mut names = segments.map(|segment| segment.split(|byte| *byte == b';').next());
    if names.any(|name| matches!(name, Some(b"." | b".."))) {
        return Err(PathFault::DotSegment);
    }
    Ok(())
}

fn decode(path: &str) -> Result<Cow<'_, str>, PathFault> {
    check_percent_signs(path, &[b"2f", b"5c", b"3b"])?;
    let decoded = percent_decode_str(path).decode_utf8().map_err(|_| PathFault::Encoding)?;
    if is_encoded(decoded.as_bytes()) { Err(PathFault::Encoding) } else { Ok(decoded) }
}

/// Each has two digits, and none of those that are refused.
fn check_percent_signs(path: &str, refused: &[&[u8; 2]]) -> Result<(), PathFault> {
    let bytes = path.as_bytes();
    for (i, _) in bytes.iter().enumerate().filter(|(_, byte)| **byte == b'%') {
        let digits = bytes.get(i + 1..i + 3).ok_or(PathFault::Encoding)?;
        if !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(PathFault::Encoding);
        }
        if refused.iter().any(|refused| digits.eq_ignore_ascii_case(&refused[..])) {
            return Err(PathFault::Separator);
        }
    }
    Ok(())
}

/// Whether anything is left to decode.
fn is_encoded(bytes: &[u8]) -> bool {
    bytes.windows(3).any(|three| {
        three[0] == b'%' && three[1].is_ascii_hexdigit() && three[2].is_ascii_hexdigit()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_nothing_depends_on_only_has_to_stay_where_it_is() {
        let check = |path: &str, expected| assert_eq!(is_contained(path), expected, "{path}");
        for path in ["/a//b", "/a;x=1/b", "/a%3Bx", "/%ee%f0%e0", "/...;/x", "/a..", "/", "/%09a"] {
            check(path, Ok(()));
        }
        for path in
            ["/a/../b", "/%2e%2E/b", "/a/..;x/b", "/a/..%3bx/b", "/a//..", "/a/.;", "/.%09./b"]
        {
            check(path, Err(PathFault::DotSegment));
        }
        for path in ["/a\\b", "/a%5Cb", "/..%2Fb", "/a%2fb"] {
            check(path, Err(PathFault::Separator));
        }
        for path in ["/%", "/%zz", "/%00", "/a%0d", "/%7f", "/%252e%252e/b"] {
            check(path, Err(PathFault::Encoding));
        }
    }

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
