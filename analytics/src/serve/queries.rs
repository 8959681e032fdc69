//! What people order of the continuous queries.

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, Path, State};
use axum::routing::post;
use axum::{Extension, Json, Router};
use ingest::http::{Code, Correlation, Failure};
use serde_json::json;

use super::api::Shared;
use super::body::{Answer, Body, read};
use crate::run::{ControlError, Wish};
use crate::word::Word;

/// How long the queries and tables of a plan may be together, in bytes: as the admin API takes.
const PLAN_BYTES_MAX: usize = 4 * 1024 * 1024;

pub(super) fn router() -> Router<Arc<Shared>> {
    Router::new()
        .route("/v1/queries/plan", post(plan).layer(DefaultBodyLimit::max(PLAN_BYTES_MAX)))
        .route("/v1/queries/{name}/pause", post(pause))
        .route("/v1/queries/{name}/resume", post(resume))
}

async fn pause(
    State(shared): State<Arc<Shared>>,
    Extension(journey): Extension<Correlation>,
    Path(name): Path<String>,
    word: Body<Word>,
) -> Answer {
    let pause = shared.control.pause(&name, read(word)?, &journey).await.map_err(failure)?;
    Ok(Json(json!({"query": name, "paused": pause})))
}

async fn resume(
    State(shared): State<Arc<Shared>>,
    Extension(journey): Extension<Correlation>,
    Path(name): Path<String>,
    word: Body<Word>,
) -> Answer {
    shared.control.resume(&name, &read(word)?, &journey).await.map_err(failure)?;
    Ok(Json(json!({"query": name, "paused": null})))
}

async fn plan(State(shared): State<Arc<Shared>>, wish: Body<Wish>) -> Answer {
    let effects = shared.control.foresee(&read(wish)?).await.map_err(failure)?;
    Ok(Json(json!({"queries": effects})))
}

fn failure(error: ControlError) -> Failure {
    let code = match &error {
        ControlError::Unknown { .. } => Code::EntityNotFound,
        ControlError::Invalid(_) => Code::BodyInvalid,
        ControlError::Log(_) => Code::LogUnavailable,
    };
    Failure::new(code, error.to_string())
}
