//! What follows an attempt: a function of its answer, the queue's rules and the time.

use std::time::{Duration, SystemTime};

use http::StatusCode;
use ingest::event::Timestamp;
use ingest::registry::kind::{OnExhausted, Queue, Retry};

use super::partition::Ending;
use ingest::http::Code;

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Attempted {
    /// The target answered. `retry_after` is the header of that name.
    Answered { status: StatusCode, retry_after: Option<String> },
    /// There was no answer.
    Failed(Code),
    /// It was not made: an attempt too many was started before a kill.
    UsedUp,
    /// It was not made, nor will another be.
    Not(Ending),
}

/// What becomes of the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Delivered,
    Retry { due: Timestamp },
    Dead(Reason),
    Held(Reason),
}

/// Why there is no further attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// The target answered that it will never take it.
    Refused,
    AttemptsUsedUp,
    TooOld,
    /// Somebody decided so.
    GivenUp,
    /// Nobody wants it any more.
    Expired,
}

impl Reason {
    /// As dead letters and events say it.
    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::AttemptsUsedUp => "attempts_used_up",
            Self::TooOld => "too_old",
            Self::GivenUp => "given_up",
            Self::Expired => "expired",
        }
    }
}

impl Attempted {
    /// Whether another attempt may do better: what the target says of now (408,
    /// 425, 429, 5xx) and what the way to it did, but not what it says of the
    /// message, and not what this configuration makes of it.
    fn may_pass(&self) -> bool {
        match self {
            Self::Answered { status, .. } => {
                matches!(status.as_u16(), 408 | 425 | 429) || status.is_server_error()
            }
            Self::Failed(code) => !matches!(code, Code::StepFailed),
            Self::UsedUp | Self::Not(_) => true,
        }
    }

    pub(super) fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Answered { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Why there was no answer.
    pub(super) fn error(&self) -> Option<Code> {
        match self {
            Self::Failed(code) => Some(*code),
            _ => None,
        }
    }
}

/// The times of a message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub(super) accepted: Timestamp,
    pub(super) expires: Option<Timestamp>,
    pub(super) now: Timestamp,
}

/// What becomes of a message whose attempt number `attempt` has ended.
///
/// The waits double from `delay_min_ms` to `delay_max_ms`; the second half of each
/// is random, so that messages that failed together do not come together again.
/// A longer Retry-After is honoured, up to `delay_max_ms`. The last wait ends
/// where the message becomes too old, not before; so every message has at least
/// one attempt, however long Weir itself was away.
pub(super) fn decide(
    queue: &Queue,
    attempted: &Attempted,
    attempt: u64,
    times: Times,
    random: &mut fastrand::Rng,
) -> Verdict {
    if attempted.status().is_some_and(|status| status.is_success()) {
        return Verdict::Delivered;
    }
    // Also where the queue holds messages: nobody has to decide of this one.
    match attempted {
        Attempted::Not(Ending::GivenUp) => return Verdict::Dead(Reason::GivenUp),
        Attempted::Not(Ending::Expired) => return Verdict::Dead(Reason::Expired),
        _ => {}
    }
    let exhausted = |reason| match queue.on_exhausted {
        OnExhausted::DeadLetter => Verdict::Dead(reason),
        OnExhausted::Hold => Verdict::Held(reason),
    };
    let retry = &queue.retry;
    let Times { accepted, expires, now } = times;
    let too_old = accepted.after(Duration::from_millis(retry.age_max_ms));
    if !attempted.may_pass() {
        return exhausted(Reason::Refused);
    }
    if attempt >= retry.attempts_max {
        return exhausted(Reason::AttemptsUsedUp);
    }
    if now >= too_old {
        return exhausted(Reason::TooOld);
    }
    let mut wait = delay(retry, attempt, random);
    if let Attempted::Answered { retry_after: Some(text), .. } = attempted {
        let asked = retry_after(text, now).unwrap_or_default();
        wait = wait.max(asked.min(Duration::from_millis(retry.delay_max_ms)));
    }
    let due = now.after(wait).min(too_old);
    Verdict::Retry { due: expires.map_or(due, |expires| due.min(expires.max(now))) }
}

/// The wait after attempt number `attempt`.
fn delay(retry: &Retry, attempt: u64, random: &mut fastrand::Rng) -> Duration {
    let doublings = u32::try_from(attempt.saturating_sub(1)).unwrap_or(u32::MAX).min(32);
    let most_ms = retry.delay_min_ms.saturating_mul(1 << doublings).min(retry.delay_max_ms);
    let most_us = most_ms.saturating_mul(1_000);
    Duration::from_micros(most_us - random.u64(0..=most_us / 2))
}

