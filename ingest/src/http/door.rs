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

use super::users::Users;
use super::{Caller, Code, Correlation, Failure, Guesses, Peer, TokenHash, basic};
use crate::emit::Emitter;
use crate::event::{Kind, Text};
use crate::registry::{Name, View};
use crate::scram::Verifier;

const CHALLENGE: HeaderValue = HeaderValue::from_static("Bearer realm=\"weir admin\"");
const CHALLENGE_OF_USERS: HeaderValue = HeaderValue::from_static("Basic realm=\"weir\"");

/// Lets in who has a token, by `Authorization: Bearer`, and gives each answer the id of its
/// journey. Of an address that sent ten wrong tokens within a minute further wrong ones are
/// not answered as such for the rest of it; the right one is let in all the same, or
/// anybody could keep out who shares the address. So is a right key of a user; a password,
/// which costs much to look at, is not looked at then.
#[derive(Debug)]
pub struct Door {
    token: TokenHash,
    /// Who is let in besides.
    users: Option<Users>,
    emitter: Emitter,
    /// Whose door it is, as `service_name` of events.
    service: &'static str,
    guesses: Guesses,
    started: Instant,
}

impl Door {
    /// A door that `token` opens. Who is refused is told of through `emitter`.
    pub fn new(token: TokenHash, emitter: Emitter, service: &'static str) -> Arc<Self> {
        Arc::new(Self::made(token, None, emitter, service))
    }

    /// A door that lets in the users of the registry besides, by HTTP Basic (RFC 7617): a
    /// user's name, and its password or a key. Whoever is none of them may give the token as
    /// the password.
    pub fn for_users(
        token: TokenHash,
        view: View,
        emitter: Emitter,
        service: &'static str,
    ) -> Arc<Self> {
        Arc::new(Self::made(token, Some(Users::new(view)), emitter, service))
    }

    fn made(
        token: TokenHash,
        users: Option<Users>,
        emitter: Emitter,
        service: &'static str,
    ) -> Self {
        let (guesses, started) = (Guesses::default(), Instant::now());
        Self { token, users, emitter, service, guesses, started }
    }

    /// The router behind this door, to be served by [`super::Server::route`]. Its requests
    /// have their [`Correlation`] and [`Caller`] as extensions, and its handlers fail by
    /// [`Failure`].
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

    /// Who is let in by the header `Authorization`; a refusal is told of.
    ///
    /// # Errors
    /// The failure to answer by.
    pub async fn enter(
        &self,
        headers: &HeaderMap,
        peer: IpAddr,
        correlation: &Correlation,
    ) -> Result<Caller, Failure> {
        if self.users.is_some()
            && let Some((name, secret)) = basic(headers)
        {
            return self.enter_as(&name, &secret, peer, correlation).await;
        }
        self.try_token(token_of(headers), peer, correlation).map(|()| Caller::Admin)
    }

    /// Who is let in by a name and a secret; a refusal is told of.
    ///
    /// # Errors
    /// The failure to answer by.
    pub async fn enter_as(
        &self,
        name: &str,
        secret: &str,
        peer: IpAddr,
        correlation: &Correlation,
    ) -> Result<Caller, Failure> {
        let found = self.find(name, secret, peer).await;
        if let Err(refusal) = &found {
            self.tell_of("basic", peer, correlation, refusal.problem.code);
        }
        found
    }

    async fn find(&self, name: &str, secret: &str, peer: IpAddr) -> Result<Caller, Failure> {
        let user = self.user(name);
        if user.is_none() && self.token.is_of(secret) {
            return Ok(Caller::Admin);
        }
        if let Some(users) = &self.users {
            let mut is_let_in = users.has_key(name, secret);
            if !is_let_in {
                if let Some(wait_s) = self.wait_s(peer) {
                    return Err(Failure::waiting(Code::Throttled, wait_s));
                }
                is_let_in = users.has_password(name, secret).await?;
            }
            if let (true, Some(user)) = (is_let_in, user) {
                return Ok(Caller::User(user));
            }
        }
        Err(match self.refuse_guess(peer) {
            refusal if refusal.problem.code == Code::Throttled => refusal,
            _ => Code::ClientInvalid.into(),
        })
    }

    /// The user of this name, if users are let in and there is one.
    pub fn user(&self, name: &str) -> Option<Name> {
        self.users.as_ref().and_then(|users| users.find(name))
    }

    /// What is kept of the password of a user.
    pub fn verifier(&self, user: &Name) -> Option<Verifier> {
        self.users.as_ref().and_then(|users| users.verifier(user.as_str()))
    }

    /// Counts a wrong secret that came by another protocol, and tells of it. `method` is how
    /// it was shown, as `auth_method` of events.
    pub fn refuse_secret(&self, peer: IpAddr, method: &'static str) {
        let refusal = self.refuse_guess(peer);
        let correlation = Correlation::of(&HeaderMap::new(), || fastrand::u64(..));
        self.tell_of(method, peer, &correlation, refusal.problem.code);
    }

    fn refuse_guess(&self, peer: IpAddr) -> Failure {
        if let Some(wait_s) = self.wait_s(peer) {
            return Failure::waiting(Code::Throttled, wait_s);
        }
        self.guesses.count(&peer.to_canonical().to_string(), self.now_s());
        Code::TokenMalformed.into()
    }

    /// For how many seconds an address is to wait that has guessed too often.
    pub fn wait_s(&self, peer: IpAddr) -> Option<i64> {
        self.guesses.wait_s(&peer.to_canonical().to_string(), self.now_s())
    }

    fn now_s(&self) -> i64 {
        i64::try_from(self.started.elapsed().as_secs()).unwrap_or(i64::MAX)
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
    let mut response = match door.enter(request.headers(), peer.ip(), &correlation).await {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(failure) => failure.into_response(),
    };
    Failure::complete(&mut response, &correlation);
    if response.status() == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(WWW_AUTHENTICATE, CHALLENGE);
        if door.users.is_some() {
            response.headers_mut().append(WWW_AUTHENTICATE, CHALLENGE_OF_USERS);
        }
    }
    response
}

/// The bearer token; an empty one of a header that has none.
fn token_of(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?;
    let token = value.to_str().ok().and_then(|value| value.strip_prefix("Bearer "));
    Some(token.unwrap_or_default())
}
