//! The analytics role: a lake that follows the log, and SQL over HTTP.
//!
//! | request | answer |
//! | --- | --- |
//! | `POST /v1/sql`, the query as its body | its rows, as `Accept` asks: `application/json`, `text/csv`, `text/plain` (a table to read) or `application/vnd.apache.arrow.stream` |
//! | `GET /v1/status` | what was read and committed, as JSON |
//!
//! Both need the admin token as a bearer token. Errors are problem details (RFC 9457)
//! with a stable `code`.

mod answer;
mod api;
mod config;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use ingest::log::EventLog;
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::follow;
use crate::sql::Sql;

pub use answer::CUT_HEADER;
pub use config::Config;

/// What the role is made of.
#[derive(Debug)]
pub struct Parts {
    /// The log that is followed.
    pub log: Arc<dyn EventLog>,
    /// The directory of the lake.
    pub lake_dir: PathBuf,
    /// What opens the API.
    pub token: String,
}

/// Why the role does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The lake, or the log.
    #[error(transparent)]
    Follow(#[from] follow::Error),
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
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
    following: JoinHandle<()>,
}

impl Analytics {
    /// Opens the lake, follows the log and listens.
    ///
    /// # Errors
    /// See [`Error`]; nothing runs then.
    pub async fn start(config: &Config, parts: Parts) -> Result<Self, Error> {
        let unheard = |source| Error::Listen { address: config.address, source };
        let listener = TcpListener::bind(config.address).await.map_err(unheard)?;
        let address = listener.local_addr().map_err(unheard)?;
        let follow = follow::Config {
            commit_ms: config.commit_ms,
            tail_bytes_max: config.tail_bytes_max,
            ..follow::Config::new(parts.lake_dir)
        };
        let (service, history, status) = follow::open(follow, parts.log).await?;
        let (stop, stopped) = watch::channel(false);
        let following = {
            let stopped = stopped.clone();
            tokio::spawn(async move {
                if let Err(error) = service.run(stopped).await {
                    tracing::error!(%error, "the last rows are not in the lake; the log has them");
                }
            })
        };
        let sql = Sql::new(history, config.queries.clone());
        let token = Sha256::digest(parts.token.as_bytes()).into();
        let router = api::router(api::Shared { sql, status, token });
        let serving = tokio::spawn(async move {
            let mut stopped = stopped;
            let stop = async move {
                let _ = stopped.wait_for(|stop| *stop).await;
            };
            if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stop).await {
                tracing::error!(%error, "analytics: listening ended");
            }
        });
        Ok(Self { address, stop, serving, following })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Commits what was read, and ends. Queries that run are broken off.
    pub async fn shutdown(self) {
        self.stop.send_replace(true);
        self.serving.abort();
        let _ = self.serving.await;
        if let Err(error) = self.following.await {
            tracing::error!(%error, "the lake's follower broke off");
        }
    }
}
