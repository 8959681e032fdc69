//! Errors as callers see them: problem details (RFC 9457), each with a code that
//! stays. The same code is on the event as `error_type`, on a route's fault as
//! `fault_code`, and decides the status and the outcome; there is no other list.

use crate::event::Outcome;
use bytes::Bytes;
use http::StatusCode;

use super::{CORRELATION_HEADER, Correlation};

/// The media type of problem details (RFC 9457, section 6.1).
pub const PROBLEM_CONTENT_TYPE: &str = "application/problem+json";

/// Makes the enum and its tables from one list.
macro_rules! codes {
    ($( $(#[doc = $doc:literal])+ $code:ident = $text:literal $status:literal $outcome:ident $title:literal; )+) => {
        /// What went wrong. Codes are only ever added.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code { $( $(#[doc = $doc])+ $code, )+ }

        impl Code {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$code),+];

            /// The code of a stable text.
            pub fn parse(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|code| code.text() == text)
            }

            /// The stable text, as in `error_type` of events.
            pub const fn text(self) -> &'static str {
                match self { $(Self::$code => $text),+ }
            }

            /// The status of the answer.
            pub const fn status(self) -> StatusCode {
                let status = match self { $(Self::$code => $status),+ };
                match StatusCode::from_u16(status) {
                    Ok(status) => status,
                    Err(_) => panic!("a status of the table is a status"),
                }
            }

            /// How the event ends, and so whose doing it was.
            pub const fn outcome(self) -> Outcome {
                match self { $(Self::$code => Outcome::$outcome),+ }
            }

            /// What it means, in a sentence for the documentation.
            #[cfg(test)]
            const fn meaning(self) -> &'static str {
                match self { $(Self::$code => concat!($($doc),+)),+ }
            }

            /// A short summary for people, the same for every occurrence.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$code => $title),+ }
            }
        }
    };
}

