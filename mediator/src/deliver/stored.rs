//! A message as it was read from its queue.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use ingest::event::Timestamp;
use ingest::log::{Headers, Record};

use super::message::{
    ACCEPTED_TIME, CONTENT_TYPE, CORRELATION_ID, EXPIRES_TIME, ID, MessageId, PREFIX, TRACE_PARENT,
};

/// A message that was read from its queue, in memory of its own.
#[derive(Clone, PartialEq)]
pub(crate) struct Message(Record);

impl Message {
    /// Copies a record, which shares a whole read's buffer.
    pub(crate) fn of(record: &Record) -> Self {
        let copy = |bytes: &Bytes| Bytes::copy_from_slice(bytes);
        Self(Record {
            offset: record.offset,
            time: record.time,
            key: record.key.as_ref().map(copy),
            value: record.value.as_ref().map(copy),
            headers: Headers::new(record.headers.iter()),
        })
    }

    /// Its place in the partition, which grows within its key.
    pub(crate) fn offset(&self) -> u64 {
        self.0.offset
    }

    pub(crate) fn key(&self) -> Option<&Bytes> {
        self.0.key.as_ref()
    }

    pub(crate) fn value(&self) -> Option<&Bytes> {
        self.0.value.as_ref()
    }

    pub(crate) fn body(&self) -> Bytes {
        self.0.value.clone().unwrap_or_default()
    }

    pub(crate) fn bytes(&self) -> usize {
        let headers: usize =
            self.0.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.0.key.as_ref().map_or(0, Bytes::len) + self.body().len() + headers
    }

    /// A header of the record, if it is text.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.0.headers.get(name)?).ok()
    }

    /// A header of the record.
    pub(crate) fn header(&self, name: &str) -> Option<&[u8]> {
        self.0.headers.get(name)
    }

    /// Its id; of a record that something else than Weir wrote, one that its
    /// place gives it, `partition` being the place's name.
    pub(crate) fn id(&self, partition: &dyn fmt::Display) -> Cow<'_, str> {
        self.id_at(partition, self.0.offset)
    }

    /// As [`Self::id`], of a message whose place was another one.
    pub(crate) fn id_at(&self, partition: &dyn fmt::Display, offset: u64) -> Cow<'_, str> {
        match self.text(ID).filter(|id| MessageId::new(id).is_ok()) {
            Some(id) => id.into(),
            None => format!("{partition}/{offset}").into(),
        }
    }

    /// When it was accepted.
    pub(crate) fn accepted(&self) -> Timestamp {
        let said = self.text(ACCEPTED_TIME).and_then(|text| text.parse().ok());
        said.unwrap_or_else(|| Timestamp::from_micros(self.0.time.0.saturating_mul(1_000)))
    }

    /// When nobody wants it any more, if ever.
    pub(crate) fn expires(&self) -> Option<Timestamp> {
        self.text(EXPIRES_TIME)?.parse().ok()
    }

    pub(crate) fn correlation_id(&self) -> Option<&str> {
        self.text(CORRELATION_ID)
    }

    pub(crate) fn trace_parent(&self) -> Option<&str> {
        self.text(TRACE_PARENT)
    }

    pub(crate) fn content_type(&self) -> Option<HeaderValue> {
        HeaderValue::from_bytes(self.0.headers.get(CONTENT_TYPE)?).ok()
    }

    /// The headers that go with it, besides Weir's own.
    pub(crate) fn headers(&self) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        self.0.headers.iter().filter_map(|(name, value)| {
            let name = HeaderName::from_bytes(name.strip_prefix(PREFIX)?.as_bytes()).ok()?;
            Some((name, HeaderValue::from_bytes(value).ok()?))
        })
    }

    /// Every header of the record.
    pub(crate) fn all_headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.headers.iter()
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "message at {} of {} bytes", self.0.offset, self.bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deliver::NewMessage;
    use http::HeaderMap;
    use ingest::http::Correlation;
    use ingest::log::{LogTime, NewRecord};

    #[test]
    fn a_record_reads_back_as_the_message() {
        let mut headers = HeaderMap::new();
        headers.insert("x-shop", HeaderValue::from_bytes(b"\xfcber").unwrap());
        let new = NewMessage {
            id: MessageId::new("m-1").unwrap(),
            key: Some(Bytes::from_static(b"k\xff")),
            expires_after: Some(std::time::Duration::from_secs(60)),
            due: None,
            content_type: Some(HeaderValue::from_static("text/plain")),
            headers: headers.clone(),
            body: Bytes::from_static(b"\0body"),
            correlation: Correlation::of(&HeaderMap::new(), || 7),
        };
        let accepted = Timestamp::from_micros(1_700_000_000_123_456);
        let NewRecord { key, value, headers: packed } = new.encode(accepted);
        let record = Record { offset: 9, time: LogTime(5), key, value, headers: packed };
        let message = Message::of(&record);
        assert_eq!(message.id(&"p"), "m-1");
        assert_eq!(message.accepted(), accepted);
        let micros = accepted.as_micros() + 60_000_000;
        assert_eq!(message.expires(), Some(Timestamp::from_micros(micros)));
        assert_eq!((message.key(), message.body()), (new.key.as_ref(), new.body));
        assert_eq!(message.content_type(), new.content_type);
        assert_eq!(message.correlation_id(), Some(&*new.correlation.id));
        assert_eq!(message.trace_parent(), new.correlation.trace_header().to_str().ok());
        assert_eq!(message.headers().collect::<HeaderMap>(), headers);
    }

    #[test]
    fn a_record_of_somebody_else_is_a_message_too() {
        let record = Record {
            offset: 9,
            time: LogTime(5),
            key: None,
            value: None,
            headers: Headers::default(),
        };
        let message = Message::of(&record);
        assert_eq!(message.id(&"weir.queue.orders/0"), "weir.queue.orders/0/9");
        assert_eq!(message.accepted(), Timestamp::from_micros(5_000));
        assert_eq!(message.body(), Bytes::new());
    }
}
