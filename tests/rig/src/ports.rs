//! Free loopback ports.

use std::net::TcpListener;

use anyhow::{Result, bail};

/// Where ports are looked for: below those that Linux gives to outgoing
/// connections (32768 and up). A server that is restarted must find its own port
/// again, and there any client could have taken it meanwhile; a client that keeps
/// dialling a dead server's port can even be connected to itself.
const RANGE: std::ops::Range<u16> = 15_000..32_000;

const TRIES_MAX: usize = 1_000;

/// `count` different ports that nobody listens on, for servers that a test starts.
/// Another process may take one before its use, so a server's start tries again
/// with others.
///
/// # Errors
/// When there are none.
pub fn free(count: usize) -> Result<Vec<u16>> {
    let mut held = Vec::with_capacity(count);
    for _ in 0..TRIES_MAX {
        if held.len() == count {
            return held
                .iter()
                .map(|listener: &TcpListener| Ok(listener.local_addr()?.port()))
                .collect();
        }
        held.extend(TcpListener::bind(("127.0.0.1", fastrand::u16(RANGE))));
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
        assert_eq!(ports.len(), 20);
    }
}
