//! Headers on their way through (RFC 9110, section 7.6), and who is believed.

use std::net::{IpAddr, SocketAddr};

use http::header::{EXPECT, HeaderMap, HeaderName, HeaderValue};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Whether a header says what nobody but a trusted proxy may: who calls, and what for.
/// `X-Forwarded-For` is set anew in any case.
///
/// A name with an underscore may be such a one in disguise: what speaks CGI (RFC 3875,
/// section 4.1.18) reads `X_Forwarded_For` as `X-Forwarded-For`.
fn is_claim(name: &HeaderName) -> bool {
    let text = name.as_str();
    matches!(
        text,
        "forwarded"
            | "x-real-ip"
            | "x-client-ip"
            | "x-cluster-client-ip"
            | "x-remote-ip"
            | "x-remote-addr"
            | "x-originating-ip"
            | "x-original-host"
            | "x-original-url"
            | "x-rewrite-url"
            | "true-client-ip"
            | "cf-connecting-ip"
            | "fastly-client-ip"
    ) || text.starts_with("x-forwarded-")
        || text.bytes().any(|byte| byte == b'_')
}

/// Most requests have none of them, so their names are looked at before one is copied.
fn remove_claims(headers: &mut HeaderMap) {
    if headers.keys().any(is_claim) {
        let claims: Vec<HeaderName> =
            headers.keys().filter(|name| is_claim(name)).cloned().collect();
        for name in claims {
            headers.remove(name);
        }
    }
}

/// Who calls: the last address of `X-Forwarded-For` that is no trusted proxy's.
pub(super) fn client_address(
    headers: &HeaderMap,
    peer: IpAddr,
    is_trusted: impl Fn(IpAddr) -> bool,
) -> IpAddr {
    if !is_trusted(peer) {
        return peer;
    }
    let mut client = peer;
    let named = headers.get_all(FORWARDED_FOR).iter().rev();
    for value in named.flat_map(|value| value.to_str().unwrap_or("?").rsplit(',')) {
        let Some(address) = parse_address(value.trim()) else { break };
        client = address;
        if !is_trusted(address) {
            break;
        }
    }
    client
}

/// An address with or without a port, as proxies write it.
fn parse_address(text: &str) -> Option<IpAddr> {
    let address = text.parse::<IpAddr>().ok();
    let address = address.or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip()));
    let bare = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    address.or_else(bare).map(|address| address.to_canonical())
}

/// Tells the upstream who called and how. What the peer said of it is kept if the
/// peer is trusted, else replaced.
pub(super) fn set_forwarded(
    headers: &mut HeaderMap,
    peer: &HeaderValue,
    scheme: &'static str,
    host: Option<HeaderValue>,
    is_trusted: bool,
) {
    // It is answered here, by hyper, when the body is asked for.
    headers.remove(EXPECT);
    if !is_trusted {
        remove_claims(headers);
        headers.insert(FORWARDED_FOR, peer.clone());
        headers.insert(FORWARDED_PROTO, HeaderValue::from_static(scheme));
        if let Some(host) = host {
            headers.insert(FORWARDED_HOST, host);
        }
        return;
    }
    let mut path = Vec::new();
    for value in headers.get_all(FORWARDED_FOR) {
        path.extend_from_slice(value.to_str().unwrap_or("unknown").as_bytes());
        path.extend_from_slice(b", ");
    }
    path.extend_from_slice(peer.as_bytes());
    if let Ok(path) = HeaderValue::try_from(path) {
        headers.insert(FORWARDED_FOR, path);
    }
    headers.entry(FORWARDED_PROTO).or_insert(HeaderValue::from_static(scheme));
    if let Some(host) = host {
        headers.entry(FORWARDED_HOST).or_insert(host);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn only_trusted_proxies_name_the_client() {
        let check = |peer: &str, named: &[&'static str], expected: &str| {
            let mut found = HeaderMap::new();
            for value in named {
                found.append(FORWARDED_FOR, HeaderValue::from_static(value));
            }
            let is_trusted = |address: IpAddr| address.to_string().starts_with("10.");
            let client = client_address(&found, peer.parse().unwrap(), is_trusted);
            assert_eq!(client.to_string(), expected, "{peer} {named:?}");
        };
        check("192.0.2.1", &["198.51.100.1"], "192.0.2.1");
        check("10.0.0.1", &[], "10.0.0.1");
        check("10.0.0.1", &["198.51.100.1"], "198.51.100.1");
        check("10.0.0.1", &["203.0.113.9, 198.51.100.1, 10.0.0.2"], "198.51.100.1");
        check("10.0.0.1", &["203.0.113.9", "198.51.100.1:4711"], "198.51.100.1");
        check("10.0.0.1", &["[2001:db8::1]"], "2001:db8::1");
        check("10.0.0.1", &["198.51.100.1, nonsense"], "10.0.0.1");
        check("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3");
    }

    #[test]
    fn what_a_stranger_says_of_itself_is_replaced() {
        let said = [
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "bank"),
            ("forwarded", "for=1.1.1.1"),
            ("x-real-ip", "1.1.1.1"),
            ("x-forwarded-ssl", "on"),
            ("x_forwarded_for", "1.1.1.1"),
            ("x-my_header", "1"),
            ("true-client-ip", "1.1.1.1"),
            ("x-original-url", "/admin"),
        ];
        let host = || Some(HeaderValue::from_static("shop"));
        let mut found = headers(&said);
        set_forwarded(&mut found, &HeaderValue::from_static("2.2.2.2"), "http", host(), false);
        let expected = [
            ("x-forwarded-for", "2.2.2.2"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-host", "shop"),
        ];
        assert_eq!(found, headers(&expected));
        let mut found = headers(&said);
        set_forwarded(&mut found, &HeaderValue::from_static("2.2.2.2"), "http", host(), true);
        assert_eq!(found["x-forwarded-for"], "1.1.1.1, 2.2.2.2");
        assert_eq!(
            (&found["x_forwarded_for"], &found["x-forwarded-ssl"]),
            (&"1.1.1.1".parse().unwrap(), &"on".parse().unwrap())
        );
        assert_eq!(
            (&found["x-forwarded-proto"], &found["x-forwarded-host"]),
            (&said[1].1.parse().unwrap(), &said[2].1.parse().unwrap())
        );
    }
}
