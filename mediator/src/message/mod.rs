//! A message: headers, properties, and a body that stays bytes until a step needs
//! more.
//!
//! ```text
//!  bytes ── json() ─► value, kept ── set_json() ─► value ── bytes() ─► bytes, kept
//! ```
//!
//! What holds:
//! - A route that only forwards never parses, and passes the bytes on as they came.
//! - A body is read by its content type: JSON, or XML by the convention of [`xml`].
//!   Nothing is guessed.
//! - Numbers keep all their digits: integers of any size are integers, and a decimal
//!   keeps its text until it is calculated with.
//! - Who wrote a body that cannot be read decides whose fault it is.
//!
//! Limits: JSON 128 levels deep, XML as [`xml`] says; the size is bounded where the
//! body comes in (a route's `body_bytes_max`, a call's answer).

pub mod json;
pub mod xml;

use bytes::Bytes;
use http::StatusCode;
use http::header::{
    AUTHORIZATION, CONTENT_TYPE, COOKIE, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHORIZATION,
};

pub use self::json::Value;
use ingest::http::Code;

/// What a caller proves itself by. It is neither passed on nor seen by expressions.
pub(crate) const CREDENTIALS: [HeaderName; 3] = [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE];

/// Who wrote what is in a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The one who called the route.
    Caller,
    /// A service that the route called.
    Upstream,
    /// The route itself.
    Route,
}

/// What a route works on.
#[derive(Debug, Clone)]
pub struct Message {
    /// The headers, of the request or of the last answer.
    pub headers: HeaderMap,
    /// What steps keep for later ones.
    pub properties: serde_json::Map<String, serde_json::Value>,
    /// The status of the last answer, if there was one.
    pub status: Option<StatusCode>,
    /// One of the two is there, or both, and then they say the same.
    bytes: Option<Bytes>,
    json: Option<Value>,
    origin: Origin,
    /// Whose headers these are.
    headers_origin: Origin,
    /// The headers that steps have set.
    set: Vec<HeaderName>,
}

/// Why a body cannot be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct BodyError {
    /// Whose fault it is.
    pub code: Code,
    /// What is wrong, and at which byte; it quotes nothing of the body.
    pub reason: String,
}

/// What a body is, by its content type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    Xml,
    Other,
}

impl Format {
    /// By the media type, without its parameters (RFC 6838, section 4.2.8, and
    /// RFC 7303).
    pub(crate) fn of(content_type: &str) -> Self {
        let media = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match media.as_str() {
            "application/json" | "text/json" => Self::Json,
            "application/xml" | "text/xml" => Self::Xml,
            other if other.ends_with("+json") => Self::Json,
            other if other.ends_with("+xml") => Self::Xml,
            _ => Self::Other,
        }
    }
}

impl Message {
    /// A message as its caller sent it.
    pub fn new(headers: HeaderMap, body: Bytes) -> Self {
        Self {
            headers,
            properties: serde_json::Map::new(),
            status: None,
            bytes: Some(body),
            json: None,
            origin: Origin::Caller,
            headers_origin: Origin::Caller,
            set: Vec::new(),
        }
    }

    /// Makes an upstream's answer the message.
    pub fn set_answer(&mut self, status: StatusCode, headers: HeaderMap, body: Bytes) {
        self.status = Some(status);
        self.headers = headers;
        self.set.clear();
        (self.bytes, self.json) = (Some(body), None);
        (self.origin, self.headers_origin) = (Origin::Upstream, Origin::Upstream);
    }

    /// Makes what the route wrote the body.
    pub fn set_bytes(&mut self, content_type: HeaderValue, body: Bytes) {
        self.headers.insert(CONTENT_TYPE, content_type);
        (self.bytes, self.json) = (Some(body), None);
        self.origin = Origin::Route;
    }

    /// Makes a value the body, as `application/json`.
    pub fn set_json(&mut self, value: Value) {
        self.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        (self.bytes, self.json) = (None, Some(value));
        self.origin = Origin::Route;
    }

    /// Makes a value the message: only the properties stay.
    pub(crate) fn replace(&mut self, value: Value) {
        self.headers.clear();
        self.set.clear();
        self.status = None;
        self.headers_origin = Origin::Route;
        self.set_json(value);
    }

    /// Sets a header, which from here on also goes into the route's answer.
    pub fn set_header(&mut self, name: HeaderName, value: HeaderValue) {
        if !self.set.contains(&name) {
            self.set.push(name.clone());
        }
        self.headers.insert(name, value);
    }

