//! The mediator's listener: requests come in, routes answer them.
//!
//! ```text
//!  accept ─► connection ─► head ─► route? ─► body, bounded ─► run, its own task ─► answer
//!    │ places                │ 404, 405      │ 413, 408        │ goes on when the
//!    └ waits                 └ 503 busy      └ 400             └ client goes away
//! ```
//!
//! What holds: every answer has `x-correlation-id`; what goes wrong is
//! `application/problem+json`; a request that no route runs for has an event that says
//! why; no port is opened before the configuration is right;
//! after [`Mediator::shutdown`] no connection is taken, and what is under way has
//! `drain_ms` to end.
//!
//! Limits: `connections_max` connections, more wait in the kernel's queue;
//! `in_flight_max` requests, more get 503; a body the route's `body_bytes_max` and
//! `body_timeout_ms`; a head 64 KiB and 10 s; an answer of which nothing is taken 30 s. Bodies are held in memory: at most
//! `in_flight_max` of them.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::StatusCode;
use http::header::{ALLOW, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::service::service_fn;
use ingest::emit::Emitter;
use ingest::event::Clock;
use ingest::registry::{Fault, View};
use percent_encoding::percent_decode_str;
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Caller;
use crate::Config;
use crate::deliver::Queues;
use crate::message::{Message, Value, json};
use crate::route::{Found, Plan, Request, Runner};
use crate::step::Evaluator;
use ingest::http::{
    CORRELATION_HEADER, Code, Correlation, ONE_HOST, PROBLEM_CONTENT_TYPE, Peer, Problem,
    RequestBody, Server, Teller, has_one_host,
};

/// How long the head of a request may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a caller may take nothing of its answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// What the mediator works with.
#[derive(Clone)]
pub struct Parts {
    /// The registry.
    pub view: View,
    /// Takes the events.
    pub emitter: Emitter,
    /// Calls the upstreams.
    pub caller: Caller,
    /// Takes messages.
    pub queues: Queues,
    /// Tells the time of events.
    pub clock: Arc<dyn Clock>,
}

/// Why the mediator does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address cannot be listened on.
    #[error(
        "mediator: cannot listen on {address}: {source}; free the port, or set mediator.address"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The settings are wrong.
    #[error("mediator.{}", .faults[0])]
    Config {
        /// What is wrong, at least one.
        faults: Vec<Fault>,
    },
}

/// A mediator that listens.
#[derive(Debug)]
pub struct Mediator {
    address: SocketAddr,
    stop: CancellationToken,
    listening: JoinHandle<()>,
}

struct Shared {
    runner: Runner,
    view: View,
    plan: ArcSwap<Plan>,
    in_flight: Arc<Semaphore>,
    body_timeout: Duration,
    runs: TaskTracker,
}

impl Mediator {
    /// Compiles the routes, opens the port and begins to answer.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(config: Config, parts: Parts) -> Result<Self, StartError> {
        config.validate().map_err(|faults| StartError::Config { faults })?;
        let failed = |source| StartError::Listen { address: config.address, source };
        let listener = TcpListener::bind(config.address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let Parts { view, emitter, caller, queues, clock } = parts;
        let plan = Plan::of(&view.snapshot(), &Plan::default());
        let evaluator = Evaluator::new();
        let shared = Arc::new(Shared {
            runner: Runner { emitter, caller, queues, clock, evaluator },
            view,
            plan: ArcSwap::from_pointee(plan),
            in_flight: Arc::new(Semaphore::new(config.in_flight_max)),
            body_timeout: Duration::from_millis(config.body_timeout_ms),
            runs: TaskTracker::new(),
        });
        let stop = CancellationToken::new();
        let listening = tokio::spawn(listen(listener, shared, config, stop.clone()));
        tracing::info!(%address, "mediator listens");
        Ok(Self { address, stop, listening })
    }

    /// Where it listens, the port that was chosen included.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more connections, lets what is under way end for `drain_ms`, and
    /// breaks off the rest.
    pub async fn shutdown(self) {
        self.stop.cancel();
        if let Err(error) = self.listening.await {
            tracing::error!(%error, "the mediator's listener broke off");
        }
    }
}

