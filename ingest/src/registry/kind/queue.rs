use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::tier::WINDOW_MS_MAX;
use super::{Kind, KindSpec, Method, Name, Quota, Reference};
use crate::registry::Faults;

/// A queue: messages that wait in the log until their target has taken them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Queue {
    /// Into how many partitions the messages are parted by their ordering key, 1 to
    /// 64. It stays as the queue was made with.
    #[serde(default = "partitions")]
    pub partitions: u32,
    /// Where the messages go.
    pub deliver: Deliver,
    /// How many deliveries each node has under way at once, 1 to 1,000.
    #[serde(default = "concurrency_max")]
    pub concurrency_max: u64,
    /// How many attempts begin in which time at most, over all nodes, spread evenly: 1 to
    /// 1,000,000 in 1,000 ms to 31 days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Quota>,
    /// How long messages are kept after they have ended, so that they can be sent again: up
    /// to 31 days in ms; 0 if not at all.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub history_ms: u64,
    /// What follows a delivery that failed.
    #[serde(default)]
    pub retry: Retry,
    /// What becomes of a message whose retries are used up.
    #[serde(default)]
    pub on_exhausted: OnExhausted,
}

/// Where the messages of a queue go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deliver {
    /// Who takes them: an upstream.
    pub upstream: Name,
    /// By which method.
    #[serde(default = "post")]
    pub method: Method,
    /// On which path, below the upstream's own.
    pub path: String,
    /// Headers that go with each message, besides its own; up to 50.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// How long one attempt may take, 1 to 600,000 ms.
    #[serde(default = "timeout_ms")]
    pub timeout_ms: u64,
}

/// What follows a delivery that failed: waits that double, with jitter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    /// How many attempts in all, 1 to 1,000.
    pub attempts_max: u64,
    /// How old a message may become, from its acceptance on, 1,000 ms to 31 days.
    pub age_max_ms: u64,
    /// The wait after the first attempt, 10 to 3,600,000 ms.
    pub delay_min_ms: u64,
    /// The longest wait, `delay_min_ms` to 86,400,000 ms.
    pub delay_max_ms: u64,
}

/// What becomes of a message whose retries are used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnExhausted {
    /// It goes to the dead letters, and the next of its key goes on.
    #[default]
    DeadLetter,
    /// It stays where it is, and holds back its key, until somebody decides.
    Hold,
}

impl Default for Retry {
    fn default() -> Self {
        let day_ms = 24 * 3_600 * 1_000;
        Self { attempts_max: 10, age_max_ms: day_ms, delay_min_ms: 1_000, delay_max_ms: 300_000 }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn partitions() -> u32 {
    4
}

fn concurrency_max() -> u64 {
    16
}

fn post() -> Method {
    Method::Post
}

fn timeout_ms() -> u64 {
    30_000
}

impl KindSpec for Queue {
    fn validate(&self, faults: &mut Faults) {
        faults.range("partitions", self.partitions.into(), 1, 64);
        faults.range("concurrency_max", self.concurrency_max, 1, 1_000);
        if let Some(rate) = &self.rate {
            faults.range("rate.max", rate.max, 1, 1_000_000);
            faults.range("rate.window_ms", rate.window_ms, 1_000, WINDOW_MS_MAX);
        }
        faults.range("history_ms", self.history_ms, 0, 31 * 24 * 3_600 * 1_000);
        let Deliver { path, headers, timeout_ms, .. } = &self.deliver;
        faults.text("deliver.path", path, 1_024);
        if !path.starts_with('/') || path.contains(['#', ' ']) {
            faults.add("deliver.path", "is not a path", "give it as /orders");
        }
        faults.count("deliver.headers", headers.len(), 0, 50);
        for (name, value) in headers.iter().take(50) {
            check_header(faults, &format!("deliver.headers.{name}"), name, value);
        }
        faults.range("deliver.timeout_ms", *timeout_ms, 1, 600_000);
        let retry = &self.retry;
        let day_ms = 24 * 3_600 * 1_000;
        faults.range("retry.attempts_max", retry.attempts_max, 1, 1_000);
        faults.range("retry.age_max_ms", retry.age_max_ms, 1_000, 31 * day_ms);
        faults.range("retry.delay_min_ms", retry.delay_min_ms, 10, 3_600_000);
        let least = retry.delay_min_ms.min(day_ms);
        faults.range("retry.delay_max_ms", retry.delay_max_ms, least, day_ms);
    }

    fn references(&self) -> Vec<Reference> {
        vec![Reference::new("deliver.upstream", Kind::Upstream, &self.deliver.upstream)]
    }
}

/// Refuses what is no header field (RFC 9110, sections 5.1 and 5.5).
fn check_header(faults: &mut Faults, at: &str, name: &str, value: &str) {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || name.len() > 128 || !name.bytes().all(is_token) {
        faults.add(at, "is not a header's name", "give letters, digits and hyphens");
    }
    if value.len() > 4_096 || !value.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
        faults.add(at, "is not a header's value", "give up to 4,096 visible characters");
    }
}
