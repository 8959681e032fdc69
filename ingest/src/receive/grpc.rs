//! OTLP logs over gRPC.
//!
//! Who may send, and whether there is room, is decided by the head of a request, before its
//! body is read.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::{
    LogsService, LogsServiceServer,
};
use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;
use tonic::codec::CompressionEncoding;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Server;
use tonic::transport::server::TcpConnectInfo;
use tonic::{Request, Response, Status};

use super::answer::{RequestId, take};
use super::sender::Sender;
use super::server::{PLACES_OF_LOGS, Shared};
use super::{BODY_BYTES_MAX, otlp};
use crate::http::{Correlation, Failure, connections};

/// How long a request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a connection may be silent until it is asked whether it is there, and may then
/// take to answer.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
const CONNECTIONS_MAX: usize = 256;
const CONNECTIONS_PER_ADDRESS_MAX: usize = 64;
const STREAMS_MAX: u32 = 16;
/// The largest head of a request, in bytes.
const HEAD_BYTES_MAX: u32 = 64 * 1024;

struct Logs(Arc<Shared>);

/// Who sends a request, and its places.
#[derive(Clone)]
struct Admitted(Sender, Arc<OwnedSemaphorePermit>);

#[tonic::async_trait]
impl LogsService for Logs {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        let (_, extensions, request) = request.into_parts();
        let Some(Admitted(sender, _places)) = extensions.get::<Admitted>() else {
            return Err(Status::unauthenticated("nobody is known to send this"));
        };
        otlp::check(&request).map_err(|problem| status(&problem.into()))?;
        let id = RequestId::of(sender, &request.encode_to_vec());
        let taken = take(&self.0.emitter, sender, &id, otlp::rows(request)).await;
        match taken.is_in_part_refused_for_now() {
            true => Err(Status::unavailable(taken.told())),
            false => Ok(Response::new(otlp::response(&taken))),
        }
    }
}

/// Lets a request in, or refuses it.
fn admit(shared: &Shared, mut request: Request<()>) -> Result<Request<()>, Status> {
    let info = request.extensions().get::<TcpConnectInfo>();
    let peer = info.and_then(TcpConnectInfo::remote_addr).map(|peer| peer.ip());
    let headers: HeaderMap = request.metadata().clone().into_headers();
    let correlation = Correlation::of(&headers, || fastrand::u64(..));
    let peer = peer.unwrap_or(Ipv4Addr::UNSPECIFIED.into());
    let admitted = shared.senders.admit(&headers, peer, &correlation);
    let admitted = admitted.and_then(|sender| Ok((sender, shared.room(PLACES_OF_LOGS)?)));
    let (sender, places) = admitted.map_err(|failure| status(&failure))?;
    request.extensions_mut().insert(Admitted(sender, Arc::new(places)));
    Ok(request)
}

/// By what OTLP's senders decide whether they send again (OTLP/gRPC, failures).
fn status(failure: &Failure) -> Status {
    let problem = &failure.problem;
    let message = problem.detail.as_deref().unwrap_or(problem.code.title());
    let message = format!("{}: {message}", problem.code.text());
    match problem.code.status() {
        StatusCode::UNAUTHORIZED => Status::unauthenticated(message),
        StatusCode::FORBIDDEN => Status::permission_denied(message),
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            Status::unavailable(message)
        }
        _ => Status::invalid_argument(message),
    }
}

/// Serves until `stop`, and then until the requests under way have ended.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>, stop: CancellationToken) {
    let logs = LogsServiceServer::new(Logs(shared.clone()))
        .accept_compressed(CompressionEncoding::Gzip)
        .max_decoding_message_size(BODY_BYTES_MAX);
    let logs = InterceptedService::new(logs, move |request| admit(&shared, request));
    let served = Server::builder()
        .timeout(REQUEST_TIMEOUT)
        .max_concurrent_streams(STREAMS_MAX)
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE))
        .http2_max_header_list_size(HEAD_BYTES_MAX)
        .add_service(logs)
        .serve_with_incoming_shutdown(
            connections(listener, CONNECTIONS_MAX, CONNECTIONS_PER_ADDRESS_MAX),
            stop.cancelled_owned(),
        );
    if let Err(error) = served.await {
        tracing::error!(%error, "the collector's gRPC ended");
    }
}
