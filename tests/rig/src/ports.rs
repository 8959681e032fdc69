//! Free loopback ports.

use std::collections::HashSet;
use std::net::TcpListener;
use std::sync::{LazyLock, Mutex, PoisonError};

use anyhow::{Result, bail};

/// Where ports are looked for: below those that Linux gives to outgoing
/// connections (32768 and up). A server that is restarted must find its own port
/// again, and there any client could have taken it meanwhile; a client that keeps
/// dialling a dead server's port can even be connected to itself.
const RANGE: std::ops::Range<u16> = 15_000..32_000;

const TRIES_MAX: usize = 10_000;

/// Those that were given to somebody in this process, who may not listen yet, or be
/// restarting.
static GIVEN: LazyLock<Mutex<HashSet<u16>>> = LazyLock::new(Mutex::default);

/// `count` different ports that nobody listens on, for servers that a test starts; none of
/// them was given before. Another process may take one before its use.
///
/// # Errors
/// When there are none.
pub fn free(count: usize) -> Result<Vec<u16>> {
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut ports = Vec::with_capacity(count);
    for _ in 0..TRIES_MAX {
        if ports.len() == count {
            return Ok(ports);
        }
        let port = fastrand::u16(RANGE);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() && given.insert(port) {
            ports.push(port);
        }
    }
    bail!("cannot find {count} free loopback ports within {RANGE:?}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_differ_and_can_be_bound() {
        let mut ports = free(20).unwrap();
        for port in &ports {
            TcpListener::bind(("127.0.0.1", *port)).unwrap();
        }
        ports.sort_unstable();
        ports.dedup();
        ports.extend(free(2_000).unwrap());
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 2_020);
    }
}
