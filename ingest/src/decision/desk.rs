use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::{
    Action, Decision, Decisions, LASTS_MAX, Lift, MADE_MAX, Maker, Mode, Safeguards, Subject,
    SubjectKind, gone, lifted, made,
};
use crate::emit::Emitter;
use crate::event::{Clock, Event, Kind, Outcome, Timestamp};
use crate::http::Correlation;
use crate::log::{self, EventLog, NewRecord, Partition};
use crate::registry::View;

const BY_BYTES_MAX: usize = 200;
const NOTE_BYTES_MAX: usize = 2_000;
/// How long a decision is in force at least.
const LASTS_MIN: Duration = Duration::from_secs(1);

/// Takes what people decide. Cheap to clone.
#[derive(Clone)]
pub struct Desk {
    /// Where it is written.
    pub log: Arc<dyn EventLog>,
    /// Which there are.
    pub decisions: Decisions,
    /// The safeguards.
    pub view: View,
    /// Where it is told of.
    pub emitter: Emitter,
    /// When it is.
    pub clock: Arc<dyn Clock>,
    /// The service that is asked, for the events.
    pub service: &'static str,
}

/// What somebody wants decided.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wish {
    /// What the subject is.
    pub subject_kind: SubjectKind,
    /// Who it is against: an address or a network, or a name.
    pub subject: String,
    /// `block`, or `{"slow": {"max": 10, "window_ms": 60000}}`.
    pub action: Action,
    /// For how long, in ms: a second to 30 days.
    pub for_ms: u64,
    /// Whether it counts; if it is left out, it does.
    #[serde(default = "enforced")]
    pub mode: Mode,
    /// Why; up to 2,000 bytes.
    #[serde(default)]
    pub note: String,
    /// Who says so, up to 200 bytes; who is let in, if it is left out.
    #[serde(default)]
    pub by: String,
}

/// Who says something, and why.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Word {
    /// Who, up to 200 bytes; who is let in, if it is left out.
    pub by: String,
    /// Why; up to 2,000 bytes.
    pub note: String,
}

fn enforced() -> Mode {
    Mode::Enforce
}

/// Why something was not decided.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is none.
    #[error("no decision has the id {0}, or it ended more than a week ago")]
    Unknown(String),
    /// It cannot be so.
    #[error("{0}")]
    Invalid(String),
    /// The subject is one that no decision is against.
    #[error(
        "a safeguard protects {0}, or a part of it; see `never` of the entities of kind safeguard"
    )]
    Protected(Subject),
    /// It is not known whether it was written.
    #[error("it is not known whether it was decided, see the list: the log says {0}")]
    Log(#[from] log::Error),
}

impl Desk {
    /// Decides, for as long as is asked for.
    ///
    /// # Errors
    /// See [`Error`]; nothing was decided, but where the log's answer is not known.
    pub async fn make(
        &self,
        wish: Wish,
        let_in: &str,
        journey: &Correlation,
    ) -> Result<Decision, Error> {
        let Wish { subject_kind, subject, action, for_ms, mode, note, by } = wish;
        let invalid = |what: String| Error::Invalid(what);
        let subject = Subject::parse(subject_kind, &subject);
        let subject = subject.map_err(|why| invalid(format!("subject: {why}")))?;
        action.check().map_err(invalid)?;
        let Word { by, note } = Word { by, note }.checked(let_in)?;
        let lasts = Duration::from_millis(for_ms);
        if !(LASTS_MIN..=LASTS_MAX).contains(&lasts) {
            let why = format!("for_ms: {for_ms} is out of range; use a second to 30 days");
            return Err(invalid(why));
        }
        if Safeguards::of(&self.view.snapshot()).protect(&subject) {
            return Err(Error::Protected(subject));
        }
        let at = self.clock.now();
        let by_people = self.decisions.held(at, |of| of.maker.detection().is_none());
        if by_people.len() >= MADE_MAX {
            return Err(invalid(format!("{MADE_MAX} decisions of people are in force; lift some")));
        }
        let maker = Maker::Person { by: by.clone(), note };
        let id = format!("{:032x}", fastrand::u128(..));
        let decision = Decision { id, subject, action, mode, maker, at, until: at.after(lasts) };
        let mut records = vec![made(&decision)];
        records.extend(self.decisions.old(at).iter().flat_map(|id| gone(id)));
        let written = self.write(records).await;
        let mut event = self.event(&decision, "made", (at, &written));
        journey.note(&mut event);
        event.admin_actor = Some(by.into());
        self.tell(event);
        written.map(|()| decision)
    }

