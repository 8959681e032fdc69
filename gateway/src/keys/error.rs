use std::io;

use ingest::registry;
use ingest::registry::Fault;

/// Why the key manager did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration is not right.
    #[error("key manager: {}", faults.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
    Config {
        /// What has to be mended.
        faults: Vec<Fault>,
    },
    /// It cannot listen.
    #[error("key manager cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: std::net::SocketAddr,
        /// The system's answer.
        source: io::Error,
    },
    /// The registry did not take the first key.
    #[error("the first signing key cannot be stored: {0}")]
    Registry(#[from] registry::Error),
    /// The active keys are there, and encrypted by another passphrase.
    #[error(
        "no active signing key of the registry opens by this node's passphrase; give it the \
         keys.passphrase_file of the node that made them"
    )]
    Sealed,
    /// No key signs, and none could be made.
    #[error("there is no active signing key, and none could be made: {0}")]
    NoKey(String),
}
