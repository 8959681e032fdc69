//! A message of a queue: one record of the log.
//!
//! The value is the body as it came, the key the ordering key. Headers:
//! `weir_message_id`, `weir_accepted_time`, `weir_expires_time` if it expires,
//! `content_type`, `correlation_id`, `traceparent`, and each further header `Name` as `header_name`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use ingest::event::Timestamp;
use ingest::log::{Headers, NewRecord, RECORD_BYTES_MAX};

use ingest::http::Correlation;

/// The longest ordering key, in bytes.
pub const KEY_BYTES_MAX: usize = 1_024;
/// The most headers that a message has besides its own.
pub const HEADERS_MAX: usize = 50;
/// The largest message: body, key and headers. A dead letter says more about it,
/// and has to fit into a record too.
pub const MESSAGE_BYTES_MAX: usize = RECORD_BYTES_MAX - 2_048;

pub(super) const ID: &str = "weir_message_id";
pub(super) const ACCEPTED_TIME: &str = "weir_accepted_time";
pub(super) const DUE_TIME: &str = "weir_due_time";
pub(super) const EXPIRES_TIME: &str = "weir_expires_time";
pub(super) const CONTENT_TYPE: &str = "content_type";
pub(super) const CORRELATION_ID: &str = "correlation_id";
pub(super) const TRACE_PARENT: &str = "traceparent";
pub(super) const PREFIX: &str = "header_";

/// The id of a message, which its caller repeats it by and its target knows it
/// by: 1 to 128 visible ASCII characters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(Box<str>);

/// A text that is no id of a message. It does not repeat the text, which may be
/// anything, of any length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a message id has 1 to 128 visible ASCII characters")]
pub struct BadMessageId;

impl MessageId {
    /// The longest id, in bytes.
    pub const BYTES_MAX: usize = 128;

    /// The id, if it follows the rule.
    ///
    /// # Errors
    /// [`BadMessageId`].
    pub fn new(text: &str) -> Result<Self, BadMessageId> {
        let fits = (1..=Self::BYTES_MAX).contains(&text.len());
        let is_visible = text.bytes().all(|byte| byte.is_ascii_graphic());
        if fits && is_visible { Ok(Self(text.into())) } else { Err(BadMessageId) }
    }

    /// The id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for MessageId {
    type Err = BadMessageId;

    fn from_str(text: &str) -> Result<Self, BadMessageId> {
        Self::new(text)
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A message for a queue to take.
#[derive(Clone)]
pub struct NewMessage {
    /// Its id; the caller repeats it when it sends the message again.
    pub id: MessageId,
    /// Messages of one key are delivered in the order in which they were
    /// accepted; none is promised to a message without.
    pub key: Option<Bytes>,
    /// After how long nobody wants it any more; an attempt that began before may still
    /// arrive.
    pub expires_after: Option<Duration>,
    /// When it goes into the queue, if not at once.
    pub due: Option<Timestamp>,
    /// The media type of the body.
    pub content_type: Option<HeaderValue>,
    /// What goes to the target with it, besides Weir's own headers; up to 50.
    pub headers: HeaderMap,
    /// The body, delivered to the byte.
    pub body: Bytes,
    /// The journey that it is part of.
    pub correlation: Correlation,
}

impl NewMessage {
    /// The record, and so the message's size.
    pub(crate) fn encode(&self, accepted: Timestamp) -> NewRecord {
        let time = accepted.to_string();
        let expires = self.expires_after.map(|after| accepted.after(after).to_string());
        let trace = self.correlation.trace_header();
        let mut headers: Vec<(Cow<'_, str>, &[u8])> = vec![
            (ID.into(), self.id.as_str().as_bytes()),
            (ACCEPTED_TIME.into(), time.as_bytes()),
            (CORRELATION_ID.into(), self.correlation.id.as_bytes()),
            (TRACE_PARENT.into(), trace.as_bytes()),
        ];
        if let Some(expires) = &expires {
            headers.push((EXPIRES_TIME.into(), expires.as_bytes()));
        }
        if let Some(content_type) = &self.content_type {
            headers.push((CONTENT_TYPE.into(), content_type.as_bytes()));
        }
        for (name, value) in &self.headers {
            headers.push((format!("{PREFIX}{name}").into(), value.as_bytes()));
        }
        NewRecord {
            key: self.key.clone(),
            value: Some(self.body.clone()),
            headers: Headers::new(headers),
        }
    }
}

impl fmt::Debug for NewMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.body.len();
        write!(f, "message {} of {bytes} bytes", self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_visible_ascii() {
        let check = |text: &str, good| assert_eq!(MessageId::new(text).is_ok(), good, "{text:?}");
        check("order-1/ä", false);
        check("order-1/~!", true);
        check("", false);
        check("a b", false);
        check("a\n", false);
        check(&"x".repeat(128), true);
        check(&"x".repeat(129), false);
    }
}
