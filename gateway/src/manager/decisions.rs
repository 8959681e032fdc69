//! Decisions against callers: which there are, and what people decide.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Extension, Path, Query, State};
use ingest::decision::{Decision, Error, Lift, Maker, Mode, Safeguards, State as Become, Word};
use ingest::http::{Code, Correlation, Failure, Problem};
use serde::Deserialize;
use serde_json::{Value, json};

use super::ADMIN;
use super::asked::invalid;
use super::server::Shared;

type Answer = Result<axum::Json<Value>, Failure>;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    /// Those too that are over, of the last seven days.
    #[serde(default)]
    all: bool,
}

/// Those that are in force, or in dry run; the one that was made last first.
pub(super) async fn list(State(shared): State<Arc<Shared>>, Query(asked): Query<Asked>) -> Answer {
    let desk = &shared.parts.decisions;
    let (now, safeguards) = (desk.clock.now(), Safeguards::of(&desk.view.snapshot()));
    let enforced = safeguards.mode == Mode::Enforce;
    let mut found: Vec<_> = desk
        .decisions
        .all()
        .into_iter()
        .map(|(of, lift)| {
            let state = of.state(lift.as_ref(), now, enforced);
            let is_protected = safeguards.protect(&of.subject);
            (of, lift, state, is_protected)
        })
        .filter(|(_, _, state, _)| asked.all || !matches!(state, Become::Lifted | Become::Ended))
        .collect();
    found.sort_by(|(a, ..), (b, ..)| b.at.cmp(&a.at).then_with(|| a.id.cmp(&b.id)));
    let found: Vec<Value> = found.iter().map(shown).collect();
    Ok(axum::Json(json!({"decisions": found, "detections_enforce": enforced})))
}

/// One, with what has become of it.
fn shown((of, lift, state, is_protected): &(Decision, Option<Lift>, Become, bool)) -> Value {
    let (detection, by, note) = match &of.maker {
        Maker::Detection(name) => (Some(name.as_str()), None, None),
        Maker::Person { by, note } => (None, Some(by.as_str()), Some(note.as_str())),
    };
    json!({
        "id": of.id,
        "state": state.text(),
        "subject_kind": of.subject.kind().text(),
        "subject": of.subject.name(),
        "action": of.action,
        "does": of.action.to_string(),
        "detection": detection,
        "by": by,
        "note": note,
        "at": of.at,
        "until": of.until,
        "protected": is_protected,
        "lifted": lift,
    })
}

/// Blocks or slows somebody.
pub(super) async fn make(
    State(shared): State<Arc<Shared>>,
    Extension(correlation): Extension<Correlation>,
    body: Bytes,
) -> Answer {
    let wish = serde_json::from_slice(&body).map_err(|error| invalid(error.to_string()))?;
    let made = shared.parts.decisions.make(wish, ADMIN, &correlation).await.map_err(failure)?;
    let state = made.state(None, made.at, true);
    Ok(axum::Json(shown(&(made, None, state, false))))
}

/// Takes one back.
pub(super) async fn lift(
    State(shared): State<Arc<Shared>>,
    Extension(correlation): Extension<Correlation>,
    Path(id): Path<String>,
    body: Bytes,
) -> Answer {
    let word: Word = serde_json::from_slice(&body).map_err(|error| invalid(error.to_string()))?;
    let desk = &shared.parts.decisions;
    let lifted = desk.lift(&id, word, ADMIN, &correlation).await.map_err(failure)?;
    Ok(axum::Json(json!({"id": id, "lifted": lifted, "others": desk.others_against(&id)})))
}

fn failure(error: Error) -> Failure {
    let code = match &error {
        Error::Unknown(_) => Code::DecisionUnknown,
        Error::Invalid(_) => Code::BodyInvalid,
        Error::Protected(_) => Code::SubjectProtected,
        Error::Log(_) => {
            tracing::error!(%error, "a decision could not be written");
            Code::LogUnavailable
        }
    };
    Problem::new(code, error.to_string()).into()
}
