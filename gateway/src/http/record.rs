//! The one event of a request.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::header::HOST;
use http::request::Parts;
use http::{HeaderMap, HeaderName, Method, Version};
use ingest::event::{Event, Outcome, Text, Timestamp};
use ingest::http::{Code, Correlation};
use tokio::time::Instant;

use super::body::{CutOff, Intake};
use super::capture::{Capture, Copied};
use super::connection::Peer;
use super::replay::Replayed;
use super::thread::Thread;
use crate::config::Telling;
use crate::publish::{Matched, PublishedApi, Table};
use crate::upstream::{Calls, Group};

/// The most of a User-Agent and a Referer that an event keeps, in bytes.
const TEXT_BYTES_MAX: usize = 1_024;

/// A request's event on its way to the spool. Dropped before it is written, it says
/// that the client went away, which is what hyper drops a request for, or that the
/// gateway stopped.
pub(super) struct Record {
    /// Boxed, since it is 3 KB and waits for the upstream. None once it is written.
    event: Option<Box<Event>>,
    thread: Rc<Thread>,
    /// The configuration that the request began with, and ends with.
    table: Arc<Table>,
    started: Instant,
    intake: Option<Rc<Intake>>,
    /// None if its API keeps nothing of what it carries.
    capture: Option<Box<Capture>>,
    bytes_sent: u64,
    sent: Option<Instant>,
    /// When it happened, if that was not now.
    happened: Option<Timestamp>,
}

impl Record {
    pub(super) fn begin(thread: &Rc<Thread>, peer: &Peer) -> Self {
        let mut event = thread.event();
        event.service_name = Some(Text::from_static("weir-gateway"));
        event.service_version = Some(Text::from_static(env!("CARGO_PKG_VERSION")));
        event.network_protocol_name = Some(Text::from_static("http"));
        event.url_scheme = Some(Text::from_static(peer.scheme));
        event.client_address = Some(peer.address.clone());
        event.client_port = Some(peer.port);
        event.network_peer_address = Some(peer.address.clone());
        event.tls_protocol_version.clone_from(&peer.tls_version);
        event.tls_cipher.clone_from(&peer.tls_cipher);
        let (thread, table, started) = (thread.clone(), thread.table(), Instant::now());
        Self {
            event: Some(event),
            thread,
            table,
            started,
            intake: None,
            capture: None,
            bytes_sent: 0,
            sent: None,
            happened: None,
        }
    }

    /// When the request was there.
    pub(super) fn started(&self) -> Instant {
        self.started
    }

    /// The configuration: all of the request sees the same one.
    pub(super) fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// The event, until it is written.
    pub(super) fn event(&mut self) -> &mut Event {
        self.event.as_mut().expect("an event is filled before it is written")
    }

    pub(super) fn request(&mut self, parts: &Parts) {
        let event = self.event();
        event.http_request_method = Some(method_text(&parts.method));
        event.url_path = Some(shared(parts.uri.path()));
        event.url_query = parts.uri.query().map(shared);
        let host = parts.uri.authority().map(|authority| authority.as_str());
        let host = host.or_else(|| parts.headers.get(HOST)?.to_str().ok());
        event.server_address = host.map(|host| shared(cut(host_of(host))));
        event.user_agent_original = text_of(&parts.headers, &http::header::USER_AGENT);
        event.http_request_header_referer = text_of(&parts.headers, &http::header::REFERER);
        event.network_protocol_version = Some(Text::from_static(match parts.version {
            Version::HTTP_10 => "1.0",
            Version::HTTP_2 => "2",
            _ => "1.1",
        }));
    }

    /// It is sent again: all that is decided is decided by the clock, all that is told
    /// is told as it was.
    pub(super) fn replayed(&mut self, replayed: &Replayed) {
        self.event().replay_id = Some(shared(&replayed.id));
        self.happened = Some(replayed.time);
    }

    pub(super) fn correlation(&mut self, correlation: &Correlation) {
        correlation.note(self.event());
    }

    pub(super) fn api(&mut self, api: &PublishedApi) {
        let event = self.event();
        event.api_name = Some(api.name.clone().into());
        event.api_version = Some(api.version.clone().into());
        event.api_context = Some(api.context.clone().into());
    }

    pub(super) fn matched(&mut self, matched: &Matched) {
        self.api(&matched.api);
        let (event, resource) = (self.event(), &matched.resource);
        event.http_route = Some(resource.route.clone().into());
        event.api_resource = Some(resource.path.clone().into());
        event.api_operation = resource.operation.clone().map(Into::into);
    }

    /// Keeps what the API says of what the request carries: where the beginning of its body
    /// goes, if it does.
    pub(super) fn capture(&mut self, matched: &Matched, headers: &HeaderMap) -> Option<Copied> {
        self.capture = Capture::begin(&matched.api, headers).map(Box::new);
        self.capture.as_ref()?.of_request()
    }

