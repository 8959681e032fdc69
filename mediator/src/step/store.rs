//! `store`: the message goes into a queue, and its caller gets 202 with its id.
//!
//! The id is what `id` gives, else the caller's `Idempotency-Key`, else a new one. A key
//! that is not 1 to 128 visible ASCII characters is refused: by a new id in its place, a
//! repetition would be another message. Of the headers only the content type and
//! those that steps have set are kept: a caller's credentials do not go into the log.

use std::time::Duration;

use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use ingest::registry::{Faults, Name};
use serde::Deserialize;

use super::jq::Jq;
use super::{Answer, Context, Fault, Needs, Seen, read, read_jq};
use crate::deliver::{MessageId, NewMessage};
use crate::message::{Message, Value, json};
use ingest::http::Code;

#[derive(Debug)]
pub(crate) struct Store {
    queue: Name,
    key: Option<Jq>,
    id: Option<Jq>,
    expires_after_ms: Option<Jq>,
}

/// The longest time after which a message expires.
const EXPIRES_AFTER_MS_MAX: u64 = 31 * 24 * 3_600 * 1_000;

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
}

impl Store {
    pub(super) fn compile(body: &serde_json::Value, at: &str, faults: &mut Faults) -> Option<Self> {
        let spec: Spec = read(body, at, faults)?;
        let mut compile = |field: &str, source: Option<String>| match source {
            None => Some(None),
            Some(source) => read_jq(&source, &format!("{at}.{field}"), faults).map(Some),
        };
        let (key, id) = (compile("key", spec.key), compile("id", spec.id));
        let expires_after_ms = compile("expires_after_ms", spec.expires_after_ms)?;
        Some(Self { queue: spec.queue, key: key?, id: id?, expires_after_ms })
    }

    pub(super) async fn run(
        &self,
        message: &mut Message,
        context: &Context<'_>,
        seen: &mut Seen,
    ) -> Result<Answer, Fault> {
        let key = evaluate(self.key.as_ref(), "key", message, context).await?;
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
        let expires_after = self.expires_after(message, context).await?;
        seen.queue = Some(self.queue.to_string());
        seen.message_id = Some(id.to_string());
        let mut headers = message.set_headers();
        headers.remove(CONTENT_TYPE);
        let body = message.bytes()?;
        let new = NewMessage {
            id,
            key: key.map(Into::into),
            expires_after,
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
        let body = serde_json::json!({ "id": accepted.id.as_str() }).to_string();
        Ok(Answer { status: StatusCode::ACCEPTED, headers, body: body.into() })
    }
}

impl Store {
    /// None if the expression gives null.
    async fn expires_after(
        &self,
        message: &mut Message,
        context: &Context<'_>,
    ) -> Result<Option<Duration>, Fault> {
        let Some(jq) = &self.expires_after_ms else { return Ok(None) };
        let value = jq.run(message, Needs::ValueIfAny, context).await?;
        if matches!(value, Value::Null) {
            return Ok(None);
        }
        let digits = json::write(&value).map_err(Fault::failed)?;
        let ms = std::str::from_utf8(&digits).ok().and_then(|digits| digits.parse().ok());
        match ms.filter(|ms| (1..=EXPIRES_AFTER_MS_MAX).contains(ms)) {
            Some(ms) => Ok(Some(Duration::from_millis(ms))),
            None => {
                let why = format!(
                    "expires_after_ms gave no whole number from 1 to {EXPIRES_AFTER_MS_MAX}"
                );
                Err(match message.does_not_fit(&why) {
                    Some(error) => error.into(),
                    None => Fault::failed(why),
                })
            }
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
