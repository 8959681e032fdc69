use std::sync::Arc;
use std::time::Duration;

use http::header::HOST;
use http::{HeaderMap, Method, Request, Response, Uri};
use hyper::body::{Body as _, Incoming};
use ingest::http::Code;
use tokio::time::{Instant, timeout_at};

use super::{Group, Lease, Target, Upstreams};
use crate::http::RequestBody;

/// A request on its way to an upstream, before it is known to which target.
#[derive(Clone)]
pub(crate) struct Forward {
    pub(crate) method: Method,
    /// Path and query below the API's prefix; may be empty.
    pub(crate) rest: String,
    /// The headers; `Host` will be the target's.
    pub(crate) headers: HeaderMap,
}

/// What became of the attempts, for the event.
#[derive(Default)]
pub(crate) struct Calls {
    pub(crate) attempts: i64,
    /// The target that was tried last.
    pub(crate) address: Option<Arc<str>>,
    /// How long the last connecting took.
    pub(crate) connect: Option<Duration>,
    /// When the request was sent last.
    pub(crate) sent: Option<Instant>,
    /// How long the answer's head took from then on.
    pub(crate) first_byte: Option<Duration>,
}

/// How an attempt failed.
enum Failed {
    /// Nothing was sent: here is all of it back.
    Unsent(Code, Box<(Forward, RequestBody)>),
    /// The connection broke before an answer.
    Broken,
    /// No answer in time.
    TimedOut,
}

impl Upstreams {
    /// Sends a request and waits for the head of its answer, at most until `deadline`.
    ///
    /// # Errors
    /// One of the codes `upstream_*`.
    pub(crate) async fn send(
        &self,
        group: &Group,
        mut forward: Forward,
        mut body: RequestBody,
        deadline: Instant,
        calls: &mut Calls,
    ) -> Result<(Response<Incoming>, Lease), Code> {
        let is_repeatable =
            group.may_repeat && body.is_end_stream() && is_idempotent(&forward.method);
        let intake = body.intake();
        let mut avoided = None;
        loop {
            let target = self.pick(group, avoided);
            let is_last = calls.attempts > 0 || !group.may_retry;
            calls.attempts += 1;
            calls.address = Some(target.address.clone());
            let again = (is_repeatable && !is_last).then(|| forward.clone());
            let attempt = self.attempt(group, target, forward, body, deadline, calls);
            match attempt.await {
                Ok(answer) => return Ok(answer),
                // The target could not answer what the client had not sent.
                Err(Failed::TimedOut) if intake.is_awaited.get() => {
                    intake.fault.set(Some(Code::RequestTimeout));
                    return Err(Code::RequestTimeout);
                }
                Err(Failed::TimedOut) => return Err(Code::UpstreamTimeout),
                Err(Failed::Unsent(code, ..)) if is_last => return Err(code),
                Err(Failed::Unsent(_, unsent)) => (forward, body) = *unsent,
                Err(Failed::Broken) => {
                    let Some(unsent) = again else { return Err(Code::UpstreamBroken) };
                    (forward, body) = (unsent, RequestBody::empty());
                }
            }
            avoided = Some(target);
        }
    }

    async fn attempt(
        &self,
        group: &Group,
        target: &Target,
        forward: Forward,
        body: RequestBody,
        deadline: Instant,
        calls: &mut Calls,
    ) -> Result<(Response<Incoming>, Lease), Failed> {
        let rest = forward.rest.clone();
        let intake = body.intake();
        let mut request = match forward.request(target, body) {
            Ok(request) => request,
            Err(()) => return Err(Failed::Broken),
        };
        loop {
            let (mut lease, is_fresh) = match self.take(target) {
                Some(lease) => (lease, false),
                None => match self.open(group, target, deadline, calls).await {
                    Ok(lease) => (lease, true),
                    Err(code) => {
                        return Err(Failed::Unsent(code, Box::new(Forward::back(request, rest))));
                    }
                },
            };
            let sent = Instant::now();
            calls.sent = Some(sent);
            let mut until = deadline.min(sent + group.response_timeout);
            let mut sending = std::pin::pin!(lease.connection().send(request));
            let answered = loop {
                let answered = lease.connection().answered(sending.as_mut(), until).await;
                // A target owes no answer while the body is still on its way.
                let since = match intake.is_awaited.get() {
                    // How long a client may pause is for its own limit to say.
                    true => Instant::now(),
                    false => intake.last.get().unwrap_or(sent),
                };
                let owed = (since + group.response_timeout).min(deadline);
                if answered.is_some() || owed <= until {
                    break answered;
                }
                until = owed;
            };
            match answered {
                Some(Ok(response)) => {
                    calls.first_byte = Some(sent.elapsed());
                    if !intake.is_over.get() {
                        lease.connection().go_alone();
                    }
                    return Ok((response, lease));
                }
                None => return Err(Failed::TimedOut),
                Some(Err(mut error)) => match error.take_message() {
                    // The target had closed it while it was idle.
                    Some(unsent) if !is_fresh => request = unsent,
                    _ => return Err(Failed::Broken),
                },
            }
        }
    }

    async fn open(
        &self,
        group: &Group,
        target: &Target,
        deadline: Instant,
        calls: &mut Calls,
    ) -> Result<Lease, Code> {
        let begun = Instant::now();
        let until = deadline.min(begun + group.connect_timeout);
        let opened = timeout_at(until, self.connector.connect(target)).await;
        calls.connect = Some(begun.elapsed());
        match opened.unwrap_or(Err(Code::UpstreamConnectTimeout)) {
            Ok(connection) => Ok(self.lease(target, connection)),
            Err(code) => {
                self.suspend(target);
                Err(code)
            }
        }
    }
}

impl Forward {
    fn request(self, target: &Target, body: RequestBody) -> Result<Request<RequestBody>, ()> {
        let Self { method, rest, mut headers } = self;
        let slash = if target.base.is_empty() && !rest.starts_with('/') { "/" } else { "" };
        let path = if target.base.is_empty() && slash.is_empty() {
            rest
        } else {
            format!("{}{slash}{rest}", target.base)
        };
        headers.insert(HOST, target.host_header.clone());
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = Uri::try_from(path).map_err(|_| ())?;
        *request.headers_mut() = headers;
        Ok(request)
    }

    fn back(request: Request<RequestBody>, rest: String) -> (Self, RequestBody) {
        let (parts, body) = request.into_parts();
        (Self { method: parts.method, rest, headers: parts.headers }, body)
    }
}

/// RFC 9110, section 9.2.2.
fn is_idempotent(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE | Method::TRACE
    )
}
