use std::net::{Ipv4Addr, SocketAddr};

use serde::Deserialize;

/// Where events of other systems are taken.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where HTTP is listened for; port 0 takes any that is free.
    pub address: SocketAddr,
    /// Where OTLP over gRPC is listened for; nowhere if it is left out.
    pub grpc_address: Option<SocketAddr>,
}

impl Default for Config {
    fn default() -> Self {
        Self { address: (Ipv4Addr::LOCALHOST, 9444).into(), grpc_address: None }
    }
}
