//! What an event keeps of what a request and its answer carry, where their API says so.

use std::cell::{Cell, RefCell};
use std::io::Read as _;
use std::sync::Arc;

use flate2::read::MultiGzDecoder;
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use ingest::event::{Event, Outcome};
use ingest::registry::kind::{Payload, PayloadOf};

use super::body::Intake;
use crate::publish::PublishedApi;

/// The most of the headers of one side, in bytes of JSON; those behind are left out.
const HEADERS_BYTES_MAX: usize = 16 * 1024;
/// The longest content type.
const TYPE_BYTES_MAX: usize = 256;

/// The beginning of a body that passes by.
#[derive(Default)]
pub(crate) struct Copied {
    bytes: RefCell<Vec<u8>>,
    bytes_max: usize,
    is_cut: Cell<bool>,
}

impl Copied {
    /// Of up to so many bytes.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, ..Self::default() }
    }

    pub(super) fn add(&self, part: &[u8]) {
        let mut bytes = self.bytes.borrow_mut();
        let taken = part.len().min(self.bytes_max - bytes.len());
        bytes.extend_from_slice(&part[..taken]);
        if taken < part.len() {
            self.is_cut.set(true);
        }
    }
}

/// What is kept of one request.
pub(super) struct Capture {
    api: Arc<PublishedApi>,
    request: Side,
    answer: Side,
    /// Of the answer's body.
    copied: Copied,
}

/// What the head of a request or of its answer says of what follows.
#[derive(Default)]
struct Side {
    headers: Option<String>,
    content_type: Option<String>,
    encoding: Option<String>,
    is_cut: bool,
}

impl Capture {
    /// Begins with the request's headers, if its API keeps anything.
    pub(super) fn begin(api: &Arc<PublishedApi>, headers: &HeaderMap) -> Option<Self> {
        let payload = api.spec.payload.as_ref()?;
        Some(Self {
            api: api.clone(),
            request: Side::of(headers, payload),
            answer: Side::default(),
            copied: Copied::new(bytes_max(payload)),
        })
    }

    /// Where the beginning of the request's body goes.
    pub(super) fn of_request(&self) -> Option<Copied> {
        let payload = self.payload();
        payload.request.then(|| Copied::new(bytes_max(payload)))
    }

    pub(super) fn answering(&mut self, headers: &HeaderMap) {
        self.answer = Side::of(headers, self.payload());
    }

    /// A part of the answer's body.
    pub(super) fn sent(&self, part: &[u8]) {
        if self.payload().response {
            self.copied.add(part);
        }
    }

    /// Writes it into the event, whose outcome is known.
    pub(super) fn tell(&mut self, event: &mut Event, intake: Option<&Intake>) {
        let payload = self.payload();
        if payload.of == PayloadOf::Failures && event.outcome == Outcome::Success {
            return;
        }
        let bytes_max = bytes_max(payload);
        let text = |side: &Side, copied: Option<&Copied>| text(side, copied?, bytes_max);
        let request = text(&self.request, intake.and_then(|intake| intake.copied.as_ref()));
        let answer = text(&self.answer, Some(&self.copied));
        let is_less =
            |body: &Option<(String, bool)>| body.as_ref().is_some_and(|(_, is_cut)| *is_cut);
        let (is_request_cut, is_answer_cut) = (is_less(&request), is_less(&answer));
        let (request_side, answer_side) =
            (std::mem::take(&mut self.request), std::mem::take(&mut self.answer));
        let is_cut = is_request_cut || is_answer_cut || request_side.is_cut || answer_side.is_cut;
        event.payload_truncated = is_cut.then_some(true);
        event.payload_request_truncated = is_request_cut.then_some(true);
        event.payload_response_truncated = is_answer_cut.then_some(true);
        event.payload_request = request.map(|(text, _)| text.into());
        event.payload_request_headers = request_side.headers.map(Into::into);
        event.payload_request_content_type = request_side.content_type.map(Into::into);
        event.payload_response = answer.map(|(text, _)| text.into());
        event.payload_response_headers = answer_side.headers.map(Into::into);
        event.payload_response_content_type = answer_side.content_type.map(Into::into);
    }

    fn payload(&self) -> &Payload {
        self.api.spec.payload.as_ref().expect("it was there when this was made")
    }
}

fn bytes_max(payload: &Payload) -> usize {
    usize::try_from(payload.bytes_max).unwrap_or(usize::MAX)
}

impl Side {
    fn of(headers: &HeaderMap, payload: &Payload) -> Self {
        let one = |name| Some(String::from_utf8_lossy(headers.get(name)?.as_bytes()).into_owned());
        let content_type = one(CONTENT_TYPE).map(|mut text: String| {
            text.truncate(text.floor_char_boundary(TYPE_BYTES_MAX));
            text
        });
        let (headers, is_cut) = match payload.headers {
            true => headers_json(headers),
            false => (None, false),
        };
        Self { headers, content_type, encoding: one(CONTENT_ENCODING), is_cut }
    }
}

