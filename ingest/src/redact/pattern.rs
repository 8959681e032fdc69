//! Secrets and personal data that are known by their form, wherever they stand.

use std::ops::Range;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use regex::Regex;
use serde::{Deserialize, Serialize};

use super::card::cards;
use super::email::emails;
use super::iban::ibans;
use super::name::{is_secret, is_secret_parameter};

/// Something that is known by its form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pattern {
    /// Tokens, keys and passwords by their prefixes and forms: JWT (RFC 7519), bearer and basic
    /// credentials (RFC 9110, section 11.4), private keys (RFC 7468), a user before a host (RFC 3986,
    /// section 3.2.1), those that begin by the prefix of who gives them out, and what stands
    /// behind the name of a secret and `=`, as in an address.
    Token,
    /// Addresses of email (RFC 5321, section 4.1.2, without quoted names), also with `%40`.
    Email,
    /// Numbers of payment cards: 14 to 19 digits of a known scheme whose check digit is right
    /// (Luhn; ISO/IEC 7812-1), also in groups.
    Card,
    /// Numbers of bank accounts whose check digits are right (IBAN; ISO 13616).
    Iban,
}

impl Pattern {
    /// All, in the order in which they are looked for: what an earlier one takes out, a
    /// later one does not see.
    pub const ALL: [Self; 4] = [Self::Token, Self::Email, Self::Card, Self::Iban];

    /// As in a file.
    pub fn word(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Email => "email",
            Self::Card => "card",
            Self::Iban => "iban",
        }
    }

    /// What stands for one that is masked.
    pub(super) fn mask(self) -> &'static str {
        match self {
            Self::Token => "[token]",
            Self::Email => "[email]",
            Self::Card => "[card]",
            Self::Iban => "[iban]",
        }
    }

    /// Where it stands in a text, in order and apart from each other.
    pub(super) fn find(self, text: &str) -> Vec<Range<usize>> {
        match self {
            Self::Token => tokens(text),
            Self::Email => emails(text),
            Self::Card => cards(text),
            Self::Iban => ibans(text),
        }
    }
}

/// What a text may hold, by one look at its bytes: most hold nothing, and are looked at for
/// every request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Suspected {
    token: bool,
    email: bool,
    number: bool,
}

impl Suspected {
    pub(super) fn of(text: &str) -> Self {
        let (mut digits, mut dashes, mut run, mut before) = (0, 0, 0, 0);
        let (mut is_token, mut is_email) = (false, false);
        for &byte in text.as_bytes() {
            let is_part = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
            run = if is_part { run + 1 } else { 0 };
            dashes = if byte == b'-' { dashes + 1 } else { 0 };
            digits += usize::from(byte.is_ascii_digit());
            is_email |= matches!(byte, b'@' | b'%');
            // The shortest by its prefix has 15 signs; `Bearer` and `Basic` begin so.
            is_token |= run >= 15
                || dashes >= 5
                || byte == b'='
                || (before | 0x20 == b'b' && matches!(byte | 0x20, b'e' | b'a'));
            before = byte;
        }
        Self { token: is_token || is_email, email: is_email, number: digits >= 8 }
    }

    pub(super) fn has(self, pattern: Pattern) -> bool {
        match pattern {
            Pattern::Token => self.token,
            Pattern::Email => self.email,
            Pattern::Card | Pattern::Iban => self.number,
        }
    }
}

/// The text with something else for each of these places, if there are any.
pub(super) fn replaced(
    text: &str,
    places: &[Range<usize>],
    with: impl Fn(&str) -> String,
) -> Option<String> {
    let last = places.last()?;
    let (mut out, mut copied) = (String::with_capacity(text.len()), 0);
    for place in places {
        out.push_str(&text[copied..place.start]);
        out.push_str(&with(&text[place.clone()]));
        copied = place.end;
    }
    out.push_str(&text[last.end..]);
    Some(out)
}

/// The first group that takes part in a match is the secret; the rest is what it is known by.
/// Repetitions are bounded, so that a failing one costs no more than its bound.
static TOKENS: LazyLock<Regex> = LazyLock::new(|| {
    let forms = [
        // By the prefix of who gives it out: ourselves, AWS, GitHub, GitLab, Slack, Stripe, Google, npm.
        r"(weir[st]_[A-Za-z0-9_-]{43})",
        r"((?:AKIA|ASIA)[0-9A-Z]{16})",
        r"(gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{22,255}|glpat-[A-Za-z0-9_-]{20,255})",
        r"(xox[abeoprs]-[A-Za-z0-9-]{10,255}|[rs]k_(?:live|test)_[A-Za-z0-9]{16,255})",
        r"(AIza[0-9A-Za-z_-]{35}|npm_[A-Za-z0-9]{36})",
        // A private key, also without its end.
        r"(-----BEGIN [A-Z ]{0,24}PRIVATE KEY(?: BLOCK)?-----(?s:.*?)(?:-----END [A-Z ]{0,24}PRIVATE KEY(?: BLOCK)?-----|\z))",
        // A user, with or without a password, before a host.
        r"://([^\s/?#]{1,256})@",
    ];
    Regex::new(&forms.join("|")).expect("it is tested")
});

