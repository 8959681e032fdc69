//! SQL over Arrow Flight SQL (the Arrow project's "Flight SQL", over gRPC), for ADBC and
//! whatever else speaks it: rows come as Arrow's, without being turned into text.
//!
//! ```text
//!  GetFlightInfo ─► described, a ticket ─► DoGet ─► Sql, within its limits ─► batches
//! ```
//!
//! The tables are those of [`crate::sql`]. A ticket holds the statement itself, so any node
//! answers one that another has given, and a restart loses none; each is answered by what is
//! there when it is asked for. Who calls proves itself in each request by `authorization`: the
//! node's token as a bearer, a user of the registry by HTTP Basic, or what a `Handshake` gave.
//! There is no TLS, no transaction, nothing that writes.
//!
//! Limits: 64 connections, 16 of one address, 16 requests at a time of each, a message 2 MiB, a statement 1 MiB, a
//! row of parameters 1 MiB; of each statement those of [`crate::sql::Limits`], where an answer
//! of more rows is an error, since a program would take part of it for all. What a handshake
//! gave is good for an hour after its last use and 12 hours in all, of 1,000 at most, 50 of one
//! user.

mod handle;
mod login;
mod metadata;
mod service;
mod status;

use std::sync::Arc;
use std::time::Duration;

use arrow_flight::flight_service_server::FlightServiceServer;
use ingest::http::{Door, connections};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use self::login::Logins;
use self::service::Service;
use crate::sql::Sql;

const CONNECTIONS_MAX: usize = 64;
const CONNECTIONS_PER_ADDRESS_MAX: usize = 16;
const STREAMS_MAX: u32 = 16;
const MESSAGE_BYTES_MAX: usize = 2 * 1024 * 1024;
/// The largest head of a request, in bytes.
const HEAD_BYTES_MAX: u32 = 64 * 1024;
/// How long a connection may be silent until it is asked whether it is there, and may then
/// take to answer.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Serves until `stop`, which breaks off what is under way.
pub(crate) async fn serve(
    listener: TcpListener,
    sql: Sql,
    door: Arc<Door>,
    stop: CancellationToken,
) {
    let service = Service::new(sql, Logins::new(door));
    let service = FlightServiceServer::new(service).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let served = Server::builder()
        .max_concurrent_streams(STREAMS_MAX)
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE))
        .http2_max_header_list_size(HEAD_BYTES_MAX)
        .add_service(service)
        .serve_with_incoming(connections(listener, CONNECTIONS_MAX, CONNECTIONS_PER_ADDRESS_MAX));
    tokio::select! {
        ended = served => if let Err(error) = ended {
            tracing::error!(%error, "Flight SQL ended");
        },
        () = stop.cancelled() => {}
    }
}
