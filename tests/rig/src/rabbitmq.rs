//! RabbitMQ from Debian, as a broker of one node.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::Guarded;
use crate::ports;

/// Debian's own script, without the one that changes the user.
const SERVER: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";

/// A broker on free loopback ports, whose data lie in a given folder.
#[derive(Debug)]
pub struct RabbitMq {
    // Ends before what tells nodes of each other.
    _server: Guarded,
    _names: Guarded,
    address: SocketAddr,
}

impl RabbitMq {
    /// Starts it as it is without a configuration, with its data in `dir`.
    ///
    /// # Errors
    /// When it is not installed, or does not start.
    pub fn start(dir: &Path) -> Result<Self> {
        let ports = ports::free(3)?;
        let (amqp, between, names) = (ports[0], ports[1], ports[2].to_string());
        let plugins = dir.join("plugins");
        std::fs::write(&plugins, "[].").with_context(|| format!("write {}", plugins.display()))?;
        // Erlang would start this one by itself, and leave it behind.
        let mut of_names = Command::new("epmd");
        of_names.args(["-port", &names, "-address", "127.0.0.1"]);
        let of_names = Guarded::start(&of_names, &dir.join("names.log"))?;
        let mut command = Command::new(SERVER);
        command
            .env("HOME", dir)
            .env("ERL_EPMD_PORT", &names)
            .env("RABBITMQ_NODENAME", format!("rig-{amqp}@localhost"))
            .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODE_PORT", amqp.to_string())
            .env("RABBITMQ_DIST_PORT", between.to_string())
            .env("RABBITMQ_MNESIA_BASE", dir.join("data"))
            .env("RABBITMQ_LOG_BASE", dir.join("log"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", &plugins);
        let mut server = Guarded::start(&command, &dir.join("server.log"))?;
        let address = SocketAddr::from(([127, 0, 0, 1], amqp));
        server.listens("RabbitMQ", address)?;
        Ok(Self { _server: server, _names: of_names, address })
    }

    /// Where it speaks AMQP 0-9-1.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}
