use std::net::SocketAddr;

use ingest::registry::Fault;
use serde::Deserialize;

/// How the mediator listens.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where; port 0 takes any that is free.
    pub address: SocketAddr,
    /// The most connections at once, 1 to 100,000; more wait to be accepted.
    pub connections_max: usize,
    /// The most requests at once, 1 to 100,000; more are answered 503.
    pub in_flight_max: usize,
    /// How long a body may take to arrive, 10 to 600,000 ms; then 408.
    pub body_timeout_ms: u64,
    /// How long what is under way has to end at the stop, 0 to 600,000 ms.
    pub drain_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], 8243)),
            connections_max: 10_000,
            in_flight_max: 1_000,
            body_timeout_ms: 30_000,
            drain_ms: 10_000,
        }
    }
}

impl Config {
    /// Says everything that is wrong with it.
    ///
    /// # Errors
    /// The faults, at least one.
    pub fn validate(&self) -> Result<(), Vec<Fault>> {
        let mut faults = Vec::new();
        let mut range = |path: &str, value: u64, min: u64, max: u64| {
            if !(min..=max).contains(&value) {
                let what = format!("{value} is out of range");
                faults.push(Fault::new(path, what, format!("use {min} to {max}")));
            }
        };
        range("connections_max", self.connections_max as u64, 1, 100_000);
        range("in_flight_max", self.in_flight_max as u64, 1, 100_000);
        range("body_timeout_ms", self.body_timeout_ms, 10, 600_000);
        range("drain_ms", self.drain_ms, 0, 600_000);
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }
}
