//! The data plane as one thing: started whole or not at all, and stopped without
//! losing a request.
//!
//! Start: the configuration is checked, certificates are read, all ports are bound,
//! the spools are opened; then the threads begin to serve. What fails before ends the
//! start with an error that names it, and nothing is left behind.
//!
//! Stop: no connection is taken but those that wait already; requests under way are
//! finished, for `timeouts.drain_ms` at most; then the events go to the log. A connection
//! that comes in the very instant in which its port is closed may be reset, unread: who
//! balances the load stops sending first.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use ingest::decision::Decisions;
use ingest::emit;
use ingest::event::{Clock, Producer};
use ingest::log::EventLog;
use ingest::redact::Pseudonyms;
use ingest::registry::{Fault, View};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::auth::{self, KeyFetcher, KeySets, Verifier};
use crate::config::Config;
use crate::decisions::Enforcer;
use crate::http::{Acceptor, Bound, ThreadParts, run_thread};
use crate::listen;
use crate::publish::Publisher;
use crate::upstream::Connector;

/// How long a start waits for the keys of issuers; without them it goes on, and
/// refuses their tokens until they come.
const FIRST_KEYS_WITHIN: Duration = Duration::from_secs(3);

/// What the data plane works with.
pub struct Parts {
    /// The configuration of APIs as it is.
    pub view: View,
    /// Whom it blocks or slows down.
    pub decisions: Decisions,
    /// Where events go.
    pub log: Arc<dyn EventLog>,
    /// How many partitions the topic of events has.
    pub partitions: NonZeroU32,
    /// What events' times are taken from.
    pub clock: Arc<dyn Clock>,
    /// By what values in events become pseudonyms, where a rule asks for that.
    pub pseudonyms: Option<Pseudonyms>,
}

