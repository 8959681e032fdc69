//! Which target of an upstream is asked, in which order, and under which address.

use std::collections::HashMap;

use ingest::registry::Name;
use ingest::registry::kind::{Balance, Target, Upstream};
use parking_lot::Mutex;
use reqwest::Url;

/// The most upstreams whose turn is remembered. At the bound all turns begin anew,
/// which costs evenness for a moment, and nothing else.
const TURNS_MAX: usize = 10_000;

/// Whose turn it is, by upstream.
#[derive(Debug, Default)]
pub(super) struct Turns(Mutex<HashMap<Name, u64>>);

impl Turns {
    /// Every target once, the one whose turn it is first.
    ///
    /// The balances that need to know the requests under way or the caller are the
    /// gateway's; here they go by turns too.
    pub(super) fn order<'a>(&self, name: &Name, upstream: &'a Upstream) -> Vec<&'a Target> {
        let targets = &upstream.targets;
        let first = first(upstream, self.next(name));
        targets.iter().cycle().skip(first).take(targets.len()).collect()
    }

    fn next(&self, name: &Name) -> u64 {
        let mut turns = self.0.lock();
        if turns.len() >= TURNS_MAX && !turns.contains_key(name) {
            turns.clear();
        }
        let turn = turns.entry(name.clone()).or_default();
        *turn = turn.wrapping_add(1);
        turn.wrapping_sub(1)
    }
}

/// The index of the target whose turn it is.
fn first(upstream: &Upstream, turn: u64) -> usize {
    let targets = &upstream.targets;
    if upstream.balance != Balance::Weighted {
        return (turn % targets.len().max(1) as u64) as usize;
    }
    let sum: u64 = targets.iter().map(|target| target.weight).sum();
    let mut left = turn % sum.max(1);
    for (i, target) in targets.iter().enumerate() {
        if left < target.weight {
            return i;
        }
        left -= target.weight;
    }
    0
}

/// Whether a path and a query can be called at any target. An error says why not.
///
/// A path that steps upwards is refused: data of a message must not lead out of
/// the path that the upstream is configured with.
pub(crate) fn check_path(path_and_query: &str) -> Result<(), &'static str> {
    let path = path_and_query.split('?').next().unwrap_or_default();
    let visible = path_and_query.bytes().all(|byte| byte.is_ascii_graphic());
    if !path.starts_with('/') || !visible || path_and_query.contains(['#', '\\']) {
        return Err("the path of the call is not one, such as /orders?id=1");
    }
    let is_up = |segment: &str| {
        let plain = segment.to_ascii_lowercase().replace("%2e", ".");
        plain == "." || plain == ".."
    };
    if path.split('/').any(is_up) {
        return Err("the path of the call has a segment of dots");
    }
    Ok(())
}

/// The address of a request at a target, and the target's host and port. An error says
/// why there is none.
pub(super) fn address(target: &Target, path_and_query: &str) -> Result<(Url, String), String> {
    check_path(path_and_query)?;
    let base = target.url.trim_end_matches('/');
    let url = Url::parse(&format!("{base}{path_and_query}"))
        .map_err(|error| format!("the target's address cannot be read: {error}"))?;
    let host = url.host_str().unwrap_or_default();
    let port = url.port_or_known_default().unwrap_or_default();
    let shown = format!("{host}:{port}");
    Ok((url, shown))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ingest::registry::kind::RetryOn;

    fn upstream(balance: Balance, targets: &[(&str, u64)]) -> Upstream {
        let targets =
            targets.iter().map(|(url, weight)| Target { url: (*url).into(), weight: *weight });
        Upstream {
            targets: targets.collect(),
            balance,
            connect_timeout_ms: 1,
            response_timeout_ms: 1,
            retries_max: 0,
            retry_on: RetryOn::default(),
            health_check: None,
            deliveries: None,
        }
    }

    #[test]
    fn every_target_gets_its_turn() {
        let check = |balance, targets: &[(&str, u64)], expected: &str| {
            let turns = Turns::default();
            let (name, upstream) = ("u".parse().unwrap(), upstream(balance, targets));
            let order = || {
                let order = turns.order(&name, &upstream);
                order.iter().map(|target| target.url.as_str()).collect::<String>()
            };
            let found: Vec<String> = (0..4).map(|_| order()).collect();
            assert_eq!(found.join(" "), expected);
        };
        let three = [("a", 1), ("b", 2), ("c", 1)];
        check(Balance::RoundRobin, &three, "abc bca cab abc");
        check(Balance::LeastRequests, &three, "abc bca cab abc");
        check(Balance::Weighted, &three, "abc bca bca cab");
        check(Balance::RoundRobin, &three[..1], "a a a a");
    }

    #[test]
    fn a_path_stays_below_its_targets() {
        let check = |path: &str, expected: Result<&str, &str>| {
            let target = Target { url: "http://h/base/".into(), weight: 1 };
            let found = address(&target, path).map(|(url, _)| url.to_string());
            match expected {
                Ok(url) => assert_eq!(found.as_deref(), Ok(url), "{path}"),
                Err(part) => assert!(found.unwrap_err().contains(part), "{path}"),
            }
        };
        check("/a?b=../c", Ok("http://h/base/a?b=../c"));
        check("/a%20b", Ok("http://h/base/a%20b"));
        check("//other/a", Ok("http://h/base//other/a"));
        check("/a..b/", Ok("http://h/base/a..b/"));
        check("/../a", Err("segment of dots"));
        check("/a/%2E%2e/b", Err("segment of dots"));
        check("/a/.%2e", Err("segment of dots"));
        check("/a/./b", Err("segment of dots"));
        check("/..\\a", Err("is not one"));
        check("a", Err("is not one"));
        check("@other/a", Err("is not one"));
        check("/a b", Err("is not one"));
        check("/a#b", Err("is not one"));
        check("", Err("is not one"));
    }
}
