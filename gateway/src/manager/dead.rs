use std::collections::BTreeSet;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Extension, Path, Query, State};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use ingest::event::Timestamp;
use ingest::http::{Code, Correlation, Failure, Problem};
use ingest::log;
use mediator::deliver::{DeadLetter, DeadLetterError, Decision, LETTERS_MAX, Which};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::asked::{by, invalid, limit, name};
use super::server::Shared;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    /// At most so many letters, 1 to 1,000.
    limit: Option<usize>,
    /// Those of this message, with their bodies.
    id: Option<String>,
}

/// The dead letters of a queue, or those of one message.
pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    Path(queue): Path<String>,
    Query(asked): Query<Asked>,
) -> Result<axum::Json<Value>, Failure> {
    let queue = name(&queue)?;
    let letters = &shared.parts.dead_letters;
    if let Some(id) = &asked.id {
        let found = letters.show(&queue, id).await.map_err(failure)?;
        let shown: Vec<Value> = found.iter().map(|(letter, body)| shown(letter, body)).collect();
        return Ok(axum::Json(json!({"total": shown.len(), "letters": shown})));
    }
    let limit = limit(asked.limit, LETTERS_MAX)?;
    let listing = letters.list(&queue, limit).await.map_err(failure)?;
    let heads: Vec<Value> = listing.letters.iter().map(head).collect();
    Ok(axum::Json(json!({"total": listing.total, "letters": heads})))
}

/// Which letters, and for a replay what goes in the place of the body.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    #[serde(default)]
    ids: BTreeSet<String>,
    /// Whether ids that are no dead letters are passed over.
    #[serde(default)]
    skip_missing: bool,
    #[serde(default)]
    all: bool,
    /// Those that were given up from then on, and before then: RFC 3339 times.
    died_since: Option<String>,
    died_until: Option<String>,
    body_base64: Option<String>,
    content_type: Option<String>,
}

/// What was done.
#[derive(Debug, Serialize)]
pub(super) struct Settled {
    settled: u64,
}

pub(super) async fn replay(
    State(shared): State<Arc<Shared>>,
    Path(queue): Path<String>,
    Extension(correlation): Extension<Correlation>,
    body: Bytes,
) -> Result<axum::Json<Settled>, Failure> {
    settle(&shared, &queue, &body, Wish::replay, correlation).await
}

pub(super) async fn drop(
    State(shared): State<Arc<Shared>>,
    Path(queue): Path<String>,
    Extension(correlation): Extension<Correlation>,
    body: Bytes,
) -> Result<axum::Json<Settled>, Failure> {
    settle(&shared, &queue, &body, Wish::drop, correlation).await
}

/// Goes on though its caller has gone, as what is half done is hard to tell.
async fn settle(
    shared: &Arc<Shared>,
    queue: &str,
    body: &[u8],
    decide: impl FnOnce(&Wish) -> Result<Decision, Failure>,
    correlation: Correlation,
) -> Result<axum::Json<Settled>, Failure> {
    let wish: Wish = serde_json::from_slice(body).map_err(|error| invalid(error.to_string()))?;
    let (queue, decision) = (name(queue)?, decide(&wish)?);
    let which = wish.which()?;
    let by = by(correlation);
    let letters = shared.parts.dead_letters.clone();
    let settling =
        shared.applies.spawn(async move { letters.settle(&queue, &which, &decision, &by).await });
    let settled = settling.await.map_err(|_| Code::InternalError)?.map_err(failure)?;
    Ok(axum::Json(Settled { settled }))
}

impl Wish {
    fn which(self) -> Result<Which, Failure> {
        let Self { ids, skip_missing, all, died_since, died_until, .. } = self;
        let is_of_time = died_since.is_some() || died_until.is_some();
        let ways = [!ids.is_empty(), all, is_of_time].iter().filter(|way| **way).count();
        if ways != 1 {
            let what = if ways == 0 { "nothing says" } else { "more than one thing says" };
            let detail = format!("{what} which dead letters; give ids, or all, or a time");
            return Err(invalid(detail));
        }
        if skip_missing && ids.is_empty() {
            return Err(invalid("skip_missing without ids; it says nothing of others"));
        }
        if ids.len() > LETTERS_MAX {
            let detail = format!("{} ids; give at most {LETTERS_MAX}, or all", ids.len());
            return Err(invalid(detail));
        }
        Ok(if all {
            Which::All
        } else if is_of_time {
            let time = |name: &str, text: Option<String>| {
                let time = text.map(|text| text.parse::<Timestamp>()).transpose();
                time.map_err(|error| invalid(format!("{name}: {error}")))
            };
            let since = time("died_since", died_since)?.unwrap_or(Timestamp::MIN);
            Which::Died(since, time("died_until", died_until)?.unwrap_or(Timestamp::MAX))
        } else if skip_missing {
            Which::AnyOf(ids)
        } else {
            Which::Ids(ids)
        })
    }

    fn drop(&self) -> Result<Decision, Failure> {
        if self.body_base64.is_some() || self.content_type.is_some() {
            return Err(invalid("what is dropped takes no body"));
        }
        Ok(Decision::Drop)
    }

    fn replay(&self) -> Result<Decision, Failure> {
        let content_type = self.content_type.as_deref().map(HeaderValue::from_str).transpose();
        let content_type = content_type
            .map_err(|_| invalid("content_type is no header's value; give it as text/plain"))?;
        match (&self.body_base64, content_type) {
            (None, None) => Ok(Decision::Replay),
            (None, Some(_)) => Err(invalid("content_type without body_base64; give both")),
            (Some(body), content_type) => {
                let body = STANDARD.decode(body);
                let body = body.map_err(|error| invalid(format!("body_base64: {error}")))?;
                Ok(Decision::ReplayWith(body.into(), content_type))
            }
        }
    }
}

fn failure(error: DeadLetterError) -> Failure {
    let code = match &error {
        DeadLetterError::NoQueue(_) | DeadLetterError::Missing { .. } => Code::EntityNotFound,
        DeadLetterError::Removed(_) => Code::ChangeRefused,
        DeadLetterError::NotOne(_) => Code::BodyInvalid,
        DeadLetterError::TooLarge { .. } => Code::MessageTooLarge,
        DeadLetterError::Log(log::Error::Fenced(_), settled) => {
            let detail = format!(
                "somebody else settles dead letters of this queue at the moment; {settled} were \
                 settled before; ask again"
            );
            return Problem::new(Code::RevisionChanged, detail).into();
        }
        DeadLetterError::Log(..) => {
            tracing::error!(%error, "dead letters could not be read or settled");
            Code::QueueUnavailable
        }
    };
    Problem::new(code, error.to_string()).into()
}

fn head(letter: &DeadLetter) -> Value {
    json!({
        "id": letter.id,
        "partition": letter.partition,
        "offset": letter.offset,
        "key": letter.key,
        "reason": letter.reason,
        "attempts": letter.attempts,
        "status": letter.status,
        "error": letter.error,
        "accepted": letter.accepted.to_string(),
        "died": letter.died.map(|time| time.to_string()),
        "correlation_id": letter.correlation_id,
        "content_type": letter.content_type,
        "body_bytes": letter.body_bytes,
    })
}

/// With its body: as text, or as base64 where it is none.
fn shown(letter: &DeadLetter, body: &[u8]) -> Value {
    let mut shown = head(letter);
    match std::str::from_utf8(body) {
        Ok(text) => shown["body"] = text.into(),
        Err(_) => shown["body_base64"] = STANDARD.encode(body).into(),
    }
    shown
}
