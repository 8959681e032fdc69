//! Throttling: how many requests a subscription, an application, an API or a
//! resource may make.
//!
//! ```text
//!  snapshot ─► table of a node ─► Limit ─┐ shares      Counters
//!  request ─► take_all(limits, now) ─────┴─► Arc<Counter>: one atomic number
//!                └─► Verdict ─► RateLimit-Policy, RateLimit, Retry-After
//! ```
//!
//! A tier's `requests` is a quota in fixed windows that begin at the epoch, and
//! its `burst_requests_max` is a bucket of so many requests that fills up again
//! within a second (GCRA: the generic cell rate algorithm). Both are counted in
//! one atomic number each, which all threads of the node share; taking is a
//! compare-exchange, no lock and no allocation.
//!
//! Invariants:
//! - No interleaving lets more than `max` requests through in a window.
//! - A clock that steps back does not reopen a window: requests go on to count in
//!   the latest window that was seen. A clock that stepped ahead by mistake holds
//!   the quota to `max` until its window is over, which a restart mends.
//! - A table that is compiled anew finds its counters as they were: a counter is
//!   named by level, subject, tier and window, and forgotten when no table has it.
//! - A request that one limit refuses uses up nothing of the others. What they
//!   gave is given back; between taking and giving back, another request may see
//!   one less and be refused. That errs to the safe side, by at most the number
//!   of requests that are refused at that moment. A burst that another request
//!   took from in between does not get its one back.
//!
//! Limits: eight limits a request ([`LIMITS_MAX`]); a window has at most
//! 1,073,741,823 requests, more than a tier may say. Quotas are exact on one node
//! and not shared between nodes. A tier's `bytes` is not enforced yet.

mod burst;
mod counters;
mod headers;
mod take;
mod window;

pub use counters::{Counter, Counters};
pub use headers::{POLICY_HEADER, RATE_LIMIT_HEADER, Values};
pub use take::{LIMITS_MAX, Taken, Verdict, take_all};

use http::HeaderValue;
use ingest::registry::Name;

/// What a limit is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Level {
    /// One application's use of one API.
    Subscription,
    /// All that an application does.
    Application,
    /// All that is done with an API.
    Api,
    /// All that is done with one resource of an API.
    Resource,
    /// What one whom a decision slows may do.
    Decision,
}

impl Level {
    /// The level's name, as in `throttle_level` of events.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Subscription => "subscription",
            Self::Application => "application",
            Self::Api => "api",
            Self::Resource => "resource",
            Self::Decision => "decision",
        }
    }
}

/// A limit of a tier, on something. Clones share the counter.
#[derive(Debug, Clone)]
pub struct Limit {
    /// What it is of.
    pub level: Level,
    /// The tier that says it.
    pub policy: Name,
    /// So many requests in a window.
    pub max: u64,
    /// The window; 1,000 ms for a burst.
    pub window_ms: u64,
    /// Where they are counted.
    counter: Counter,
    /// `RateLimit-Policy`, which is always the same.
    policy_header: HeaderValue,
    /// What [`RATE_LIMIT_HEADER`] begins with, before the numbers.
    rate_limit_item: Box<str>,
}
