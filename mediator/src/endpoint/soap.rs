//! SOAP over HTTP, the client's side: an envelope around a body, and the way back
//! (SOAP 1.1, sections 4 and 6; SOAP 1.2 part 1, section 5, and part 2, section 7).
//!
//! | | 1.1 | 1.2 |
//! | --- | --- | --- |
//! | content type | `text/xml` | `application/soap+xml` |
//! | action | header `SOAPAction`, quoted | parameter `action` of the content type |
//!
//! No headers of the envelope are written, and those of an answer are not read.

use http::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue};
use serde::Deserialize;

use crate::message::Value;
use crate::message::xml::{self, Element};

/// A version of SOAP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Version {
    /// SOAP 1.1.
    #[serde(rename = "1.1")]
    V1_1,
    /// SOAP 1.2.
    #[serde(rename = "1.2")]
    V1_2,
}

/// Why an answer is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The service says that it failed.
    Fault {
        /// The fault's code, without its prefix.
        code: String,
        /// What it says.
        text: String,
    },
    /// It is no envelope of this version.
    NotSoap(String),
}

impl Version {
    /// The namespace of the envelope.
    pub const fn namespace(self) -> &'static str {
        match self {
            Self::V1_1 => "http://schemas.xmlsoap.org/soap/envelope/",
            Self::V1_2 => "http://www.w3.org/2003/05/soap-envelope",
        }
    }

    /// The headers of a request. The action may hold no quote.
    ///
    /// # Errors
    /// If the action is not one line of visible characters.
    pub fn headers(self, action: &str) -> Result<HeaderMap, String> {
        let visible = action.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"');
        if !visible {
            return Err("the action holds a quote, or what is not visible ASCII".to_owned());
        }
        let value = |text: String| HeaderValue::try_from(text).expect("visible ASCII is a value");
        let mut headers = HeaderMap::new();
        match self {
            Self::V1_1 => {
                headers.insert(CONTENT_TYPE, value("text/xml; charset=utf-8".to_owned()));
                headers.insert(ACCEPT, value("text/xml".to_owned()));
                headers.insert("soapaction", value(format!("\"{action}\"")));
            }
            Self::V1_2 => {
                let action = if action.is_empty() {
                    String::new()
                } else {
                    format!("; action=\"{action}\"")
                };
                headers.insert(
                    CONTENT_TYPE,
                    value(format!("application/soap+xml; charset=utf-8{action}")),
                );
                headers.insert(ACCEPT, value("application/soap+xml".to_owned()));
            }
        }
        Ok(headers)
    }

    /// An envelope around the content of its body.
    ///
    /// # Errors
    /// If it is not well-formed, which is found here and not by the service.
    pub fn envelope(self, content: &str) -> Result<String, String> {
        let namespace = self.namespace();
        let envelope = format!(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?>\
             <soap:Envelope xmlns:soap=\"{namespace}\"><soap:Body>{content}</soap:Body></soap:Envelope>"
        );
        let root = xml::parse(envelope.as_bytes())?;
        match root.children.as_slice() {
            [body] if root.text.is_empty() && body.name == "Body" => Ok(envelope),
            _ => Err("the body of the template closes the envelope".to_owned()),
        }
    }

    /// The first element in the body of an answer as JSON, under its name; null if
    /// the body is empty.
    ///
    /// # Errors
    /// [`Error`].
    pub fn read(self, bytes: &[u8]) -> Result<Value, Error> {
        let root = xml::parse(bytes).map_err(Error::NotSoap)?;
        let namespace = self.namespace();
        if root.name != "Envelope" || root.namespace != namespace {
            let what = "the answer is no envelope of this version of SOAP";
            return Err(Error::NotSoap(what.to_owned()));
        }
        let Some(body) = root.child(namespace, "Body") else {
            return Err(Error::NotSoap("the answer's envelope has no body".to_owned()));
        };
        match body.children.first() {
            Some(fault) if fault.namespace == namespace && fault.name == "Fault" => {
                Err(self.fault(fault))
            }
            Some(first) => Ok(xml::to_json(first)),
            None => Ok(Value::Null),
        }
    }

    fn fault(self, fault: &Element) -> Error {
        let namespace = self.namespace();
        let within = |outer: &str, inner: &str| {
            let inner =
                fault.child(namespace, outer).and_then(|outer| outer.child(namespace, inner));
            inner.map(|element| element.text.trim().to_owned())
        };
        let plain =
            |name: &str| fault.child("", name).map(|element| element.text.trim().to_owned());
        let (code, text) = match self {
            Self::V1_1 => (plain("faultcode"), plain("faultstring")),
            Self::V1_2 => (within("Code", "Value"), within("Reason", "Text")),
        };
        let code = code.unwrap_or_default();
        let code = code.rsplit(':').next().unwrap_or_default().to_owned();
        Error::Fault { code, text: text.unwrap_or_default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::json;

    #[test]
    fn the_action_stands_where_its_version_wants_it() {
        let headers = Version::V1_1.headers("urn:get").unwrap();
        assert_eq!(headers[CONTENT_TYPE], "text/xml; charset=utf-8");
        assert_eq!(headers["soapaction"], "\"urn:get\"");
        assert_eq!(Version::V1_1.headers("").unwrap()["soapaction"], "\"\"");
        let headers = Version::V1_2.headers("urn:get").unwrap();
        assert_eq!(
            headers[CONTENT_TYPE],
            "application/soap+xml; charset=utf-8; action=\"urn:get\""
        );
        assert!(!headers.contains_key("soapaction"));
        assert!(Version::V1_2.headers("a\"; x=\"").is_err());
        assert!(Version::V1_1.headers("a\r\nb").is_err());
    }

    #[test]
    fn an_envelope_holds_its_content_and_no_more() {
        assert!(Version::V1_1.envelope("<a/>").is_ok());
        assert!(Version::V1_1.envelope("").is_ok());
        assert!(Version::V1_1.envelope("<a>").is_err());
        let out = "</soap:Body><soap:Body>";
        assert!(Version::V1_1.envelope(out).unwrap_err().contains("closes the envelope"));
    }

    fn answer(version: Version, body: &str) -> Result<String, Error> {
        let namespace = version.namespace();
        let text = format!("<s:Envelope xmlns:s=\"{namespace}\"><s:Header/>{body}</s:Envelope>");
        let value = version.read(text.as_bytes())?;
        Ok(String::from_utf8(json::write(&value).unwrap()).unwrap())
    }

    #[test]
    fn answers_and_faults_are_told_apart() {
        let fault = |code: &str, text: &str| Error::Fault { code: code.into(), text: text.into() };
        let ok = |json: &str| Ok(json.to_owned());
        for version in [Version::V1_1, Version::V1_2] {
            let body = "<s:Body><r xmlns='u'><id>1</id></r></s:Body>";
            assert_eq!(answer(version, body), ok(r#"{"r":{"id":"1"}}"#));
            assert_eq!(answer(version, "<s:Body/>"), ok("null"));
            assert!(matches!(answer(version, ""), Err(Error::NotSoap(_))));
            // An element of the service's own that is called so is no fault.
            let own = answer(version, "<s:Body><Fault xmlns='u'/></s:Body>");
            assert_eq!(own, ok(r#"{"Fault":""}"#));
        }
        let body = "<s:Body><s:Fault><faultcode>s:Server</faultcode>\
                    <faultstring>no stock</faultstring></s:Fault></s:Body>";
        assert_eq!(answer(Version::V1_1, body), Err(fault("Server", "no stock")));
        let body = "<s:Body><s:Fault><s:Code><s:Value>s:Sender</s:Value></s:Code>\
                    <s:Reason><s:Text xml:lang='en'>no such order</s:Text></s:Reason></s:Fault></s:Body>";
        assert_eq!(answer(Version::V1_2, body), Err(fault("Sender", "no such order")));
        assert_eq!(answer(Version::V1_1, "<s:Body><s:Fault/></s:Body>"), Err(fault("", "")));
        let other = format!("<Envelope xmlns=\"{}\"/>", Version::V1_2.namespace());
        assert!(matches!(Version::V1_1.read(other.as_bytes()), Err(Error::NotSoap(_))));
        assert!(matches!(Version::V1_1.read(b"<html/>"), Err(Error::NotSoap(_))));
    }
}
