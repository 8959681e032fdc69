//! `store`: the message goes into a queue, and its caller gets 202 with its id.
//!
//! The id is what `id` gives, else the caller's `Idempotency-Key`, else a new one. A key
//! that is not 1 to 128 visible ASCII characters is refused: by a new id in its place, a
//! repetition would be another message. Of the headers only the content type and
//! those that steps have set are kept: a caller's credentials do not go into the log.
//!
//! An ordering key that is empty is refused: it is one that was left out by mistake, and all of
//! these would wait for one another.
//!
//! With `deliver_at` or `deliver_after_ms` the message waits for its time before it goes into
//! the queue, and the answer says when that is.

use std::time::Duration;

use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use ingest::event::Timestamp;
use ingest::registry::{Faults, Name};
use serde::Deserialize;

use super::jq::Jq;
use super::{Answer, Context, Fault, Needs, Seen, read, read_jq};
use crate::deliver::{MessageId, NewMessage, SCHEDULE_DAYS_MAX};
use crate::message::{Message, Value, json};
use ingest::http::Code;

#[derive(Debug)]
pub(crate) struct Store {
    queue: Name,
    key: Option<Jq>,
    id: Option<Jq>,
    expires_after_ms: Option<Jq>,
    due: Option<Due>,
}

/// When a message goes into its queue.
#[derive(Debug)]
enum Due {
    AfterMs(Jq),
    At(Jq),
}

const DAY_MS: u64 = 24 * 3_600 * 1_000;
/// The longest time after which a message expires.
const EXPIRES_AFTER_MS_MAX: u64 = 31 * DAY_MS;
/// The longest time that a message may wait for its delivery.
const DELIVER_AFTER_MS_MAX: u64 = SCHEDULE_DAYS_MAX * DAY_MS;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a mapping")]
struct Spec {
    queue: Name,
    #[serde(default)]
    key: Option<String>,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    expires_after_ms: Option<String>,
    #[serde(default)]
    deliver_after_ms: Option<String>,
    #[serde(default)]
    deliver_at: Option<String>,
}

impl Store {
    pub(super) fn compile(body: &serde_json::Value, at: &str, faults: &mut Faults) -> Option<Self> {
        let spec: Spec = read(body, at, faults)?;
        let mut compile = |field: &str, source: Option<String>| match source {
            None => Some(None),
            Some(source) => read_jq(&source, &format!("{at}.{field}"), faults).map(Some),
        };
        let (key, id) = (compile("key", spec.key), compile("id", spec.id));
        let expires_after_ms = compile("expires_after_ms", spec.expires_after_ms);
        let has_both = spec.deliver_at.is_some() && spec.deliver_after_ms.is_some();
        let after = compile("deliver_after_ms", spec.deliver_after_ms);
        let due = compile("deliver_at", spec.deliver_at);
        if has_both {
            let mend = "give one of the two: a time, or how long from now";
            faults.add(format!("{at}.deliver_at"), "stands beside deliver_after_ms", mend);
            return None;
        }
        let due = due?.map(Due::At).or(after?.map(Due::AfterMs));
        let (key, id, expires_after_ms) = (key?, id?, expires_after_ms?);
        Some(Self { queue: spec.queue, key, id, expires_after_ms, due })
    }

    pub(super) async fn run(
        &self,
        message: &mut Message,
        context: &Context<'_>,
        seen: &mut Seen,
    ) -> Result<Answer, Fault> {
        let key = evaluate(self.key.as_ref(), "key", message, context).await?;
        if key.as_deref() == Some("") {
            return Err(callers("the ordering key that it gives is empty".to_owned()));
        }
        let id = match evaluate(self.id.as_ref(), "id", message, context).await? {
            Some(text) => {
                MessageId::new(&text).map_err(|error| callers(format!("its id: {error}")))?
            }
            None => match context.idempotency_key {
                Some(key) => MessageId::new(key).map_err(|error| {
                    Fault::new(Code::RequestMalformed, format!("Idempotency-Key: {error}"))
                })?,
                None => new_id(),
            },
        };
        let expires_after = match &self.expires_after_ms {
            Some(jq) => {
                let limits = ("expires_after_ms", 1, EXPIRES_AFTER_MS_MAX);
                milliseconds(jq, limits, message, context).await?
            }
            None => None,
        };
        let now = context.queues.now();
        let due = self.due(message, context, now).await?;
        if let (Some(due), Some(after)) = (due, expires_after)
            && now.after(after) <= due
        {
            return Err(callers(format!("it would expire before it is due, {due}")));
        }
        seen.queue = Some(self.queue.to_string());
        seen.message_id = Some(id.to_string());
        let mut headers = message.set_headers();
        headers.remove(CONTENT_TYPE);
        let body = message.bytes()?;
        let new = NewMessage {
            id,
            key: key.map(Into::into),
            expires_after,
            due,
            content_type: message.headers.get(CONTENT_TYPE).cloned(),
            headers,
            body,
            correlation: context.correlation.clone(),
        };
        let accepted = context.queues.accept(&self.queue, new).await;
        let accepted = accepted.map_err(|error| match error.code {
            Code::MessageTooLarge | Code::MessageIdReused => {
                Fault { code: error.code, ..callers(error.reason) }
            }
            code => Fault::new(code, error.to_string()),
        })?;
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let mut body = serde_json::json!({ "id": accepted.id.as_str() });
        if let Some(due) = accepted.due {
            body["due"] = due.to_string().into();
        }
        let body = body.to_string();
        Ok(Answer { status: StatusCode::ACCEPTED, headers, body: body.into() })
    }
}

