//! The analytics role: a lake that follows the log, continuous queries, and SQL over HTTP.
//!
//! | request | answer |
//! | --- | --- |
//! | `POST /v1/sql`, the query as its body | its rows, as `Accept` asks: `application/json`, `text/csv`, `text/plain` (a table to read), `application/vnd.apache.arrow.stream` or `application/vnd.apache.parquet` |
//! | `POST /v1/backtest?name=NAME`, a query file as its body, with `replay=ID`, `from=TIME` and `before=TIME` | what it gives over that part of the history, as above; with `as=alerts` the alerts that it would have raised, and with `block_s=SECONDS` what would have been refused |
//! | `POST /v1/alerts/ID/acknowledge`, and `unacknowledge` | who has acknowledged an alert, as JSON |
//! | `POST /v1/silences`, and `/v1/silences/ID/end` | of what nobody is told for a while, as JSON |
//! | `POST /v1/queries/NAME/pause`, and `resume` | whether a continuous query rests, as JSON |
//! | `POST /v1/queries/plan` | what would become of the continuous queries if the registry had others, as JSON |
//! | `GET /v1/lake/files`, `POST /v1/lake/check`, `/v1/lake/set-aside` | the files of the lake, those that are damaged, and those that were set aside, as JSON |
//! | `GET /metrics` | how the continuous queries of this node fare, for Prometheus |
//! | `GET /v1/status` | what was read and committed, and how the queries fare, as JSON |
//!
//! All take the admin token as a bearer token; the first, and `GET /v1/search`, users of the
//! registry by HTTP Basic too, who are answered what their roles give. Errors are problem details (RFC 9457)
//! with a stable `code`. Limits: 256 connections, 64 of one address; ten wrong tokens of an
//! address in a minute; a head 64 KiB and 10 s, a query 1 MiB and 30 s.

mod alerts;
mod answer;
mod api;
mod body;
mod config;
mod lake;
mod metrics;
mod queries;

use std::fs::DirBuilder;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ingest::decision::Decisions;
use ingest::emit::Emitter;
use ingest::event::SystemClock;
use ingest::http::{Door, Server, Teller, TokenHash};
use ingest::log::EventLog;
use ingest::registry::View;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::alert::{self, AlertTable, Desk, Pictures, Routes, Senders};
use crate::compute::Threads;
use crate::flight;
use crate::follow;
use crate::postgres;
use crate::run::{self, Control, Decider, FileFaults, Librarian, Library, Pauses, QueryTable};
use crate::search;
use crate::sql::Sql;

pub use config::Config;

const SERVICE: &str = "weir-analytics";
const SERVER: Server = Server {
    name: "analytics",
    connections_max: 256,
    connections_per_address_max: 64,
    head_timeout: Duration::from_secs(10),
    write_timeout: Duration::from_secs(30),
    // Queries that run are broken off.
    stop_timeout: Duration::ZERO,
};

/// What the role is made of.
#[derive(Debug)]
pub struct Parts {
    /// The log that is followed.
    pub log: Arc<dyn EventLog>,
    /// The directory of the lake.
    pub lake_dir: PathBuf,
    /// The directory of the search's index, of this node alone.
    pub search_dir: PathBuf,
    /// What opens the API, and everything behind it.
    pub token: String,
    /// The users that may ask, and their roles; and the safeguards of decisions.
    pub view: View,
    /// Decisions against callers, followed.
    pub decisions: Decisions,
    /// Where it is told which alerts were sent.
    pub emitter: Emitter,
}

