//! The way of a request, from top to bottom.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use http::header::{
    ALLOW, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, HOST, HeaderName, HeaderValue,
    TRANSFER_ENCODING, UPGRADE,
};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode, Version};
use hyper::body::{Body as _, Incoming};
use ingest::http::{
    CORRELATION_HEADER, Code, Correlation, ONE_HOST, Problem, TRACE_HEADER, has_one_host,
};
use mediator::endpoint::http::remove_hop_by_hop;
use tokio::time::Instant;

use super::admission::{Asked, Refusal, headers_of};
use super::answer::{After, problem_answer};
use super::body::{AnswerBody, CutOff, RequestBody, Stream};
use super::connection::Peer;
use super::forwarded::{client_address, set_forwarded};
use super::record::Record;
use super::replay::{self, Replayed};
use super::thread::Thread;
use super::watch::{Busy, Upload};
use crate::publish::{Matched, Missed, Table, Way};
use crate::throttle::Values;
use crate::upstream::{Calls, Forward};

/// Why a request goes no further.
struct Stop {
    problem: Problem,
    headers: Vec<(HeaderName, HeaderValue)>,
    after: After,
}

impl From<Code> for Stop {
    fn from(code: Code) -> Self {
        Problem::from(code).into()
    }
}

impl From<Problem> for Stop {
    fn from(problem: Problem) -> Self {
        Self { problem, headers: Vec::new(), after: After::Keep }
    }
}

impl Stop {
    fn closing(self) -> Self {
        Self { after: After::Close, ..self }
    }
}

