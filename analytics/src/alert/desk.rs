use std::sync::Arc;
use std::time::Duration;

use ingest::emit::Emitter;
use ingest::event::{Kind, Outcome, Timestamp};
use ingest::http::Correlation;
use ingest::log::{self, EventLog};
use serde::Deserialize;
use tokio::time::Instant;

use super::AlertTable;
use super::act::{Acknowledgement, Act, Silence};
use crate::detect::State;
use crate::time;
use crate::word::{self, Word};

const PATTERN_BYTES_MAX: usize = 500;
/// How long a silence may be, in ms: a minute to 30 days.
const SILENCE_MS: std::ops::RangeInclusive<u64> = 60_000..=30 * 24 * 3_600_000;
/// How many silences there are at most, with those that ended within a day.
const SILENCES_MAX: usize = 1_000;
/// How long to wait until an act shows in the tables.
const SHOWN_WITHIN: Duration = Duration::from_secs(5);

/// Takes what people say of alerts. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Desk {
    /// Where it is written.
    pub log: Arc<dyn EventLog>,
    /// What is known of alerts.
    pub table: AlertTable,
    /// Where it is told of.
    pub emitter: Emitter,
    /// The service that is asked, for the events.
    pub service: &'static str,
}

/// Which alerts nobody is to be told of, and for how long.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wish {
    /// Of which detections, by name; a star stands for any letters, `\*` for itself. This or `subject` is given.
    #[serde(default)]
    pub detection: Option<String>,
    /// Of which subjects; with stars.
    #[serde(default)]
    pub subject: Option<String>,
    /// For how long, in ms: a minute to 30 days.
    pub for_ms: u64,
    /// Who: 1 to 200 bytes.
    pub by: String,
    /// Why; up to 2,000 bytes.
    #[serde(default)]
    pub note: String,
}

/// Why something could not be said. Nothing was written then.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such alert.
    #[error("no alert has the id {0}, or it is no more among the last 100,000")]
    Unknown(String),
    /// It is over.
    #[error("alert {0} is over")]
    Over(String),
    /// There is no such silence.
    #[error("no silence has the id {0}")]
    NoSilence(String),
    /// It cannot be so.
    #[error("{0}")]
    Invalid(String),
    /// It is not known whether it was written.
    #[error("the log does not take it: {0}")]
    Log(#[from] log::Error),
}

impl Desk {
    /// Somebody takes care of an alert. Said again, the first word stays.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn acknowledge(
        &self,
        id: &str,
        word: Word,
        journey: &Correlation,
    ) -> Result<Acknowledgement, Error> {
        word.check().map_err(Error::Invalid)?;
        let (alert, before) = self.table.alert(id).ok_or_else(|| Error::Unknown(id.to_owned()))?;
        if let Some(before) = before {
            return Ok(before);
        }
        if alert.state == State::Resolved {
            return Err(Error::Over(id.to_owned()));
        }
        let act = Acknowledgement { by: word.by, note: word.note, at: time::now() };
        self.write(&Act::Acknowledged(id.to_owned(), Some(act.clone()))).await?;
        self.tell("acknowledge", ("alert", id), &act.by, journey);
        Ok(act)
    }

    /// Nobody takes care of an alert, though somebody said so.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn unacknowledge(
        &self,
        id: &str,
        word: &Word,
        journey: &Correlation,
    ) -> Result<(), Error> {
        word.check().map_err(Error::Invalid)?;
        self.table.alert(id).ok_or_else(|| Error::Unknown(id.to_owned()))?;
        self.write(&Act::Acknowledged(id.to_owned(), None)).await?;
        self.tell("unacknowledge", ("alert", id), &word.by, journey);
        Ok(())
    }

    /// Nobody is to be told of some alerts for a while, from now on.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn silence(&self, wish: Wish, journey: &Correlation) -> Result<Silence, Error> {
        word::check(&wish.by, &wish.note).map_err(Error::Invalid)?;
        let invalid = |what: String| Err(Error::Invalid(what));
        let patterns = [("detection", &wish.detection), ("subject", &wish.subject)];
        if patterns.iter().all(|(_, pattern)| pattern.is_none()) {
            return invalid("give a detection or a subject; * stands for all".to_owned());
        }
        for (name, pattern) in patterns {
            let bytes = pattern.as_ref().map_or(1, String::len);
            if !(1..=PATTERN_BYTES_MAX).contains(&bytes) {
                return invalid(format!("{name}: give 1 to {PATTERN_BYTES_MAX} bytes"));
            }
        }
        if !SILENCE_MS.contains(&wish.for_ms) {
            let given = wish.for_ms;
            return invalid(format!("for_ms: {given} is out of range; use a minute to 30 days"));
        }
        if self.table.count_of_silences() >= SILENCES_MAX {
            return invalid(format!("there are {SILENCES_MAX} silences; end some first"));
        }
        let (from, span) = (time::now(), i64::try_from(wish.for_ms * 1_000).unwrap_or(i64::MAX));
        let silence = Silence {
            id: format!("{:032x}", fastrand::u128(..)),
            detection: wish.detection,
            subject: wish.subject,
            from,
            until: Timestamp::from_micros(from.as_micros().saturating_add(span)),
            by: wish.by,
            note: wish.note,
        };
        self.write(&Act::Silenced(silence.id.clone(), Some(silence.clone()))).await?;
        self.tell("create", ("silence", &silence.id), &silence.by, journey);
        Ok(silence)
    }

    /// People are told again of what a silence holds back.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn end(&self, id: &str, word: &Word, journey: &Correlation) -> Result<(), Error> {
        word.check().map_err(Error::Invalid)?;
        let silence = self.table.silence(id).ok_or_else(|| Error::NoSilence(id.to_owned()))?;
        // What it held back until now stays so.
        let until = silence.until.min(time::now());
        self.write(&Act::Silenced(id.to_owned(), Some(Silence { until, ..silence }))).await?;
        self.tell("delete", ("silence", id), &word.by, journey);
        Ok(())
    }

    /// Writes it down, and waits until the tables of this node have it.
    async fn write(&self, act: &Act) -> Result<(), Error> {
        let appended = self.log.append(vec![act.record()]).await?;
        let began = Instant::now();
        while appended.iter().any(|of| !self.table.has_act(of.offset)) {
            // It holds all the same.
            if began.elapsed() > SHOWN_WITHIN {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    fn tell(&self, action: &'static str, of: (&'static str, &str), by: &str, way: &Correlation) {
        let mut event = self.emitter.event(Kind::Admin, Outcome::Success);
        way.note(&mut event);
        event.service_name = Some(self.service.into());
        event.admin_action = Some(action.into());
        event.admin_actor = Some(by.to_owned().into());
        event.admin_entity_kind = Some(of.0.into());
        event.admin_entity_id = Some(of.1.to_owned().into());
        if of.0 == "alert" {
            event.alert_id = Some(of.1.to_owned().into());
            event.alert_state = (action == "acknowledge").then(|| "acknowledged".into());
        }
        if let Err(error) = self.emitter.emit(event) {
            tracing::error!(%error, "the event of an act could not be kept");
        }
    }
}
