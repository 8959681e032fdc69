use std::collections::BTreeSet;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Extension, Path, Query, State};
use ingest::event::Timestamp;
use ingest::http::{Code, Correlation, Failure, Problem};
use mediator::deliver::{HistoryError, PAST_MAX, Past, RESENT_IDS_MAX, Resend, WhichPast};
use serde::Deserialize;
use serde_json::{Value, json};

use super::asked::{by, invalid, limit, name};
use super::server::Shared;

type Answer = Result<axum::Json<Value>, Failure>;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    /// At most so many messages, 1 to 1,000.
    limit: Option<usize>,
    /// Those that were accepted from then on, and before then: RFC 3339 times.
    since: Option<String>,
    until: Option<String>,
}

/// Messages that have ended and are kept.
pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    Path(queue): Path<String>,
    Query(asked): Query<Asked>,
) -> Answer {
    let (queue, limit) = (name(&queue)?, limit(asked.limit, PAST_MAX)?);
    let since = time("since", asked.since)?.unwrap_or(Timestamp::MIN);
    let until = time("until", asked.until)?.unwrap_or(Timestamp::MAX);
    let listed = shared.parts.history.list(&queue, (since, until), limit).await;
    let (found, total) = listed.map_err(failure)?;
    let messages: Vec<Value> = found.iter().map(message).collect();
    Ok(axum::Json(json!({"total": total, "messages": messages})))
}

/// Which messages, and how they are sent again.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    #[serde(default)]
    ids: BTreeSet<String>,
    /// Whether ids that are not in the history are passed over.
    #[serde(default)]
    skip_missing: bool,
    /// Those that were accepted from then on, and before then: RFC 3339 times.
    since: Option<String>,
    until: Option<String>,
    /// The queue that they go into; the same one if none is named.
    to: Option<String>,
    #[serde(default)]
    new_ids: bool,
}

/// Goes on though its caller has gone, as what is half done is hard to tell.
pub(super) async fn resend(
    State(shared): State<Arc<Shared>>,
    Path(queue): Path<String>,
    Extension(correlation): Extension<Correlation>,
    body: Bytes,
) -> Answer {
    let wish: Wish = serde_json::from_slice(&body).map_err(|error| invalid(error.to_string()))?;
    let queue = name(&queue)?;
    let to = wish.to.as_deref().map(name).transpose()?.unwrap_or_else(|| queue.clone());
    let how = Resend { to, under_new_ids: wish.new_ids };
    let which = wish.which()?;
    let by = by(correlation);
    let history = shared.parts.history.clone();
    let sending =
        shared.applies.spawn(async move { history.resend(&queue, &which, &how, &by).await });
    let sent = sending.await.map_err(|_| Code::InternalError)?.map_err(failure)?;
    Ok(axum::Json(json!({"sent": sent})))
}

impl Wish {
    fn which(self) -> Result<WhichPast, Failure> {
        let Self { ids, skip_missing, since, until, .. } = self;
        let is_of_time = since.is_some() || until.is_some();
        match (ids.len(), is_of_time) {
            (0, true) if skip_missing => {
                Err(invalid("skip_missing without ids; it says nothing of others"))
            }
            (0, true) => {
                let since = time("since", since)?.unwrap_or(Timestamp::MIN);
                let until = time("until", until)?.unwrap_or(Timestamp::MAX);
                Ok(WhichPast::Accepted(since, until))
            }
            (1..=RESENT_IDS_MAX, false) if skip_missing => Ok(WhichPast::AnyOf(ids)),
            (1..=RESENT_IDS_MAX, false) => Ok(WhichPast::Ids(ids)),
            (0, false) => Err(invalid("nothing says which messages; give ids, or a time")),
            (_, true) => Err(invalid("ids beside a time; give one of the two")),
            (count, false) => Err(invalid(format!("{count} ids; give at most {RESENT_IDS_MAX}"))),
        }
    }
}

fn time(name: &str, text: Option<String>) -> Result<Option<Timestamp>, Failure> {
    let time = text.map(|text| text.parse::<Timestamp>()).transpose();
    time.map_err(|error| invalid(format!("{name}: {error}")))
}

fn message(of: &Past) -> Value {
    json!({
        "id": of.id,
        "partition": of.partition,
        "offset": of.offset,
        "key": of.key,
        "accepted": of.accepted.to_string(),
        "correlation_id": of.correlation_id,
        "body_bytes": of.body_bytes,
    })
}

fn failure(error: HistoryError) -> Failure {
    if matches!(error, HistoryError::Log(..)) {
        tracing::error!(%error, "a history could not be read or sent again");
    }
    Problem::new(error.code(), error.to_string()).into()
}
