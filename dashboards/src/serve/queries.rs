//! Continuous queries: how they fare, and that one rests or goes on. They are for sessions
//! that an admin token has opened.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Form, Path, Query as Parameters, State};
use axum::middleware::from_fn_with_state;
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use axum::routing::{get, post};
use http::StatusCode;
use serde::Deserialize;

use super::api::Shared;
use super::login;
use super::word::Word;
use crate::page::queries::{self as page, Did, Notice, Query};
use crate::source::texts_of;

const CURRENT: &str = "/queries";
/// Those that need somebody first.
const ALL: &str = "SELECT * FROM weir_queries ORDER BY CASE state WHEN 'failed' THEN 0 \
    WHEN 'silent' THEN 1 WHEN 'paused' THEN 2 WHEN 'starting' THEN 3 ELSE 4 END, name";

pub(super) fn router(shared: Arc<Shared>) -> Router<Arc<Shared>> {
    Router::new()
        .route(CURRENT, get(all))
        .route("/queries/{name}/pause", post(pause))
        .route("/queries/{name}/resume", post(resume))
        .layer(from_fn_with_state(shared, login::admit_admin))
}

#[derive(Deserialize)]
struct Asked {
    did: Option<String>,
}

async fn all(
    State(shared): State<Arc<Shared>>,
    Parameters(asked): Parameters<Asked>,
) -> Html<String> {
    let did = asked.did.as_deref().and_then(Did::parse);
    list(&shared, did.map(Ok)).await
}

async fn list(shared: &Shared, notice: Option<Notice>) -> Html<String> {
    let queries = queries(shared).await;
    Html(page::all(&shared.nav(CURRENT), &queries, notice.as_ref()).into_string())
}

async fn pause(
    State(shared): State<Arc<Shared>>,
    Path(name): Path<String>,
    Form(word): Form<Word>,
) -> Response {
    order(&shared, &[&name, "pause"], &word, Did::Paused).await
}

async fn resume(
    State(shared): State<Arc<Shared>>,
    Path(name): Path<String>,
    Form(word): Form<Word>,
) -> Response {
    order(&shared, &[&name, "resume"], &word, Did::Resumed).await
}

async fn order(shared: &Shared, [name, order]: &[&str; 2], word: &Word, did: Did) -> Response {
    match shared.source.tell(&["queries", name, order], &word.json()).await {
        // To a page that says what was done: reloaded, it does it no second time.
        Ok(_) => Redirect::to(&format!("{CURRENT}?did={}", did.name())).into_response(),
        Err(why) => (StatusCode::BAD_REQUEST, list(shared, Some(Err(why))).await).into_response(),
    }
}

async fn queries(shared: &Shared) -> Result<Vec<Query>, String> {
    let mut queries = Vec::new();
    for batch in &shared.source.found(ALL.to_owned()).await? {
        let column = texts_of(batch);
        queries.extend((0..batch.num_rows()).map(|row| {
            let text = |name: &str| column(name, row);
            let number = |name: &str| column(name, row).parse().unwrap_or_default();
            Query {
                name: text("name"),
                kind: text("kind"),
                state: text("state"),
                error: text("error"),
                title: text("title"),
                owner: text("owner"),
                origin: text("origin"),
                runs_on: text("runs_on"),
                rows_in: number("rows_in"),
                rows_out: number("rows_out"),
                late: number("rows_late"),
                behind: number("rows_behind"),
                state_bytes: number("state_bytes"),
                memory_bytes: number("memory_bytes"),
                replays_given_up: number("replays_given_up"),
                watermark: text("watermark"),
                closed_until: text("closed_until"),
                committed: text("committed"),
                paused_by: text("paused_by"),
                paused_note: text("paused_note"),
                paused: text("paused"),
            }
        }));
    }
    Ok(queries)
}