/// Serves until the stop, then drains: connections, and the runs that outlive theirs.
async fn listen(
    listener: TcpListener,
    shared: Arc<Shared>,
    config: Config,
    stop: CancellationToken,
) {
    let followed = tokio::spawn(follow(shared.clone(), stop.clone()));
    let drain = Duration::from_millis(config.drain_ms);
    let server = Server {
        name: "mediator",
        connections_max: config.connections_max,
        // A gateway is one address, and has them all.
        connections_per_address_max: config.connections_max,
        head_timeout: HEAD_TIMEOUT,
        write_timeout: WRITE_TIMEOUT,
        stop_timeout: drain,
    };
    let serve = |Peer(peer): Peer| {
        let shared = shared.clone();
        service_fn(move |request| {
            let shared = shared.clone();
            async move { Ok::<_, Infallible>(shared.answer(request, peer.ip()).await) }
        })
    };
    let drained = async {
        server.run(listener, serve, shared.teller(), stop.clone()).await;
        shared.runs.close();
        shared.runs.wait().await;
    };
    let too_late = async {
        stop.cancelled().await;
        sleep(drain).await;
    };
    tokio::select! {
        biased;
        () = drained => {}
        () = too_late => {
            let runs = shared.runs.len();
            tracing::warn!(runs, "the mediator stops with requests under way");
        }
    }
    followed.abort();
}

/// Swaps the plan when the registry has changed.
async fn follow(shared: Arc<Shared>, stop: CancellationToken) {
    let mut changes = shared.view.changes();
    changes.mark_changed();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            changed = changes.changed() => if changed.is_err() { return },
        }
        let snapshot = shared.view.snapshot();
        let last = shared.plan.load_full();
        // Compiling many routes takes its time.
        let next = tokio::task::spawn_blocking(move || Plan::of(&snapshot, &last)).await;
        match next {
            Ok(next) => shared.plan.store(Arc::new(next)),
            Err(error) => {
                tracing::error!(%error, "routes could not be compiled; the last plan stays")
            }
        }
    }
}

type Response = http::Response<Full<Bytes>>;

impl Shared {
    fn teller(&self) -> Teller {
        Teller { emitter: self.runner.emitter.clone(), service: "weir-mediator" }
    }

    async fn answer(
        self: Arc<Self>,
        request: http::Request<RequestBody>,
        peer: IpAddr,
    ) -> Response {
        let correlation = Correlation::of(request.headers(), || fastrand::u64(..));
        let mut response = match self.clone().take(request, &correlation).await {
            Ok(Taken { request, place }) => match self.run(request, place).await {
                Ok(response) => response,
                Err(problem) => problem_response(&problem, &correlation),
            },
            Err(Refused { problem, allow }) => {
                self.teller().refused(peer, &correlation, problem.code);
                let mut response = problem_response(&problem, &correlation);
                if let Some(allow) = allow {
                    response.headers_mut().insert(ALLOW, allow);
                }
                response
            }
        };
        response.headers_mut().insert(CORRELATION_HEADER, correlation.id_header());
        response
    }