    /// The ids of others that are in force against the same subject.
    pub fn others_against(&self, id: &str) -> Vec<String> {
        let Some((decision, _)) = self.decisions.get(id) else { return Vec::new() };
        let is_other = |of: &Decision| of.subject == decision.subject && of.id != id;
        let others = self.decisions.held(self.clock.now(), is_other);
        others.into_iter().map(|of| of.id).collect()
    }

    /// Takes a decision back. One that was taken back stays so, by whom it was first.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn lift(
        &self,
        id: &str,
        word: Word,
        let_in: &str,
        journey: &Correlation,
    ) -> Result<Lift, Error> {
        let Word { by, note } = word.checked(let_in)?;
        let unknown = || Error::Unknown(id.to_owned());
        let (decision, before) = self.decisions.get(id).ok_or_else(unknown)?;
        if let Some(before) = before {
            return Ok(before);
        }
        let lift = Lift { by: by.clone(), note, at: self.clock.now() };
        let written = self.write(vec![lifted(id, &lift)]).await;
        let mut event = self.event(&decision, "lifted", (lift.at, &written));
        journey.note(&mut event);
        event.admin_actor = Some(by.into());
        self.tell(event);
        written.map(|()| lift)
    }

    /// Writes it down, and waits until it shows on this node.
    async fn write(&self, records: Vec<(Partition, NewRecord)>) -> Result<(), Error> {
        let appended = self.log.append(records).await?;
        if let Some(last) = appended.iter().map(|of| of.offset).max() {
            // It holds all the same.
            self.decisions.read_to(last + 1).await;
        }
        Ok(())
    }

    /// The event of what was done, or may have been.
    fn event(
        &self,
        decision: &Decision,
        state: &'static str,
        (at, written): (Timestamp, &Result<(), Error>),
    ) -> Event {
        let outcome = if written.is_ok() { Outcome::Success } else { Outcome::Unknown };
        let mut event = self.emitter.event(Kind::Decision, outcome);
        event.event_time = at;
        event.service_name = Some(self.service.into());
        decision.tell(state, &mut event);
        event
    }

    fn tell(&self, event: Event) {
        if let Err(error) = self.emitter.emit(event) {
            tracing::error!(%error, "the event of a decision could not be kept");
        }
    }
}

impl Decision {
    /// Notes on an event what became of it.
    pub fn tell(&self, state: &'static str, event: &mut Event) {
        event.decision_id = Some(self.id.clone().into());
        event.decision_action = Some(self.action.text().into());
        event.decision_state = Some(state.into());
        event.decision_subject_kind = Some(self.subject.kind().text().into());
        event.decision_subject = Some(self.subject.name().into());
        event.decision_expires_time = Some(self.until);
        event.detection_name = self.maker.detection().map(|name| name.to_owned().into());
    }
}

impl Word {
    /// By somebody, and fit to be read.
    fn checked(self, let_in: &str) -> Result<Self, Error> {
        let is_plain = |text: &str| !text.chars().any(|c| c.is_control() && c != '\n');
        if self.by.len() > BY_BYTES_MAX || !is_plain(&self.by) {
            return Err(Error::Invalid(format!("by: give up to {BY_BYTES_MAX} bytes of text")));
        }
        if self.note.len() > NOTE_BYTES_MAX || !is_plain(&self.note) {
            return Err(Error::Invalid(format!("note: give up to {NOTE_BYTES_MAX} bytes of text")));
        }
        let by = if self.by.trim().is_empty() { let_in.to_owned() } else { self.by };
        Ok(Self { by, note: self.note })
    }
}
