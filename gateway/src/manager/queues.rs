use std::collections::BTreeSet;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Extension, Path, Query, State};
use ingest::http::{Code, Correlation, Failure, Problem};
use mediator::deliver::{
    ControlError, Overview, Scheduled, WAITING_MAX, Waiting, WaitingState, WhichWaiting,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::asked::{by, invalid, limit, name};
use super::server::Shared;

type Answer = Result<axum::Json<Value>, Failure>;

/// How far every queue is.
pub(super) async fn all(State(shared): State<Arc<Shared>>) -> Answer {
    let queues = shared.parts.control.overview(None).await.map_err(failure)?;
    let queues: Vec<Value> = queues.iter().map(overview).collect();
    Ok(axum::Json(json!({"queues": queues})))
}

/// How far a queue is.
pub(super) async fn one(State(shared): State<Arc<Shared>>, Path(queue): Path<String>) -> Answer {
    let queue = name(&queue)?;
    let found = shared.parts.control.overview(Some(&queue)).await.map_err(failure)?;
    let found = found.first().ok_or(Code::EntityNotFound)?;
    Ok(axum::Json(overview(found)))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    #[serde(default)]
    reason: String,
}

/// Lets no attempt begin.
pub(super) async fn pause(
    State(shared): State<Arc<Shared>>,
    Path(queue): Path<String>,
    Extension(correlation): Extension<Correlation>,
    body: Bytes,
) -> Answer {
    let queue = name(&queue)?;
    let wish: Wish = read(&body)?;
    let paused = shared.parts.control.pause(&queue, &wish.reason, &by(correlation)).await;
    paused.map_err(failure)?;
    Ok(axum::Json(json!({"queue": queue.as_str(), "paused": true})))
}

/// Lets attempts begin again.
pub(super) async fn resume(
    State(shared): State<Arc<Shared>>,
    Path(queue): Path<String>,
    Extension(correlation): Extension<Correlation>,
) -> Answer {
    let queue = name(&queue)?;
    shared.parts.control.resume(&queue, &by(correlation)).await.map_err(failure)?;
    Ok(axum::Json(json!({"queue": queue.as_str(), "paused": false})))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    /// At most so many messages, 1 to 1,000.
    limit: Option<usize>,
}

/// Messages that had an attempt and wait.
pub(super) async fn waiting(
    State(shared): State<Arc<Shared>>,
    Path(queue): Path<String>,
    Query(asked): Query<Asked>,
) -> Answer {
    let (queue, limit) = (name(&queue)?, limit(asked.limit, WAITING_MAX)?);
    let (found, total) = shared.parts.control.waiting(&queue, limit).await.map_err(failure)?;
    let messages: Vec<Value> = found.iter().map(message).collect();
    Ok(axum::Json(json!({"total": total, "messages": messages})))
}

/// Messages that wait for the time when they go into the queue.
pub(super) async fn scheduled(
    State(shared): State<Arc<Shared>>,
    Path(queue): Path<String>,
    Query(asked): Query<Asked>,
) -> Answer {
    let (queue, limit) = (name(&queue)?, limit(asked.limit, WAITING_MAX)?);
    let (found, total) = shared.parts.control.scheduled(&queue, limit).await.map_err(failure)?;
    let message = |of: &Scheduled| {
        json!({
            "id": of.id,
            "partition": of.partition,
            "offset": of.offset,
            "key": of.key,
            "due": of.due.to_string(),
            "accepted": of.accepted.to_string(),
            "body_bytes": of.body_bytes,
        })
    };
    let messages: Vec<Value> = found.iter().map(message).collect();
    Ok(axum::Json(json!({"total": total, "messages": messages})))
}

/// Which messages that wait.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Which {
    #[serde(default)]
    ids: BTreeSet<String>,
    #[serde(default)]
    held: bool,
}

impl Which {
    fn read(body: &[u8]) -> Result<WhichWaiting, Failure> {
        let Self { ids, held } = read(body)?;
        match (held, ids.len()) {
            (true, 0) => Ok(WhichWaiting::Held),
            (false, 1..=WAITING_MAX) => Ok(WhichWaiting::Ids(ids)),
            (true, _) => Err(invalid("ids beside held; give one of the two")),
            (false, 0) => Err(invalid("neither ids nor held; say which messages")),
            (false, count) => Err(invalid(format!("{count} ids; give at most {WAITING_MAX}"))),
        }
    }
}

/// Attempts at once, counted anew.
pub(super) async fn retry(
    State(shared): State<Arc<Shared>>,
    Path(queue): Path<String>,
    Extension(correlation): Extension<Correlation>,
    body: Bytes,
) -> Answer {
    let (queue, which) = (name(&queue)?, Which::read(&body)?);
    let ordered = shared.parts.control.retry(&queue, &which, &by(correlation)).await;
    Ok(axum::Json(json!({"ordered": ordered.map_err(failure)?})))
}

/// No attempts more: to the dead letters.
pub(super) async fn give_up(
    State(shared): State<Arc<Shared>>,
    Path(queue): Path<String>,
    Extension(correlation): Extension<Correlation>,
    body: Bytes,
) -> Answer {
    let (queue, which) = (name(&queue)?, Which::read(&body)?);
    let ordered = shared.parts.control.give_up(&queue, &which, &by(correlation)).await;
    Ok(axum::Json(json!({"ordered": ordered.map_err(failure)?})))
}

fn read<T: for<'a> Deserialize<'a>>(body: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(body).map_err(|error| invalid(error.to_string()))
}

fn overview(of: &Overview) -> Value {
    json!({
        "queue": of.queue.as_str(),
        "paused": of.pause,
        "waiting": of.waiting,
        "scheduled": of.scheduled,
        "parked": of.parked,
        "retrying": of.retrying,
        "held": of.held,
        "oldest": of.oldest.map(|time| time.to_string()),
    })
}

fn message(of: &Waiting) -> Value {
    let (state, due) = match of.state {
        WaitingState::UnderWay => ("under_way", None),
        WaitingState::Retry(due) => ("retry", Some(due.to_string())),
        WaitingState::Held => ("held", None),
    };
    json!({
        "id": of.id,
        "partition": of.partition,
        "offset": of.offset,
        "key": of.key,
        "state": state,
        "due": due,
        "attempts": of.attempts,
        "accepted": of.accepted.to_string(),
        "body_bytes": of.body_bytes,
    })
}

fn failure(error: ControlError) -> Failure {
    let code = match &error {
        ControlError::NoQueue(_) | ControlError::Missing { .. } => Code::EntityNotFound,
        ControlError::LongReason => Code::BodyInvalid,
        ControlError::Log(_) => {
            tracing::error!(%error, "queues could not be read or decided of");
            Code::QueueUnavailable
        }
    };
    Problem::new(code, error.to_string()).into()
}
