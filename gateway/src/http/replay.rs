//! Requests of a replay: what happened before is sent again as real traffic, and is told
//! of as it was. `weir replay-log` sends them.
//!
//! ```text
//!  weir-replay-credential ─ right ─► time, client and replay id go on the event;
//!          │                         id, status and size go on to the upstream
//!          ├─ wrong ──► 403 replay_denied
//!          └─ none ───► all weir-replay-* headers are taken off, nothing is believed
//! ```
//!
//! The real peer stays on the event, as `network_peer_address`. Deny rules, allow lists
//! and limits see the client that is named; limits and tokens go by the real clock.
//!
//! Two further requests, by the same credential, are the gateway's own:
//! `POST /.weir/replays/{id}/flush` answers when the log has every event of this gateway
//! up to now, and `POST /.weir/replays/{id}/end` when it has the end of the replay, which
//! closes its windows. A sender flushes each gateway that it used, then ends by one.

use std::net::IpAddr;
use std::time::Duration;

use http::header::{CACHE_CONTROL, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Response};
use ingest::emit::Emitter;
use ingest::event::Timestamp;
use ingest::http::{CORRELATION_HEADER, Code, Correlation, Problem};

use super::answer::{After, problem_answer};
use super::body::AnswerBody;
use ingest::http::TokenHash;

const CREDENTIAL: HeaderName = HeaderName::from_static("weir-replay-credential");
const ID: HeaderName = HeaderName::from_static("weir-replay-id");
const TIME: HeaderName = HeaderName::from_static("weir-replay-time");
const CLIENT: HeaderName = HeaderName::from_static("weir-replay-client");
const STATUS: HeaderName = HeaderName::from_static("weir-replay-status");
const SIZE: HeaderName = HeaderName::from_static("weir-replay-size");

/// What all of them begin with.
const PREFIX: &str = "weir-replay-";
/// Where the gateway's own requests are.
const PATH: &str = "/.weir/replays/";
/// The longest id of a replay, in bytes.
const ID_BYTES_MAX: usize = 64;
/// How long the log may take to have what it is waited for.
const FLUSH_WITHIN: Duration = Duration::from_secs(30);

/// What is believed of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Replayed {
    /// Which replay it is part of.
    pub(super) id: String,
    /// When it happened.
    pub(super) time: Timestamp,
    /// Who called.
    pub(super) client: IpAddr,
    status: Option<HeaderValue>,
    size: Option<HeaderValue>,
}

/// Takes what is said of a replay off a request, and reads it if the credential is right.
pub(super) fn take(
    token: Option<&TokenHash>,
    headers: &mut HeaderMap,
) -> Result<Option<Replayed>, Problem> {
    // Most requests have none of them.
    if !headers.keys().any(|name| name.as_str().starts_with(PREFIX)) {
        return Ok(None);
    }
    let credential = headers.remove(CREDENTIAL);
    let [id, time, client, status, size] =
        [ID, TIME, CLIENT, STATUS, SIZE].map(|name| headers.remove(name));
    let stray: Vec<HeaderName> =
        headers.keys().filter(|name| name.as_str().starts_with(PREFIX)).cloned().collect();
    for name in stray {
        headers.remove(name);
    }
    let Some(credential) = credential else { return Ok(None) };
    let is_right = |token: &TokenHash| credential.to_str().is_ok_and(|text| token.is_of(text));
    if !token.is_some_and(is_right) {
        return Err(Code::ReplayDenied.into());
    }
    let malformed = |name: HeaderName, expected: &str| {
        Problem::new(Code::RequestMalformed, format!("{name} is to be {expected}"))
    };
    let text = |value: Option<HeaderValue>| value.and_then(|v| v.to_str().ok().map(str::to_owned));
    let id = text(id).filter(|id| is_id(id));
    let id = id.ok_or_else(|| malformed(ID, "1 to 64 of a-z 0-9 . _ -"))?;
    let time = text(time).and_then(|time| time.parse().ok());
    let time = time.ok_or_else(|| malformed(TIME, "a time of RFC 3339"))?;
    let client = text(client).and_then(|client| client.parse::<IpAddr>().ok());
    let client = client.ok_or_else(|| malformed(CLIENT, "an IP address"))?.to_canonical();
    Ok(Some(Replayed { id, time, client, status, size }))
}

/// As in a path, and without a character that means something there.
fn is_id(id: &str) -> bool {
    let is_part = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || b"._-".contains(&c);
    (1..=ID_BYTES_MAX).contains(&id.len()) && id.bytes().all(is_part)
}

impl Replayed {
    /// Tells the upstream what the answer was; one that plays along gives it again.
    pub(super) fn tell(self, headers: &mut HeaderMap) {
        headers.insert(ID, HeaderValue::from_str(&self.id).expect("an id is visible ASCII"));
        for (name, value) in [(STATUS, self.status), (SIZE, self.size)] {
            if let Some(value) = value {
                headers.insert(name, value);
            }
        }
    }
}

