//! Who is let in to the admin API.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Extension, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};
use ingest::event::{Kind, Text};
use mediator::endpoint::http::{CORRELATION_HEADER, Code, Correlation, PROBLEM_CONTENT_TYPE, Peer};

use super::failure::Failure;
use super::server::Shared;
use crate::TokenHash;

/// Lets in who has the token, and gives each answer its correlation id. An address that
/// sent ten wrong tokens within a minute waits for the rest of it, also with the right
/// one: else every guess would be answered.
pub(super) async fn admit(
    State(shared): State<Arc<Shared>>,
    Extension(Peer(peer)): Extension<Peer>,
    mut request: Request,
    next: Next,
) -> Response {
    let correlation = Correlation::of(request.headers(), || fastrand::u64(..));
    request.extensions_mut().insert(correlation.clone());
    let mut response = match check(&shared, peer.ip(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(failure) => {
            tell(&shared, peer.ip(), &correlation, failure.problem.code);
            failure.into_response()
        }
    };
    if let Some(failure) = response.extensions_mut().remove::<Failure>() {
        *response.body_mut() = failure.problem.body(&correlation.id).into();
        let content_type = HeaderValue::from_static(PROBLEM_CONTENT_TYPE);
        response.headers_mut().insert(CONTENT_TYPE, content_type);
    }
    response.headers_mut().insert(CORRELATION_HEADER, correlation.id_header());
    response
}

fn check(shared: &Shared, peer: IpAddr, headers: &HeaderMap) -> Result<(), Failure> {
    let (peer, now_s) = (peer.to_canonical().to_string(), shared.now_s());
    if let Some(wait_s) = shared.guesses.wait_s(&peer, now_s) {
        return Err(Failure::waiting(Code::Throttled, wait_s));
    }
    check_token(&shared.parts.token, headers).inspect_err(|code| {
        // Who brings no token guesses none.
        if *code == Code::TokenMalformed {
            shared.guesses.count(&peer, now_s);
        }
    })?;
    Ok(())
}

fn check_token(expected: &TokenHash, headers: &HeaderMap) -> Result<(), Code> {
    let value = headers.get(AUTHORIZATION).ok_or(Code::TokenMissing)?;
    let token = value.to_str().ok().and_then(|value| value.strip_prefix("Bearer "));
    match token {
        Some(token) if expected.is_of(token) => Ok(()),
        _ => Err(Code::TokenMalformed),
    }
}

/// Writes the event of a refusal, without a part of what was sent.
fn tell(shared: &Shared, peer: IpAddr, correlation: &Correlation, code: Code) {
    let emitter = &shared.parts.emitter;
    let mut event = emitter.event(Kind::Authentication, code.outcome());
    correlation.note(&mut event);
    event.service_name = Some(Text::from_static(super::SERVICE));
    event.client_address = Some(peer.to_canonical().to_string().into());
    event.http_response_status_code = Some(code.status().as_u16().into());
    event.error_type = Some(Text::from_static(code.text()));
    event.auth_method = Some(Text::from_static("bearer"));
    event.auth_outcome = Some(Text::from_static("denied"));
    event.auth_reason = Some(Text::from_static(code.text()));
    if let Err(error) = emitter.emit(event) {
        tracing::warn!(%error, "the event of a refused administrator was not kept");
    }
}
