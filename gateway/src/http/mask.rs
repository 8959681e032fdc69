//! What of an address is fit for an event.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

const PARTS: [&str; 9] = [
    "token",
    "key",
    "secret",
    "password",
    "passwd",
    "signature",
    "credential",
    "assertion",
    "session",
];
const WHOLE: [&str; 4] = ["code", "sig", "pwd", "auth"];

/// A query with `***` for the values of parameters that may be secrets, by their names.
pub(super) fn masked_query(query: &str) -> Cow<'_, str> {
    if !query.split('&').any(is_secret) {
        return Cow::Borrowed(query);
    }
    let masked = query.split('&').map(|pair| match pair.split_once('=') {
        Some((name, _)) if is_secret(pair) => format!("{name}=***"),
        _ => pair.to_owned(),
    });
    Cow::Owned(masked.collect::<Vec<_>>().join("&"))
}

/// An address of a Referer header: no user, no fragment, and a masked query.
pub(super) fn masked_address(address: &str) -> String {
    let address = address.split('#').next().unwrap_or_default();
    let (base, query) = match address.split_once('?') {
        Some((base, query)) => (base, Some(query)),
        None => (address, None),
    };
    let mut masked = match base.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
            format!("{scheme}://{host}{path}")
        }
        None => base.to_owned(),
    };
    if let Some(query) = query {
        masked.push('?');
        masked.push_str(&masked_query(query));
    }
    masked
}

fn is_secret(pair: &str) -> bool {
    let name = pair.split('=').next().unwrap_or_default();
    let name = percent_decode_str(name).decode_utf8_lossy().to_ascii_lowercase();
    WHOLE.contains(&name.as_str()) || PARTS.iter().any(|part| name.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_in_queries_are_masked_by_name() {
        let check = |query: &str, expected: &str| assert_eq!(masked_query(query), expected);
        check("", "");
        check("a=1&b=2", "a=1&b=2");
        check("a=1&access_token=hush&b=2", "a=1&access_token=***&b=2");
        check("API_KEY=hush", "API_KEY=***");
        check("tok%65n=hush", "tok%65n=***");
        check("code=hush&codec=x", "code=***&codec=x");
        check("client_secret=a=b&password=&x", "client_secret=***&password=***&x");
        check("signature=x&X-Amz-Signature=y", "signature=***&X-Amz-Signature=***");
    }

    #[test]
    fn an_address_loses_its_user_and_its_fragment() {
        let check = |address: &str, expected: &str| assert_eq!(masked_address(address), expected);
        check("https://me:hush@host/a?key=hush&b=1#hush", "https://host/a?key=***&b=1");
        check("https://host", "https://host");
        check("/a/b@c", "/a/b@c");
    }
}
