use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::HeaderMap;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use ingest::event::{Event, Kind as EventKind, Outcome as EventOutcome, Text};
use ingest::registry::files;
use ingest::registry::{EntityKey, Json, Kind, Name, Refusal, Snapshot, Written};
use mediator::endpoint::http::{CORRELATION_HEADER, Code, Correlation, PROBLEM_CONTENT_TYPE};
use serde::Serialize;

use super::Parts;
use super::failure::{Failure, accepted};
use super::wish::Wish;

const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long a caller waits until its accepted change is what is shown.
const SHOWN_WITHIN: Duration = Duration::from_secs(5);

/// Who is written down as the one who changed something: there is one token.
const ADMIN: &str = "admin";

pub(super) fn router(parts: Arc<Parts>) -> Router {
    Router::new()
        .route("/admin/v1/registry", get(registry))
        .route("/admin/v1/registry/{kind}/{name}", get(entity))
        .route("/admin/v1/plan", post(plan))
        .route("/admin/v1/apply", post(apply))
        .fallback(|| async { Failure::from(Code::EntityNotFound) })
        .layer(middleware::from_fn_with_state(parts.clone(), admit))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(parts)
}

/// Lets in who has the token, and gives each answer its correlation id.
async fn admit(State(parts): State<Arc<Parts>>, request: Request, next: Next) -> Response {
    let correlation = Correlation::of(request.headers(), || fastrand::u64(..));
    let mut response = match check_token(&parts, request.headers()) {
        Ok(()) => next.run(request).await,
        Err(code) => Failure::from(code).into_response(),
    };
    if let Some(failure) = response.extensions_mut().remove::<Failure>() {
        let body = failure.problem.body(&correlation.id);
        *response.body_mut() = body.into();
        response
            .headers_mut()
            .insert(CONTENT_TYPE, http::HeaderValue::from_static(PROBLEM_CONTENT_TYPE));
    }
    response.headers_mut().insert(CORRELATION_HEADER, correlation.id_header());
    response
}

fn check_token(parts: &Parts, headers: &HeaderMap) -> Result<(), Code> {
    let value = headers.get(AUTHORIZATION).ok_or(Code::TokenMissing)?;
    let token = value.to_str().ok().and_then(|value| value.strip_prefix("Bearer "));
    match token {
        Some(token) if parts.token.is_of(token) => Ok(()),
        _ => Err(Code::TokenMalformed),
    }
}

/// What the registry holds, by key; `?kind=` narrows it.
#[derive(Debug, Serialize)]
struct Listing {
    revision: u64,
    config_hash: String,
    entities: BTreeMap<String, u64>,
}

async fn registry(
    State(parts): State<Arc<Parts>>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Result<axum::Json<Listing>, Failure> {
    let snapshot = parts.view.snapshot();
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
    State(parts): State<Arc<Parts>>,
    Path((kind, name)): Path<(String, String)>,
) -> Result<axum::Json<Shown>, Failure> {
    let kind = Kind::parse(&kind).ok_or(Code::EntityNotFound)?;
    let name = Name::new(&name).map_err(|_| Code::EntityNotFound)?;
    let key = EntityKey::new(kind, name.clone());
    let snapshot = parts.view.snapshot();
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
    State(parts): State<Arc<Parts>>,
    body: Bytes,
) -> Result<axum::Json<Planned>, Failure> {
    let wish = Wish::read(&body)?;
    let snapshot = parts.view.snapshot();
    let plan = wish.plan(&snapshot);
    let refusals = plan.refusals(&snapshot);
    let revision = snapshot.revision();
    Ok(axum::Json(Planned { revision, text: plan.to_string(), plan, refusals }))
}

/// What became of an apply.
#[derive(Debug, Serialize)]
struct Applied {
    /// The change set's id; none if there was nothing to change.
    id: Option<Name>,
    revision: u64,
    written: Vec<Written>,
}

async fn apply(
    State(parts): State<Arc<Parts>>,
    body: Bytes,
) -> Result<axum::Json<Applied>, Failure> {
    let wish = Wish::read(&body)?;
    let snapshot = parts.view.snapshot();
    if wish.revision.is_some_and(|revision| revision != snapshot.revision()) {
        return Err(Code::RevisionChanged.into());
    }
    let plan = wish.plan(&snapshot);
    if plan.is_empty() {
        let revision = snapshot.revision();
        return Ok(axum::Json(Applied { id: None, revision, written: Vec::new() }));
    }
    // A change is made only where its event can be kept.
    parts.emitter.admit().map_err(|_| Code::EventsUnavailable)?;
    let id = wish.id.unwrap_or_else(new_id);
    let message = wish.message.unwrap_or_else(|| "apply".to_owned());
    let set = plan.change_set(id.clone(), ADMIN.to_owned(), message);
    let verdict = parts.proposer.propose(&set).await.map_err(|error| Failure::of(&error))?;
    let (revision, written) = accepted(&verdict)?;
    emit(&parts, &snapshot, &id, &written);
    let shown = tokio::time::timeout(SHOWN_WITHIN, parts.view.wait_for(revision)).await;
    if !matches!(shown, Ok(Ok(_))) {
        tracing::warn!(revision, "accepted, but not shown on this node yet");
    }
    Ok(axum::Json(Applied { id: Some(id), revision, written }))
}

fn new_id() -> Name {
    Name::new(&format!("apply-{:032x}", fastrand::u128(..))).expect("hexadecimal digits are a name")
}

/// One event for each entity that was written. The change is made and stays made
/// when its event cannot be kept; the log says so.
fn emit(parts: &Parts, before: &Snapshot, id: &Name, written: &[Written]) {
    let event = |written: &Written| -> Event {
        let mut event = parts.emitter.event(EventKind::Admin, EventOutcome::Success);
        let action = match (before.entity(&written.entity), written.version) {
            (_, None) => "delete",
            (None, Some(_)) => "create",
            (Some(_), Some(_)) => "update",
        };
        let text = |text: &str| Some(Text::from(text.to_owned()));
        event.admin_action = text(action);
        event.admin_entity_kind = text(written.entity.kind.as_str());
        event.admin_entity_id = text(written.entity.name.as_str());
        event.admin_entity_version = written.version.and_then(|version| version.try_into().ok());
        event.admin_actor = text(ADMIN);
        event.admin_change_set = text(id.as_str());
        event.service_name = text("weir-manager");
        event
    };
    let mut events: Vec<Event> = written.iter().map(event).collect();
    for batch in events.chunks_mut(256) {
        if let Err(error) = parts.emitter.emit_all(batch) {
            tracing::error!(%error, %id, "administrative events could not be kept");
        }
    }
}
