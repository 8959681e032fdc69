use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Extension, Path, Query, State};
use axum::routing::{get, post};
use ingest::http::{Code, Correlation, Failure};
use ingest::registry::files;
use ingest::registry::{EntityKey, Json, Kind, Name, Refusal};
use serde::Serialize;

use super::apply::{self, Applied};
use super::dead;
use super::decisions;
use super::history;
use super::queues;
use super::server::Shared;
use super::wish::Wish;
use crate::keys;

const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/admin/v1/registry", get(registry))
        .route("/admin/v1/registry/{kind}/{name}", get(entity))
        .route("/admin/v1/plan", post(plan))
        .route("/admin/v1/apply", post(apply))
        .route("/admin/v1/queues", get(queues::all))
        .route("/admin/v1/queues/{queue}", get(queues::one))
        .route("/admin/v1/queues/{queue}/pause", post(queues::pause))
        .route("/admin/v1/queues/{queue}/resume", post(queues::resume))
        .route("/admin/v1/queues/{queue}/waiting", get(queues::waiting))
        .route("/admin/v1/queues/{queue}/scheduled", get(queues::scheduled))
        .route("/admin/v1/queues/{queue}/waiting/retry", post(queues::retry))
        .route("/admin/v1/queues/{queue}/waiting/give-up", post(queues::give_up))
        .route("/admin/v1/queues/{queue}/history", get(history::list))
        .route("/admin/v1/queues/{queue}/history/resend", post(history::resend))
        .route("/admin/v1/queues/{queue}/dead", get(dead::list))
        .route("/admin/v1/queues/{queue}/dead/replay", post(dead::replay))
        .route("/admin/v1/queues/{queue}/dead/drop", post(dead::drop))
        .route("/admin/v1/decisions", get(decisions::list).post(decisions::make))
        .route("/admin/v1/decisions/{id}/lift", post(decisions::lift))
        .fallback(|| async { Failure::from(Code::EntityNotFound) })
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(shared)
}

/// What the registry holds, by key; `?kind=` narrows it.
#[derive(Debug, Serialize)]
struct Listing {
    revision: u64,
    config_hash: String,
    entities: BTreeMap<String, u64>,
}

async fn registry(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Result<axum::Json<Listing>, Failure> {
    let snapshot = shared.parts.view.snapshot();
    let kind = query.get("kind").map(|kind| Kind::parse(kind).ok_or(Code::EntityNotFound));
    let kind = kind.transpose()?;
    let wanted = snapshot.entities().filter(|entity| kind.is_none_or(|k| entity.key.kind == k));
    let entities = wanted.map(|entity| (entity.key.to_string(), entity.version)).collect();
    let (revision, config_hash) = (snapshot.revision(), snapshot.config_hash().to_string());
    Ok(axum::Json(Listing { revision, config_hash, entities }))
}

/// One entity, its secrets hidden.
#[derive(Debug, Serialize)]
struct Shown {
    kind: Kind,
    name: Name,
    version: u64,
    spec: Json,
}

async fn entity(
    State(shared): State<Arc<Shared>>,
    Path((kind, name)): Path<(String, String)>,
) -> Result<axum::Json<Shown>, Failure> {
    let kind = Kind::parse(&kind).ok_or(Code::EntityNotFound)?;
    let name = Name::new(&name).map_err(|_| Code::EntityNotFound)?;
    let key = EntityKey::new(kind, name.clone());
    let snapshot = shared.parts.view.snapshot();
    let entity = snapshot.entity(&key).ok_or(Code::EntityNotFound)?;
    let mut spec = entity.json.clone();
    for secret in kind.secrets() {
        if let Some(value) = spec.0.get_mut(*secret) {
            *value = "[hidden]".into();
        }
    }
    Ok(axum::Json(Shown { kind, name, version: entity.version, spec }))
}

/// What would change.
#[derive(Debug, Serialize)]
struct Planned {
    /// The revision that the plan was made on.
    revision: u64,
    /// The plan for people.
    text: String,
    plan: files::Plan,
    /// Why it would be refused.
    refusals: Vec<Refusal>,
}

async fn plan(
    State(shared): State<Arc<Shared>>,
    body: Bytes,
) -> Result<axum::Json<Planned>, Failure> {
    let wish = Wish::read(&body)?;
    let snapshot = shared.parts.view.snapshot();
    let plan = wish.plan(&snapshot);
    let mut refusals = plan.refusals(&snapshot);
    let set = plan.change_set("plan".parse().expect("a name"), String::new(), String::new());
    refusals.extend(keys::unusable(&set, &shared.parts.passphrase));
    let revision = snapshot.revision();
    Ok(axum::Json(Planned { revision, text: plan.to_string(), plan, refusals }))
}

async fn apply(
    State(shared): State<Arc<Shared>>,
    Extension(correlation): Extension<Correlation>,
    body: Bytes,
) -> Result<axum::Json<Applied>, Failure> {
    apply::apply(shared, &body, correlation).await.map(axum::Json)
}
