//! Alerts: what was found, and what people say of it. They are for sessions that an admin
//! token has opened.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Form, Path, Query, State};
use axum::middleware::from_fn_with_state;
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use axum::routing::{get, post};
use http::StatusCode;
use serde::Deserialize;
use serde_json::Value;

use super::api::{Shared, said};
use super::login;
use super::word::Word;
use crate::page::alerts::{self as page, Alert, Did, LISTED_MAX, Notice, Silence, Which};
use crate::source::texts_of;

const CURRENT: &str = "/alerts";

pub(super) fn router(shared: Arc<Shared>) -> Router<Arc<Shared>> {
    Router::new()
        .route(CURRENT, get(all))
        .route("/alerts/{id}", get(one))
        .route("/alerts/{id}/acknowledge", post(acknowledge))
        .route("/alerts/{id}/unacknowledge", post(unacknowledge))
        .route("/alerts/{id}/silence", post(silence))
        .route("/alerts/silences/{id}/end", post(end))
        .layer(from_fn_with_state(shared, login::admit_admin))
}

#[derive(Deserialize)]
struct Asked {
    state: Option<String>,
    did: Option<String>,
}

impl Asked {
    fn notice(&self) -> Option<Notice> {
        self.did.as_deref().and_then(Did::parse).map(Ok)
    }
}

async fn all(State(shared): State<Arc<Shared>>, Query(asked): Query<Asked>) -> Html<String> {
    list(&shared, asked.state.as_deref(), asked.notice()).await
}

async fn list(shared: &Shared, state: Option<&str>, notice: Option<Notice>) -> Html<String> {
    let which = state.and_then(Which::parse).unwrap_or(Which::Open);
    let of = match which {
        Which::Open => "WHERE state = 'open'",
        Which::Resolved => "WHERE state = 'resolved'",
        Which::All => "",
    };
    let sql = format!("{of} ORDER BY begins DESC, id LIMIT {LISTED_MAX}");
    let alerts = alerts(shared, &sql).await;
    let silences = silences(shared).await.unwrap_or_default();
    let page = page::all(&shared.nav(CURRENT), which, &alerts, &silences, notice.as_ref());
    Html(page.into_string())
}

async fn one(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    Query(asked): Query<Asked>,
) -> Response {
    show(&shared, &id, asked.notice()).await
}

async fn show(shared: &Shared, id: &str, notice: Option<Notice>) -> Response {
    let found = alerts(shared, &format!("WHERE id = '{}'", id.replace('\'', "''"))).await;
    match found.as_deref() {
        Ok([alert]) => {
            let status = match notice {
                Some(Err(_)) => StatusCode::BAD_REQUEST,
                _ => StatusCode::OK,
            };
            let page = page::one(&shared.nav(CURRENT), alert, notice.as_ref());
            (status, Html(page.into_string())).into_response()
        }
        Ok(_) => {
            let what = "No alert has this id, or it was too long ago.";
            said(StatusCode::NOT_FOUND, "No such alert", what).into_response()
        }
        Err(why) => said(StatusCode::BAD_GATEWAY, "Alerts", why.clone()).into_response(),
    }
}

async fn acknowledge(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    Form(word): Form<Word>,
) -> Response {
    say(&shared, &id, ("acknowledge", &word.json()), Did::Acknowledged).await
}

async fn unacknowledge(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    Form(word): Form<Word>,
) -> Response {
    say(&shared, &id, ("unacknowledge", &word.json()), Did::TakenBack).await
}

async fn say(shared: &Shared, id: &str, (verb, body): (&str, &Value), did: Did) -> Response {
    match shared.source.tell(&["alerts", id, verb], body).await {
        Ok(_) => done(&page::link(id), did),
        Err(why) => show(shared, id, Some(Err(why))).await,
    }
}

/// To a page that says what was done: reloaded, it does it no second time.
fn done(path: &str, did: Did) -> Response {
    Redirect::to(&format!("{path}?did={}", did.name())).into_response()
}

#[derive(Deserialize)]
struct Wish {
    what: String,
    for_ms: u64,
    by: String,
    #[serde(default)]
    note: String,
}

async fn silence(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    Form(wish): Form<Wish>,
) -> Response {
    let found = alerts(&shared, &format!("WHERE id = '{}'", id.replace('\'', "''"))).await;
    let Ok([alert]) = found.as_deref() else {
        return show(&shared, &id, None).await;
    };
    let mut body = Word { by: wish.by, note: wish.note }.json();
    body["for_ms"] = wish.for_ms.into();
    if wish.what != "subject" {
        body["detection"] = alert.detection.as_str().into();
    }
    if wish.what != "detection" {
        // Itself, whatever stands in it.
        body["subject"] = alert.subject.replace('\\', "\\\\").replace('*', "\\*").into();
    }
    match shared.source.tell(&["silences"], &body).await {
        Ok(_) => done(&page::link(&id), Did::Silenced),
        Err(why) => show(&shared, &id, Some(Err(why))).await,
    }
}

async fn end(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    Form(word): Form<Word>,
) -> Response {
    match shared.source.tell(&["silences", &id, "end"], &word.json()).await {
        Ok(_) => done(CURRENT, Did::Ended),
        Err(why) => {
            let page = list(&shared, None, Some(Err(why))).await;
            (StatusCode::BAD_REQUEST, page).into_response()
        }
    }
}

/// Alerts by the end of a query of them.
async fn alerts(shared: &Shared, rest: &str) -> Result<Vec<Alert>, String> {
    let rows = shared.source.found(format!("SELECT * FROM alerts {rest}")).await?;
    let mut alerts = Vec::new();
    for batch in &rows {
        let column = texts_of(batch);
        for row in 0..batch.num_rows() {
            let text = |name: &str| column(name, row);
            let evidence: Value = serde_json::from_str(&text("evidence")).unwrap_or_default();
            let evidence = evidence.as_object().into_iter().flatten();
            // What the facts say already.
            let subject_kind = text("subject_kind");
            let told = ["window_start", "window_end", subject_kind.as_str()];
            let evidence = evidence.filter(|(name, _)| !told.contains(&name.as_str()));
            alerts.push(Alert {
                id: text("id"),
                state: text("state"),
                severity: text("severity"),
                detection: text("detection"),
                title: text("title"),
                owner: text("owner"),
                replay: text("replay_id"),
                subject_kind: subject_kind.clone(),
                subject: text("subject"),
                begins: text("begins"),
                until: text("until"),
                findings: text("findings"),
                message: text("message"),
                evidence: evidence.map(|(name, value)| (name.clone(), plain(value))).collect(),
                query: text("query"),
                acknowledged: text("acknowledged"),
                acknowledged_by: text("acknowledged_by"),
                note: text("note"),
            });
        }
    }
    Ok(alerts)
}

async fn silences(shared: &Shared) -> Result<Vec<Silence>, String> {
    let sql = "SELECT * FROM silences WHERE until > now() ORDER BY until";
    let mut silences = Vec::new();
    for batch in &shared.source.found(sql.to_owned()).await? {
        let column = texts_of(batch);
        silences.extend((0..batch.num_rows()).map(|row| Silence {
            id: column("id", row),
            detection: column("detection", row),
            subject: column("subject", row),
            until: column("until", row),
            by: column("set_by", row),
            note: column("note", row),
        }));
    }
    Ok(silences)
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