/// Credentials of a header.
static CREDENTIALS: LazyLock<Regex> = LazyLock::new(|| {
    let form = r"(?i-u:\b(bearer|basic)(?:[ \t+]|%20){1,4}([a-z0-9._~+/=-]{8,4096}))";
    Regex::new(form).expect("it is tested")
});

/// Words that stand behind `Bearer` and `Basic` and are no credentials.
const WORDS: [&str; 8] = [
    "authentication",
    "authenticate",
    "authorization",
    "authorizations",
    "credential",
    "credentials",
    "information",
    "understanding",
];

fn tokens(text: &str) -> Vec<Range<usize>> {
    let mut found = named_values(text);
    found.extend(jwts(text));
    found.extend(
        TOKENS
            .captures_iter(text)
            .filter_map(|found| found.iter().skip(1).flatten().next().map(|secret| secret.range())),
    );
    found.extend(CREDENTIALS.captures_iter(text).filter_map(|found| {
        let (scheme, secret) = (found.get(1)?.as_str(), found.get(2)?);
        let is_one = match scheme.eq_ignore_ascii_case("basic") {
            true => is_basic(secret.as_str()),
            false => !WORDS.contains(&&*secret.as_str().to_ascii_lowercase()),
        };
        is_one.then(|| secret.range())
    }));
    apart(found)
}

/// How the header of a JWT begins in base64: an object of JSON, also with a space or a line
/// behind its brace.
const JWT_HEADS: [&str; 5] = ["eyJ", "eyA", "ewog", "ewoi", "ew0K"];

/// Where JWTs stand, signed (RFC 7515) or encrypted (RFC 7516): the header, and one to four
/// parts behind it.
fn jwts(text: &str) -> Vec<Range<usize>> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(start) = text[at..].find(is_part).map(|to| at + to) {
        let run = &text[start..];
        let run = &run[..run.find(|c| !is_part(c)).unwrap_or(run.len())];
        at = start + run.len();
        let Some((head, rest)) = run.split_once('.') else { continue };
        let begin = JWT_HEADS.iter().filter_map(|begin| head.find(begin)).min();
        let has_parts = rest.contains('.') || rest.len() >= 4;
        if let Some(begin) = begin.filter(|begin| head.len() - begin >= 10 && has_parts) {
            found.push(start + begin..at);
        }
    }
    found
}

/// Whether it is a name and a password (RFC 7617, section 2).
fn is_basic(text: &str) -> bool {
    let lenient =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let decoder = GeneralPurpose::new(&base64::alphabet::STANDARD, lenient);
    decoder.decode(text).is_ok_and(|plain| plain.contains(&b':'))
}

/// Values behind the name of a secret and `=`, as in `?token=…` or `;jsessionid=…`.
fn named_values(text: &str) -> Vec<Range<usize>> {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    let ends = |c: char| c.is_whitespace() || "&;,\"'<>()[]{}|#".contains(c);
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    for at in memchr::memchr_iter(b'=', bytes) {
        let name = bytes[..at].iter().rev().take(64).take_while(|byte| is_name(**byte)).count();
        let value = &text[at + 1..];
        let value = value.find(ends).unwrap_or(value.len());
        if name > 0 && value > 0 && is_secret_parameter(&text[at - name..at]) {
            found.push(at + 1..at + 1 + value);
        }
    }
    found
}

/// Words behind the name of a secret and a colon, as in `password: …`.
pub(super) fn named_words(text: &str) -> Vec<Range<usize>> {
    let bytes = text.as_bytes();
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    let mut found = Vec::new();
    for at in memchr::memchr_iter(b':', bytes) {
        let name = bytes[..at].iter().rev().take(64).take_while(|byte| is_name(**byte)).count();
        if name == 0 || !is_secret(&text[at - name..at]) {
            continue;
        }
        let rest = &text[at + 1..];
        let value = rest.trim_start_matches([' ', '\t']);
        let start = text.len() - value.len();
        let value = value.find(char::is_whitespace).unwrap_or(value.len());
        if value > 0 && found.last().is_none_or(|last: &Range<usize>| last.end <= start) {
            found.push(start..start + value);
        }
    }
    found
}

/// Places in order, those that overlap as one.
fn apart(mut places: Vec<Range<usize>>) -> Vec<Range<usize>> {
    places.sort_unstable_by_key(|place| place.start);
    let mut out: Vec<Range<usize>> = Vec::with_capacity(places.len());
    for place in places {
        match out.last_mut() {
            Some(last) if place.start < last.end => last.end = last.end.max(place.end),
            _ => out.push(place),
        }
    }
    out
}
