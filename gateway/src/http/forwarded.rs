//! Headers on their way through (RFC 9110, section 7.6), and who is believed.

use std::net::{IpAddr, SocketAddr};

use http::header::{
    CONNECTION, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE,
};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// What nobody but a trusted proxy may say, under these and further names;
/// `X-Forwarded-For` is set anew in any case.
const CLAIMS: [HeaderName; 6] = [
    FORWARDED_PROTO,
    FORWARDED_HOST,
    HeaderName::from_static("forwarded"),
    HeaderName::from_static("x-real-ip"),
    HeaderName::from_static("x-forwarded-port"),
    HeaderName::from_static("x-forwarded-prefix"),
];
const HOP_BY_HOP: [HeaderName; 8] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("proxy-authenticate"),
    HeaderName::from_static("proxy-authorization"),
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Removes what is for this connection only, also what `Connection` names (RFC 9110,
/// section 7.6.1).
pub(super) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| name.trim().parse().ok())
            .collect();
        for name in named {
            headers.remove(name);
        }
    }
    remove_all(headers, &HOP_BY_HOP);
}

/// Most requests have none of them: to look at their few names once is cheaper than to
/// look each of these up.
fn remove_all(headers: &mut HeaderMap, names: &[HeaderName]) {
    if headers.keys().any(|name| names.contains(name)) {
        for name in names {
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
    peer: &str,
    scheme: &'static str,
    host: Option<HeaderValue>,
    is_trusted: bool,
) {
    let mut path = String::new();
    if is_trusted {
        for value in headers.get_all(FORWARDED_FOR) {
            path.push_str(value.to_str().unwrap_or("unknown"));
            path.push_str(", ");
        }
    } else {
        remove_all(headers, &CLAIMS);
    }
    path.push_str(peer);
    if let Ok(path) = HeaderValue::try_from(path) {
        headers.insert(FORWARDED_FOR, path);
    }
    if !headers.contains_key(FORWARDED_PROTO) {
        headers.insert(FORWARDED_PROTO, HeaderValue::from_static(scheme));
    }
    if let Some(host) = host
        && !headers.contains_key(FORWARDED_HOST)
    {
        headers.insert(FORWARDED_HOST, host);
    }
    headers.remove(HOST);
    // It is answered here, by hyper, when the body is asked for.
    headers.remove(EXPECT);
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
    fn what_is_for_one_connection_goes_no_further() {
        let mut found = headers(&[
            ("connection", "close, X-Mine"),
            ("connection", "x-other"),
            ("x-mine", "1"),
            ("x-other", "1"),
            ("keep-alive", "1"),
            ("te", "trailers"),
            ("upgrade", "h2c"),
            ("transfer-encoding", "chunked"),
            ("proxy-authorization", "hush"),
            ("trailer", "x-sum"),
            ("x-kept", "1"),
        ]);
        remove_hop_by_hop(&mut found);
        assert_eq!(found, headers(&[("trailer", "x-sum"), ("x-kept", "1")]));
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
        ];
        let host = || Some(HeaderValue::from_static("shop"));
        let mut found = headers(&said);
        set_forwarded(&mut found, "2.2.2.2", "http", host(), false);
        let expected = [
            ("x-forwarded-for", "2.2.2.2"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-host", "shop"),
        ];
        assert_eq!(found, headers(&expected));
        let mut found = headers(&said);
        set_forwarded(&mut found, "2.2.2.2", "http", host(), true);
        assert_eq!(found["x-forwarded-for"], "1.1.1.1, 2.2.2.2");
        assert_eq!(
            (&found["x-forwarded-proto"], &found["x-forwarded-host"]),
            (&said[1].1.parse().unwrap(), &said[2].1.parse().unwrap())
        );
    }
}
