use ingest::registry::Name;
use ingest::registry::kind::{Balance, RetryOn, Target as Spec, Upstream};

use super::{Connector, Group, Target, Upstreams};

fn group(balance: Balance, targets: &[(&str, u64)]) -> Group {
    let spec = Upstream {
        targets: targets
            .iter()
            .map(|(url, weight)| Spec { url: (*url).to_owned(), weight: *weight })
            .collect(),
        balance,
        connect_timeout_ms: 1_000,
        response_timeout_ms: 1_000,
        retries_max: 1,
        retry_on: RetryOn::default(),
        health_check: None,
        deliveries: None,
    };
    Group::compile(&Name::new("u").unwrap(), &spec).unwrap()
}

fn turns(upstreams: &Upstreams, group: &Group, count: usize) -> String {
    (0..count).map(|_| upstreams.pick(group, None).host.as_str()).collect()
}

#[tokio::test(start_paused = true)]
async fn targets_take_turns_and_a_suspended_one_is_passed_over_for_a_second() {
    let upstreams = Upstreams::new(Connector::new(None).unwrap());
    let even = group(Balance::RoundRobin, &[("http://a", 5), ("http://b", 1), ("http://c", 1)]);
    assert_eq!(turns(&upstreams, &even, 6), "abcabc");
    upstreams.suspend(&even.targets[1]);
    let passed_over = turns(&upstreams, &even, 4);
    assert!(!passed_over.contains('b'), "{passed_over}");
    tokio::time::advance(std::time::Duration::from_secs(2)).await;
    assert!(turns(&upstreams, &even, 3).contains('b'));
    for target in &even.targets {
        upstreams.suspend(target);
    }
    assert_eq!(turns(&upstreams, &even, 3).len(), 3, "all are suspended, so none is passed over");
    assert_eq!(upstreams.idle(), 0);
}

#[tokio::test]
async fn weights_are_kept_exactly() {
    let upstreams = Upstreams::new(Connector::new(None).unwrap());
    let weighted = group(Balance::Weighted, &[("http://a", 5), ("http://b", 2), ("http://c", 1)]);
    let taken = turns(&upstreams, &weighted, 80);
    let count = |host| taken.matches(host).count();
    assert_eq!((count("a"), count("b"), count("c")), (50, 20, 10), "{taken}");
    assert!(!taken.contains("aaaa"), "they are spread: {taken}");
}

#[test]
fn addresses_are_taken_apart() {
    let check = |url: &str, expected: Option<(&str, &str, &str)>| {
        let target = Target::parse(url, 1);
        let found = target.as_ref().map(|target| {
            (&*target.origin, target.host_header.to_str().unwrap(), target.base.as_str())
        });
        assert_eq!(found, expected, "{url}");
    };
    check("http://a", Some(("http://a:80", "a", "")));
    check("http://a:8080/base/", Some(("http://a:8080", "a:8080", "/base")));
    check("https://a:443/x/y", Some(("https://a:443", "a", "/x/y")));
    check("http://[::1]:81", Some(("http://[::1]:81", "[::1]:81", "")));
    check("ftp://a", None);
}