/// Answers a request. An error closes the connection without an answer.
pub(super) async fn serve(
    thread: Rc<Thread>,
    peer: Rc<Peer>,
    busy: Busy,
    request: Request<Incoming>,
) -> Result<Response<AnswerBody>, CutOff> {
    // Where the request stands in its journey: every answer names it, also a refusal.
    let correlation = Correlation::of(request.headers(), || thread.random());
    // Work whose event would not be kept is refused before it is done.
    if thread.emitter.admit().is_err() {
        let problem = Code::EventsUnavailable.into();
        let after = if request.body().is_end_stream() { After::Keep } else { After::Close };
        return Ok(problem_answer(&problem, &correlation, Vec::new(), after).0);
    }
    let (mut parts, body) = request.into_parts();
    let replayed = replay::take(thread.replay_token.as_ref(), &mut parts.headers);
    if let Ok(Some(replayed)) = &replayed
        && let Some(asked) = replay::Control::of(&parts, replayed)
    {
        return Ok(asked.answer(&thread.emitters, &correlation).await);
    }
    let mut record = Record::begin(&thread, &peer);
    record.correlation(&correlation);
    record.request(&parts);
    let has_body = !body.is_end_stream();
    let passed = match replayed {
        Ok(replayed) => {
            let upload = has_body.then(|| busy.upload());
            let whole = Whole { parts, body, upload, replayed };
            pass(&thread, &peer, &correlation, whole, &mut record).await
        }
        Err(problem) => Err(problem.into()),
    };
    let mut answer = match passed {
        Ok(Passed { mut answer, lease, deadline }) => {
            remove_hop_by_hop(answer.headers_mut());
            // The client's own version, whichever the upstream speaks: hyper answers a
            // client of HTTP/1.0 by that (RFC 9110, section 2.5).
            *answer.version_mut() = Version::HTTP_11;
            answer.headers_mut().insert(CORRELATION_HEADER, correlation.id_header());
            record.answering(answer.status(), answer.headers());
            let is_over = answer.body().is_end_stream();
            if is_over {
                // hyper does not ask for a body that there is none of.
                record.answered()?;
            }
            let wrap = |incoming| Stream::new(incoming, record, lease, deadline, busy);
            answer.map(|incoming| AnswerBody::Upstream(Box::new(wrap(incoming))))
        }
        // The client is gone: there is nobody to tell.
        Err(Stop { problem: Problem { code: Code::ClientClosed, .. }, .. }) => {
            record.failed(Code::ClientClosed);
            return Err(CutOff(Code::ClientClosed));
        }
        Err(Stop { problem, headers, after }) => {
            // What is left of a body would be read only to be thrown away.
            let after = if has_body { After::Close } else { after };
            let (answer, bytes) = problem_answer(&problem, &correlation, headers, after);
            record.refused(problem.code, bytes)?;
            answer
        }
    };
    if thread.draining.is_cancelled() {
        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(answer)
}

/// A request as it came, and what is believed of it.
struct Whole {
    parts: Parts,
    body: Incoming,
    upload: Option<Upload>,
    replayed: Option<Replayed>,
}

struct Passed {
    answer: Response<Incoming>,
    lease: crate::upstream::Lease,
    deadline: Instant,
}

async fn pass(
    thread: &Rc<Thread>,
    peer: &Peer,
    correlation: &Correlation,
    Whole { parts, body, upload, replayed }: Whole,
    record: &mut Record,
) -> Result<Passed, Stop> {
    let arrived = record.started();
    let limits = &thread.config.limits;
    let table = record.table().clone();
    record.event().config_hash = Some(table.config_hash().clone().into());
    record.event().config_revision = Some(table.revision());
    // A thread that has more than it can hold says so at once.
    if thread.in_flight.get() > limits.requests_max {
        return Err(Code::Overloaded.into());
    }
    // What could be read in two ways is not passed on, and nothing after it is read.
    check_form(&parts, limits.url_bytes_max)?;
    let client = match &replayed {
        Some(replayed) => {
            record.replayed(replayed);
            replayed.client
        }
        None => client_address(&parts.headers, peer.ip, |ip| thread.config.is_trusted(ip)),
    };
    if client != peer.ip {
        record.event().client_address = Some(client.to_string().into());
        record.event().client_port = None;
    }
    // Whom a decision is against learns nothing of what there is.
    if replayed.is_none() {
        judge(thread, client, record)?;
    }
    // What is asked for decides which rules hold.
    let matched = find(&table, &parts, record)?;
    record.matched(&matched);
    // Who may: before a byte of the body is read, and before the upstream hears of it.
    let asked = (client, replayed.is_some());
    let told = authorize(thread, &table, &matched, &parts, asked, record)?;
    // A body that is announced as too large is refused unread; one that is not
    // announced is cut off where it passes the limit.
    let bytes_max = matched.api.spec.body_bytes_max;
    if body.size_hint().lower() > bytes_max {
        return Err(Stop::from(too_large(bytes_max)).closing());
    }
    let idle = thread.config.timeouts.body_idle();
    let copied = record.capture(&matched, &parts.headers);
    let (body, intake) = RequestBody::new(body, upload, bytes_max, idle, copied);
    record.intake(intake.clone());
    let deadline = arrived + Duration::from_millis(matched.api.spec.timeout_ms);
    let mut forward = forward_of(peer, correlation, parts, &matched);
    if let Some(replayed) = replayed {
        replayed.tell(&mut forward.headers);
    }
    let (group, mut calls) = (&matched.api.upstream, Calls::default());
    let sent = thread.upstreams.send(group, forward, body, deadline, &mut calls).await;
    record.calls(group, calls);
    match sent {
        // No upgrade was asked for.
        Ok((answer, _)) if answer.status() == StatusCode::SWITCHING_PROTOCOLS => {
            Err(Code::UpstreamBroken.into())
        }
        // Its end is where its chunks say, or where its length says: who answers so may
        // have been deceived, and its connection is not used again.
        Ok((answer, _))
            if answer.headers().contains_key(TRANSFER_ENCODING)
                && answer.headers().contains_key(CONTENT_LENGTH) =>
        {
            Err(Code::UpstreamProtocol.into())
        }
        Ok((mut answer, lease)) => {
            // A caller that slows down in time is never refused.
            for (name, value) in told.into_iter().flat_map(headers_of) {
                answer.headers_mut().insert(name, value);
            }
            Ok(Passed { answer, lease, deadline })
        }
        Err(code) => match intake.fault.get() {
            Some(Code::BodyTooLarge) => Err(Stop::from(too_large(bytes_max)).closing()),
            Some(fault) => Err(Stop::from(fault).closing()),
            None => Err(code.into()),
        },
    }
}

fn too_large(bytes_max: u64) -> Problem {
    Problem::new(Code::BodyTooLarge, format!("at most {bytes_max} bytes are taken here"))
}

/// Refuses what hyper takes, but an upstream may read otherwise, and what is not there.
fn check_form(parts: &Parts, url_bytes_max: usize) -> Result<(), Stop> {
    let target = parts.uri.path_and_query().map_or("", |target| target.as_str());
    if target.len() > url_bytes_max {
        let detail = format!("at most {url_bytes_max} bytes are taken");
        return Err(Stop::from(Problem::new(Code::UrlTooLong, detail)).closing());
    }
    if !has_one_host(parts.version, &parts.headers) {
        let problem = Problem::new(Code::RequestMalformed, ONE_HOST);
        return Err(Stop::from(problem).closing());
    }
    // A name and a password before the host are for nobody here, and would be passed on
    // as a part of the host (RFC 9110, section 4.2.4).
    let authority = parts.uri.authority().is_some_and(|named| named.as_str().contains('@'));
    if authority || parts.headers.get(HOST).is_some_and(|host| host.as_bytes().contains(&b'@')) {
        let problem =
            Problem::new(Code::RequestMalformed, "leave user and password out of the host");
        return Err(Stop::from(problem).closing());
    }
    // Other upgrades are offers, which need not be taken (RFC 9110, section 7.8).
    let is_websocket =
        |value: &HeaderValue| value.as_bytes().to_ascii_lowercase().starts_with(b"websocket");
    if parts.method == Method::CONNECT || parts.headers.get_all(UPGRADE).iter().any(is_websocket) {
        return Err(Stop::from(Code::NotImplemented).closing());
    }
    Ok(())
}

fn find(table: &Table, parts: &Parts, record: &mut Record) -> Result<Matched, Stop> {
    table.find(&parts.method, parts.uri.path()).map_err(|missed| match missed {
        Missed::Path(fault) => {
            Stop::from(Problem::new(Code::RequestMalformed, fault.to_string())).closing()
        }
        Missed::Api => Code::ApiNotFound.into(),
        Missed::Retired(api) => {
            record.api(&api);
            Code::ApiRetired.into()
        }
        Missed::Resource(api) => {
            record.api(&api);
            Code::ResourceNotFound.into()
        }
        Missed::Method(api, allow) => {
            record.api(&api);
            let allow = HeaderValue::try_from(allow).expect("methods are a header's value");
            Stop { headers: vec![(ALLOW, allow)], ..Code::MethodNotAllowed.into() }
        }
    })
}

/// The decisions against an address.
fn judge(thread: &Thread, client: IpAddr, record: &mut Record) -> Result<(), Stop> {
    let (mut admission, now_ms) = (thread.admission.borrow_mut(), started_ms(record));
    let judged = admission.judge(client, now_ms, record.event());
    judged.map_err(|Refusal { problem, headers }| Stop { headers, ..problem.into() })
}

fn started_ms(record: &mut Record) -> u64 {
    u64::try_from(record.event().event_time.as_micros() / 1_000).unwrap_or(0)
}

/// Deny rules, allow list, authentication, subscription and limits, in this order.
fn authorize(
    thread: &Thread,
    table: &Table,
    matched: &Matched,
    parts: &Parts,
    (client, is_replayed): (IpAddr, bool),
    record: &mut Record,
) -> Result<Option<Values>, Stop> {
    let now_ms = started_ms(record);
    let asked = Asked { table, matched, parts, client, now_ms, is_replayed };
    let decided = thread.admission.borrow_mut().authorize(&asked, record.event());
    decided.map_err(|Refusal { problem, headers }| Stop { headers, ..problem.into() })
}

/// The request as the upstream gets it.
fn forward_of(peer: &Peer, correlation: &Correlation, parts: Parts, matched: &Matched) -> Forward {
    let host = match parts.uri.authority() {
        Some(authority) => HeaderValue::from_str(authority.as_str()).ok(),
        None => parts.headers.get(HOST).cloned(),
    };
    let target = parts.uri.path_and_query().map_or("", |target| target.as_str());
    let rest = target[matched.prefix_bytes..].to_owned();
    let mut headers = parts.headers;
    // A token that was checked here stays here: who gets it could call as the caller.
    if matched.resource.access.way == Way::Token {
        headers.remove(AUTHORIZATION);
    }
    let length = headers.get(CONTENT_LENGTH).cloned();
    remove_hop_by_hop(&mut headers);
    // `Connection` cannot take the length away, nor what is set below.
    if let Some(length) = length {
        headers.insert(CONTENT_LENGTH, length);
    }
    correlation.drop_stray_state(&mut headers);
    set_forwarded(&mut headers, &peer.forwarded_for, peer.scheme, host, peer.is_trusted);
    headers.insert(TRACE_HEADER, correlation.trace_header());
    headers.insert(CORRELATION_HEADER, correlation.id_header());
    Forward { method: parts.method, rest, headers }
}
