//! Queries of addresses, forms, and addresses as a whole.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use super::name::is_secret_parameter;
use super::rules::{Place, Rules};

/// A query or a form (`application/x-www-form-urlencoded`), pair by pair: masked by the names
/// of the parameters, and what is known by its form in names and values, as they are decoded.
pub(super) fn query<'a>(query: &'a str, rules: &Rules) -> Cow<'a, str> {
    let mut out = String::new();
    let mut copied = 0;
    let mut at = 0;
    for pair in query.split('&') {
        let start = at;
        at += pair.len() + 1;
        let masked = parameter(pair, rules);
        if let Cow::Owned(masked) = masked {
            out.push_str(&query[copied..start]);
            out.push_str(&masked);
            copied = start + pair.len();
        }
    }
    match copied {
        0 if out.is_empty() => Cow::Borrowed(query),
        _ => Cow::Owned(out + &query[copied..]),
    }
}

fn parameter<'a>(pair: &'a str, rules: &Rules) -> Cow<'a, str> {
    let Some((name, value)) = pair.split_once('=') else { return text(pair, rules) };
    let plain = decoded(name);
    let is_secret = is_secret_parameter(&plain);
    match rules.named(Place::Parameter, &plain, is_secret) {
        Some(action) => match rules.value(action, &decoded(value)) {
            Some(value) => Cow::Owned(format!("{}={value}", text(name, rules))),
            None => Cow::Borrowed(pair),
        },
        None => match (text(name, rules), text(value, rules)) {
            (Cow::Borrowed(_), Cow::Borrowed(_)) => Cow::Borrowed(pair),
            (name, value) => Cow::Owned(format!("{name}={value}")),
        },
    }
}

/// A part of a query: as it is written if nothing is found in it as it is decoded; else with
/// what would divide it, or is no sign of an address, encoded.
fn text<'a>(part: &'a str, rules: &Rules) -> Cow<'a, str> {
    let plain = decoded(part);
    match rules.text(&plain) {
        Cow::Borrowed(_) => Cow::Borrowed(part),
        Cow::Owned(masked) => Cow::Owned(utf8_percent_encode(&masked, DIVIDING).to_string()),
    }
}

/// What has a meaning in a query besides itself.
const DIVIDING: &AsciiSet = &CONTROLS.add(b'&').add(b'=').add(b'#').add(b'%').add(b'+').add(b' ');

/// As who reads it would: `+` is a space.
pub(super) fn decoded(part: &str) -> Cow<'_, str> {
    if !part.contains(['%', '+']) {
        return Cow::Borrowed(part);
    }
    let spaced = part.replace('+', " ");
    Cow::Owned(percent_decode_str(&spaced).decode_utf8_lossy().into_owned())
}

/// And in a path.
const DIVIDING_PATH: &AsciiSet = &CONTROLS.add(b'?').add(b'#').add(b'%').add(b' ');

/// A path, as it is decoded and as it is written.
pub(super) fn path<'a>(path: &'a str, rules: &Rules) -> Cow<'a, str> {
    if path.contains('%') {
        let plain = percent_decode_str(path).decode_utf8_lossy();
        if let Cow::Owned(masked) = rules.text(&plain) {
            return Cow::Owned(utf8_percent_encode(&masked, DIVIDING_PATH).to_string());
        }
    }
    rules.text(path)
}

/// An address of a Referer header: no user, no fragment (RFC 9110, section 10.1.3), and the
/// rest as above.
pub(super) fn address<'a>(address: &'a str, rules: &Rules) -> Cow<'a, str> {
    let whole = address.split('#').next().unwrap_or_default();
    let (base, asked) = match whole.split_once('?') {
        Some((base, asked)) => (base, Some(query(asked, rules))),
        None => (whole, None),
    };
    let base = match base.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            match authority.rsplit_once('@') {
                Some((_, host)) => Cow::Owned(format!("{scheme}://{host}{path}")),
                None => Cow::Borrowed(base),
            }
        }
        None => Cow::Borrowed(base),
    };
    let looked_at = match path(&base, rules) {
        Cow::Borrowed(_) => base.clone(),
        Cow::Owned(masked) => Cow::Owned(masked),
    };
    match (&looked_at, &asked) {
        (Cow::Borrowed(_), None | Some(Cow::Borrowed(_))) if whole.len() == address.len() => {
            Cow::Borrowed(address)
        }
        (base, None) => Cow::Owned(base.to_string()),
        (base, Some(asked)) => Cow::Owned(format!("{base}?{asked}")),
    }
}
