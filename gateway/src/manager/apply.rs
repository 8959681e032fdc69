//! An apply, from the wish to its events. It is made by a task of its own, so that what
//! the registry takes is told of though the caller has gone, or was told that no verdict
//! came in time.

use std::sync::Arc;
use std::time::Duration;

use ingest::event::{Event, Kind as EventKind, Outcome as EventOutcome, Text};
use ingest::http::{Code, Correlation, Failure};
use ingest::registry::{ChangeSet, Error, Name, Snapshot, Verdict, Written};
use serde::Serialize;
use tokio::sync::oneshot;

use super::failure::{accepted, failure_of, refused};
use super::server::Shared;
use super::wish::Wish;
use crate::keys;

/// How long a caller waits until its accepted change is what is shown.
const SHOWN_WITHIN: Duration = Duration::from_secs(5);
/// How often a verdict that did not come in time is asked for again. Each time waits as
/// long as the first, 10 s in the program.
const ASKED_AGAIN_MAX: u32 = 30;

/// What became of an apply.
#[derive(Debug, Serialize)]
pub(super) struct Applied {
    /// The change set's id; none if there was nothing to change.
    id: Option<Name>,
    revision: u64,
    written: Vec<Written>,
}

/// Brings the registry to what is wished, and says what became of it.
pub(super) async fn apply(
    shared: Arc<Shared>,
    body: &[u8],
    correlation: Correlation,
) -> Result<Applied, Failure> {
    // A change is made only where its event can be kept.
    shared.parts.emitter.admit().map_err(|_| Code::EventsUnavailable)?;
    let teller = Teller { shared: shared.clone(), correlation, id: None };
    let wish = Wish::read(body).inspect_err(|failure| teller.refused(failure.problem.code))?;
    let before = shared.parts.view.snapshot();
    let teller = Teller { id: wish.id.clone(), ..teller };
    if wish.revision.is_some_and(|revision| revision != before.revision()) {
        teller.refused(Code::RevisionChanged);
        return Err(Code::RevisionChanged.into());
    }
    let plan = wish.plan(&before);
    if plan.is_empty() {
        return Ok(Applied { id: None, revision: before.revision(), written: Vec::new() });
    }
    let id = wish.id.unwrap_or_else(new_id);
    let message = wish.message.unwrap_or_else(|| "apply".to_owned());
    let set = plan.change_set(id.clone(), super::ADMIN.to_owned(), message);
    let unusable = keys::unusable(&set, &shared.parts.passphrase);
    if !unusable.is_empty() {
        let failure = refused(&unusable);
        Teller { id: Some(id), ..teller }.refused(failure.problem.code);
        return Err(failure);
    }
    let (answer, answered) = oneshot::channel();
    let proposing = Proposing { teller: Teller { id: Some(id.clone()), ..teller }, before, set };
    shared.applies.spawn(proposing.run(answer));
    let verdict = answered.await.map_err(|_| Code::InternalError)??;
    let (revision, written) = accepted(&verdict)?;
    let shown = tokio::time::timeout(SHOWN_WITHIN, shared.parts.view.wait_for(revision)).await;
    if !matches!(shown, Ok(Ok(_))) {
        tracing::warn!(revision, "accepted, but not shown on this node yet");
    }
    Ok(Applied { id: Some(id), revision, written })
}

fn new_id() -> Name {
    Name::new(&format!("apply-{:032x}", fastrand::u128(..))).expect("hexadecimal digits are a name")
}

/// A change set on its way to its verdict.
struct Proposing {
    teller: Teller,
    before: Arc<Snapshot>,
    set: ChangeSet,
}

impl Proposing {
    /// Waits for the verdict, writes the events and answers. A caller that is told that
    /// no verdict came in time is told at once; the events wait for it all the same.
    async fn run(self, answer: oneshot::Sender<Result<Verdict, Failure>>) {
        let Self { teller, before, set } = self;
        let proposer = &teller.shared.parts.proposer;
        let mut answer = Some(answer);
        let mut verdict = proposer.propose(&set).await;
        for _ in 0..ASKED_AGAIN_MAX {
            let Err(error @ Error::NoVerdict { .. }) = &verdict else { break };
            if let Some(answer) = answer.take() {
                // Whether the caller is still there is its own affair.
                let _ = answer.send(Err(failure_of(error)));
            }
            // The same set under the same id is made once, and has one verdict.
            verdict = tokio::select! {
                biased;
                () = teller.shared.stop.cancelled() => break,
                again = proposer.propose(&set) => again,
            };
        }
        let told = verdict.map_err(|error| failure_of(&error));
        match told.as_ref().map_err(Clone::clone).and_then(accepted) {
            Ok((_, written)) => teller.written(&before, &written),
            Err(failure) => teller.refused(failure.problem.code),
        }
        if let Some(answer) = answer {
            let _ = answer.send(told);
        }
    }
}

/// Writes the events of one apply.
struct Teller {
    shared: Arc<Shared>,
    correlation: Correlation,
    /// The change set, once it has an id.
    id: Option<Name>,
}

impl Teller {
    /// One event for each entity that was written.
    fn written(&self, before: &Snapshot, written: &[Written]) {
        let event = |written: &Written| -> Event {
            let action = match (before.entity(&written.entity), written.version) {
                (_, None) => "delete",
                (None, Some(_)) => "create",
                (Some(_), Some(_)) => "update",
            };
            let mut event = self.event(EventOutcome::Success, action);
            event.admin_entity_kind = text(written.entity.kind.as_str());
            event.admin_entity_id = text(written.entity.name.as_str());
            event.admin_entity_version =
                written.version.and_then(|version| version.try_into().ok());
            event
        };
        let mut events: Vec<Event> = written.iter().map(event).collect();
        for batch in events.chunks_mut(256) {
            self.emit(batch);
        }
    }

    /// The apply changed nothing, or nobody knows whether it did: the code tells. What
    /// was wished is in no event, since it may hold secrets.
    fn refused(&self, code: Code) {
        let mut event = self.event(code.outcome(), "apply");
        event.error_type = text(code.text());
        event.http_response_status_code = Some(code.status().as_u16().into());
        self.emit(&mut [event]);
    }

    fn event(&self, outcome: EventOutcome, action: &str) -> Event {
        let mut event = self.shared.parts.emitter.event(EventKind::Admin, outcome);
        self.correlation.note(&mut event);
        event.admin_action = text(action);
        event.admin_actor = text(super::ADMIN);
        event.admin_change_set = self.id.as_ref().and_then(|id| text(id.as_str()));
        event.service_name = text(super::SERVICE);
        event
    }

    /// What is done stays done when its event cannot be kept; the process's log says so.
    fn emit(&self, events: &mut [Event]) {
        if let Err(error) = self.shared.parts.emitter.emit_all(events) {
            let id = self.id.as_ref().map(Name::as_str);
            tracing::error!(%error, id, "administrative events could not be kept");
        }
    }
}

fn text(text: &str) -> Option<Text> {
    Some(Text::from(text.to_owned()))
}