    pub(super) fn intake(&mut self, intake: Rc<Intake>) {
        self.intake = Some(intake);
    }

    pub(super) fn calls(&mut self, group: &Group, calls: Calls) {
        self.sent = calls.sent;
        let event = self.event();
        event.upstream_name = Some(group.name.clone().into());
        event.upstream_address = calls.address.map(Into::into);
        event.upstream_attempts = Some(calls.attempts);
        event.latency_connect_us = calls.connect.map(micros);
        event.latency_ttfb_us = calls.first_byte.map(micros);
    }

    /// A part of the answer's body was handed on.
    pub(super) fn sent(&mut self, part: &[u8]) {
        self.bytes_sent += part.len() as u64;
        if let Some(capture) = &self.capture {
            capture.sent(part);
        }
    }

    /// The answer is the gateway's own.
    pub(super) fn refused(&mut self, code: Code, body_bytes: u64) -> Result<(), CutOff> {
        let event = self.event();
        event.http_response_status_code = Some(code.status().as_u16().into());
        event.outcome = code.outcome();
        event.error_type = Some(Text::from_static(code.text()));
        self.bytes_sent = body_bytes;
        self.write()
    }

    /// The head of the upstream's answer is about to be handed on.
    pub(super) fn answering(&mut self, status: http::StatusCode, headers: &HeaderMap) {
        if let Some(capture) = &mut self.capture {
            capture.answering(headers);
        }
        let event = self.event();
        event.http_response_status_code = Some(status.as_u16().into());
        event.upstream_status_code = Some(status.as_u16().into());
    }

    /// The upstream's answer is about to be complete. Later calls do nothing.
    pub(super) fn answered(&mut self) -> Result<(), CutOff> {
        let Some(event) = self.event.as_mut() else { return Ok(()) };
        event.outcome = match event.upstream_status_code {
            Some(500..) => Outcome::UpstreamError,
            Some(400..) => Outcome::ClientError,
            _ => Outcome::Success,
        };
        if event.outcome == Outcome::UpstreamError {
            event.error_type = Some(Text::from_static(Code::UpstreamError.text()));
        }
        self.write()
    }

    /// It ends before its end. Nobody is told but the event.
    pub(super) fn failed(&mut self, code: Code) {
        if let Some(event) = &mut self.event {
            event.outcome = code.outcome();
            event.error_type = Some(Text::from_static(code.text()));
            // The failure is told as it is; that the event is not kept is logged.
            let _ = self.write();
        }
    }

    fn write(&mut self) -> Result<(), CutOff> {
        let Some(mut event) = self.event.take() else { return Ok(()) };
        let written = match self.thread.config.telling {
            Telling::Nothing => Ok(()),
            _ => self.tell(&mut event),
        };
        self.thread.take_back(event);
        written
    }

    fn tell(&mut self, event: &mut Event) -> Result<(), CutOff> {
        let now = Instant::now();
        event.event_time = self.happened.unwrap_or_else(|| self.thread.clock.now());
        event.latency_total_us = Some(micros(now - self.started));
        event.latency_upstream_us = self.sent.map(|sent| micros(now - sent));
        let received = self.intake.as_ref().map(|intake| intake.bytes.get());
        event.http_request_body_size = received.and_then(|bytes| i64::try_from(bytes).ok());
        event.http_response_body_size = i64::try_from(self.bytes_sent).ok();
        if let Some(capture) = &mut self.capture {
            capture.tell(event, self.intake.as_deref());
        }
        match self.thread.emitter.emit_in_place(event, self.table.redactor()) {
            Ok(()) => Ok(()),
            Err(error) => {
                tracing::error!(%error, "an event was not kept, so its answer is broken off");
                Err(CutOff(Code::EventsUnavailable))
            }
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let is_cut_off = self.thread.is_cut_off.get();
        self.failed(if is_cut_off { Code::Stopped } else { Code::ClientClosed });
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

fn method_text(method: &Method) -> Text {
    let known = match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => return shared(cut(method.as_str())),
    };
    Text::from_static(known)
}

fn text_of(headers: &HeaderMap, name: &HeaderName) -> Option<Text> {
    let text = String::from_utf8_lossy(headers.get(name)?.as_bytes());
    Some(shared(cut(&text)))
}

/// A text of an event, by one allocation.
fn shared(text: &str) -> Text {
    Arc::<str>::from(text).into()
}

/// A text that is not too long. Of one that is, the last part is left out whole: cut in the
/// middle it would not be known for what it is, if it is a secret.
fn cut(text: &str) -> &str {
    if text.len() <= TEXT_BYTES_MAX {
        return text;
    }
    let head = &text[..text.floor_char_boundary(TEXT_BYTES_MAX)];
    let end = head.rfind(|c: char| "/?&;, ".contains(c)).unwrap_or(0);
    &head[..end]
}

/// The host without user and port.
fn host_of(authority: &str) -> &str {
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}
