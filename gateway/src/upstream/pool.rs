use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
// Who calls chooses none of the keys, so they need no guard against collisions.
use foldhash::HashMap;
use hyper::body::{Frame, Incoming};
use ingest::registry::kind::Balance;
use tokio::time::Instant;

use super::connection::Connection;
use super::{Connector, Group, Target};

/// Idle connections per target and thread.
const IDLE_MAX: usize = 64;
/// How long a connection may be idle.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a target is passed over that could not be connected to.
const SUSPENDED_FOR: Duration = Duration::from_secs(1);

/// What one thread knows of upstreams: connections, turns, suspensions.
#[derive(Clone)]
pub(crate) struct Upstreams {
    pub(super) connector: Connector,
    state: Rc<RefCell<State>>,
}

#[derive(Default)]
struct State {
    idle: HashMap<Arc<str>, Vec<Idle>>,
    turns: HashMap<Arc<str>, Turn>,
    suspended: HashMap<Arc<str>, Instant>,
}

struct Idle {
    connection: Connection,
    since: Instant,
}

/// Whose turn it is, as smooth weighted round robin: each target earns its weight, the
/// richest is taken and pays for all.
#[derive(Default)]
struct Turn(Vec<i64>);

/// A connection that is in use. Dropped, it is closed; given back, kept.
pub(crate) struct Lease {
    connection: Connection,
    origin: Arc<str>,
    state: Rc<RefCell<State>>,
}

impl Upstreams {
    pub(crate) fn new(connector: Connector) -> Self {
        Self { connector, state: Rc::default() }
    }

    /// The target whose turn it is; not a suspended one or `avoided`, unless no
    /// other is left.
    pub(super) fn pick<'a>(&self, group: &'a Group, avoided: Option<&Target>) -> &'a Target {
        let targets = &group.targets;
        if targets.len() == 1 {
            return &targets[0];
        }
        let mut state = self.state.borrow_mut();
        let now = Instant::now();
        let State { turns, suspended, .. } = &mut *state;
        let is_well = |target: &Target| {
            avoided.is_none_or(|avoided| avoided.origin != target.origin)
                && suspended.get(&target.origin).is_none_or(|until| *until <= now)
        };
        let any_well = targets.iter().any(is_well);
        if !turns.contains_key(&group.name) {
            turns.insert(group.name.clone(), Turn::default());
        }
        let Turn(earned) = turns.get_mut(&group.name).expect("it was put there just now");
        earned.resize(targets.len(), 0);
        let weigh = |target: &Target| match group.balance {
            Balance::Weighted => target.weight,
            _ => 1,
        };
        let (mut best, mut total) = (None::<usize>, 0);
        for (i, target) in targets.iter().enumerate() {
            if any_well && !is_well(target) {
                continue;
            }
            earned[i] += weigh(target);
            total += weigh(target);
            if best.is_none_or(|best| earned[i] > earned[best]) {
                best = Some(i);
            }
        }
        let best = best.unwrap_or(0);
        earned[best] -= total;
        &targets[best]
    }

    pub(super) fn suspend(&self, target: &Target) {
        let until = Instant::now() + SUSPENDED_FOR;
        self.state.borrow_mut().suspended.insert(target.origin.clone(), until);
    }

    /// The idle connection that was used last and is still good.
    pub(super) fn take(&self, target: &Target) -> Option<Lease> {
        let mut state = self.state.borrow_mut();
        let idle = state.idle.get_mut(&target.origin)?;
        while let Some(Idle { connection, since }) = idle.pop() {
            if connection.is_ready() && since.elapsed() < IDLE_TIMEOUT {
                return Some(self.lease(target, connection));
            }
        }
        None
    }

    pub(super) fn lease(&self, target: &Target, connection: Connection) -> Lease {
        Lease { connection, origin: target.origin.clone(), state: self.state.clone() }
    }

    /// Closes what was idle too long, and forgets what is over. Called now and then.
    pub(crate) fn sweep(&self) {
        let state = &mut *self.state.borrow_mut();
        state.idle.retain(|_, idle| {
            idle.retain_mut(|one| {
                one.connection.look();
                !one.connection.is_closed() && one.since.elapsed() < IDLE_TIMEOUT
            });
            !idle.is_empty()
        });
        let now = Instant::now();
        state.suspended.retain(|_, until| *until > now);
    }

    /// How many connections are idle.
    #[cfg(test)]
    pub(super) fn idle(&self) -> usize {
        self.state.borrow().idle.values().map(Vec::len).sum()
    }
}

impl Lease {
    pub(super) fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// The next part of the answer that came on it.
    pub(crate) fn poll_frame(
        &mut self,
        answer: &mut Incoming,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.connection.poll_frame(answer, cx)
    }

    /// Keeps the connection for the next request. One whose request is still being sent
    /// goes on with that, and is closed then.
    pub(crate) fn give_back(self) {
        let Self { mut connection, origin, state } = self;
        connection.release();
        if connection.is_closed() {
            return;
        }
        let mut state = state.borrow_mut();
        let idle = match state.idle.get_mut(&origin) {
            Some(idle) => idle,
            None => state.idle.entry(origin).or_default(),
        };
        if idle.len() < IDLE_MAX {
            idle.push(Idle { connection, since: Instant::now() });
        }
    }
}
