//! Who is let in: by a token, which opens a session.

use std::sync::Arc;

use axum::extract::{Form, FromRequestParts, Query, Request, State};
use axum::middleware::Next as Rest;
use axum::response::{Html, IntoResponse, Redirect, Response};
use http::header::{HOST, ORIGIN, SET_COOKIE};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode};
use ingest::http::{Code, Correlation, Failure, Peer};
use serde::Deserialize;

use super::access::Access;
use super::api::{Shared, said};
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

/// Lets in sessions that an admin token has opened.
pub(super) async fn admit_admin(
    State(shared): State<Arc<Shared>>,
    request: Request,
    rest: Rest,
) -> Response {
    let section = request.uri().path().split('/').nth(1).unwrap_or_default();
    match admin_of(&shared, &request, &format!("/{section}")) {
        Ok(_) => rest.run(request).await,
        Err(refusal) => *refusal,
    }
}

/// The same, of pages that ask the manager node: by the admin token of who asks.
pub(super) async fn admit_asking(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    mut request: Request,
    rest: Rest,
) -> Response {
    let Some(manager) = &shared.manager else {
        let what = "No manager node is known here. Name one in console.manager_url.";
        return said(StatusCode::NOT_FOUND, "No manager", what).into_response();
    };
    let section = request.uri().path().split('/').nth(1).unwrap_or_default();
    let admin = match admin_of(&shared, &request, &format!("/{section}")) {
        Ok(admin) => admin,
        Err(refusal) => return *refusal,
    };
    let asking = caller.asking(manager, &admin);
    request.extensions_mut().insert(asking);
    rest.run(request).await
}

/// The admin token of a session, if a page of ours asks; else what is answered. `section` is
/// the page to go to where what was posted is gone.
pub(super) fn admin_of(
    shared: &Shared,
    request: &Request,
    section: &str,
) -> Result<String, Box<Response>> {
    let is_post = request.method() == Method::POST;
    if is_post && !is_of_our_page(request.headers()) {
        let what = "This form was sent by a page of another site.";
        return Err(Box::new(said(StatusCode::FORBIDDEN, "Refused", what).into_response()));
    }
    let session = shared.access.session(request.headers());
    session.and_then(|session| session.admin).ok_or_else(|| {
        let path = request.uri().path_and_query().map_or(section, |path| path.as_str());
        Box::new(ask_admin(if is_post { section } else { path }))
    })
}

/// Asks for the admin token, before a page.
pub(super) fn ask_admin(next: &str) -> Response {
    let page = page::login(Wanted::Admin, None, next).into_string();
    (StatusCode::UNAUTHORIZED, Html(page)).into_response()
}

/// Whether a form was sent by a page of the console, as browsers tell (Fetch Metadata, and
/// RFC 6454): a cookie goes with what other ports of the same host send too.
fn is_of_our_page(headers: &HeaderMap) -> bool {
    let text = |value: Option<&http::HeaderValue>| value?.to_str().ok().map(str::to_owned);
    if let Some(site) = text(headers.get("sec-fetch-site")) {
        return site == "same-origin";
    }
    let Some(origin) = text(headers.get(ORIGIN)) else { return true };
    let host = text(headers.get(HOST)).unwrap_or_default();
    origin.split_once("://").is_some_and(|(_, of)| of.eq_ignore_ascii_case(&host))
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
            let why = "This token opens the boards. Queues, alerts, queries and the search need the admin token.";
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
    let is_for_admin = ["/search", "/queues", "/queries", "/alerts", "/decisions"].contains(&path)
        || path.starts_with("/queues/")
        || path.starts_with("/alerts/");
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
    fn a_form_of_another_page_is_refused() {
        let sent = |headers: &[(&'static str, &'static str)]| {
            let headers = headers.iter().map(|(name, value)| {
                (http::HeaderName::from_static(name), http::HeaderValue::from_static(value))
            });
            is_of_our_page(&headers.collect())
        };
        assert!(sent(&[("host", "localhost:9446"), ("sec-fetch-site", "same-origin")]));
        for site in ["cross-site", "same-site", "none"] {
            assert!(!sent(&[("host", "localhost:9446"), ("sec-fetch-site", site)]), "{site}");
        }
        assert!(sent(&[("host", "localhost:9446"), ("origin", "http://localhost:9446")]));
        for origin in ["http://localhost:8080", "http://evil.example", "null"] {
            assert!(!sent(&[("host", "localhost:9446"), ("origin", origin)]), "{origin}");
        }
        // No browser.
        assert!(sent(&[("host", "localhost:9446")]));
    }

    #[test]
    fn what_callers_sent_is_for_the_admin_token() {
        for (next, is_for_admin) in [
            ("/queues", true),
            ("/queries", true),
            ("/decisions", true),
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