/// Why the role does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The lake, or the log.
    #[error(transparent)]
    Follow(#[from] follow::Error),
    /// The continuous queries.
    #[error("{0}")]
    Queries(#[from] FileFaults),
    /// Their topics.
    #[error("the topics of the continuous queries cannot be made: {0}")]
    Topics(#[from] ingest::log::Error),
    /// What they are joined with.
    #[error("the history of the registry cannot be read: {0}")]
    Entities(ingest::log::Error),
    /// The directory of their state.
    #[error("the directory of the queries' state, {}: {source}", .dir.display())]
    StateDir {
        /// The directory.
        dir: PathBuf,
        /// What happened.
        source: std::io::Error,
    },
    /// The index of the search.
    #[error("analytics: {0}")]
    Search(#[from] search::Error),
    /// The threads of queries.
    #[error("the threads of queries cannot be started: {0}")]
    Threads(std::io::Error),
    /// The settings of emails or webhooks.
    #[error("analytics.{0}")]
    Alerts(String),
    /// The address.
    #[error("analytics: cannot listen on {address}: {source}")]
    Listen {
        /// Where it was to listen.
        address: SocketAddr,
        /// What happened.
        source: std::io::Error,
    },
}

/// The role, running.
#[derive(Debug)]
pub struct Analytics {
    address: SocketAddr,
    /// Where PostgreSQL's protocol is spoken, and who does.
    postgres: Option<(SocketAddr, JoinHandle<()>)>,
    /// Where Flight SQL is, and who does.
    flight: Option<(SocketAddr, JoinHandle<()>)>,
    stop: watch::Sender<bool>,
    hang_up: CancellationToken,
    serving: JoinHandle<()>,
    following: JoinHandle<()>,
    finding: JoinHandle<()>,
    running: JoinHandle<()>,
    telling: JoinHandle<()>,
}

impl Analytics {
    /// Opens the lake, follows the log and listens.
    ///
    /// # Errors
    /// See [`Error`]; nothing runs then.
    pub async fn start(config: &Config, parts: Parts) -> Result<Self, Error> {
        let (listener, address) = listen(config.address).await?;
        let postgres = match config.postgres_address {
            Some(address) => Some(listen(address).await?),
            None => None,
        };
        let flight = match config.flight_address {
            Some(address) => Some(listen(address).await?),
            None => None,
        };
        let follow = follow::Config {
            commit_ms: config.commit_ms,
            tail_bytes_max: config.tail_bytes_max,
            keep_days: config.keep_days,
            ..follow::Config::new(parts.lake_dir)
        };
        let (mail, webhooks) = (config.mail.as_ref(), &config.webhooks);
        let senders = Senders::new(mail, webhooks).map_err(Error::Alerts)?;
        let routes = Routes::new(&config.routes, mail, webhooks);
        let library = Library::load(config.queries_dir.as_deref(), &config.shipped).await?;
        let entities = library.entities();
        entities.catch_up(&*parts.log).await.map_err(Error::Entities)?;
        let librarian = Librarian::open(library, parts.view.clone(), parts.log.clone()).await?;
        let pauses = Pauses::open(&*parts.log).await?;
        let state_dir = follow.lake_dir.join("state");
        // Whom the lake is for besides is for the operator to say.
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&state_dir);
        made.map_err(|source| Error::StateDir { dir: state_dir.clone(), source })?;
        // What people ask does not hold up what runs all the time.
        let threads = Threads::new().map_err(Error::Threads)?;
        let running_threads = Threads::new().map_err(Error::Threads)?;
        let (service, history, status) = follow::open(follow, parts.log.clone()).await?;
        let (stop, stopped) = watch::channel(false);
        let following = {
            let stopped = stopped.clone();
            tokio::spawn(async move {
                if let Err(error) = service.run(stopped).await {
                    tracing::error!(%error, "the last rows are not in the lake; the log has them");
                }
            })
        };
        let (search, finding) = search::open(&parts.search_dir, history.clone()).await?;
        let finding = tokio::spawn(finding.run(stopped.clone()));
        let tables = librarian.tables().clone();
        let (library, base) = (librarian.current(), librarian.base().clone());
        tokio::spawn(librarian.run(stopped.clone()));
        tokio::spawn(entities.follow(parts.log.clone(), stopped.clone()));
        tokio::spawn(pauses.clone().follow(parts.log.clone(), stopped.clone()));
        tokio::spawn(tables.clone().follow(parts.log.clone(), stopped.clone()));
        let alerts = AlertTable::default();
        let desk = Desk {
            log: parts.log.clone(),
            table: alerts.clone(),
            emitter: parts.emitter.clone(),
            service: SERVICE,
        };
        tokio::spawn(alerts.clone().follow(parts.log.clone(), stopped.clone()));
        let queries = run::Status::default();
        let query_table = QueryTable::default();
        let told = query_table.clone();
        tokio::spawn(query_table.clone().follow(parts.log.clone(), stopped.clone()));
        if config.mail.is_none() {
            tracing::info!("alerts are not sent by email: analytics.mail is not set");
        }
        let decider = Decider {
            decisions: parts.decisions.clone(),
            view: parts.view.clone(),
            emitter: parts.emitter.clone(),
            clock: Arc::new(SystemClock),
        };
        let sql = Sql::new(history.clone(), config.queries.clone(), threads);
        let control = Control {
            log: parts.log.clone(),
            history: history.clone(),
            library: library.clone(),
            base,
            pauses: pauses.clone(),
            queries: query_table.clone(),
            tables: tables.clone(),
            alerts: alerts.clone(),
            emitter: parts.emitter.clone(),
            service: SERVICE,
        };
        let sql = sql.with_tables(tables).with_alerts(alerts).with_queries(query_table);
        let sql = sql.with_decisions(parts.decisions, parts.view.clone());
        let telling = alert::Parts {
            log: parts.log.clone(),
            emitter: parts.emitter.clone(),
            routes,
            senders: Arc::new(senders.with_pictures(Pictures::new(sql.clone()))),
        };
        let telling = tokio::spawn(alert::run(telling, stopped.clone()));
        let emitter = parts.emitter.clone();
        let running = tokio::spawn(run::run(
            run::Parts {
                log: parts.log,
                threads: running_threads,
                history,
                library,
                pauses,
                state_dir,
                status: queries.clone(),
                told: told.clone(),
                epoch: run::EPOCH,
                checkpoint_every: run::CHECKPOINT_EVERY,
                slice_rows: run::SLICE_ROWS,
                emitter: parts.emitter,
                retire_after: run::RETIRE_AFTER,
                decider,
            },
            stopped.clone(),
        ));
        let sql = sql.with_search(search).with_users(parts.view.clone());
        let token = TokenHash::of(&parts.token);
        let door = Door::for_users(token, parts.view, emitter.clone(), SERVICE);
        let hang_up = CancellationToken::new();
        let postgres = postgres.map(|(listener, address)| {
            let server = postgres::Server::new(sql.clone(), &parts.token, door.clone());
            let serving = tokio::spawn(server.run(listener, hang_up.clone()));
            (address, serving)
        });
        let flight = flight.map(|(listener, address)| {
            let serving = flight::serve(listener, sql.clone(), door.clone(), hang_up.clone());
            (address, tokio::spawn(serving))
        });
        let router = door.guard(api::router(api::Shared { sql, status, queries, desk, control }));
        let teller = Teller { emitter, service: SERVICE };
        let serving = tokio::spawn(SERVER.route(listener, router, teller, hang_up.clone()));
        Ok(Self {
            address,
            postgres,
            flight,
            stop,
            hang_up,
            serving,
            following,
            finding,
            running,
            telling,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it speaks PostgreSQL's protocol, if it does.
    pub fn postgres_address(&self) -> Option<SocketAddr> {
        self.postgres.as_ref().map(|(address, _)| *address)
    }

    /// Where it speaks Flight SQL, if it does.
    pub fn flight_address(&self) -> Option<SocketAddr> {
        self.flight.as_ref().map(|(address, _)| *address)
    }

    /// Commits what was read, and ends. Queries that run are broken off.
    pub async fn shutdown(self) {
        self.stop.send_replace(true);
        self.hang_up.cancel();
        if let Some((_, serving)) = self.postgres
            && serving.await.is_err()
        {
            tracing::error!("analytics: listening for postgres ended by a defect");
        }
        if let Some((_, serving)) = self.flight
            && serving.await.is_err()
        {
            tracing::error!("analytics: listening for Flight SQL ended by a defect");
        }
        if self.serving.await.is_err() {
            tracing::error!("analytics: listening ended by a defect");
        }
        if self.telling.await.is_err() {
            tracing::error!("the telling of alerts ended by a defect");
        }
        if self.finding.await.is_err() {
            tracing::error!("the search's follower ended by a defect");
        }
        if let Err(error) = self.running.await {
            tracing::error!(%error, "the running of queries broke off");
        }
        if let Err(error) = self.following.await {
            tracing::error!(%error, "the lake's follower broke off");
        }
    }
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), Error> {
    let unheard = |source| Error::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(unheard)?;
    let address = listener.local_addr().map_err(unheard)?;
    Ok((listener, address))
}
