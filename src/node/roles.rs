use std::sync::Arc;

use anyhow::Result;
use gateway::Gateway;
use gateway::keys::KeyManager;
use gateway::manager::{self, Manager};
use ingest::decision;
use ingest::event::SystemClock;
use ingest::http::TokenHash;
use ingest::receive::{self, Collector};
use ingest::registry::run_applier;
use mediator::Mediator;
use mediator::deliver::{self, Control, DeadLetters, Delivery, History, Queues};
use mediator::endpoint::http::Caller;
use tokio::task::JoinHandle;

use super::analysis::Analysis;
use super::passphrase;
use super::{Ground, Token};
use crate::config::Config;

/// A part that a node may play.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// The key manager, the admin API and the registry's applier.
    Keys,
    /// Routes, and the delivery of queues.
    Mediator,
    /// What clients call.
    Gateway,
    /// What takes events of other systems.
    Collector,
    /// The lake, and SQL over it.
    #[cfg(feature = "analytics")]
    Analytics,
    /// Boards.
    #[cfg(feature = "analytics")]
    Console,
}

impl Role {
    /// Whether it works without what other processes write to the log.
    pub(crate) fn needs_no_log(self) -> bool {
        #[cfg(feature = "analytics")]
        return self == Self::Console;
        #[cfg(not(feature = "analytics"))]
        false
    }
}

/// The roles of a node that run.
#[derive(Default)]
pub(crate) struct Roles {
    applier: Option<JoinHandle<()>>,
    keys: Option<KeyManager>,
    manager: Option<Manager>,
    mediator: Option<Mediator>,
    delivery: Option<Delivery>,
    gateway: Option<Gateway>,
    /// What each of its listeners speaks.
    gateway_schemes: Vec<&'static str>,
    collector: Option<Collector>,
    analysis: Analysis,
}

impl Roles {
    /// Starts roles, each after those that it calls. If one cannot, those before it go
    /// on: the caller stops them all.
    pub(crate) async fn add(
        &mut self,
        config: &Config,
        ground: &Ground,
        token: &Token,
        wanted: &[Role],
    ) -> Result<()> {
        let clock = Arc::new(SystemClock);
        self.analysis.start_lake(config, ground, token, wanted).await?;
        if wanted.contains(&Role::Keys) {
            let applier = run_applier(ground.log.clone(), ground.topics.clone(), super::deep_check);
            self.applier = Some(tokio::spawn(applier));
            let passphrase = passphrase::of(config, &ground.view.snapshot())?;
            let parts = gateway::keys::Parts {
                view: ground.view.clone(),
                decisions: ground.decisions.clone(),
                proposer: ground.proposer.clone(),
                passphrase: passphrase.clone(),
                emitter: ground.emitter.clone(),
                clock: clock.clone(),
            };
            self.keys = Some(KeyManager::start(config.keys.clone(), parts).await?);
            let parts = manager::Parts {
                view: ground.view.clone(),
                proposer: ground.proposer.clone(),
                emitter: ground.emitter.clone(),
                dead_letters: DeadLetters::new(
                    ground.log.clone(),
                    ground.view.clone(),
                    ground.emitter.clone(),
                    clock.clone(),
                ),
                history: History::new(
                    ground.log.clone(),
                    ground.view.clone(),
                    ground.emitter.clone(),
                    clock.clone(),
                ),
                passphrase,
                decisions: decision::Desk {
                    log: ground.log.clone(),
                    decisions: ground.decisions.clone(),
                    view: ground.view.clone(),
                    emitter: ground.emitter.clone(),
                    clock: clock.clone(),
                    service: manager::SERVICE,
                },
                control: Control::new(
                    ground.log.clone(),
                    ground.view.clone(),
                    ground.emitter.clone(),
                    clock.clone(),
                ),
                token: TokenHash::of(&token.text),
            };
            self.manager = Some(Manager::start(&config.manager, parts).await?);
        }
        if wanted.contains(&Role::Mediator) {
            let caller = Caller::new();
            let queues = Queues::new(
                ground.log.clone(),
                ground.view.clone(),
                ground.emitter.clone(),
                clock.clone(),
            );
            let parts = mediator::Parts {
                view: ground.view.clone(),
                emitter: ground.emitter.clone(),
                caller: caller.clone(),
                queues: queues.clone(),
                clock: clock.clone(),
            };
            self.mediator = Some(Mediator::start(config.mediator.clone(), parts).await?);
            let parts = deliver::Parts {
                log: ground.log.clone(),
                view: ground.view.clone(),
                caller,
                emitter: ground.emitter.clone(),
                clock: clock.clone(),
                queues,
            };
            self.delivery = Some(Delivery::start(deliver::Config::default(), parts));
        }
        if wanted.contains(&Role::Gateway) {
            let parts = gateway::Parts {
                pseudonyms: ground.pseudonyms.clone(),
                view: ground.view.clone(),
                decisions: ground.decisions.clone(),
                log: ground.log.clone(),
                partitions: config.events.partitions,
                clock,
            };
            let listeners = config.gateway.listeners.iter();
            self.gateway_schemes =
                listeners.map(|of| if of.tls.is_some() { "https" } else { "http" }).collect();
            self.gateway = Some(Gateway::start(config.gateway.clone(), parts).await?);
        }
        if wanted.contains(&Role::Collector) {
            let (view, emitter) = (ground.view.clone(), ground.emitter.clone());
            let parts = receive::Parts { view, emitter };
            self.collector = Some(Collector::start(&config.collector, parts).await?);
        }
        let manager = self.manager.as_ref().map(Manager::address);
        self.analysis.start_console(config, ground, token, manager, wanted).await
    }

