//! What people say of alerts.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::routing::post;
use axum::{Extension, Json, Router};
use ingest::http::{Code, Correlation, Failure};
use serde_json::json;

use super::api::Shared;
use super::body::{Answer, Body, read};
use crate::alert::{DeskError, Wish};
use crate::word::Word;

pub(super) fn router() -> Router<Arc<Shared>> {
    Router::new()
        .route("/v1/alerts/{id}/acknowledge", post(acknowledge))
        .route("/v1/alerts/{id}/unacknowledge", post(unacknowledge))
        .route("/v1/silences", post(silence))
        .route("/v1/silences/{id}/end", post(end))
}

async fn acknowledge(
    State(shared): State<Arc<Shared>>,
    Extension(journey): Extension<Correlation>,
    Path(id): Path<String>,
    word: Body<Word>,
) -> Answer {
    let acknowledged = shared.desk.acknowledge(&id, read(word)?, &journey).await;
    Ok(Json(json!({"alert": id, "acknowledged": acknowledged.map_err(failure)?})))
}

async fn unacknowledge(
    State(shared): State<Arc<Shared>>,
    Extension(journey): Extension<Correlation>,
    Path(id): Path<String>,
    word: Body<Word>,
) -> Answer {
    shared.desk.unacknowledge(&id, &read(word)?, &journey).await.map_err(failure)?;
    Ok(Json(json!({"alert": id, "acknowledged": null})))
}

async fn silence(
    State(shared): State<Arc<Shared>>,
    Extension(journey): Extension<Correlation>,
    wish: Body<Wish>,
) -> Answer {
    let silence = shared.desk.silence(read(wish)?, &journey).await.map_err(failure)?;
    Ok(Json(json!(silence)))
}

async fn end(
    State(shared): State<Arc<Shared>>,
    Extension(journey): Extension<Correlation>,
    Path(id): Path<String>,
    word: Body<Word>,
) -> Answer {
    shared.desk.end(&id, &read(word)?, &journey).await.map_err(failure)?;
    Ok(Json(json!({"id": id})))
}

fn failure(error: DeskError) -> Failure {
    let code = match &error {
        DeskError::Unknown(_) => Code::AlertUnknown,
        DeskError::Over(_) => Code::AlertResolved,
        DeskError::NoSilence(_) => Code::SilenceUnknown,
        DeskError::Invalid(_) => Code::BodyInvalid,
        DeskError::Log(_) => Code::LogUnavailable,
    };
    Failure::new(code, error.to_string())
}