    /// The headers that an answer made of this message has. A caller's own headers
    /// are not sent back to it.
    pub fn answer_headers(&self) -> HeaderMap {
        if self.headers_origin != Origin::Caller {
            return self.headers.clone();
        }
        let kept = |name: &HeaderName| *name == CONTENT_TYPE || self.set.contains(name);
        let headers = self.headers.iter().filter(|(name, _)| kept(name));
        headers.map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    /// The headers that go on to a service: all but a caller's credentials, unless a
    /// step has set them.
    pub(crate) fn forwarded_headers(&self) -> HeaderMap {
        let mut headers = self.headers.clone();
        for name in CREDENTIALS {
            if !self.set.contains(&name) {
                headers.remove(name);
            }
        }
        headers
    }

    /// The headers that steps have set.
    pub(crate) fn set_headers(&self) -> HeaderMap {
        let set = self.set.iter().filter_map(|name| Some((name.clone(), self.headers.get(name)?)));
        set.map(|(name, value)| (name, value.clone())).collect()
    }

    /// Removes a header.
    pub fn remove_header(&mut self, name: &HeaderName) {
        self.headers.remove(name);
        self.set.retain(|set| set != name);
    }

    /// The format of the body, by its content type.
    pub(crate) fn format(&self) -> Format {
        let content_type = self.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        Format::of(content_type.unwrap_or_default())
    }

    /// That a body lacks what a step needs of it, if it is still as its caller sent it.
    pub(crate) fn lacks(&self, what: &str) -> Option<BodyError> {
        self.does_not_fit(&format!("it has no {what}"))
    }

    /// That a body is not as a step needs it, if it is still as its caller sent it.
    pub(crate) fn does_not_fit(&self, why: &str) -> Option<BodyError> {
        let as_sent = self.origin == Origin::Caller;
        as_sent.then(|| match self.format() {
            Format::Other if !self.is_empty() => BodyError {
                code: Code::ContentTypeUnsupported,
                reason: "the body is neither JSON nor XML by its content type".to_owned(),
            },
            _ => BodyError {
                code: Code::BodyInvalid,
                reason: format!("the body is not as the route takes it: {why}"),
            },
        })
    }

    /// Whether there is nothing in the body.
    pub fn is_empty(&self) -> bool {
        self.bytes.as_ref().is_some_and(Bytes::is_empty)
    }

    /// The body as a value, read once by its content type; null if it is empty.
    ///
    /// # Errors
    /// [`Code::ContentTypeUnsupported`] and [`Code::BodyInvalid`] of a caller's body,
    /// [`Code::UpstreamError`] of an upstream's, [`Code::StepFailed`] of the route's.
    pub fn json(&mut self) -> Result<&Value, BodyError> {
        let value = match (self.json.take(), &self.bytes) {
            (Some(value), _) => value,
            (None, Some(bytes)) => self.read(bytes)?,
            (None, None) => Value::Null,
        };
        Ok(self.json.insert(value))
    }

    fn read(&self, bytes: &Bytes) -> Result<Value, BodyError> {
        if bytes.is_empty() {
            return Ok(Value::Null);
        }
        let whose = |caller| match self.origin {
            Origin::Caller => caller,
            Origin::Upstream => Code::UpstreamError,
            Origin::Route => Code::StepFailed,
        };
        let invalid = |reason| BodyError { code: whose(Code::BodyInvalid), reason };
        match self.format() {
            Format::Json => json::parse(bytes).map_err(invalid),
            Format::Xml => xml::parse(bytes).map(|root| xml::to_json(&root)).map_err(invalid),
            Format::Other => Err(BodyError {
                code: whose(Code::ContentTypeUnsupported),
                reason: "the body is neither JSON nor XML by its content type".to_owned(),
            }),
        }
    }

    /// The body as bytes: as they came, or a step's value written as JSON.
    ///
    /// # Errors
    /// [`Code::StepFailed`] if the value has no form in JSON.
    pub fn bytes(&mut self) -> Result<Bytes, BodyError> {
        if self.bytes.is_none() {
            let value = self.json.as_ref().unwrap_or(&Value::Null);
            let written = json::write(value)
                .map_err(|reason| BodyError { code: Code::StepFailed, reason })?;
            self.bytes = Some(written.into());
        }
        Ok(self.bytes.clone().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(content_type: &str, body: &'static str) -> Message {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, content_type.parse().unwrap());
        headers.insert("authorization", "hush".parse().unwrap());
        Message::new(headers, Bytes::from_static(body.as_bytes()))
    }

    #[test]
    fn what_no_step_changes_goes_on_as_it_came() {
        let body = r#"{ "b":1.10,  "a": 12345678901234567890123 }"#;
        let mut message = message("application/json", body);
        message.json().unwrap();
        assert_eq!(message.bytes().unwrap(), body);
        let value = message.json().unwrap().clone();
        message.set_json(value);
        assert_eq!(message.bytes().unwrap(), r#"{"b":1.10,"a":12345678901234567890123}"#);
    }

    #[test]
    fn who_wrote_a_bad_body_is_at_fault() {
        let check = |content_type: &str, body, expected: [Code; 3]| {
            let mut message = message(content_type, body);
            let bytes = Bytes::from_static(body.as_bytes());
            let caller = message.json().unwrap_err().code;
            let headers = message.headers.clone();
            message.set_answer(StatusCode::OK, headers, bytes.clone());
            let upstream = message.json().unwrap_err().code;
            message.set_bytes(content_type.parse().unwrap(), bytes);
            let route = message.json().unwrap_err().code;
            assert_eq!([caller, upstream, route], expected, "{content_type} {body}");
        };
        let invalid = [Code::BodyInvalid, Code::UpstreamError, Code::StepFailed];
        check("application/json", "{", invalid);
        check("application/problem+json; charset=utf-8", "[1,]", invalid);
        check("text/xml", "<a>", invalid);
        let unsupported = [Code::ContentTypeUnsupported, Code::UpstreamError, Code::StepFailed];
        check("text/plain", "{}", unsupported);
    }

    #[test]
    fn a_callers_headers_do_not_come_back_and_its_credentials_go_nowhere() {
        let mut message = message("text/plain", "x");
        assert!(!message.forwarded_headers().contains_key("authorization"));
        message.set_header(AUTHORIZATION, "of the route".parse().unwrap());
        assert_eq!(message.forwarded_headers()["authorization"], "of the route");
        let mut message = self::message("text/plain", "x");
        message.set_header("x-a".parse().unwrap(), "1".parse().unwrap());
        let headers = message.answer_headers();
        let names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["content-type", "x-a"]);
        let mut answered = HeaderMap::new();
        answered.insert("etag", "1".parse().unwrap());
        message.set_answer(StatusCode::OK, answered.clone(), Bytes::new());
        assert_eq!(message.answer_headers(), answered);
    }
}