    /// Where each role listens, by its name.
    pub(crate) fn addresses(&self) -> Vec<(&'static str, String)> {
        let mut addresses = Vec::new();
        if let Some(gateway) = &self.gateway {
            let listeners = self.gateway_schemes.iter().zip(gateway.addresses());
            let urls = listeners.map(|(scheme, address)| format!("{scheme}://{address}"));
            addresses.extend(urls.map(|url| ("gateway", url)));
        }
        let mut add = |name, address: Option<std::net::SocketAddr>| {
            addresses.extend(address.map(|address| (name, format!("http://{address}"))));
        };
        add("mediator", self.mediator.as_ref().map(Mediator::address));
        add("key manager", self.keys.as_ref().map(KeyManager::address));
        add("admin API", self.manager.as_ref().map(Manager::address));
        add("collector", self.collector.as_ref().map(Collector::address));
        add("collector gRPC", self.collector.as_ref().and_then(Collector::grpc_address));
        for (name, address) in self.analysis.addresses() {
            add(name, address);
        }
        let postgres = self.analysis.postgres_address();
        addresses.extend(postgres.map(|at| ("postgres", format!("postgresql://weir@{at}/weir"))));
        let flight = self.analysis.flight_address();
        addresses.extend(flight.map(|at| ("flight sql", format!("grpc://{at}"))));
        addresses
    }

    /// What opens the console, if it runs.
    pub(crate) fn console_token(&self) -> Option<&Token> {
        self.analysis.console_token()
    }

    /// Stops the roles, those that take work from outside first.
    pub(crate) async fn stop(mut self) {
        if let Some(gateway) = self.gateway {
            gateway.shutdown().await;
        }
        if let Some(collector) = self.collector {
            collector.shutdown().await;
        }
        self.analysis.stop_console().await;
        if let Some(mediator) = self.mediator {
            mediator.shutdown().await;
        }
        if let Some(delivery) = self.delivery {
            delivery.shutdown().await;
        }
        if let Some(manager) = self.manager {
            manager.shutdown().await;
        }
        if let Some(keys) = self.keys {
            keys.shutdown().await;
        }
        if let Some(applier) = self.applier {
            applier.abort();
        }
        self.analysis.stop_lake().await;
    }
}
