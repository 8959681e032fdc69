use std::net::{Ipv4Addr, SocketAddr};

use serde::Deserialize;

/// How the admin API is reached.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where it listens; port 0 takes any that is free.
    pub address: SocketAddr,
}

impl Default for Config {
    fn default() -> Self {
        Self { address: (Ipv4Addr::LOCALHOST, 9445).into() }
    }
}
