//! Who is let in: by a token, which opens a session.

use std::sync::Arc;

use axum::extract::{Form, FromRequestParts, Query, Request, State};
use axum::middleware::Next as Rest;
use axum::response::{Html, IntoResponse, Redirect, Response};
use http::StatusCode;
use http::header::SET_COOKIE;
use http::request::Parts;
use ingest::http::{Code, Correlation, Failure, Peer};
use serde::Deserialize;

use super::access::Access;
use super::api::Shared;
use crate::manager::{Asking, Manager};
use crate::page::{self, Wanted};

#[derive(Deserialize)]
struct Given {
    token: Option<String>,
}

/// Lets in who may look; others are asked for the token.
pub(super) async fn admit(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    request: Request,
    rest: Rest,
) -> Response {
    let (uri, access) = (request.uri(), &shared.access);
    let given = Query::<Given>::try_from_uri(uri).ok().and_then(|Query(given)| given.token);
    if let Some(token) = given {
        return opened(&shared, &caller, &token, &without_token(uri)).await;
    }
    let bearer = Access::bearer(request.headers());
    if bearer.is_none() && access.session(request.headers()).is_some() {
        return rest.run(request).await;
    }
    let wants_page = request
        .headers()
        .get(http::header::ACCEPT)
        .is_some_and(|accept| accept.to_str().is_ok_and(|accept| accept.contains("text/html")));
    if wants_page && bearer.is_none() {
        let next = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        return (
            StatusCode::UNAUTHORIZED,
            Html(page::login(Wanted::Console, None, &next).into_string()),
        )
            .into_response();
    }
    match access.try_token(bearer, caller.peer.0.ip(), &caller.correlation) {
        Ok(()) => rest.run(request).await,
        Err(failure) => failure.into_response(),
    }
}

/// An address without the token that it gave.
fn without_token(uri: &http::Uri) -> String {
    let pairs = uri.query().into_iter().flat_map(|query| query.split('&'));
    let rest: Vec<&str> = pairs.filter(|pair| !pair.starts_with("token=")).collect();
    let mark = if rest.is_empty() { "" } else { "?" };
    format!("{}{mark}{}", uri.path(), rest.join("&"))
}

/// Who asks.
pub(super) struct Caller {
    peer: Peer,
    correlation: Correlation,
}

impl Caller {
    /// As somebody who asks the manager node.
    pub(super) fn asking(&self, manager: &Manager, token: &str) -> Asking {
        manager.asked_by(token, &self.correlation)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        let (peer, correlation) = (parts.extensions.get(), parts.extensions.get());
        match (peer, correlation) {
            (Some(peer), Some(correlation)) => {
                Ok(Self { peer: *peer, correlation: Correlation::clone(correlation) })
            }
            _ => Err(Code::InternalError.into()),
        }
    }
}

/// A session for a right token, at an address that does not have it: the console's token, or
/// one that the manager node takes.
async fn opened(shared: &Shared, caller: &Caller, token: &str, next: &str) -> Response {
    let token = token.trim();
    // To nowhere but here: browsers read `//` and `/\` as another host's name.
    let wanted = wanted_for(next);
    let is_ours = next.starts_with("/boards/") || matches!(wanted, Wanted::Admin);
    let next = if is_ours { next } else { "/" };
    let again = |why: &str, status: StatusCode| {
        (status, Html(page::login(wanted, Some(why), next).into_string())).into_response()
    };
    let is_admin = match (shared.access.is_console_token(token), &shared.manager) {
        (true, _) if matches!(wanted, Wanted::Admin) => {
            let why = "This token opens the boards. Queues and the search need the admin token.";
            return again(why, StatusCode::FORBIDDEN);
        }
        (true, _) | (false, None) => false,
        (false, Some(manager)) => match caller.asking(manager, token).is_let_in().await {
            Ok(is_let_in) => is_let_in,
            Err(refused) => return again(&refused.why, refused.status),
        },
    };
    let session = match is_admin {
        true => Ok(Some(token.to_owned())),
        false => {
            let ip = caller.peer.0.ip();
            shared.access.try_token(Some(token), ip, &caller.correlation).map(|()| None)
        }
    };
    let failure = match session.map(|admin| shared.access.open_session(admin)) {
        Ok(Some(cookie)) => return ([(SET_COOKIE, cookie)], Redirect::to(next)).into_response(),
        Ok(None) => Failure::from(Code::InternalError),
        Err(failure) => failure,
    };
    let why = match failure.problem.code {
        Code::Throttled => "Too many wrong tokens came from your address. Wait for a minute.",
        Code::InternalError => "No session could be opened. Try again.",
        _ => "This is not the token.",
    };
    again(why, failure.problem.code.status())
}

#[derive(Deserialize)]
pub(super) struct Next {
    #[serde(default)]
    next: String,
}

pub(super) async fn ask(Query(Next { next }): Query<Next>) -> Html<String> {
    Html(page::login(wanted_for(&next), None, &next).into_string())
}

fn wanted_for(next: &str) -> Wanted {
    let path = next.split('?').next().unwrap_or_default();
    let is_for_admin = path == "/search" || path == "/queues" || path.starts_with("/queues/");
    if is_for_admin { Wanted::Admin } else { Wanted::Console }
}

#[derive(Deserialize)]
pub(super) struct LogIn {
    token: String,
    next: String,
}

pub(super) async fn log_in(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Form(form): Form<LogIn>,
) -> Response {
    opened(&shared, &caller, &form.token, &form.next).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_callers_sent_is_for_the_admin_token() {
        for (next, is_for_admin) in [
            ("/queues", true),
            ("/queues/a?b", true),
            ("/search?q=/boards/", true),
            ("/search", true),
            ("/searching", false),
            ("/boards/queues", false),
            ("//search", false),
            ("", false),
        ] {
            assert_eq!(matches!(wanted_for(next), Wanted::Admin), is_for_admin, "{next}");
        }
    }
}