/// Why the data plane did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is wrong.
    #[error("gateway: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\ngateway: "))]
    Config(Vec<Fault>),
    /// A certificate or a key cannot be used.
    #[error(
        "gateway: TLS of {address}: {reason}; give the chain and its key as PEM files that can be read"
    )]
    Tls {
        /// The listener.
        address: SocketAddr,
        /// Which file, and what is wrong with it.
        reason: String,
    },
    /// The certificates that are trusted of upstreams cannot be used.
    #[error("gateway: upstream_ca_file: {0}; give certificates as a PEM file that can be read")]
    Trust(String),
    /// The credential of replays cannot be read.
    #[error("gateway: replay_token_file: {0}")]
    ReplayToken(String),
    /// A port cannot be bound.
    #[error("gateway: cannot listen on {address}: {source}; free the port, or set another one")]
    Listen {
        /// The listener.
        address: SocketAddr,
        /// What the machine said.
        source: io::Error,
    },
    /// The client for issuers' keys cannot be made.
    #[error("gateway: {0}")]
    Keys(#[from] auth::Error),
    /// A spool cannot be opened.
    #[error("gateway: {0}")]
    Spool(#[from] emit::Error),
    /// A thread cannot be started.
    #[error("gateway: a thread cannot be started: {0}")]
    Thread(io::Error),
}

/// The running data plane. Dropped, it stops taking connections and drains on its
/// own; [`Self::shutdown`] waits for that.
pub struct Gateway {
    addresses: Vec<SocketAddr>,
    threads: Vec<JoinHandle<()>>,
    /// Ends what serves the threads: configuration, events.
    tasks: JoinSet<()>,
    draining: CancellationToken,
    stop: CancellationToken,
}

impl Gateway {
    /// Starts it. Its tasks run on the caller's runtime, its requests on threads of
    /// their own.
    ///
    /// # Errors
    /// [`StartError`]; then nothing runs and no port is bound.
    pub async fn start(config: Config, parts: Parts) -> Result<Self, StartError> {
        let Parts { view, decisions, log, partitions, clock, pseudonyms } = parts;
        let faults = config.validate();
        if !faults.is_empty() {
            return Err(StartError::Config(faults));
        }
        let count = config.thread_count();
        let connector = Connector::new(config.upstream_ca_file.as_deref());
        let connector = connector.map_err(StartError::Trust)?;
        let replay_token = config.replay_token().map_err(StartError::ReplayToken)?;
        let (addresses, mut bound) = bind(&config, count)?;
        let trusted = config.trusted_proxies.clone();
        let enforcer = Enforcer::new(decisions, view.clone(), trusted, clock.clone());
        let publisher = Publisher::new(view, pseudonyms);
        let key_sets = KeySets::new(&config.auth);
        let keys = KeyFetcher::new(&config.auth, key_sets.clone())?;
        keys.fetch_first(FIRST_KEYS_WITHIN).await;
        let mut emitters = Vec::with_capacity(count);
        for index in 0..count {
            let producer = Producer::new(format!("{}.{index}", config.node));
            let producer = producer.expect("the name is checked with the rest");
            let dir = config.spool_dir.join(producer.as_str());
            let spool = emit::Config {
                node: Some(Arc::<str>::from(config.node.as_str()).into()),
                zone: config.zone.as_deref().map(|zone| Arc::<str>::from(zone).into()),
                when_full: config.when_spool_full,
                ..emit::Config::new(producer, dir, partitions).within(config.spool_limits)
            };
            let (log, clock) = (log.clone(), clock.clone());
            let opened = tokio::task::spawn_blocking(move || emit::open(spool, log, clock));
            emitters.push(opened.await.expect("opening a spool does not panic")?);
        }
        let mut gateway = Self {
            addresses,
            threads: Vec::with_capacity(count),
            tasks: JoinSet::new(),
            draining: CancellationToken::new(),
            stop: CancellationToken::new(),
        };
        let config = Arc::new(config);
        let all: Arc<[emit::Emitter]> =
            emitters.iter().map(|(emitter, _): &(emit::Emitter, _)| emitter.clone()).collect();
        for (index, (emitter, service)) in emitters.into_iter().enumerate() {
            let stopped = gateway.stop.clone().cancelled_owned();
            gateway.tasks.spawn(async move {
                if let Err(error) = service.run(stopped).await {
                    tracing::error!(%error, "events stay in the spool");
                }
            });
            let parts = ThreadParts {
                config: config.clone(),
                emitter,
                emitters: all.clone(),
                replay_token,
                clock: clock.clone(),
                connector: connector.clone(),
                tables: publisher.reader(),
                verifier: Verifier::new(&config.auth, &key_sets),
                decisions: enforcer.reader(),
                bound: std::mem::take(&mut bound[index]),
                draining: gateway.draining.child_token(),
            };
            let (ready, is_ready) = tokio::sync::oneshot::channel();
            let thread = std::thread::Builder::new().name(format!("weir-plane-{index}"));
            let thread = thread.spawn(move || run_thread(parts, ready));
            let begun = match thread {
                Ok(thread) => {
                    gateway.threads.push(thread);
                    is_ready.await.unwrap_or_else(|_| Err(io::Error::other("it panicked")))
                }
                Err(error) => Err(error),
            };
            if let Err(error) = begun {
                gateway.shutdown().await;
                return Err(StartError::Thread(error));
            }
        }
        let stopped = gateway.stop.clone().cancelled_owned();
        gateway.tasks.spawn(publisher.run(stopped));
        gateway.tasks.spawn(enforcer.run(gateway.stop.clone().cancelled_owned()));
        gateway.tasks.spawn(keys.run(gateway.stop.clone()));
        tracing::info!(addresses = ?gateway.addresses, threads = count, "gateway serves");
        Ok(gateway)
    }

    /// Where it listens, in the order of the configuration.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Takes no new connections, waits for the requests under way, and then for the
    /// log to have their events.
    pub async fn shutdown(mut self) {
        self.draining.cancel();
        let threads = std::mem::take(&mut self.threads);
        let joined = tokio::task::spawn_blocking(move || {
            threads.into_iter().filter_map(|thread| thread.join().err()).count()
        });
        let panicked = joined.await.unwrap_or(0);
        if panicked > 0 {
            tracing::error!(panicked, "threads ended by a panic");
        }
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.draining.cancel();
        self.stop.cancel();
        self.tasks.detach_all();
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "gateway on {:?}", self.addresses)
    }
}

/// Reads all certificates, then binds all ports: the addresses, and the sockets of
/// each thread.
fn bind(config: &Config, count: usize) -> Result<(Vec<SocketAddr>, Vec<Vec<Bound>>), StartError> {
    let acceptors = config.listeners.iter().map(|listener| {
        let address = listener.address;
        let acceptor = listener.tls.as_ref().map(Acceptor::new).transpose();
        acceptor.map_err(|(_, reason)| StartError::Tls { address, reason })
    });
    let acceptors = acceptors.collect::<Result<Vec<_>, _>>()?;
    let mut addresses = Vec::new();
    let mut bound: Vec<Vec<Bound>> = (0..count).map(|_| Vec::new()).collect();
    for (listener, acceptor) in config.listeners.iter().zip(acceptors) {
        let address = listener.address;
        let failed = |source| StartError::Listen { address, source };
        let listeners = listen::bind(address, count).map_err(failed)?;
        addresses.push(listeners[0].local_addr().map_err(failed)?);
        for (bound, listener) in bound.iter_mut().zip(listeners) {
            bound.push(Bound { listener, acceptor: acceptor.clone() });
        }
    }
    Ok((addresses, bound))
}
