//! Who is let in by a token.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Extension, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode};
use tokio::time::Instant;

use super::{Code, Correlation, Failure, Guesses, Peer, TokenHash};
use crate::emit::Emitter;
use crate::event::{Kind, Text};

const CHALLENGE: HeaderValue = HeaderValue::from_static("Bearer realm=\"weir admin\"");

/// Lets in who has a token, by `Authorization: Bearer`, and gives each answer the id of its
/// journey. Of an address that sent ten wrong tokens within a minute further wrong ones are
/// not answered as such for the rest of it; the right one is let in all the same, or
/// anybody could keep out who shares the address.
#[derive(Debug)]
pub struct Door {
    token: TokenHash,
    emitter: Emitter,
    /// Whose door it is, as `service_name` of events.
    service: &'static str,
    guesses: Guesses,
    started: Instant,
}

impl Door {
    /// A door that `token` opens. Who is refused is told of through `emitter`.
    pub fn new(token: TokenHash, emitter: Emitter, service: &'static str) -> Arc<Self> {
        let (guesses, started) = (Guesses::default(), Instant::now());
        Arc::new(Self { token, emitter, service, guesses, started })
    }

    /// The router behind this door, to be served by [`super::Server::route`]. Its requests
    /// have their [`Correlation`] as an extension, and its handlers fail by [`Failure`].
    pub fn guard(self: Arc<Self>, router: Router) -> Router {
        router.layer(from_fn_with_state(self, admit))
    }

    /// Whether a token opens it. That one does not is not told: who asks so looks further.
    pub fn is_opened_by(&self, token: &str) -> bool {
        self.token.is_of(token)
    }

    /// Looks at a token that came by another way than the header; a refusal is told of.
    ///
    /// # Errors
    /// The failure to answer by.
    pub fn try_token(
        &self,
        token: Option<&str>,
        peer: IpAddr,
        correlation: &Correlation,
    ) -> Result<(), Failure> {
        let refusal = match token {
            Some(token) if self.token.is_of(token) => return Ok(()),
            Some(_) => self.refuse_guess(peer),
            // Who brings no token guesses none.
            None => Code::TokenMissing.into(),
        };
        self.tell(peer, correlation, refusal.problem.code);
        Err(refusal)
    }

    /// Counts a wrong secret that came by another protocol, and tells of it. `method` is how
    /// it was shown, as `auth_method` of events.
    pub fn refuse_secret(&self, peer: IpAddr, method: &'static str) {
        let refusal = self.refuse_guess(peer);
        let correlation = Correlation::of(&HeaderMap::new(), || fastrand::u64(..));
        self.tell_of(method, peer, &correlation, refusal.problem.code);
    }

    fn refuse_guess(&self, peer: IpAddr) -> Failure {
        let peer = peer.to_canonical().to_string();
        let now_s = i64::try_from(self.started.elapsed().as_secs()).unwrap_or(i64::MAX);
        if let Some(wait_s) = self.guesses.wait_s(&peer, now_s) {
            return Failure::waiting(Code::Throttled, wait_s);
        }
        self.guesses.count(&peer, now_s);
        Code::TokenMalformed.into()
    }

    /// Writes the event of a refusal, without a part of what was sent.
    fn tell(&self, peer: IpAddr, correlation: &Correlation, code: Code) {
        self.tell_of("bearer", peer, correlation, code);
    }

    fn tell_of(&self, method: &'static str, peer: IpAddr, correlation: &Correlation, code: Code) {
        tell_denied(&self.emitter, self.service, method, peer, correlation, code);
    }
}

/// Writes the event of a caller who was not let in, without a part of what was sent: whose
/// door it was, as `service_name`, and how the caller was to prove itself, as `auth_method`.
pub fn tell_denied(
    emitter: &Emitter,
    service: &'static str,
    method: &'static str,
    peer: IpAddr,
    correlation: &Correlation,
    code: Code,
) {
    let mut event = emitter.event(Kind::Authentication, code.outcome());
    correlation.note(&mut event);
    event.service_name = Some(Text::from_static(service));
    event.client_address = Some(peer.to_canonical().to_string().into());
    event.http_response_status_code = Some(code.status().as_u16().into());
    event.error_type = Some(Text::from_static(code.text()));
    event.auth_method = Some(Text::from_static(method));
    event.auth_outcome = Some(Text::from_static("denied"));
    event.auth_reason = Some(Text::from_static(code.text()));
    if let Err(error) = emitter.emit(event) {
        tracing::warn!(%error, "the event of a refused caller was not kept");
    }
}

async fn admit(
    State(door): State<Arc<Door>>,
    Extension(Peer(peer)): Extension<Peer>,
    mut request: Request,
    next: Next,
) -> Response {
    let correlation = Correlation::of(request.headers(), || fastrand::u64(..));
    request.extensions_mut().insert(correlation.clone());
    let token = token_of(request.headers());
    let mut response = match door.try_token(token, peer.ip(), &correlation) {
        Ok(()) => next.run(request).await,
        Err(failure) => failure.into_response(),
    };
    Failure::complete(&mut response, &correlation);
    if response.status() == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(WWW_AUTHENTICATE, CHALLENGE);
    }
    response
}

/// The bearer token; an empty one of a header that has none.
fn token_of(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?;
    let token = value.to_str().ok().and_then(|value| value.strip_prefix("Bearer "));
    Some(token.unwrap_or_default())
}
