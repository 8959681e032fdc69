//! One attempt to deliver a message: the request, its end, and the events of it.

use std::sync::Arc;
use std::time::Duration;

use fail::fail_point;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use ingest::event::{Event, Kind, Outcome, Timestamp};
use ingest::registry::kind::{Method, Queue, Upstream};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

use super::accept::key_text;
use super::partition::Start;
use super::retry::{Attempted, Reason, Times, Verdict, decide};
use super::stored::Message;
use super::worker::Shared;
use crate::endpoint::http::{CallError, Request, Sent, is_hop_by_hop};
use ingest::http::{CORRELATION_HEADER, Code, TRACE_HEADER};

/// The message's id, the same with every attempt, for ever.
pub const IDEMPOTENCY_KEY_HEADER: HeaderName = HeaderName::from_static("idempotency-key");
/// The ordering key, percent-encoded but for letters, digits and `-._~`.
pub const ORDERING_KEY_HEADER: HeaderName = HeaderName::from_static("weir-ordering-key");
/// The message's place in its partition, which grows within its key.
pub const SEQUENCE_HEADER: HeaderName = HeaderName::from_static("weir-sequence");
/// Which owner of the partition makes the attempt; a later one has a higher number.
pub const OWNER_EPOCH_HEADER: HeaderName = HeaderName::from_static("weir-owner-epoch");
/// The number of the attempt, from 1.
pub const ATTEMPT_HEADER: HeaderName = HeaderName::from_static("weir-attempt");

/// Characters of a key that stay as they are (RFC 3986, section 2.3).
const KEY_ESCAPED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// How often an event is offered again to a spool that does not take it.
const SPOOL_RETRY: Duration = Duration::from_millis(100);
/// How long a message waits whose queue the registry has no more.
const ORPHAN_WAIT_MICROS: i64 = 1_000_000;

/// Whose attempt it is.
#[derive(Debug, Clone)]
pub(super) struct Attempt {
    pub(super) shared: Arc<Shared>,
    pub(super) partition: u32,
    pub(super) epoch: u64,
    pub(super) seed: u64,
}

/// What an attempt came to. Its events are written.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) message: Arc<Message>,
    pub(super) verdict: Verdict,
    pub(super) attempts: u64,
    pub(super) status: Option<http::StatusCode>,
    pub(super) error: Option<Code>,
    pub(super) at: Timestamp,
}

impl Attempt {
    /// Makes the attempt. Answers after its events are in the spool: a spool that
    /// does not take them holds it back.
    pub(super) async fn run(self, start: Start) -> Done {
        let Start { message, attempt, ending } = start;
        let snapshot = self.shared.parts.view.snapshot();
        let Some(queue) = snapshot.get::<Queue>(&self.shared.queue) else {
            let at = self.shared.parts.clock.now();
            let due = Timestamp::from_micros(at.as_micros() + ORPHAN_WAIT_MICROS);
            let verdict = Verdict::Retry { due };
            return Done { message, verdict, attempts: attempt, status: None, error: None, at };
        };
        let started = tokio::time::Instant::now();
        let (attempted, address) = if let Some(ending) = ending {
            (Attempted::Not(ending), None)
        } else if attempt > queue.retry.attempts_max {
            (Attempted::UsedUp, None)
        } else {
            match snapshot.get::<Upstream>(&queue.deliver.upstream) {
                Some(upstream) => self.call(queue, upstream, &message, attempt).await,
                None => (Attempted::Failed(Code::UpstreamUnreachable), None),
            }
        };
        fail_point!("attempt::made");
        let latency = started.elapsed();
        let at = self.shared.parts.clock.now();
        let mut random = fastrand::Rng::with_seed(self.seed);
        let (accepted, expires) = (message.accepted(), message.expires());
        let times = Times { accepted, expires, now: at };
        let verdict = decide(queue, &attempted, attempt, times, &mut random);
        let attempts = match attempted {
            Attempted::Not(_) => attempt,
            _ => attempt.min(queue.retry.attempts_max),
        };
        let target = queue.deliver.upstream.as_str().to_owned();
        let tell = || {
            let mut events = Vec::with_capacity(2);
            let is_made = matches!(attempted, Attempted::Answered { .. } | Attempted::Failed(_));
            if is_made || matches!(verdict, Verdict::Held(_)) {
                let mut event = self.event(Kind::Delivery, &message, verdict, &attempted, attempts);
                event.delivery_target = Some(target.clone().into());
                event.upstream_name = Some(target.clone().into());
                event.upstream_address = address.clone().map(Into::into);
                event.latency_total_us = i64::try_from(latency.as_micros()).ok();
                events.push(event);
            }
            if let Verdict::Dead(_) = verdict {
                let mut event =
                    self.event(Kind::DeadLetter, &message, verdict, &attempted, attempts);
                event.delivery_target = Some(target.clone().into());
                events.push(event);
            }
            self.shared.parts.emitter.emit_all(&mut events)
        };
        let mut is_told = false;
        while let Err(error) = tell() {
            if !std::mem::replace(&mut is_told, true) {
                let queue = self.shared.queue.as_str();
                tracing::warn!(queue, %error, "deliveries wait for the events' spool");
            }
            tokio::time::sleep(SPOOL_RETRY).await;
        }
        fail_point!("attempt::told");
        let (status, error) = (attempted.status(), attempted.error());
        Done { message, verdict, attempts, status, error, at }
    }

