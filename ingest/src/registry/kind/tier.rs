use serde::{Deserialize, Serialize};

use super::KindSpec;
use crate::registry::Faults;

/// How much a caller may use: at least one of the limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tier {
    /// Requests, up to 1,000,000,000 in a window.
    #[serde(default)]
    pub requests: Option<Quota>,
    /// Bytes of bodies, both ways, up to 1 PiB in a window.
    #[serde(default)]
    pub bytes: Option<Quota>,
    /// Requests that may come at once, 1 to 1,000,000.
    #[serde(default)]
    pub burst_requests_max: Option<u64>,
}

/// So much in so much time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quota {
    /// How much.
    pub max: u64,
    /// In which time, 1,000 ms to 31 days.
    pub window_ms: u64,
}

pub(super) const WINDOW_MS_MAX: u64 = 31 * 24 * 3_600 * 1_000;

impl KindSpec for Tier {
    fn validate(&self, faults: &mut Faults) {
        let quotas = [("requests", self.requests, 1_000_000_000), ("bytes", self.bytes, 1 << 50)];
        for (field, quota, max) in quotas {
            if let Some(quota) = quota {
                faults.range(format!("{field}.max"), quota.max, 1, max);
                faults.range(format!("{field}.window_ms"), quota.window_ms, 1_000, WINDOW_MS_MAX);
            }
        }
        if let Some(burst) = self.burst_requests_max {
            faults.range("burst_requests_max", burst, 1, 1_000_000);
        }
        if self.requests.is_none() && self.bytes.is_none() && self.burst_requests_max.is_none() {
            faults.add("", "limits nothing", "give requests, bytes or burst_requests_max");
        }
    }
}
