//! What a caller is told of its limits: draft-ietf-httpapi-ratelimit-headers, as
//! structured fields (RFC 9651), and `Retry-After` (RFC 9110, section 10.2.3).

use std::fmt::Write as _;

use http::{HeaderName, HeaderValue};
use ingest::registry::Name;

use super::counters::Count;
use super::take::{Taken, Verdict};

/// The header that says what the limit is.
pub const POLICY_HEADER: HeaderName = HeaderName::from_static("ratelimit-policy");
/// The header that says what is left of it.
pub const RATE_LIMIT_HEADER: HeaderName = HeaderName::from_static("ratelimit");

/// The values for an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Values {
    /// Of [`POLICY_HEADER`], as `"gold";q=100;w=60`.
    pub policy: HeaderValue,
    /// Of [`RATE_LIMIT_HEADER`], as `"gold";r=7;t=12`.
    pub rate_limit: HeaderValue,
    /// Of `Retry-After`, in seconds, rounded up, at least one; on a refusal only.
    pub retry_after: Option<HeaderValue>,
}

impl Verdict<'_> {
    /// The headers of the nearest limit; `None` if there is no limit.
    pub fn headers(&self) -> Option<Values> {
        let (limit, taken) = self.nearest?;
        Some(Values {
            policy: limit.policy_header.clone(),
            rate_limit: rate_limit(&limit.rate_limit_item, taken),
            retry_after: (!self.allowed).then(|| seconds(taken.reset_ms).max(1).into()),
        })
    }
}

/// A tier's two limits have two names; a name needs no escape in a string.
pub(super) fn item(name: &Name, count: &Count) -> String {
    let suffix = match count {
        Count::Window(_) => "",
        Count::Burst(_) => "-burst",
    };
    let mut text = String::with_capacity(64);
    write!(text, "\"{name}{suffix}\"").expect("a string takes it");
    text
}

pub(super) fn policy(name: &Name, count: &Count, max: u64, window_ms: u64) -> HeaderValue {
    let mut text = item(name, count);
    write!(text, ";q={max};w={}", seconds(window_ms)).expect("a string takes it");
    value(text)
}

fn rate_limit(item: &str, taken: Taken) -> HeaderValue {
    let (mut r, mut t) = (itoa::Buffer::new(), itoa::Buffer::new());
    let (r, t) = (r.format(taken.remaining), t.format(seconds(taken.reset_ms)));
    value([item, ";r=", r, ";t=", t].concat())
}

fn value(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("a name and numbers are a header's value")
}

fn seconds(ms: u64) -> u64 {
    ms.div_ceil(1_000)
}

#[cfg(test)]
mod tests {
    use ingest::registry::kind::{Quota, Tier};

    use crate::throttle::{Counters, Level, take_all};

    #[test]
    fn the_nearest_limit_is_told_with_its_seconds_rounded_up() {
        let counters = Counters::default();
        let requests = Some(Quota { max: 2, window_ms: 60_000 });
        let tier = Tier { requests, bytes: None, burst_requests_max: Some(100) };
        let limits = counters.limits(Level::Api, "orders", &"gold".parse().unwrap(), &tier);
        let check = |now_ms, expected: [Option<&str>; 3]| {
            let values = take_all(&limits, now_ms).headers().unwrap();
            let text = |value: &http::HeaderValue| value.to_str().unwrap().to_owned();
            let found = [
                Some(text(&values.policy)),
                Some(text(&values.rate_limit)),
                values.retry_after.as_ref().map(text),
            ];
            assert_eq!(found.each_ref().map(Option::as_deref), expected, "at {now_ms}");
        };
        let policy = Some("\"gold\";q=2;w=60");
        check(60_000, [policy, Some("\"gold\";r=1;t=60"), None]);
        check(60_001, [policy, Some("\"gold\";r=0;t=60"), None]);
        check(118_999, [policy, Some("\"gold\";r=0;t=2"), Some("2")]);
        check(119_999, [policy, Some("\"gold\";r=0;t=1"), Some("1")]);
    }

    #[test]
    fn a_burst_has_a_name_of_its_own_and_a_second_as_its_window() {
        let counters = Counters::default();
        let tier = Tier { requests: None, bytes: None, burst_requests_max: Some(4) };
        let limits = counters.limits(Level::Api, "orders", &"gold".parse().unwrap(), &tier);
        let values = take_all(&limits, 1_000).headers().unwrap();
        assert_eq!(values.policy, "\"gold-burst\";q=4;w=1");
        assert_eq!(values.rate_limit, "\"gold-burst\";r=3;t=0");
    }
}
