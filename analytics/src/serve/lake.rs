//! The files of the lake: which there are, which are damaged, and that those are set aside.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use ingest::event::{Kind, Outcome};
use ingest::http::{Code, Correlation, Failure};
use serde::Deserialize;
use serde_json::json;

use super::api::Shared;
use super::body::{Answer, Body, read};
use crate::lake;
use crate::word::Word;

/// How many files are looked at by one request.
const FILES_MAX: usize = 1_000;

pub(super) fn router() -> Router<Arc<Shared>> {
    Router::new()
        .route("/v1/lake/files", get(files))
        .route("/v1/lake/check", post(check))
        .route("/v1/lake/set-aside", post(set_aside))
}

/// Some files of the lake.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    files: BTreeSet<String>,
}

/// The same, and who orders something of them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    files: BTreeSet<String>,
    by: String,
    #[serde(default)]
    note: String,
}

async fn files(State(shared): State<Arc<Shared>>) -> Answer {
    let files = shared.control.history.files().await.map_err(|error| failure(&error))?;
    Ok(Json(json!({"files": files})))
}

async fn check(State(shared): State<Arc<Shared>>, named: Body<Named>) -> Answer {
    let Named { files } = read(named)?;
    few(&files)?;
    let damaged = shared.control.history.check(&files).await.map_err(|error| failure(&error))?;
    Ok(Json(json!({"damaged": damaged})))
}

async fn set_aside(
    State(shared): State<Arc<Shared>>,
    Extension(journey): Extension<Correlation>,
    order: Body<Order>,
) -> Answer {
    let Order { files, by, note } = read(order)?;
    few(&files)?;
    let word = Word { by, note };
    word.check().map_err(|what| Failure::new(Code::BodyInvalid, what))?;
    let control = &shared.control;
    let damaged = control.history.set_aside(&files).await.map_err(|error| failure(&error))?;
    for of in &damaged {
        let mut event = control.emitter.event(Kind::Admin, Outcome::Success);
        journey.note(&mut event);
        event.service_name = Some(control.service.into());
        event.admin_action = Some("set_aside".into());
        event.admin_actor = Some(word.by.clone().into());
        event.admin_entity_kind = Some("lake_file".into());
        event.admin_entity_id = Some(of.file.path.clone().into());
        if let Err(error) = control.emitter.emit(event) {
            tracing::error!(%error, "the event of an order could not be kept");
        }
    }
    Ok(Json(json!({"set_aside": damaged})))
}

fn few(files: &BTreeSet<String>) -> Result<(), Failure> {
    match files.len() {
        0..=FILES_MAX => Ok(()),
        count => {
            let what = format!("{count} files; name up to {FILES_MAX} at once");
            Err(Failure::new(Code::BodyInvalid, what))
        }
    }
}

fn failure(error: &lake::Error) -> Failure {
    Failure::new(Code::LakeUnavailable, error.to_string())
}