impl Store {
    /// When the message goes into its queue; none if at once.
    async fn due(
        &self,
        message: &mut Message,
        context: &Context<'_>,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, Fault> {
        let jq = match &self.due {
            None => return Ok(None),
            Some(Due::AfterMs(jq)) => {
                let limits = ("deliver_after_ms", 0, DELIVER_AFTER_MS_MAX);
                let after = milliseconds(jq, limits, message, context).await?;
                return Ok(after.map(|after| now.after(after)));
            }
            Some(Due::At(jq)) => jq,
        };
        let text = match jq.run(message, Needs::ValueIfAny, context).await? {
            Value::Null => return Ok(None),
            Value::TStr(text) => String::from_utf8_lossy(&text).into_owned(),
            _ => String::new(),
        };
        let due = text.parse::<Timestamp>().map_err(|_| {
            let form = "an RFC 3339 time, such as 2026-12-01T06:00:00Z";
            callers(format!("its deliver_at is not {form}"))
        })?;
        if due > now.after(Duration::from_millis(DELIVER_AFTER_MS_MAX)) {
            return Err(callers(format!(
                "its deliver_at is more than {SCHEDULE_DAYS_MAX} days ahead"
            )));
        }
        Ok(Some(due))
    }
}

/// What an expression gives as a length of time; none if it gives null.
async fn milliseconds(
    jq: &Jq,
    (field, min, max): (&str, u64, u64),
    message: &mut Message,
    context: &Context<'_>,
) -> Result<Option<Duration>, Fault> {
    let value = jq.run(message, Needs::ValueIfAny, context).await?;
    if matches!(value, Value::Null) {
        return Ok(None);
    }
    let digits = json::write(&value).map_err(Fault::failed)?;
    let ms = std::str::from_utf8(&digits).ok().and_then(|digits| digits.parse().ok());
    match ms.filter(|ms| (min..=max).contains(ms)) {
        Some(ms) => Ok(Some(Duration::from_millis(ms))),
        None => {
            let why = format!("{field} gave no whole number from {min} to {max}");
            Err(match message.does_not_fit(&why) {
                Some(error) => error.into(),
                None => Fault::failed(why),
            })
        }
    }
}

fn new_id() -> MessageId {
    MessageId::new(&uuid::Uuid::now_v7().to_string()).expect("a UUID is visible ASCII")
}

/// The text that an expression gives; a number is its digits.
async fn evaluate(
    jq: Option<&Jq>,
    what: &str,
    message: &mut Message,
    context: &Context<'_>,
) -> Result<Option<String>, Fault> {
    let Some(jq) = jq else { return Ok(None) };
    match jq.run(message, Needs::ValueIfAny, context).await? {
        Value::TStr(text) => Ok(Some(String::from_utf8_lossy(&text).into_owned())),
        number @ Value::Num(_) => {
            let digits = json::write(&number).map_err(Fault::failed)?;
            Ok(Some(String::from_utf8_lossy(&digits).into_owned()))
        }
        _ => Err(match message.lacks("text") {
            Some(error) if error.code == Code::ContentTypeUnsupported => error.into(),
            _ => callers(format!("it has no text where its {what} is taken from")),
        }),
    }
}

/// What is wrong with the message that the caller sent, which it may know.
fn callers(reason: String) -> Fault {
    let detail = Some(format!("the message cannot be stored: {reason}"));
    Fault { code: Code::BodyInvalid, reason, detail }
}
