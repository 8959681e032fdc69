//! `POST /oauth2/token`: the client credentials grant (RFC 6749, section 4.4).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, header};
use ingest::emit::Emitted;
use ingest::event::{Kind, Outcome};
use ingest::http::{CORRELATION_HEADER, Code, Correlation, Peer};
use ingest::registry::Name;
use ingest::registry::kind::Application;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::client::{Refused, credentials};
use super::events::{Told, event};
use super::form;
use super::manager::Shared;
use super::secret::{hex, random};
use crate::auth::token_id;
use crate::decisions::{Stopped, Who};

const BODY_BYTES_MAX: usize = 64 * 1024;
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Why there is no token.
#[derive(Debug)]
struct Failure {
    code: Code,
    /// For the client; no part of what it sent.
    description: &'static str,
    retry_after_s: Option<i64>,
}

impl Failure {
    fn new(code: Code, description: &'static str) -> Self {
        Self { code, description, retry_after_s: None }
    }

    /// RFC 6749, section 5.2; where it has no word, one of section 4.1.2.1.
    fn error(&self) -> &'static str {
        match self.code {
            Code::ClientInvalid => "invalid_client",
            Code::GrantUnsupported => "unsupported_grant_type",
            Code::ScopeInvalid => "invalid_scope",
            Code::Throttled | Code::EventsUnavailable | Code::InternalError => {
                "temporarily_unavailable"
            }
            Code::Blocked => "access_denied",
            _ => "invalid_request",
        }
    }
}

/// Answers a client. Its event is in the spool before the answer is.
pub(super) async fn token(
    State(shared): State<Arc<Shared>>,
    Extension(Peer(peer)): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let correlation = Correlation::of(&headers, || fastrand::u64(..));
    let mut told = Told::default();
    let given = match shared.parts.emitter.admit() {
        // Who is blocked tries no secret.
        Ok(()) => match shared.judge(Who::Address(peer.ip()), &mut told) {
            Ok(()) => match read(&headers, body).await {
                Ok(parameters) => shared.give(&headers, &parameters, &mut told),
                Err(failure) => Err(failure),
            },
            Err(failure) => Err(failure),
        },
        Err(error) => {
            tracing::debug!(%error, "no token is given");
            return answer(&correlation, Err(unavailable()));
        }
    };
    let refused = given.as_ref().err().map(|failure| failure.code);
    let event = event(&shared.parts.emitter, &told, &correlation, peer.ip(), refused);
    match shared.parts.emitter.emit(*event) {
        Ok(Emitted::Spooled(_)) => {}
        // A token that nobody is told of is not given, however the spool is set up.
        Ok(Emitted::Dropped) => return answer(&correlation, Err(unavailable())),
        Err(error) => {
            tracing::debug!(%error, "no token is given");
            return answer(&correlation, Err(unavailable()));
        }
    }
    answer(&correlation, given)
}

fn unavailable() -> Failure {
    let description = "no token can be given at the moment";
    Failure { retry_after_s: Some(1), ..Failure::new(Code::EventsUnavailable, description) }
}

/// Reads the parameters.
async fn read(headers: &HeaderMap, body: Body) -> Result<BTreeMap<String, String>, Failure> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = content_type.and_then(|text| text.split(';').next()).unwrap_or_default();
    if !essence.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        let description = "the body is to be application/x-www-form-urlencoded";
        return Err(Failure::new(Code::ContentTypeUnsupported, description));
    }
    let body = match timeout(BODY_TIMEOUT, to_bytes(body, BODY_BYTES_MAX)).await {
        Ok(Ok(body)) => body,
        Ok(Err(_)) => {
            let description = "the body is larger than 64 KiB, or broke off";
            return Err(Failure::new(Code::BodyTooLarge, description));
        }
        Err(_) => {
            return Err(Failure::new(Code::RequestTimeout, "the body did not arrive in time"));
        }
    };
    form::parse(&body).map_err(|description| Failure::new(Code::BodyInvalid, description))
}

impl Shared {
    /// Refuses whom a decision is against.
    fn judge(&self, who: Who<'_>, told: &mut Told) -> Result<(), Failure> {
        let enforced = self.enforced.load();
        if enforced.is_empty() {
            return Ok(());
        }
        let now_ms = self.parts.clock.now().as_micros().div_euclid(1_000);
        let decided = told.decided.get_or_insert_with(|| {
            Box::new(self.parts.emitter.event(Kind::Token, Outcome::Success))
        });
        let judged = enforced.judge(who, u64::try_from(now_ms).unwrap_or(0), decided);
        judged.map_err(|Stopped { code, wait_s }| {
            let failure = Failure::new(code, "no token is given for some time");
            Failure { retry_after_s: i64::try_from(wait_s).ok(), ..failure }
        })
    }