/// Reads Retry-After (RFC 9110, section 10.2.3): seconds, or a date.
fn retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX / 1_000_000)));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    let micros = date.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_micros();
    let micros = i64::try_from(micros).ok()?.saturating_sub(now.as_micros());
    Some(Duration::from_micros(u64::try_from(micros).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-25T00:00:00Z.
    const NOW: i64 = 1_795_564_800_000_000;
    const MS: i64 = 1_000;

    fn queue(on_exhausted: OnExhausted) -> Queue {
        let spec = r#"{"deliver": {"upstream": "u", "path": "/"}, "retry":
            {"attempts_max": 5, "age_max_ms": 60000, "delay_min_ms": 100, "delay_max_ms": 1000}}"#;
        let mut queue: Queue = serde_json::from_str(spec).unwrap();
        queue.on_exhausted = on_exhausted;
        queue
    }

    fn answered(status: u16, retry_after: Option<&str>) -> Attempted {
        let status = StatusCode::from_u16(status).unwrap();
        Attempted::Answered { status, retry_after: retry_after.map(str::to_owned) }
    }

    fn decide_at(attempted: &Attempted, attempt: u64, age_ms: i64) -> Verdict {
        let now = Timestamp::from_micros(NOW);
        let accepted = Timestamp::from_micros(NOW - age_ms * MS);
        let (times, random) = (Times { accepted, expires: None, now }, fastrand::Rng::with_seed(1));
        decide(&queue(OnExhausted::DeadLetter), attempted, attempt, times, &mut { random })
    }

    #[test]
    fn what_may_pass_is_tried_again() {
        let check = |attempted: Attempted, expected: Option<Reason>| {
            let verdict = decide_at(&attempted, 1, 0);
            match expected {
                Some(reason) => assert_eq!(verdict, Verdict::Dead(reason), "{attempted:?}"),
                None => assert!(matches!(verdict, Verdict::Retry { .. }), "{attempted:?}"),
            }
        };
        for status in [408, 425, 429, 500, 501, 502, 503, 504, 599] {
            check(answered(status, None), None);
        }
        for status in [300, 301, 304, 400, 401, 403, 404, 409, 410, 413, 422, 499] {
            check(answered(status, None), Some(Reason::Refused));
        }
        for code in [Code::UpstreamUnreachable, Code::UpstreamTimeout, Code::UpstreamBroken] {
            check(Attempted::Failed(code), None);
        }
        check(Attempted::Failed(Code::StepFailed), Some(Reason::Refused));
        for status in [200, 201, 202, 204, 299] {
            assert_eq!(decide_at(&answered(status, None), 9, 1 << 40), Verdict::Delivered);
        }
    }

    #[test]
    fn attempts_and_age_end() {
        let fails = answered(503, None);
        assert!(matches!(decide_at(&fails, 4, 0), Verdict::Retry { .. }));
        assert_eq!(decide_at(&fails, 5, 0), Verdict::Dead(Reason::AttemptsUsedUp));
        assert_eq!(decide_at(&Attempted::UsedUp, 6, 0), Verdict::Dead(Reason::AttemptsUsedUp));
        assert_eq!(decide_at(&fails, 1, 60_000), Verdict::Dead(Reason::TooOld));
        let due = Timestamp::from_micros(NOW + 10 * MS);
        assert_eq!(decide_at(&fails, 4, 59_990), Verdict::Retry { due }, "a last one, in time");
        let now = Timestamp::from_micros(NOW);
        let expires = Some(Timestamp::from_micros(NOW + 3 * MS));
        let decide_holding = |attempted: &Attempted| {
            let (times, random) =
                (Times { accepted: now, expires, now }, fastrand::Rng::with_seed(1));
            decide(&queue(OnExhausted::Hold), attempted, 1, times, &mut { random })
        };
        assert_eq!(decide_holding(&answered(400, None)), Verdict::Held(Reason::Refused));
        // Of what nobody wants any more nobody has to decide.
        assert_eq!(
            decide_holding(&Attempted::Not(Ending::Expired)),
            Verdict::Dead(Reason::Expired)
        );
        assert_eq!(
            decide_holding(&Attempted::Not(Ending::GivenUp)),
            Verdict::Dead(Reason::GivenUp)
        );
        let due = Timestamp::from_micros(NOW + 3 * MS);
        assert_eq!(decide_holding(&fails), Verdict::Retry { due }, "then it has expired");
    }

    #[test]
    fn waits_double_to_the_longest_and_are_spread() {
        let retry = queue(OnExhausted::Hold).retry;
        let mut random = fastrand::Rng::with_seed(3);
        for (attempt, most_ms) in [(1, 100), (2, 200), (3, 400), (4, 800), (5, 1_000), (900, 1_000)]
        {
            let waits: Vec<_> = (0..200).map(|_| delay(&retry, attempt, &mut random)).collect();
            let most = Duration::from_millis(most_ms);
            assert!(waits.iter().all(|wait| (most / 2..=most).contains(wait)), "{attempt}");
            let (least, largest) = (waits.iter().min().unwrap(), waits.iter().max().unwrap());
            assert!(*largest - *least > most / 3, "{attempt}: {least:?} to {largest:?}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_within_bounds() {
        let check = |text: &str, expected_ms: std::ops::RangeInclusive<i64>| {
            let verdict = decide_at(&answered(429, Some(text)), 1, 0);
            let Verdict::Retry { due } = verdict else { panic!("{text}: {verdict:?}") };
            let wait_ms = (due.as_micros() - NOW) / MS;
            assert!(expected_ms.contains(&wait_ms), "{text}: {wait_ms} ms");
        };
        check("1", 1_000..=1_000);
        check("3600", 1_000..=1_000);
        check("99999999999999999999999", 1_000..=1_000);
        check("0", 50..=100);
        check("-5", 50..=100);
        check("soon", 50..=100);
        check("", 50..=100);
        check("Wed, 25 Nov 2026 00:00:01 GMT", 1_000..=1_000);
        check("Wed, 25 Nov 2026 02:00:00 GMT", 1_000..=1_000);
        check("Tue, 24 Nov 2026 23:00:00 GMT", 50..=100);
    }
}