    /// Reads a request, and finds its route.
    async fn take(
        self: Arc<Self>,
        request: http::Request<RequestBody>,
        correlation: &Correlation,
    ) -> Result<Taken, Refused> {
        let Ok(place) = self.in_flight.clone().try_acquire_owned() else {
            return Err(Code::Overloaded.into());
        };
        if !has_one_host(request.version(), request.headers()) {
            return Err(Problem::new(Code::RequestMalformed, ONE_HOST).into());
        }
        let snapshot = self.view.snapshot();
        let (mut head, body) = request.into_parts();
        correlation.drop_stray_state(&mut head.headers);
        let (route, parameters) = match self.plan.load().find(&head.method, head.uri.path()) {
            Found::Route(route, parameters) => (route, parameters),
            Found::OtherMethods(methods) => {
                let methods: Vec<&str> = methods.iter().map(http::Method::as_str).collect();
                let allow = HeaderValue::from_str(&methods.join(", ")).ok();
                return Err(Refused { problem: Code::MethodNotAllowed.into(), allow });
            }
            Found::Nothing => return Err(Code::RouteNotFound.into()),
        };
        // Before any work is done.
        self.runner.emitter.admit().map_err(|_| Code::EventsUnavailable)?;
        let path = parameters
            .iter()
            .map(|(name, value)| Some((name.as_str(), decode(value)?)))
            .collect::<Option<Vec<_>>>()
            .map(json::object);
        let query = read_query(head.uri.query().unwrap_or_default());
        let (Some(path), Some(query)) = (path, query) else {
            let detail = "the path or the query is not percent-encoded UTF-8";
            return Err(Problem::new(Code::RequestMalformed, detail).into());
        };
        let body = self.read(body, &head.headers, route.http().body_bytes_max).await?;
        // Several are one that is no key: none of them may be chosen here.
        let keys = head.headers.get_all("idempotency-key").iter();
        let keys: Vec<_> = keys.map(|key| String::from_utf8_lossy(key.as_bytes())).collect();
        let request = Request {
            idempotency_key: (!keys.is_empty()).then(|| keys.join(", ")),
            route,
            snapshot,
            method: head.method,
            path,
            query,
            correlation: correlation.clone(),
            message: Message::new(head.headers, body),
        };
        Ok(Taken { request, place })
    }

    /// Runs a request to its end, though its caller may go away.
    async fn run(
        self: Arc<Self>,
        request: Request,
        place: OwnedSemaphorePermit,
    ) -> Result<Response, Problem> {
        let this = self.clone();
        let run = self.runs.spawn(async move {
            let _held = place;
            Box::pin(this.runner.run(request)).await
        });
        let answer = run.await.map_err(|error| {
            tracing::error!(%error, "a run broke off");
            Code::InternalError
        })??;
        // What these say has no body (RFC 9110, sections 15.3.5 and 15.4.5).
        let is_bare = matches!(answer.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let body = if is_bare { Bytes::new() } else { answer.body };
        let mut response = http::Response::new(Full::new(body));
        *response.status_mut() = answer.status;
        *response.headers_mut() = answer.headers;
        // The length is of the body that is sent.
        response.headers_mut().remove(CONTENT_LENGTH);
        Ok(response)
    }

    async fn read(
        &self,
        body: RequestBody,
        headers: &http::HeaderMap,
        max: u64,
    ) -> Result<Bytes, Refused> {
        let too_large = || Problem::new(Code::BodyTooLarge, format!("{max} bytes at most"));
        let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok());
        if length.and_then(|length| length.parse::<u64>().ok()).is_some_and(|bytes| bytes > max) {
            return Err(too_large().into());
        }
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        match timeout(self.body_timeout, Limited::new(body, max).collect()).await {
            Ok(Ok(body)) => Ok(body.to_bytes()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large().into()),
            Ok(Err(_)) => Err(Code::RequestMalformed.into()),
            Err(_) => Err(Code::RequestTimeout.into()),
        }
    }
}

/// A request that a route takes, and its place among those under way.
struct Taken {
    request: Request,
    place: OwnedSemaphorePermit,
}

/// Why a request is not run. Its event is yet to be written.
struct Refused {
    problem: Problem,
    allow: Option<HeaderValue>,
}

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Self { problem, allow: None }
    }
}

impl From<Code> for Refused {
    fn from(code: Code) -> Self {
        Problem::from(code).into()
    }
}

fn problem_response(problem: &Problem, correlation: &Correlation) -> Response {
    let mut response = http::Response::new(Full::new(problem.body(&correlation.id)));
    *response.status_mut() = problem.code.status();
    if problem.code == Code::RequestMalformed {
        // Who else reads the connection may see other requests in it.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    let content_type = HeaderValue::from_static(PROBLEM_CONTENT_TYPE);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

fn decode(text: &str) -> Option<String> {
    percent_decode_str(text).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}

/// The parameters of a query, of each the first, as forms write them.
fn read_query(query: &str) -> Option<Value> {
    let mut pairs = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        pairs.push((decode(&name.replace('+', " "))?, decode(&value.replace('+', " "))?));
    }
    Some(json::object(pairs.iter().map(|(name, value)| (name.as_str(), value.clone()))))
}
