//! Headers that belong to one connection only (RFC 9110, section 7.6.1).

use http::header::{CONNECTION, HeaderMap, HeaderName};

/// Whether a header is for one connection only, whatever `Connection` says.
///
/// `Trailer` is among them since no trailers are passed on, and `HTTP2-Settings` since
/// no upgrade is.
pub fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "http2-settings"
    )
}

/// Removes what is for one connection only, also what `Connection` names.
///
/// Most messages have one of them at most: to look at their few names is cheaper than
/// to look each of these up.
pub fn remove_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
            .map(<[u8]>::trim_ascii)
            // What it says of the connection itself is no name of a header.
            .filter(|name| !matches!(*name, b"keep-alive" | b"close"))
            // Beside what is no name at all the others still count.
            .filter_map(|name| HeaderName::from_bytes(name).ok())
            .collect();
        for name in named {
            headers.remove(name);
        }
    }
    while let Some(name) = headers.keys().find(|name| is_hop_by_hop(name)).cloned() {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        headers
    }

    #[test]
    fn what_is_for_one_connection_goes_no_further() {
        let mut found = headers(&[
            ("connection", "close, X-Mine"),
            ("connection", "x-other"),
            ("connection", "x-beside, \u{fc}ber"),
            ("x-beside", "1"),
            ("x-mine", "1"),
            ("x-other", "1"),
            ("keep-alive", "1"),
            ("te", "trailers"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAMAAABk"),
            ("transfer-encoding", "chunked"),
            ("proxy-authorization", "hush"),
            ("trailer", "x-sum"),
            ("x-kept", "1"),
        ]);
        remove_hop_by_hop(&mut found);
        assert_eq!(found, headers(&[("x-kept", "1")]));
    }
}