codes! {
    // The request itself.
    /// It is not HTTP, or not unambiguous.
    RequestMalformed = "request_malformed" 400 ClientError "the request is not valid HTTP";
    /// Its head is larger than the limit (RFC 6585, section 5).
    HeaderTooLarge = "header_too_large" 431 ClientError "the request's header fields are too large";
    /// Its target is longer than the limit.
    UrlTooLong = "url_too_long" 414 ClientError "the request's address is too long";
    /// Its body is larger than the API takes.
    BodyTooLarge = "body_too_large" 413 Refused "the request's body is too large";
    /// It did not arrive in time.
    RequestTimeout = "request_timeout" 408 ClientError "the request did not arrive in time";
    /// A content type that the receiver does not take.
    ContentTypeUnsupported = "content_type_unsupported" 415 ClientError "this content type is not taken here";
    /// None of the content types that the caller takes (RFC 9110, section 15.5.7).
    NotAcceptable = "not_acceptable" 406 ClientError "no content type that is asked for is there";
    /// A body that is not what its content type says, or not what is asked for.
    BodyInvalid = "body_invalid" 400 Refused "the request's body is not valid";
    /// No TLS could be spoken with the client (not sent to anybody).
    TlsFailed = "tls_failed" 400 ClientError "no TLS could be spoken";
    /// A feature that is not there, such as a method or an upgrade.
    NotImplemented = "not_implemented" 501 ClientError "this is not implemented";

    // What it asks for.
    /// No API has this path.
    ApiNotFound = "api_not_found" 404 ClientError "no API is published here";
    /// The API has no such resource.
    ResourceNotFound = "resource_not_found" 404 ClientError "the API has no such resource";
    /// The resource is there, but not by this method.
    MethodNotAllowed = "method_not_allowed" 405 ClientError "the resource does not take this method";
    /// The API was retired.
    ApiRetired = "api_retired" 410 ClientError "this version of the API was retired";

    // Who asks.
    /// No credential came with it.
    TokenMissing = "token_missing" 401 Denied "a bearer token is needed";
    /// The credential cannot be read.
    TokenMalformed = "token_malformed" 401 Denied "the bearer token is not valid";
    /// Signed by a key that nobody published.
    TokenKeyUnknown = "token_key_unknown" 401 Denied "the bearer token is not valid";
    /// The signature does not fit.
    TokenSignatureInvalid = "token_signature_invalid" 401 Denied "the bearer token is not valid";
    /// Of another issuer.
    TokenIssuerInvalid = "token_issuer_invalid" 401 Denied "the bearer token is not valid";
    /// For another audience.
    TokenAudienceInvalid = "token_audience_invalid" 401 Denied "the bearer token is not valid";
    /// It was good until some time ago.
    TokenExpired = "token_expired" 401 Denied "the bearer token has expired";
    /// It is not good yet.
    TokenNotYetValid = "token_not_yet_valid" 401 Denied "the bearer token is not valid yet";
    /// The token has none of the scopes that the resource asks for.
    ScopeMissing = "scope_missing" 403 Denied "the scope that is needed here is missing";
    /// The application is not known.
    ApplicationUnknown = "application_unknown" 403 Denied "the application is not known";
    /// The application has no subscription to the API.
    SubscriptionMissing = "subscription_missing" 403 Denied "the application has no subscription to this API";
    /// The subscription is there, but does not hold.
    SubscriptionInactive = "subscription_inactive" 403 Denied "the application's subscription does not hold";
    /// The caller's address is not on the API's list.
    AddressNotAllowed = "address_not_allowed" 403 Denied "this address may not call here";
    /// A deny rule fits the request.
    DeniedByRule = "denied_by_rule" 403 Denied "the request was denied";
    /// A decision is against the caller, of a detection or of a person, until it ends.
    Blocked = "blocked" 403 Denied "the caller is blocked for some time";
    /// The client could not prove who it is (RFC 6749, section 5.2).
    ClientInvalid = "client_invalid" 401 Denied "the client's credentials are not valid";
    /// What the caller asks for is for others.
    RightMissing = "right_missing" 403 Denied "you may not do this";
    /// The grant is none that the key manager knows (RFC 6749, section 5.2).
    GrantUnsupported = "grant_unsupported" 400 ClientError "this grant is not supported";
    /// The client may not have a scope that it asks for (RFC 6749, section 5.2).
    ScopeInvalid = "scope_invalid" 400 Denied "the client may not have this scope";
    /// It says that it is part of a replay, and its credential is not the one.
    ReplayDenied = "replay_denied" 403 Denied "this gateway takes no replay by this credential";

    // How much.
    /// A limit of requests was reached.
    Throttled = "throttled" 429 Throttled "too many requests";

    // The service behind.
    /// No target takes connections.
    UpstreamUnreachable = "upstream_unreachable" 503 Unavailable "the service cannot be reached";
    /// Connecting took too long.
    UpstreamConnectTimeout = "upstream_connect_timeout" 504 UpstreamTimeout "the service could not be reached in time";
    /// The answer took too long.
    UpstreamTimeout = "upstream_timeout" 504 UpstreamTimeout "the service did not answer in time";
    /// The service broke off, or did not speak HTTP.
    UpstreamBroken = "upstream_broken" 502 UpstreamError "the service broke off";
    /// The service's answer can be read in two ways, as one with both a length and
    /// chunks (RFC 9112, section 6.3).
    UpstreamProtocol = "upstream_protocol" 502 UpstreamError "the service's answer is not valid HTTP";
    /// The service answered with an error.
    UpstreamError = "upstream_error" 502 UpstreamError "the service answered with an error";
    /// TLS with the service failed.
    UpstreamTlsFailed = "upstream_tls_failed" 502 UpstreamError "the service cannot be trusted";

    // Mediation and delivery.
    /// No route has this path.
    RouteNotFound = "route_not_found" 404 ClientError "no route takes this request";
    /// The run took longer than the route allows.
    RouteTimeout = "route_timeout" 504 UpstreamTimeout "the request could not be processed in time";
    /// A step failed by its definition or by the data that it met.
    StepFailed = "step_failed" 500 Fault "the request could not be processed";
    /// A SOAP service answered with a fault.
    SoapFault = "soap_fault" 502 UpstreamError "the service answered with a fault";
    /// The queue did not take the message, or did not say so in time.
    QueueUnavailable = "queue_unavailable" 503 Unavailable "the message could not be stored; send it again with the same id";
    /// The message is larger than a queue takes.
    MessageTooLarge = "message_too_large" 413 Refused "the message is too large to be stored";
    /// The message's id is that of another one, of another ordering key.
    MessageIdReused = "message_id_reused" 422 Refused "the message's id is that of another message";

    // Administration.
    /// No such entity, or no such kind.
    EntityNotFound = "entity_not_found" 404 ClientError "there is no such entity";
    /// Somebody changed the configuration since the plan was made.
    RevisionChanged = "revision_changed" 409 ClientError "the configuration was changed meanwhile; plan again";
    /// The change set was refused, and nothing was changed.
    ChangeRefused = "change_refused" 422 Refused "the change was refused";
    /// No decision has this id, or it ended too long ago.
    DecisionUnknown = "decision_unknown" 404 ClientError "there is no such decision";
    /// A safeguard protects the one whom the decision would be against.
    SubjectProtected = "subject_protected" 422 Refused "a safeguard protects this subject";
    /// Whether the change was made is not known; the same id tells.
    VerdictMissing = "verdict_missing" 503 Unavailable "no verdict came in time; send it again with the same id";

    // SQL.
    /// No alert has this id, or it was too long ago.
    AlertUnknown = "alert_unknown" 404 ClientError "there is no such alert";
    /// The alert is over: there is nothing to acknowledge.
    AlertResolved = "alert_resolved" 409 ClientError "the alert is over";
    /// No silence has this id.
    SilenceUnknown = "silence_unknown" 404 ClientError "there is no such silence";
    /// It is no query, or names what is not there.
    QueryInvalid = "query_invalid" 400 ClientError "the query is not valid";
    /// It took longer than a query may.
    QueryTime = "query_time" 422 Refused "the query took too long";
    /// It needed more memory than a query may.
    QueryMemory = "query_memory" 422 Refused "the query needed too much memory";
    /// It failed on what it met.
    QueryFailed = "query_failed" 422 Refused "the query failed";
    /// The log cannot be written to.
    LogUnavailable = "log_unavailable" 503 Unavailable "nothing can be written down at the moment";
    /// The lake or the log could not be read.
    LakeUnavailable = "lake_unavailable" 503 Unavailable "the history cannot be read at the moment";

    // Weir itself.
    /// The event of the request could not be kept, so the request is not taken.
    EventsUnavailable = "events_unavailable" 503 Unavailable "no requests are taken at the moment";
    /// Too many requests or connections are under way.
    Overloaded = "overloaded" 503 Unavailable "too much is under way here";
    /// The gateway stopped, and could wait no longer. The answer is broken off.
    Stopped = "stopped" 503 Unavailable "the gateway stopped before the answer was complete";
    /// The client went away (not sent to anybody; 499 as nginx notes it).
    ClientClosed = "client_closed" 499 ClientClosed "the client went away";
    /// A defect.
    InternalError = "internal_error" 500 InternalError "something went wrong here";
}