/// Headers as a JSON object, several of one name as an array, and whether that is not all.
fn headers_json(headers: &HeaderMap) -> (Option<String>, bool) {
    let (mut object, mut bytes) = (serde_json::Map::new(), 0);
    for name in headers.keys() {
        let mut values = headers
            .get_all(name)
            .iter()
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into())
            .collect::<Vec<serde_json::Value>>();
        let value = if values.len() == 1 { values.remove(0) } else { values.into() };
        bytes += name.as_str().len() + value.to_string().len() + 4;
        if bytes > HEADERS_BYTES_MAX {
            return (Some(serde_json::Value::from(object).to_string()), true);
        }
        object.insert(name.as_str().to_owned(), value);
    }
    (Some(serde_json::Value::from(object).to_string()), false)
}

/// A body as text, unpacked, up to its first byte that is none; none if there is nothing of
/// it, or it is in another encoding. Whether it is less than there was.
fn text(side: &Side, copied: &Copied, bytes_max: usize) -> Option<(String, bool)> {
    let bytes = copied.bytes.take();
    let mut is_cut = copied.is_cut.get();
    let encoding = side.encoding.as_deref().unwrap_or_default().trim().to_ascii_lowercase();
    let mut plain = match encoding.as_str() {
        "" | "identity" => bytes,
        "gzip" | "x-gzip" => {
            let mut plain = Vec::new();
            // What was unpacked before a fault, or the cut, stays.
            let read = MultiGzDecoder::new(&*bytes).take(bytes_max as u64 + 1);
            is_cut |= { read }.read_to_end(&mut plain).is_err();
            plain
        }
        _ => return None,
    };
    is_cut |= plain.len() > bytes_max;
    plain.truncate(bytes_max);
    if plain.is_empty() || !is_utf8(side.content_type.as_deref().unwrap_or_default()) {
        return None;
    }
    let text = String::from_utf8(plain).unwrap_or_else(|error| {
        is_cut = true;
        let valid = error.utf8_error().valid_up_to();
        let mut bytes = error.into_bytes();
        bytes.truncate(valid);
        String::from_utf8(bytes).expect("it is valid up to there")
    });
    Some((text, is_cut))
}

/// Whether a content type names no other character set (RFC 9110, section 8.3.2).
fn is_utf8(content_type: &str) -> bool {
    let charset = content_type.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("charset").then(|| value.trim().trim_matches('"'))
    });
    charset.is_none_or(|charset| {
        ["utf-8", "utf8", "us-ascii", "ascii"].iter().any(|own| charset.eq_ignore_ascii_case(own))
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn side(content_type: &str, encoding: Option<&str>) -> Side {
        let (content_type, encoding) = (Some(content_type.to_owned()), encoding.map(Into::into));
        Side { content_type, encoding, ..Side::default() }
    }

    fn kept(side: &Side, body: &[u8], bytes_max: usize) -> Option<(String, bool)> {
        let copied = Copied::new(bytes_max);
        // As it comes, in parts.
        body.chunks(7).for_each(|part| copied.add(part));
        text(side, &copied, bytes_max)
    }

    fn packed(plain: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_body_is_kept_as_text_up_to_its_bound() {
        let plain = side("text/plain", None);
        let whole = |text: &str| Some((text.to_owned(), false));
        let cut = |text: &str| Some((text.to_owned(), true));
        assert_eq!(kept(&plain, b"twelve bytes", 12), whole("twelve bytes"));
        assert_eq!(kept(&plain, b"twelve bytes", 11), cut("twelve byte"));
        assert_eq!(kept(&plain, "größer".as_bytes(), 3), cut("gr"));
        assert_eq!(kept(&plain, b"gr\xf6\xdfer", 12), cut("gr"));
        assert_eq!(kept(&plain, b"", 12), None);
        let zipped = side("text/plain", Some("GZip"));
        assert_eq!(kept(&zipped, &packed(b"twelve bytes"), 64), whole("twelve bytes"));
        assert_eq!(kept(&zipped, &packed(&[b'a'; 5_000]), 64), cut(&"a".repeat(64)));
        let broken = &packed(&[b'a'; 5_000])[..20];
        assert!(kept(&zipped, broken, 64).is_none_or(|(_, is_cut)| is_cut));
        assert_eq!(kept(&zipped, b"no gzip", 64), None);
        assert_eq!(kept(&side("text/plain", Some("br")), b"twelve bytes", 64), None);
        assert_eq!(kept(&side("text/plain; charset=iso-8859-1", None), b"a", 64), None);
        assert_eq!(kept(&side("text/plain; charset=\"UTF-8\"", None), b"a", 64), whole("a"));
    }

    #[test]
    fn headers_are_an_object_of_texts_up_to_their_bound() {
        let mut headers = HeaderMap::new();
        headers.append("accept", "a".parse().unwrap());
        headers.append("accept", "b".parse().unwrap());
        headers.append("x-one", "\"1\"".parse().unwrap());
        let (json, is_cut) = headers_json(&headers);
        assert_eq!(json.as_deref(), Some(r#"{"accept":["a","b"],"x-one":"\"1\""}"#));
        assert!(!is_cut);
        headers.append("x-long", "x".repeat(HEADERS_BYTES_MAX).parse().unwrap());
        let (json, is_cut) = headers_json(&headers);
        assert!(is_cut && json.unwrap().len() < HEADERS_BYTES_MAX);
    }
}
