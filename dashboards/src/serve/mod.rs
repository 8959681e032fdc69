//! The console: boards as pages, over HTTP.
//!
//! | request | answer |
//! | --- | --- |
//! | `GET /boards/NAME?timeline=live\|ID&span=15m\|1h\|6h\|24h\|7d\|all` | the board |
//! | `GET /boards/NAME/live?…` | server-sent events: the panels that changed |
//! | `GET /boards/NAME/export.html\|png\|csv?…` | the board, to take away |
//! | `GET /decisions`, `POST /decisions`, `/decisions/ID/lift` | whom gateways block or slow down, and what is decided of that |
//! | `GET /queues`, `/queues/NAME`, `/queues/NAME/letter?id=ID` | queues, one of them, a dead letter |
//! | `POST /queues/NAME/decide`, `/pause`, `/resume`, `/letter?id=ID` | what is decided of them |
//! | `GET /alerts?state=open\|resolved\|all`, `/alerts/ID` | alerts and silences, one alert |
//! | `POST /alerts/ID/acknowledge`, `unacknowledge`, `silence`, `/alerts/silences/ID/end` | what is said of them |
//! | `GET /queries`, `POST /queries/NAME/pause`, `resume` | how continuous queries fare; that one rests or goes on |
//! | `GET /search?q=TEXT&within=1h\|24h\|7d\|all` | the newest events that say so |
//! | `GET /`, `/login` | the first board; where the token is asked for |
//!
//! Who has the token gets a session, which is a cookie; a program sends the token as a
//! bearer token. Queues, alerts, queries and the search are for sessions that the admin token has opened: the console has no
//! rights of its own, and asks the manager node with that token. A form that another page
//! sends is refused. The first address that is printed has the token in it (`?token=`), and
//! leads to one that has not.
//!
//! Limits: 256 live pages, which share what is the same on them, drawn every 3 s, or
//! less often if drawing takes longer than a third of a second; 64
//! different ones; 1,000 sessions, of 12 hours; ten wrong tokens of an address in a minute;
//! 1,024 connections, 256 of one address. A request's `Host` has to be an address, `localhost`, or one of
//! `console.hosts`: no other site's name may lead here (DNS rebinding). It speaks no TLS,
//! and listens on loopback unless it is told otherwise.

mod access;
mod alerts;
mod api;
mod decisions;
mod fill;
mod live;
mod login;
mod queries;
mod queues;
mod search;
mod word;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ingest::emit::Emitter;
use ingest::http::{Door, Server, Teller, TokenHash};
use ingest::registry::Fault;
use ingest::registry::files::FileErrors;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::board::Library;
use crate::manager::Manager;
use crate::source::Source;

const SERVICE: &str = "weir-console";
const SERVER: Server = Server {
    name: "console",
    connections_max: 1_024,
    connections_per_address_max: 256,
    head_timeout: Duration::from_secs(10),
    write_timeout: Duration::from_secs(30),
    stop_timeout: Duration::from_secs(2),
};

/// How the console is set up.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where it listens; port 0 takes any that is free.
    pub address: SocketAddr,
    /// The analytics node that answers its queries; this node's own, if it is left out.
    pub analytics_url: Option<String>,
    /// The file with that node's admin token; this node's own, if it is left out.
    pub analytics_token_file: Option<PathBuf>,
    /// The manager node by which queues are looked into and decided of; this node's own, if
    /// it is left out and there is one.
    pub manager_url: Option<String>,
    /// A directory of further boards, `*.yaml`.
    pub boards_dir: Option<PathBuf>,
    /// By which names it may be called, besides addresses and `localhost`; 0 to 100.
    pub hosts: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], 9446)),
            analytics_url: None,
            analytics_token_file: None,
            manager_url: None,
            boards_dir: None,
            hosts: Vec::new(),
        }
    }
}

impl Config {
    /// Everything that is wrong with it.
    pub fn validate(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        if self.hosts.len() > 100 {
            faults.push(Fault::new(
                "hosts",
                format!("{} of them", self.hosts.len()),
                "give 100 at most",
            ));
        }
        let urls = [
            ("analytics_url", &self.analytics_url, "give it as http://host:9447"),
            ("manager_url", &self.manager_url, "give it as http://host:9445"),
        ];
        for (setting, url, mend) in urls {
            if let Some(url) = url
                && !url.parse::<reqwest::Url>().is_ok_and(|url| url.has_host())
            {
                faults.push(Fault::new(setting, format!("{url} is no address"), mend));
            }
        }
        faults
    }
}

/// What the console works with.
#[derive(Debug)]
pub struct Parts {
    /// The address of the analytics node.
    pub analytics_url: String,
    /// Its token.
    pub analytics_token: String,
    /// The address of the manager node, if there is one.
    pub manager_url: Option<String>,
    /// What opens the console.
    pub token: String,
    /// Where it is told who was refused.
    pub emitter: Emitter,
}

/// Why the console does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A board has a fault.
    #[error("console: {0}")]
    Boards(#[from] FileErrors),
    /// A client for the other nodes cannot be made.
    #[error("console: {0}")]
    Client(#[from] reqwest::Error),
    /// The address.
    #[error("console: cannot listen on {address}: {source}; free the port, or set console.address")]
    Listen {
        /// Where it was to listen.
        address: SocketAddr,
        /// What happened.
        source: std::io::Error,
    },
}

/// The running console.
#[derive(Debug)]
pub struct Console {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    hang_up: CancellationToken,
    serving: JoinHandle<()>,
}

impl Console {
    /// Reads the boards, and listens.
    ///
    /// # Errors
    /// See [`Error`]; nothing runs then.
    pub async fn start(config: &Config, parts: Parts) -> Result<Self, Error> {
        let library = Library::load(config.boards_dir.as_deref())?;
        let source = Source::new(&parts.analytics_url, parts.analytics_token)?;
        let manager = parts.manager_url.as_deref().map(Manager::new).transpose()?;
        let unheard = |source| Error::Listen { address: config.address, source };
        let listener = TcpListener::bind(config.address).await.map_err(unheard)?;
        let address = listener.local_addr().map_err(unheard)?;
        let (stop, stopped) = watch::channel(false);
        let door = Door::new(TokenHash::of(&parts.token), parts.emitter.clone(), SERVICE);
        let access = access::Access::new(door, config.hosts.clone());
        let shared = api::Shared {
            library,
            access,
            feeds: live::Feeds::default(),
            source: Arc::new(source),
            manager,
            stopped: stopped.clone(),
        };
        let router = api::router(Arc::new(shared));
        let teller = Teller { emitter: parts.emitter, service: SERVICE };
        let hang_up = CancellationToken::new();
        let serving = tokio::spawn(SERVER.route(listener, router, teller, hang_up.clone()));
        tracing::info!(%address, "console listens");
        Ok(Self { address, stop, hang_up, serving })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends it; pages that follow see that it is gone.
    pub async fn shutdown(self) {
        self.stop.send_replace(true);
        self.hang_up.cancel();
        if self.serving.await.is_err() {
            tracing::error!("the console ended by a defect");
        }
    }
}