/// A request to the gateway itself.
pub(super) struct Control {
    replay: String,
    asked: Option<Asked>,
}

enum Asked {
    Flush,
    End,
}

impl Control {
    /// Whether a request is one.
    pub(super) fn of(parts: &Parts, replayed: &Replayed) -> Option<Self> {
        let path = parts.uri.path().strip_prefix(PATH)?;
        let asked = match (path.split_once('/'), &parts.method) {
            (Some((id, "flush")), &Method::POST) if id == replayed.id => Some(Asked::Flush),
            (Some((id, "end")), &Method::POST) if id == replayed.id => Some(Asked::End),
            _ => None,
        };
        Some(Self { replay: replayed.id.clone(), asked })
    }

    /// Does it, by the emitters of all threads.
    pub(super) async fn answer(
        self,
        emitters: &[Emitter],
        correlation: &Correlation,
    ) -> Response<AnswerBody> {
        match tokio::time::timeout(FLUSH_WITHIN, self.act(emitters)).await {
            Ok(Ok(())) => {
                let mut answer = Response::new(AnswerBody::Own(None));
                *answer.status_mut() = http::StatusCode::NO_CONTENT;
                let headers = answer.headers_mut();
                headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
                headers.insert(CORRELATION_HEADER, correlation.id_header());
                answer
            }
            Ok(Err(code)) => problem_answer(&code.into(), correlation, Vec::new(), After::Close).0,
            Err(_) => {
                let detail = "the log did not take the events in time; ask again";
                let problem = Problem::new(Code::EventsUnavailable, detail);
                problem_answer(&problem, correlation, Vec::new(), After::Close).0
            }
        }
    }

    async fn act(&self, emitters: &[Emitter]) -> Result<(), Code> {
        let Some(first) = emitters.first() else { return Err(Code::InternalError) };
        match &self.asked {
            None => return Err(Code::ResourceNotFound),
            Some(Asked::Flush) => {}
            Some(Asked::End) => {
                first.end_replay(&self.replay).map_err(|error| {
                    tracing::warn!(%error, replay = self.replay, "its end could not be told");
                    Code::EventsUnavailable
                })?;
                tracing::info!(replay = self.replay, "a replay has ended");
            }
        }
        for emitter in emitters {
            emitter.flushed().await;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(given: &[(&'static str, &'static str)], expected: Result<Option<&str>, &str>) {
        let mut headers: HeaderMap = HeaderMap::new();
        for (name, value) in given {
            headers.append(*name, HeaderValue::from_static(value));
        }
        let token = TokenHash::of("the-right-one");
        let taken = take(Some(&token), &mut headers);
        let taken = taken.map(|of| of.map(|of| format!("{} {} {}", of.id, of.time, of.client)));
        let told = taken.as_ref().map(Option::as_deref);
        let code = |problem: &Problem| problem.detail.clone().unwrap_or(problem.code.text().into());
        assert_eq!(told.map_err(code), expected.map_err(str::to_owned));
        assert!(headers.keys().all(|name| !name.as_str().starts_with(PREFIX)), "{headers:?}");
    }

    #[test]
    fn a_replay_is_believed_by_its_credential_alone() {
        let right = ("weir-replay-credential", "the-right-one");
        let id = ("weir-replay-id", "may-2015");
        let time = ("weir-replay-time", "2015-05-17T12:05:03+02:00");
        let client = ("weir-replay-client", "::ffff:192.0.2.7");
        check(&[("host", "a")], Ok(None));
        let all = Ok(Some("may-2015 2015-05-17T10:05:03.000000Z 192.0.2.7"));
        check(&[right, id, time, client], all);
        check(&[id, time, client, ("weir-replay-other", "x")], Ok(None));
        let wrong = ("weir-replay-credential", "the-wrong-one");
        check(&[wrong, id, time, client], Err("replay_denied"));
        check(&[right, time, client], Err("weir-replay-id is to be 1 to 64 of a-z 0-9 . _ -"));
        let bad = ("weir-replay-id", "a/b");
        check(&[right, bad, time], Err("weir-replay-id is to be 1 to 64 of a-z 0-9 . _ -"));
        check(&[right, id, client], Err("weir-replay-time is to be a time of RFC 3339"));
        check(&[right, id, time], Err("weir-replay-client is to be an IP address"));
    }

    #[test]
    fn without_a_token_no_credential_is_right() {
        let mut headers: HeaderMap = HeaderMap::new();
        headers.insert(CREDENTIAL, HeaderValue::from_static(""));
        assert_eq!(take(None, &mut headers).unwrap_err().code, Code::ReplayDenied);
    }
}