    /// The answer's members.
    fn give(
        &self,
        headers: &HeaderMap,
        parameters: &BTreeMap<String, String>,
        told: &mut Told,
    ) -> Result<Value, Failure> {
        let now_s = self.parts.clock.now().as_micros().div_euclid(1_000_000);
        let snapshot = self.parts.view.snapshot();
        let credentials = credentials(headers, parameters).map_err(|refused| match refused {
            Refused::Client(description) => Failure::new(Code::ClientInvalid, description),
            Refused::Request(description) => Failure::new(Code::BodyInvalid, description),
        })?;

        // What is no name is no application's, and is not worth a count.
        let name = Name::new(&credentials.id).ok();
        if let Some(name) = &name {
            told.client = Some(name.as_str().to_owned());
            if let Some(wait_s) = self.guesses.wait_s(name.as_str(), now_s) {
                let description = "too many wrong secrets; wait";
                let failure = Failure::new(Code::Throttled, description);
                return Err(Failure { retry_after_s: Some(wait_s), ..failure });
            }
        }
        let application = name.as_ref().and_then(|name| snapshot.get::<Application>(name));
        let environment = Application::environment_of(application, &credentials.secret);
        let (Some(name), Some(application), Some(environment)) = (name, application, environment)
        else {
            if let Some(client) = &told.client {
                self.guesses.count(client, now_s);
            }
            let description = "the client or its secret is not known";
            return Err(Failure::new(Code::ClientInvalid, description));
        };
        told.proven = Some(environment);
        self.judge(Who::Application(name.as_str()), told)?;

        match parameters.get("grant_type").map(String::as_str) {
            Some("client_credentials") => {}
            Some(_) => {
                let description = "grant_type is to be client_credentials";
                return Err(Failure::new(Code::GrantUnsupported, description));
            }
            None => return Err(Failure::new(Code::BodyInvalid, "grant_type is missing")),
        }
        let scope = scope(application, parameters.get("scope"))?;
        told.scopes = Some(scope.clone());

        let jti = hex(&random::<16>());
        let claims = json!({
            "iss": self.config.issuer, "aud": self.config.audience,
            "sub": name, "client_id": name,
            "iat": now_s, "nbf": now_s, "exp": now_s + i64::from(self.config.token_ttl_s),
            "jti": jti, "scope": scope, "environment": environment.text(),
        });
        let keys = self.signing.of(&snapshot);
        let token = keys.active.as_ref().and_then(|signer| signer.sign(&claims));
        let token = token.ok_or(Failure::new(Code::InternalError, "no key signs at present"))?;
        told.token_id = Some(token_id(&jti));
        Ok(json!({
            "access_token": token, "token_type": "Bearer",
            "expires_in": self.config.token_ttl_s, "scope": scope,
        }))
    }
}

/// The scopes that are given: those asked for, else all.
fn scope(application: &Application, asked: Option<&String>) -> Result<String, Failure> {
    let Some(asked) = asked else { return Ok(application.scopes.join(" ")) };
    let mut given: Vec<&str> = Vec::new();
    for scope in asked.split(' ').filter(|scope| !scope.is_empty()) {
        if !application.scopes.iter().any(|held| held == scope) {
            let description = "the client may not have a scope that it asks for";
            return Err(Failure::new(Code::ScopeInvalid, description));
        }
        if !given.contains(&scope) {
            given.push(scope);
        }
    }
    Ok(given.join(" "))
}

fn answer(correlation: &Correlation, given: Result<Value, Failure>) -> Response {
    let (status, body, failure) = match given {
        Ok(body) => (http::StatusCode::OK, body, None),
        Err(failure) => {
            let body = json!({
                "error": failure.error(), "error_description": failure.description,
                "correlation_id": &*correlation.id,
            });
            (failure.code.status(), body, Some(failure))
        }
    };
    let mut response = (status, body.to_string()).into_response();
    let headers = response.headers_mut();
    let fixed = HeaderValue::from_static;
    headers.insert(header::CONTENT_TYPE, fixed("application/json"));
    headers.insert(header::CACHE_CONTROL, fixed("no-store"));
    headers.insert(header::PRAGMA, fixed("no-cache"));
    headers.insert(CORRELATION_HEADER, correlation.id_header());
    if let Some(failure) = failure {
        if failure.code == Code::ClientInvalid {
            headers.insert(header::WWW_AUTHENTICATE, fixed("Basic realm=\"oauth2\""));
        }
        if let Some(wait_s) = failure.retry_after_s {
            headers.insert(header::RETRY_AFTER, wait_s.into());
        }
    }
    response
}
