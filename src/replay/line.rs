//! A line of an access log in the combined format of Apache and nginx:
//! `client ident user [time] "request" status size "referrer" "user agent"`.

use std::borrow::Cow;
use std::net::IpAddr;

use http::{HeaderValue, Method, StatusCode};
use ingest::event::Timestamp;

/// A request as a line tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) client: IpAddr,
    pub(crate) time: Timestamp,
    pub(crate) method: Method,
    /// Path and query, as they were sent.
    pub(crate) target: String,
    pub(crate) status: StatusCode,
    /// Bytes of the answer's body; none if the file has a hyphen there.
    pub(crate) size: Option<u64>,
    pub(crate) referrer: Option<HeaderValue>,
    pub(crate) agent: Option<HeaderValue>,
}

impl Line {
    /// Reads a line without its end. The last field may lack its closing quote, as where
    /// a line was cut off.
    ///
    /// # Errors
    /// Which part is missing, or is none.
    pub(crate) fn parse(line: &[u8]) -> Result<Self, &'static str> {
        let mut rest = line;
        let client = word(&mut rest);
        let client = text(client).and_then(|client| client.parse::<IpAddr>().ok());
        let client = client.ok_or("it does not begin with an IP address")?;
        // Who asked is nobody's business any more.
        word(&mut rest);
        let bracket = rest.iter().position(|byte| *byte == b'[').ok_or("it has no [time]")?;
        rest = &rest[bracket + 1..];
        let end = rest.iter().position(|byte| *byte == b']').ok_or("its [time] does not end")?;
        let time = text(&rest[..end]).and_then(time_of);
        let time = time.ok_or("its time is not as [17/May/2015:10:05:03 +0000]")?;
        rest = &rest[end + 1..];
        let request = quoted(&mut rest, false).ok_or("it has no \"request\"")?;
        let (method, target) = request_of(request)?;
        let status = StatusCode::from_bytes(word(&mut rest)).map_err(|_| "it has no status")?;
        let size = match word(&mut rest) {
            b"-" => None,
            size => Some(text(size).and_then(|size| size.parse().ok()).ok_or("it has no size")?),
        };
        let referrer = quoted(&mut rest, true).and_then(header_of);
        let agent = quoted(&mut rest, true).and_then(header_of);
        Ok(Self { client, time, method, target, status, size, referrer, agent })
    }

    /// The minute that it falls into, counted from 1970.
    pub(crate) fn minute(&self) -> i64 {
        self.time.as_micros().div_euclid(60_000_000)
    }
}

/// The next word, and what comes behind it.
fn word<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let begin = rest.iter().position(|byte| *byte != b' ').unwrap_or(rest.len());
    let from = &rest[begin..];
    let (word, behind) = from.split_at(from.iter().position(|b| *b == b' ').unwrap_or(from.len()));
    *rest = behind;
    word
}

/// The next quoted text, in which `\` escapes one character.
fn quoted<'a>(rest: &mut &'a [u8], may_be_cut: bool) -> Option<&'a [u8]> {
    let begin = rest.iter().position(|byte| *byte != b' ')?;
    let from = rest[begin..].strip_prefix(b"\"")?;
    let mut is_escaped = false;
    for (at, byte) in from.iter().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => {
                *rest = &from[at + 1..];
                return Some(&from[..at]);
            }
            _ => {}
        }
    }
    *rest = &[];
    may_be_cut.then_some(from)
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

/// `17/May/2015:10:05:03 +0000`.
fn time_of(text: &str) -> Option<Timestamp> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (time, zone) = text.split_once(' ')?;
    let (date, clock) = time.split_once(':')?;
    let mut date = date.split('/');
    let (day, month, year) = (date.next()?, date.next()?, date.next()?);
    let month = MONTHS.iter().position(|of| *of == month)? + 1;
    let (hours, minutes) = zone.split_at_checked(3)?;
    format!("{year}-{month:02}-{day}T{clock}{hours}:{minutes}").parse().ok()
}

/// `GET /path HTTP/1.1`; the version may be missing, as in HTTP/0.9.
fn request_of(request: &[u8]) -> Result<(Method, String), &'static str> {
    let (method, target) = line_of(request).ok_or("its request is none of HTTP")?;
    if target.starts_with('/') {
        return Ok((method, target.to_owned()));
    }
    // What is asked of a proxy, or of no resource (RFC 9112, 3.2.2 to 3.2.4).
    let is_other = target == "*" || target.contains("://") || method == Method::CONNECT;
    Err(if is_other {
        "its request is for no path of the site"
    } else {
        "its request is none of HTTP"
    })
}

/// The method and the target of a request's first line.
fn line_of(request: &[u8]) -> Option<(Method, &str)> {
    let mut words = text(request)?.split(' ');
    let method = Method::from_bytes(words.next()?.as_bytes()).ok()?;
    let target = words.next()?;
    let version = words.next().is_none_or(|version| version.starts_with("HTTP/"));
    let is_one = version && words.next().is_none() && target.parse::<http::Uri>().is_ok();
    is_one.then_some((method, target))
}

