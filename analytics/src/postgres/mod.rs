//! SQL over PostgreSQL's wire protocol (version 3.0, as in "Frontend/Backend Protocol" of
//! PostgreSQL's documentation), for psql, JDBC, Grafana and whatever else speaks it.
//!
//! ```text
//!  accept ─► place of the server, of the address ─► SCRAM ─► Session ─► Sql, within its limits
//! ```
//!
//! The tables are those of [`crate::sql`], and `pg_catalog` tells of them. Each statement
//! sees what was read from the log when it begins, also within a transaction: there is
//! nothing to commit. The password is the node's token, by SCRAM-SHA-256 (RFC 7677), so that
//! it does not cross the wire; any user name will do. There is no TLS.
//!
//! Limits: 64 connections, 16 of one address, 60 s to log in; of each statement those of
//! [`crate::sql::Limits`], where an answer of more rows is an error, since a program would
//! take part of it for all; 100 statements in one message.

mod control;
mod functions;
mod login;
mod session;
mod sqlstate;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ingest::http::{Door, Places};
use pgwire::api::auth::StartupHandler;
use pgwire::api::cancel::{CancelHandler, DefaultCancelHandler};
use pgwire::api::query::{ExtendedQueryHandler, SimpleQueryHandler};
use pgwire::api::{ConnectionManager, PgWireServerHandlers};
use pgwire::tokio::process_socket;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use self::login::{Login, Secret};
use self::session::{Queries, Session};
use crate::sql::Sql;

const CONNECTIONS_MAX: usize = 64;
const CONNECTIONS_PER_ADDRESS_MAX: usize = 16;
/// The pause when no connection can be taken, as when no file can be opened.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What is asked, and who may ask.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    sql: Sql,
    secret: Arc<Secret>,
    door: Arc<Door>,
    /// Who may be told to break off.
    running: Arc<ConnectionManager>,
}

impl Server {
    /// Queries for who has the token; who has another is told of through `door`.
    pub(crate) fn new(sql: Sql, token: &str, door: Arc<Door>) -> Self {
        let running = Arc::new(ConnectionManager::new());
        Self { sql, secret: Arc::new(Secret::new(token)), door, running }
    }

    /// Serves until `stop`, which breaks off what is under way.
    pub(crate) async fn run(self, listener: TcpListener, stop: CancellationToken) {
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let places = Places::new(CONNECTIONS_PER_ADDRESS_MAX);
        loop {
            let accept = async {
                let permit = room.clone().acquire_owned().await.expect("it is never closed");
                (permit, listener.accept().await)
            };
            let (permit, accepted) = tokio::select! {
                accepted = accept => accepted,
                () = stop.cancelled() => return,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, server = "postgres", "cannot take a connection");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Some(place) = places.take(peer.ip()) else {
                tracing::warn!(%peer, "too many connections of one address: one is closed");
                continue;
            };
            let (server, stop) = (self.clone(), stop.clone());
            tokio::spawn(async move {
                tokio::select! {
                    () = server.serve(stream, peer) => {}
                    () = stop.cancelled() => {}
                }
                drop((permit, place));
            });
        }
    }

    async fn serve(&self, stream: TcpStream, peer: SocketAddr) {
        let login = Login::new(&self.secret, self.door.clone(), peer.ip(), &self.running);
        let queries = Arc::new(Queries(Arc::new(Session::new(self.sql.clone()))));
        let running = self.running.clone();
        let connection = Arc::new(Connection { login: Arc::new(login), queries, running });
        if let Err(error) = process_socket(stream, None, connection).await {
            tracing::debug!(%error, %peer, "a connection of postgres broke off");
        }
    }
}

/// One client's connection.
struct Connection {
    login: Arc<Login>,
    queries: Arc<Queries>,
    running: Arc<ConnectionManager>,
}

impl PgWireServerHandlers for Connection {
    fn startup_handler(&self) -> Arc<impl StartupHandler> {
        self.login.clone()
    }

    fn simple_query_handler(&self) -> Arc<impl SimpleQueryHandler> {
        self.queries.clone()
    }

    fn extended_query_handler(&self) -> Arc<impl ExtendedQueryHandler> {
        self.queries.clone()
    }

    fn cancel_handler(&self) -> Arc<impl CancelHandler> {
        Arc::new(DefaultCancelHandler::new(self.running.clone()))
    }
}
