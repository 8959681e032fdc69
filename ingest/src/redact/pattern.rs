//! Secrets and personal data that are known by their form, wherever they stand.

use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;
use serde::{Deserialize, Serialize};

use super::card::cards;
use super::email::emails;

/// Something that is known by its form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pattern {
    /// Tokens, keys and passwords by their prefixes and forms: JWT (RFC 7519), bearer and basic
    /// credentials (RFC 9110, section 11.4), private keys (RFC 7468), a user before a host (RFC 3986,
    /// section 3.2.1), and those that begin by the prefix of who gives them out.
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

/// An expression of this file.
fn compiled(expression: &str) -> Regex {
    Regex::new(expression).expect("it is tested")
}

/// What is in the first group of each is the secret; the rest is what it is known by.
static TOKENS: LazyLock<Regex> = LazyLock::new(|| {
    let forms = [
        // A JWT: the header's JSON in base64.
        r"\b(eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}(?:\.[A-Za-z0-9_-]*){0,3})",
        // By the prefix of who gives it out: ourselves, AWS, GitHub, GitLab, Slack, Stripe, Google, npm.
        r"\b(weir[st]_[A-Za-z0-9_-]{43})",
        r"\b((?:AKIA|ASIA)[0-9A-Z]{16})\b",
        r"\b(gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{22,}|glpat-[A-Za-z0-9_-]{20,})",
        r"\b(xox[abeoprs]-[A-Za-z0-9-]{10,}|[rs]k_(?:live|test)_[A-Za-z0-9]{16,})",
        r"\b(AIza[0-9A-Za-z_-]{35}|npm_[A-Za-z0-9]{36})",
        // A private key, also without its end.
        r"(-----BEGIN [A-Z ]{0,20}PRIVATE KEY-----(?s:.*?)(?:-----END [A-Z ]{0,20}PRIVATE KEY-----|\z))",
        // A user, with or without a password, before a host.
        r"://([^\s/?#@]{1,256})@",
        // Credentials of a header.
        r"(?i:\b(?:bearer|basic)(?:\s|\+|%20){1,4})([A-Za-z0-9._~+/=-]{8,})",
    ];
    compiled(&forms.join("|"))
});

fn tokens(text: &str) -> Vec<Range<usize>> {
    let found = TOKENS.captures_iter(text).filter_map(|found| {
        let whole = found.get(0)?;
        let secret = found.iter().skip(1).flatten().next()?;
        // "Bearer authentication" names a scheme and holds nothing.
        let is_credential =
            whole.as_str().starts_with(['b', 'B']) && secret.start() > whole.start();
        let is_word = secret.as_str().bytes().all(|byte| byte.is_ascii_alphabetic());
        (!is_credential || !is_word || secret.len() >= 20).then(|| secret.range())
    });
    found.collect()
}

static IBAN: LazyLock<Regex> = LazyLock::new(|| {
    compiled(
        r"\b[A-Z]{2}[0-9]{2}(?:[A-Z0-9]{11,30}|(?:[ -][A-Z0-9]{4}){2,7}(?:[ -][A-Z0-9]{1,4})?)\b",
    )
});

fn ibans(text: &str) -> Vec<Range<usize>> {
    // Each has two digits at least, and most texts that have them have no two capitals before.
    let is_there = text.as_bytes().windows(4).any(|four| {
        four[0].is_ascii_uppercase() && four[1].is_ascii_uppercase() && four[2].is_ascii_digit()
    });
    if !is_there {
        return Vec::new();
    }
    IBAN.find_iter(text)
        .filter(|found| is_iban(found.as_str()))
        .map(|found| found.range())
        .collect()
}

/// Whether the check digits are right: modulo 97 (ISO/IEC 7064), the first four behind.
fn is_iban(text: &str) -> bool {
    let signs = text.bytes().filter(u8::is_ascii_alphanumeric).collect::<Vec<_>>();
    if !(15..=34).contains(&signs.len()) {
        return false;
    }
    let (head, account) = signs.split_at(4);
    let rest = account.iter().chain(head).fold(0_u32, |rest, sign| match sign {
        b'0'..=b'9' => (rest * 10 + u32::from(sign - b'0')) % 97,
        _ => (rest * 100 + u32::from(sign - b'A' + 10)) % 97,
    });
    rest == 1
}