/// A field as a header; a hyphen stands for none.
fn header_of(field: &[u8]) -> Option<HeaderValue> {
    if field.is_empty() || field == b"-" {
        return None;
    }
    let plain = HeaderValue::from_bytes(&unescaped(field));
    // What cannot be sent as it was is sent as it is written.
    plain.or_else(|_| HeaderValue::from_bytes(field)).ok()
}

/// Without the escapes of Apache's log: `\"`, `\\` and `\xhh`.
fn unescaped(field: &[u8]) -> Cow<'_, [u8]> {
    if !field.contains(&b'\\') {
        return Cow::Borrowed(field);
    }
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, behind)) = rest.split_first() {
        let digits = behind.get(1..3).and_then(text);
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        (rest, _) = match (first, behind.first(), byte) {
            (b'\\', Some(b'x'), Some(byte)) => (&behind[3..], plain.push(byte)),
            (b'\\', Some(of @ (b'"' | b'\\')), _) => (&behind[1..], plain.push(*of)),
            _ => (behind, plain.push(*first)),
        };
    }
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(line: &str) -> String {
        match Line::parse(line.as_bytes()) {
            Err(why) => why.to_owned(),
            Ok(line) => {
                let field = |value: &Option<HeaderValue>| match value {
                    Some(value) => String::from_utf8_lossy(value.as_bytes()).into_owned(),
                    None => "none".to_owned(),
                };
                format!(
                    "{} {} {} {} {} {:?} [{}] [{}]",
                    line.client,
                    line.time,
                    line.method,
                    line.target,
                    line.status.as_u16(),
                    line.size,
                    field(&line.referrer),
                    field(&line.agent)
                )
            }
        }
    }

    #[test]
    fn a_line_is_read_as_it_was_written() {
        let check = |line: &str, expected: &str| assert_eq!(told(line), expected, "{line}");
        check(
            r#"83.149.9.216 - - [17/May/2015:10:05:03 +0000] "GET /a?b=c HTTP/1.1" 200 203023 "http://x/y" "Mozilla/5.0 (X; \"Y\")""#,
            r#"83.149.9.216 2015-05-17T10:05:03.000000Z GET /a?b=c 200 Some(203023) [http://x/y] [Mozilla/5.0 (X; "Y")]"#,
        );
        check(
            r#"::1 id ada [17/May/2015:10:05:03 -0130] "HEAD / HTTP/1.0" 304 - "-" "-""#,
            "::1 2015-05-17T11:35:03.000000Z HEAD / 304 None [none] [none]",
        );
        // Cut off within the last field, before it, and the common format without it.
        check(
            r#"10.0.0.1 - - [01/Jan/2020:00:00:00 +0000] "GET / HTTP/1.1" 200 1 "-" "Moz"#,
            "10.0.0.1 2020-01-01T00:00:00.000000Z GET / 200 Some(1) [none] [Moz]",
        );
        check(
            r#"10.0.0.1 - - [01/Jan/2020:00:00:00 +0000] "GET / HTTP/1.1" 200 1"#,
            "10.0.0.1 2020-01-01T00:00:00.000000Z GET / 200 Some(1) [none] [none]",
        );
        check(
            r#"10.0.0.1 - - [01/Jan/2020:00:00:00 +0000] "GET / HTTP/1.1" 200 1 "-" "a\x41\\\n""#,
            r"10.0.0.1 2020-01-01T00:00:00.000000Z GET / 200 Some(1) [none] [aA\\n]",
        );
    }

    #[test]
    fn a_line_that_is_none_says_why() {
        let check = |line: &str, expected: &str| assert_eq!(told(line), expected, "{line}");
        check("", "it does not begin with an IP address");
        check("host.example - - [", "it does not begin with an IP address");
        check("10.0.0.1 - - GET", "it has no [time]");
        check("10.0.0.1 - - [17/May", "its [time] does not end");
        let time = "its time is not as [17/May/2015:10:05:03 +0000]";
        check("10.0.0.1 - - [2015-05-17T10:05:03Z] \"", time);
        check("10.0.0.1 - - [31/Feb/2015:10:05:03 +0000] \"", time);
        let begin = "10.0.0.1 - - [17/May/2015:10:05:03 +0000]";
        check(&format!("{begin} GET / HTTP/1.1"), "it has no \"request\"");
        check(&format!("{begin} \"GET / HTTP/1.1"), "it has no \"request\"");
        for request in ["-", r"\x16\x03\x01", "GET", "GET x HTTP/1.1", "GET / FTP", "GET /a b c"] {
            check(&format!("{begin} \"{request}\" 400 0"), "its request is none of HTTP");
        }
        for request in
            ["GET http://a.example/ HTTP/1.1", "OPTIONS * HTTP/1.1", "CONNECT a:443 HTTP/1.1"]
        {
            let told = "its request is for no path of the site";
            check(&format!("{begin} \"{request}\" 400 0"), told);
        }
        check(&format!("{begin} \"GET / HTTP/1.1\" - 0"), "it has no status");
        check(&format!("{begin} \"GET / HTTP/1.1\" 200 many"), "it has no size");
    }
}
