//! How many files the process may open: connections are files, too.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::Role;
use crate::config::Config;

/// What log, spools, lake and the other roles' connections are left with, at least.
const KEPT_FOR_FILES: u64 = 1_024;
/// With fewer than these somebody should know.
const CONNECTIONS_USUAL: u64 = 1_000;
/// The gateway takes as many connections on a thread in any case.
const CONNECTIONS_MIN: u64 = 16;

/// Asks for as many open files as the system lets the process have, and keeps the
/// connections of the gateway within them: else its clients could take the files that
/// events and messages are written to.
pub(crate) fn fit(config: &mut Config, wanted: &[Role]) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        let wish = Rlimit { current: maximum, maximum };
        if let Err(error) = setrlimit(Resource::Nofile, wish) {
            tracing::warn!(%error, "the limit of open files stays as it is");
        }
    }
    // None: there is no limit.
    let Some(limit) = getrlimit(Resource::Nofile).current else { return };
    if !wanted.contains(&Role::Gateway) {
        return;
    }
    let asked = config.gateway.limits.connections_max as u64;
    let others = match wanted.contains(&Role::Mediator) {
        true => config.mediator.connections_max as u64,
        false => 0,
    };
    let fits = connections(limit, others, config.gateway.thread_count() as u64);
    if asked > fits {
        config.gateway.limits.connections_max = usize::try_from(fits).unwrap_or(usize::MAX);
        let why = "gateway.limits.connections_max is lower on each thread: the process may not open \
                   as many files; LimitNOFILE or ulimit -n raise that";
        match fits < CONNECTIONS_USUAL {
            true => tracing::warn!(limit, asked, taken = fits, "{why}"),
            false => tracing::info!(limit, asked, taken = fits, "{why}"),
        }
    }
}

/// How many connections a thread of the gateway may take; each may need another to an
/// upstream. What the mediator is set to take counts up to a quarter of the limit.
fn connections(limit: u64, others: u64, threads: u64) -> u64 {
    let left = limit.saturating_sub(KEPT_FOR_FILES).saturating_sub(others.min(limit / 4));
    (left.max(limit / 4) / (2 * threads.max(1))).max(CONNECTIONS_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_for_the_rest() {
        assert_eq!(connections(1_048_576, 10_000, 2), 259_388);
        assert_eq!(connections(20_000, 10_000, 2), (20_000 - 1_024 - 5_000) / 4);
        assert_eq!(connections(1_024, 10_000, 2), 64);
        assert_eq!(connections(1_024, 0, 64), CONNECTIONS_MIN);
    }
}
