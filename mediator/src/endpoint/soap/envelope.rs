use bytes::Bytes;
use serde::Deserialize;

use crate::message::xml::{self, Element};

/// The version of SOAP that is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum Version {
    /// SOAP 1.1, the W3C's note of 8 May 2000.
    #[default]
    #[serde(rename = "1.1")]
    V11,
    /// SOAP 1.2, the W3C's recommendation of 27 April 2007.
    #[serde(rename = "1.2")]
    V12,
}

impl Version {
    const fn namespace(self) -> &'static str {
        match self {
            Self::V11 => "http://schemas.xmlsoap.org/soap/envelope/",
            Self::V12 => "http://www.w3.org/2003/05/soap-envelope",
        }
    }
}

/// What a service answered.
#[derive(Debug)]
pub enum Answer {
    /// The first element of the body; `None` if the body is empty.
    Body(Option<Element>),
    /// A fault.
    Fault(SoapFault),
}

/// A fault, by its two parts that both versions have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SoapFault {
    /// Whose fault it is, as `soap:Client`.
    pub code: String,
    /// What happened, in the service's words.
    pub reason: String,
}

/// That an answer is no envelope of the version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unread(String);

/// Puts an envelope around the content of a body, which has to be well-formed:
/// at most one element. Answers the content type, the `SOAPAction` where there is
/// one, and the envelope.
///
/// # Errors
/// If the content is no XML.
pub fn wrap(
    version: Version,
    action: &str,
    content: &str,
) -> Result<(String, Option<String>, Bytes), String> {
    let namespace = version.namespace();
    let envelope = format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<soap:Envelope xmlns:soap=\"{namespace}\">\
         <soap:Body>{content}</soap:Body></soap:Envelope>"
    );
    let parsed = xml::parse(envelope.as_bytes())?;
    // Content that closes the body and opens another would be two messages in one.
    let is_whole = parsed.children.len() == 1 && parsed.child(namespace, "Body").is_some();
    if !is_whole {
        return Err("the content leaves the body of its envelope".to_owned());
    }
    let (content_type, header) = match version {
        Version::V11 => ("text/xml; charset=utf-8".to_owned(), Some(format!("\"{action}\""))),
        Version::V12 if action.is_empty() => {
            ("application/soap+xml; charset=utf-8".to_owned(), None)
        }
        Version::V12 => (format!("application/soap+xml; charset=utf-8; action=\"{action}\""), None),
    };
    Ok((content_type, header, envelope.into()))
}

/// Reads an answer.
///
/// # Errors
/// [`Unread`].
pub fn read(version: Version, bytes: &[u8]) -> Result<Answer, Unread> {
    let namespace = version.namespace();
    let mut envelope = xml::parse(bytes).map_err(Unread)?;
    if envelope.name != "Envelope" || envelope.namespace != namespace {
        return Err(Unread("the answer is no SOAP envelope of the version that was sent".into()));
    }
    let is_body = |child: &Element| child.namespace == namespace && child.name == "Body";
    let Some(at) = envelope.children.iter().position(is_body) else {
        return Err(Unread("the envelope of the answer has no body".to_owned()));
    };
    let body = envelope.children.swap_remove(at);
    let first = body.children.into_iter().next();
    match first {
        Some(fault) if fault.namespace == namespace && fault.name == "Fault" => {
            Ok(Answer::Fault(read_fault(version, &fault)))
        }
        first => Ok(Answer::Body(first)),
    }
}

fn read_fault(version: Version, fault: &Element) -> SoapFault {
    let namespace = version.namespace();
    let text = |element: Option<&Element>| {
        element.map(|element| element.text.trim().to_owned()).unwrap_or_default()
    };
    match version {
        // The parts of 1.1 are in no namespace (note, section 4.4).
        Version::V11 => SoapFault {
            code: text(fault.child("", "faultcode")),
            reason: text(fault.child("", "faultstring")),
        },
        Version::V12 => {
            let part = |outer, inner| fault.child(namespace, outer)?.child(namespace, inner);
            SoapFault { code: text(part("Code", "Value")), reason: text(part("Reason", "Text")) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_envelope_carries_its_action_where_the_version_has_it() {
        let (content_type, action, body) = wrap(Version::V11, "urn:a", "<a/>").unwrap();
        assert_eq!(content_type, "text/xml; charset=utf-8");
        assert_eq!(action.as_deref(), Some("\"urn:a\""));
        assert!(body.ends_with(b"<soap:Body><a/></soap:Body></soap:Envelope>"));
        let (content_type, action, _) = wrap(Version::V12, "urn:a", "<a/>").unwrap();
        assert_eq!(content_type, "application/soap+xml; charset=utf-8; action=\"urn:a\"");
        assert_eq!(action, None);
    }

    #[test]
    fn content_that_leaves_its_body_is_refused() {
        let check = |content: &str| assert!(wrap(Version::V11, "", content).is_err(), "{content}");
        check("<a>");
        check("</soap:Body><soap:Body>");
        check("</soap:Body></soap:Envelope><!-- ");
        check("<!DOCTYPE a><a/>");
    }

    #[test]
    fn answers_are_bodies_or_faults_of_their_version() {
        let check = |version: Version, body: &str, expected: Result<&str, &str>| {
            let (_, _, bytes) = wrap(version, "", body).unwrap();
            let found = match read(version, &bytes) {
                Ok(Answer::Body(first)) => first.map(|first| first.name).unwrap_or_default(),
                Ok(Answer::Fault(fault)) => format!("{}|{}", fault.code, fault.reason),
                Err(error) => panic!("{error}"),
            };
            assert_eq!(found, expected.unwrap_or_else(|fault| fault));
        };
        check(Version::V11, "<m:a xmlns:m=\"urn:m\"/>", Ok("a"));
        check(Version::V12, "", Ok(""));
        let fault = "<soap:Fault><faultcode>soap:Client</faultcode>\
                     <faultstring>no such thing</faultstring></soap:Fault>";
        check(Version::V11, fault, Err("soap:Client|no such thing"));
        let fault = "<soap:Fault><soap:Code><soap:Value>soap:Sender</soap:Value></soap:Code>\
                     <soap:Reason><soap:Text>no</soap:Text></soap:Reason></soap:Fault>";
        check(Version::V12, fault, Err("soap:Sender|no"));

        let (_, _, other) = wrap(Version::V12, "", "<a/>").unwrap();
        assert!(read(Version::V11, &other).is_err());
        assert!(read(Version::V11, b"<html/>").is_err());
        assert!(read(Version::V11, b"not xml").is_err());
    }
}
