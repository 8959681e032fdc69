//! How a client says who it is (RFC 6749, section 2.3.1).

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, header};

use super::form::decode;

/// What a client says that it is.
#[derive(PartialEq, Eq)]
pub(super) struct Credentials {
    pub(super) id: String,
    pub(super) secret: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("credentials [hidden]")
    }
}

/// Why there are no credentials.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// There are none, or they cannot be read: `invalid_client`.
    Client(&'static str),
    /// They are in two places: `invalid_request`.
    Request(&'static str),
}

/// The credentials of HTTP Basic, or those of the parameters.
pub(super) fn credentials(
    headers: &HeaderMap,
    parameters: &BTreeMap<String, String>,
) -> Result<Credentials, Refused> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (id, secret) = (parameters.get("client_id"), parameters.get("client_secret"));
    let Some(value) = values.next() else {
        return match (id, secret) {
            (Some(id), Some(secret)) => Ok(Credentials { id: id.clone(), secret: secret.clone() }),
            _ => Err(Refused::Client("the client sent no credentials")),
        };
    };
    if secret.is_some() || values.next().is_some() {
        return Err(Refused::Request("the client's credentials come twice"));
    }
    let basic = value.to_str().ok().and_then(basic);
    let basic = basic.ok_or(Refused::Client("the authorization is not HTTP Basic"))?;
    if id.is_some_and(|id| *id != basic.id) {
        return Err(Refused::Request("client_id names another client"));
    }
    Ok(basic)
}

/// RFC 7617, with both parts form-encoded before.
fn basic(value: &str) -> Option<Credentials> {
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (id, secret) = text.split_once(':')?;
    Some(Credentials { id: decode(id)?, secret: decode(secret)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::form::parse;

    #[test]
    fn credentials_come_from_one_place() {
        let check = |basic: Option<&str>, body: &str, expected: Result<(&str, &str), bool>| {
            let mut headers = HeaderMap::new();
            if let Some(basic) = basic {
                let value = format!("Basic {}", STANDARD.encode(basic));
                headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            }
            let found = credentials(&headers, &parse(body.as_bytes()).unwrap());
            let found = found
                .map(|found| (found.id, found.secret))
                .map_err(|refused| matches!(refused, Refused::Client(_)));
            let expected = expected.map(|(id, secret)| (id.to_owned(), secret.to_owned()));
            assert_eq!(found, expected, "{basic:?} {body}");
        };
        check(Some("shop:s%3Ac+r"), "", Ok(("shop", "s:c r")));
        check(Some("shop:s:t"), "client_id=shop", Ok(("shop", "s:t")));
        check(None, "client_id=shop&client_secret=s", Ok(("shop", "s")));
        check(None, "client_id=shop", Err(true));
        check(None, "", Err(true));
        check(Some("shop"), "", Err(true));
        check(Some("shop:s"), "client_id=other", Err(false));
        check(Some("shop:s"), "client_id=shop&client_secret=s", Err(false));
    }
}