    async fn call(
        &self,
        queue: &Queue,
        upstream: &Upstream,
        message: &Message,
        attempt: u64,
    ) -> (Attempted, Option<String>) {
        let deliver = &queue.deliver;
        let mut request =
            Request::new(method(deliver.method), deliver.path.as_str(), message.body());
        request.timeout = Duration::from_millis(deliver.timeout_ms);
        request.headers = self.headers(queue, message, attempt);
        let called = self.shared.parts.caller.call(&deliver.upstream, upstream, request).await;
        match &called {
            Err(error) if is_away(error) => self.shared.turns.missed(&error.reason),
            _ => self.shared.turns.found(),
        }
        match called {
            Ok(answer) => {
                let retry_after = answer.headers.get(RETRY_AFTER).and_then(|v| v.to_str().ok());
                let retry_after = retry_after.map(str::to_owned);
                (Attempted::Answered { status: answer.status, retry_after }, Some(answer.address))
            }
            Err(error) => (Attempted::Failed(error.code), Some(error.address)),
        }
    }

    /// Weir's own headers stand above the queue's, and those above the message's.
    fn headers(&self, queue: &Queue, message: &Message, attempt: u64) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in message.headers().filter(|(name, _)| !is_hop_by_hop(name)) {
            headers.append(name, value);
        }
        if let Some(content_type) = message.content_type() {
            headers.insert(CONTENT_TYPE, content_type);
        }
        for (name, value) in &queue.deliver.headers {
            if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse()) {
                headers.insert(name, value);
            }
        }
        let mut set = |name: HeaderName, text: &str| {
            headers.remove(&name);
            if let Ok(value) = HeaderValue::from_str(text) {
                headers.insert(name, value);
            }
        };
        set(IDEMPOTENCY_KEY_HEADER, &self.id(message));
        if let Some(correlation_id) = message.correlation_id() {
            set(CORRELATION_HEADER, correlation_id);
        }
        if let Some(trace_parent) = message.trace_parent() {
            set(TRACE_HEADER, trace_parent);
        }
        match message.key() {
            Some(key) => set(ORDERING_KEY_HEADER, &percent_encode(key, KEY_ESCAPED).to_string()),
            None => drop(headers.remove(ORDERING_KEY_HEADER)),
        }
        let mut set = |name: HeaderName, number: u64| headers.insert(name, number.into());
        set(SEQUENCE_HEADER, message.offset());
        set(OWNER_EPOCH_HEADER, self.epoch);
        set(ATTEMPT_HEADER, attempt);
        headers
    }

    fn id(&self, message: &Message) -> String {
        message.id(&self.shared.topics.messages(self.partition)).into_owned()
    }

    fn event(
        &self,
        kind: Kind,
        message: &Message,
        verdict: Verdict,
        attempted: &Attempted,
        attempts: u64,
    ) -> Event {
        let (outcome, error) = match attempted {
            _ if verdict == Verdict::Delivered => (Outcome::Success, None),
            Attempted::Answered { .. } => {
                (Code::UpstreamError.outcome(), Some(Code::UpstreamError))
            }
            Attempted::Failed(code) => (code.outcome(), Some(*code)),
            Attempted::UsedUp | Attempted::Not(_) => (Outcome::Unknown, None),
        };
        let mut event = self.shared.parts.emitter.event(kind, outcome);
        event.error_type = error.map(|code| code.text().into());
        event.correlation_id = message.correlation_id().map(|id| id.to_owned().into());
        let trace = message.trace_parent().and_then(|text| text.get(3..35));
        event.trace_id = trace.map(|trace| trace.to_owned().into());
        event.messaging_message_id = Some(self.id(message).into());
        event.delivery_queue = Some(self.shared.queue.to_string().into());
        event.delivery_key = message.key().map(key_text);
        event.delivery_attempt = i64::try_from(attempts).ok();
        event.delivery_sequence = i64::try_from(message.offset()).ok();
        event.delivery_owner_epoch = i64::try_from(self.epoch).ok();
        event.delivery_accepted_time = Some(message.accepted());
        event.upstream_status_code = attempted.status().map(|s| i64::from(s.as_u16()));
        let reason = |reason: Reason| Some(reason.text().into());
        let text = match verdict {
            Verdict::Delivered => "delivered",
            Verdict::Retry { due } => {
                event.delivery_next_attempt_time = Some(due);
                "retry"
            }
            Verdict::Dead(why) => {
                event.fault_code = reason(why);
                "dead"
            }
            Verdict::Held(why) => {
                event.fault_code = reason(why);
                "held"
            }
        };
        event.delivery_outcome = Some(text.into());
        event
    }
}

/// Whether a target took no connection.
fn is_away(error: &CallError) -> bool {
    let codes = [Code::UpstreamUnreachable, Code::UpstreamConnectTimeout, Code::UpstreamTlsFailed];
    error.sent == Sent::NotSent && error.attempts > 0 && codes.contains(&error.code)
}

fn method(method: Method) -> http::Method {
    match method {
        Method::Get => http::Method::GET,
        Method::Head => http::Method::HEAD,
        Method::Post => http::Method::POST,
        Method::Put => http::Method::PUT,
        Method::Patch => http::Method::PATCH,
        Method::Delete => http::Method::DELETE,
        Method::Options => http::Method::OPTIONS,
    }
}
