//! Decisions against callers: which there are, and that one is made or taken back. Each request
//! is made of the manager node with the admin token of who asks.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Extension, Form, Path, Query, State};
use axum::middleware::from_fn_with_state;
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use axum::routing::{get, post};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::api::Shared;
use super::login;
use super::word::Word;
use crate::manager::{Asking, Refused};
use crate::page::decisions::{self as page, Did, Given, Notice};

const CURRENT: &str = "/decisions";

pub(super) fn router(shared: Arc<Shared>) -> Router<Arc<Shared>> {
    Router::new()
        .route(CURRENT, get(all).post(make))
        .route("/decisions/{id}/lift", post(lift))
        .layer(from_fn_with_state(shared, login::admit_asking))
}

#[derive(Deserialize)]
struct Asked {
    did: Option<String>,
}

async fn all(
    State(shared): State<Arc<Shared>>,
    Extension(asking): Extension<Asking>,
    Query(asked): Query<Asked>,
) -> Response {
    let did = asked.did.as_deref().and_then(Did::parse);
    list(&shared, &asking, did.map(Ok), &Given::default()).await
}

async fn list(shared: &Shared, asking: &Asking, notice: Option<Notice>, given: &Given) -> Response {
    let listed = match asking.decisions().await {
        Err(refused) if refused.status == StatusCode::UNAUTHORIZED => {
            return login::ask_admin(CURRENT);
        }
        listed => listed.map_err(|refused| refused.why),
    };
    let page = page::all(&shared.nav(CURRENT), &listed, notice.as_ref(), given);
    Html(page.into_string()).into_response()
}

/// A form of a decision, and what it wants decided.
fn wish(given: &Given) -> Result<Value, String> {
    let number = |name: &str, text: &str| {
        text.trim().parse::<u64>().map_err(|_| format!("{name}: give a whole number"))
    };
    let for_ms = number("For", &given.lasts)?.saturating_mul(given.unit_ms);
    let action = match given.action.as_str() {
        "slow" => {
            let max = number("Requests a minute", &given.max)?;
            json!({"slow": {"max": max, "window_ms": 60_000}})
        }
        _ => json!("block"),
    };
    let mode = if given.dry_run.is_some() { "dry_run" } else { "enforce" };
    Ok(json!({
        "subject_kind": given.kind, "subject": given.subject.trim(), "action": action,
        "for_ms": for_ms, "mode": mode, "by": given.by.trim(), "note": given.note.trim(),
    }))
}

async fn make(
    State(shared): State<Arc<Shared>>,
    Extension(asking): Extension<Asking>,
    Form(given): Form<Given>,
) -> Response {
    let made = match wish(&given) {
        Ok(wish) => asking.decide_against(wish).await.map(drop),
        Err(why) => Err(Refused { status: StatusCode::BAD_REQUEST, why }),
    };
    done(&shared, &asking, made, Did::Made, &given).await
}

async fn lift(
    State(shared): State<Arc<Shared>>,
    Extension(asking): Extension<Asking>,
    Path(id): Path<String>,
    Form(word): Form<Word>,
) -> Response {
    let lifted = asking.lift(&id, word.by.trim(), word.note.trim()).await;
    done(&shared, &asking, lifted, Did::Lifted, &Given::default()).await
}

/// To the page that says what was done, which reloaded does it no second time; or to the same
/// form with why it was not.
async fn done(
    shared: &Shared,
    asking: &Asking,
    result: Result<(), Refused>,
    did: Did,
    given: &Given,
) -> Response {
    match result {
        Ok(()) => Redirect::to(&format!("{CURRENT}?did={}", did.name())).into_response(),
        Err(refused) if refused.status == StatusCode::UNAUTHORIZED => login::ask_admin(CURRENT),
        Err(refused) => {
            let page = list(shared, asking, Some(Err(refused.why)), given).await;
            (refused.status, page).into_response()
        }
    }
}
