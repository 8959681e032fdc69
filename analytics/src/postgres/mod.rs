//! SQL over PostgreSQL's wire protocol (version 3.0, as in "Frontend/Backend Protocol" of
//! PostgreSQL's documentation), for psql, JDBC, Grafana and whatever else speaks it.
//!
//! ```text
//!  accept ─► place of the server, of the address ─► SCRAM ─► Session ─► Sql, within its limits
//! ```
//!
//! The tables are those of [`crate::sql`], and `pg_catalog` tells of them. Each statement
//! sees what was read from the log when it begins, also within a transaction: there is
//! nothing to commit. A user of the registry logs in by its password, whoever is none by the
//! node's token: both by SCRAM-SHA-256 (RFC 7677), so that they do not cross the wire. There is
//! no TLS.
//!
//! Limits: 64 connections, 16 of one address, 60 s to log in; of each statement those of
//! [`crate::sql::Limits`], where an answer of more rows is an error, since a program would
//! take part of it for all. A message is 1 MiB at most, 10 kB of who has not logged in; the
//! statements of one, 100 at most, answer together what one may.

mod bounded;
mod control;
mod functions;
mod login;
mod session;
mod sqlstate;

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use ingest::http::{Caller, Door, Places};
use ingest::scram::Verifier;
use pgwire::api::cancel::DefaultCancelHandler;
use pgwire::api::{
    ClientInfo as _, ConnectionManager, DefaultClient, NoopHandler, PgWireConnectionState,
    RandomPidSecretKeyGenerator,
};
use pgwire::error::{ErrorInfo, PgWireError};
use pgwire::messages::PgWireFrontendMessage;
use pgwire::tokio::server::{PgWireMessageServerCodec, process_error, process_message};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::codec::Framed;
use tokio_util::sync::CancellationToken;

use self::bounded::Bounded;
use self::login::Login;
use self::session::{Queries, Session};
use self::sqlstate::PROTOCOL_VIOLATION;
use crate::sql::Sql;

const CONNECTIONS_MAX: usize = 64;
const CONNECTIONS_PER_ADDRESS_MAX: usize = 16;
const LOGIN_TIMEOUT: Duration = Duration::from_secs(60);
/// After what silence it is looked whether a client is still there.
const ALIVE_AFTER: Duration = Duration::from_secs(60);
/// The pause when no connection can be taken, as when no file can be opened.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What is asked, and who may ask.
#[derive(Clone)]
pub(crate) struct Server {
    sql: Sql,
    token: Verifier,
    door: Arc<Door>,
    /// Who may be told to break off.
    running: Arc<ConnectionManager>,
    /// What tells them apart.
    keys: Arc<RandomPidSecretKeyGenerator>,
}

impl Server {
    /// Queries for those whom `door` lets in, and who has the token; who is refused is told of
    /// through it.
    pub(crate) fn new(sql: Sql, token: &str, door: Arc<Door>) -> Self {
        let running = Arc::new(ConnectionManager::new());
        Self { sql, token: login::verifier_of(token), door, running, keys: Arc::default() }
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
        // A client that is gone without a word is noticed by this alone.
        let alive = TcpKeepalive::new().with_time(ALIVE_AFTER).with_interval(ALIVE_AFTER / 6);
        if let Err(error) = SockRef::from(&stream).set_tcp_keepalive(&alive) {
            tracing::debug!(%error, "a connection of postgres is not watched");
        }
        let caller = Arc::<OnceLock<Caller>>::default();
        let login = Arc::new(Login::new(self, peer.ip(), caller.clone()));
        let queries = Arc::new(Queries(Arc::new(Session::new(self.sql.clone(), caller))));
        if let Err(error) = self.converse(stream, peer, login, queries).await {
            tracing::debug!(%error, %peer, "a connection of postgres broke off");
        }
    }

    /// Answers one message after another. The library's own loop reads on after it has refused
    /// a login.
    async fn converse(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        login: Arc<Login>,
        queries: Arc<Queries>,
    ) -> std::io::Result<()> {
        let logged_in_by = Instant::now() + LOGIN_TIMEOUT;
        let opened = timeout_at(logged_in_by, Bounded::open(stream, login.let_in.clone())).await;
        let Ok(stream) = opened else { return Ok(()) };
        let codec = PgWireMessageServerCodec::new(DefaultClient::new(peer, false));
        let mut socket = Framed::new(stream?, codec);
        socket.set_state(PgWireConnectionState::AwaitingStartup);
        let cancel = Arc::new(DefaultCancelHandler::new(self.running.clone()));
        loop {
            let next = match login.let_in.load(Ordering::Acquire) {
                true => socket.next().await,
                false => match timeout_at(logged_in_by, socket.next()).await {
                    Ok(next) => next,
                    Err(_) => return Ok(()),
                },
            };
            let message = match next {
                None => return Ok(()),
                Some(Ok(PgWireFrontendMessage::Terminate(_))) => return Ok(()),
                Some(Ok(message)) => message,
                Some(Err(error)) => {
                    let why = sqlstate::refusal(PROTOCOL_VIOLATION, error.to_string());
                    return process_error(&mut socket, why, false).await;
                }
            };
            let is_cancel = matches!(message, PgWireFrontendMessage::CancelRequest(_));
            let is_extended = message.is_extended_query();
            let answered = process_message(
                message,
                &mut socket,
                login.clone(),
                queries.clone(),
                queries.clone(),
                Arc::new(NoopHandler),
                cancel.clone(),
            );
            if let Err(error) = answered.await {
                let told = ErrorInfo::from(error);
                let is_over = told.is_fatal() || !login.let_in.load(Ordering::Acquire);
                let told = PgWireError::UserError(Box::new(told));
                process_error(&mut socket, told, is_extended).await?;
                if is_over {
                    return socket.close().await;
                }
            }
            if is_cancel {
                return Ok(());
            }
        }
    }
}