/// An error on its way to a caller. It never holds an internal detail: what is in
/// `detail` was written for the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What went wrong.
    pub code: Code,
    /// What went wrong this time, for the caller: what, where, how to mend it.
    pub detail: Option<String>,
}

impl From<Code> for Problem {
    fn from(code: Code) -> Self {
        Self { code, detail: None }
    }
}

impl Problem {
    /// A problem with a detail.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: Some(detail.into()) }
    }

    /// The body (RFC 9457, section 3), with `code` and `correlation_id` besides.
    pub fn body(&self, correlation_id: &str) -> Bytes {
        let mut body = serde_json::Map::new();
        let code = self.code.text();
        body.insert("type".into(), format!("urn:weir:problem:{code}").into());
        body.insert("title".into(), self.code.title().into());
        body.insert("status".into(), self.code.status().as_u16().into());
        if let Some(detail) = &self.detail {
            body.insert("detail".into(), detail.as_str().into());
        }
        body.insert("code".into(), code.into());
        body.insert("correlation_id".into(), correlation_id.into());
        serde_json::Value::Object(body).to_string().into()
    }

    /// The whole answer as bytes, for a connection on which no server answers; it is to
    /// be closed after that.
    pub fn raw(&self, correlation: &Correlation) -> Bytes {
        let (body, status) = (self.body(&correlation.id), self.code.status());
        let mut raw = format!(
            "HTTP/1.1 {} {}\r\ncontent-type: {PROBLEM_CONTENT_TYPE}\r\ncache-control: \
             no-store\r\ncontent-length: {}\r\n{CORRELATION_HEADER}: {}\r\nconnection: \
             close\r\ndate: {}\r\n\r\n",
            status.as_str(),
            status.canonical_reason().unwrap_or_default(),
            body.len(),
            correlation.id,
            httpdate::fmt_http_date(std::time::SystemTime::now()),
        )
        .into_bytes();
        raw.extend_from_slice(&body);
        raw.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `WEIR_REGENERATE=1` writes the page anew.
    #[test]
    fn the_page_of_codes_lists_them_all() {
        const BEGINS: &str = "# Codes of errors

Errors are answered with problem details (RFC 9457): `type`, `title`, `status`, `detail`
where there is one, `code` and `correlation_id`; but for the token endpoint, whose errors are
those of RFC 6749 (section 5.2), and the console, which answers pages and sentences. The code
is also `error_type` of the event, and `fault_code` of a route's fault. Codes are only ever
added.

| code | status | outcome | when |
| --- | ---: | --- | --- |
";
        let mut page = BEGINS.to_owned();
        for code in Code::ALL {
            let (status, outcome) = (code.status().as_u16(), code.outcome().text());
            page += &format!("| `{}` | {status} | {outcome} |{} |\n", code.text(), code.meaning());
        }
        let manifest = std::env::var("CARGO_MANIFEST_DIR").unwrap();
        let file = std::path::Path::new(&manifest).join("../docs/errors.md");
        if std::env::var_os("WEIR_REGENERATE").is_some() {
            std::fs::write(&file, &page).unwrap();
        }
        assert_eq!(std::fs::read_to_string(file).unwrap(), page, "WEIR_REGENERATE=1 writes it");
    }

    #[test]
    fn codes_are_unique_snake_case_and_errors() {
        let mut seen = std::collections::HashSet::new();
        for code in Code::ALL {
            let text = code.text();
            assert!(seen.insert(text), "{text} twice");
            assert!(text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{text}");
            assert!(code.status().as_u16() >= 400, "{text}");
            assert_ne!(code.outcome(), Outcome::Success, "{text}");
        }
    }

    #[test]
    fn a_body_has_the_members_of_the_rfc_and_our_two() {
        let problem = Problem::new(Code::BodyTooLarge, "1,024 bytes \"at\" most");
        let body: serde_json::Value = serde_json::from_slice(&problem.body("c-1")).unwrap();
        let expected = serde_json::json!({
            "type": "urn:weir:problem:body_too_large",
            "title": "the request's body is too large",
            "status": 413,
            "detail": "1,024 bytes \"at\" most",
            "code": "body_too_large",
            "correlation_id": "c-1",
        });
        assert_eq!(body, expected);
    }
}
