use std::future::Future;
use std::sync::Arc;

use arc_swap::{ArcSwap, Cache};
use ingest::decision::Decisions;
use ingest::event::Clock;
use ingest::registry::View;
use ipnet::IpNet;

use super::Enforced;
use crate::throttle::Counters;

/// Compiles the decisions and the safeguards that they are under, one after another, and
/// shows the last.
pub(crate) struct Enforcer {
    decisions: Decisions,
    view: View,
    trusted: Vec<IpNet>,
    clock: Arc<dyn Clock>,
    current: Arc<ArcSwap<Enforced>>,
    /// What was counted outlives a change.
    counters: Counters,
}

/// Reads the current table at the cost of one atomic load and a comparison. Each thread keeps
/// its own.
#[derive(Clone)]
pub(crate) struct EnforcedReader(Cache<Arc<ArcSwap<Enforced>>, Arc<Enforced>>);

impl EnforcedReader {
    /// The table of this moment. A request reads it once.
    pub(crate) fn load(&mut self) -> &Enforced {
        self.0.load()
    }
}

impl std::fmt::Debug for EnforcedReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a reader of decisions")
    }
}

impl Enforcer {
    /// Compiles what there is now.
    pub(crate) fn new(
        decisions: Decisions,
        view: View,
        trusted: Vec<IpNet>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let (current, counters) = (Arc::default(), Counters::default());
        let enforcer = Self { decisions, view, trusted, clock, current, counters };
        enforcer.publish();
        enforcer
    }

    /// A reader for one thread.
    pub(crate) fn reader(&self) -> EnforcedReader {
        EnforcedReader(Cache::new(self.current.clone()))
    }

    /// The table of this moment, for those who are asked seldom.
    pub(crate) fn current(&self) -> Arc<ArcSwap<Enforced>> {
        self.current.clone()
    }

    /// Follows both until `shutdown`. Of several changes that come while a table is compiled,
    /// the last is shown.
    pub(crate) async fn run(self, shutdown: impl Future<Output = ()> + Send) {
        let (mut decisions, mut view) = (self.decisions.changes(), self.view.changes());
        tokio::pin!(shutdown);
        loop {
            self.publish();
            let changed = tokio::select! {
                () = &mut shutdown => return,
                changed = decisions.changed() => changed,
                changed = view.changed() => changed,
            };
            if changed.is_err() {
                return;
            }
        }
    }

    /// A few thousand decisions take a millisecond or two.
    fn publish(&self) {
        let (snapshot, now) = (self.view.snapshot(), self.clock.now());
        let Self { decisions, trusted, counters, .. } = self;
        let enforced = Enforced::compile(decisions, &snapshot, trusted, counters, now);
        self.current.store(Arc::new(enforced));
    }
}
