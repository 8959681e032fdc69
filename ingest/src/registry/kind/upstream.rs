use serde::{Deserialize, Serialize};

use super::tier::WINDOW_MS_MAX;
use super::{KindSpec, Quota};
use crate::registry::Faults;

/// The servers that answer for an API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// The servers, 1 to 100.
    pub targets: Vec<Target>,
    /// Who gets the next request.
    #[serde(default)]
    pub balance: Balance,
    /// How long connecting may take, 1 to 60,000 ms.
    #[serde(default = "connect_timeout_ms")]
    pub connect_timeout_ms: u64,
    /// How long the first byte of the answer may take, 1 to 600,000 ms.
    #[serde(default = "response_timeout_ms")]
    pub response_timeout_ms: u64,
    /// How often a request that may be repeated is tried again, 0 to 5.
    #[serde(default)]
    pub retries_max: u64,
    /// After what it is tried again.
    #[serde(default)]
    pub retry_on: RetryOn,
    /// Whether and how the servers are asked for their health.
    #[serde(default)]
    pub health_check: Option<HealthCheck>,
    /// What it takes of all queues that deliver to it together, besides what each queue says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deliveries: Option<Deliveries>,
}

/// What an upstream takes of the queues: at least one of the limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deliveries {
    /// How many attempts each node has under way at once, 1 to 10,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency_max: Option<u64>,
    /// How many attempts begin in which time at most, over all nodes, spread evenly: 1 to
    /// 1,000,000 in 1,000 ms to 31 days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Quota>,
}

/// One server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// `http://` or `https://`, host, port and a path that goes before the request's.
    pub url: String,
    /// Its share, 1 to 1,000, where the balance is weighted.
    #[serde(default = "weight")]
    pub weight: u64,
}

/// Who gets the next request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// One after another.
    #[default]
    RoundRobin,
    /// By their weights.
    Weighted,
    /// The one with the fewest requests under way.
    LeastRequests,
    /// The same caller to the same server.
    ConsistentHash,
}

/// After what a request is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryOn {
    /// When nothing of it was sent: no server has seen it.
    Unsent,
    /// Also when the connection broke before an answer, if the method is idempotent (RFC
    /// 9110, section 9.2.2) and there is no body: a server may see it twice.
    #[default]
    Broken,
}

/// How servers are asked for their health.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HealthCheck {
    /// What is asked for.
    pub path: String,
    /// How often, 100 to 3,600,000 ms.
    pub interval_ms: u64,
    /// How many answers in a row change the verdict, 1 to 100.
    pub threshold: u64,
}

fn connect_timeout_ms() -> u64 {
    2_000
}

fn response_timeout_ms() -> u64 {
    30_000
}

fn weight() -> u64 {
    1
}

impl KindSpec for Upstream {
    fn validate(&self, faults: &mut Faults) {
        faults.count("targets", self.targets.len(), 1, 100);
        for (i, target) in self.targets.iter().enumerate().take(100) {
            check_url(faults, &format!("targets[{i}].url"), &target.url);
            faults.range(format!("targets[{i}].weight"), target.weight, 1, 1_000);
        }
        faults.range("connect_timeout_ms", self.connect_timeout_ms, 1, 60_000);
        faults.range("response_timeout_ms", self.response_timeout_ms, 1, 600_000);
        faults.range("retries_max", self.retries_max, 0, 1);
        if matches!(self.balance, Balance::LeastRequests | Balance::ConsistentHash) {
            faults.add("balance", "is not there yet", "use round_robin or weighted");
        }
        if let Some(Deliveries { concurrency_max, rate }) = &self.deliveries {
            if let Some(concurrency_max) = concurrency_max {
                faults.range("deliveries.concurrency_max", *concurrency_max, 1, 10_000);
            }
            if let Some(rate) = rate {
                faults.range("deliveries.rate.max", rate.max, 1, 1_000_000);
                faults.range("deliveries.rate.window_ms", rate.window_ms, 1_000, WINDOW_MS_MAX);
            }
            if concurrency_max.is_none() && rate.is_none() {
                faults.add("deliveries", "limits nothing", "give concurrency_max or rate");
            }
        }
        if let Some(check) = &self.health_check {
            faults.text("health_check.path", &check.path, 512);
            if !check.path.starts_with('/') {
                faults.add(
                    "health_check.path",
                    "does not begin with a slash",
                    "give it as /health",
                );
            }
            faults.range("health_check.interval_ms", check.interval_ms, 100, 3_600_000);
            faults.range("health_check.threshold", check.threshold, 1, 100);
        }
    }
}

/// Faults never repeat the address: somebody may have put a password in it.
fn check_url(faults: &mut Faults, at: &str, url: &str) {
    const MEND: &str = "give it as https://host:port/path";
    faults.text(at, url, 1_024);
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let Some(rest) = rest else {
        return faults.add(at, "is not an http address", MEND);
    };
    let authority = rest.split('/').next().unwrap_or_default();
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    if authority.contains('@') {
        faults.add(at, "holds a user or a password", "remove what stands before the @");
    } else if host.is_empty() || rest.contains(['?', '#', ' ']) {
        faults.add(at, "has no host, or a query", MEND);
    } else if port.is_some_and(|port| port.parse::<u16>().is_err()) {
        faults.add(at, "has a port that is no number up to 65535", MEND);
    }
}
