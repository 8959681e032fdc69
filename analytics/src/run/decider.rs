//! What detections decide of those whom they find.
//!
//! The owner of the queries decides as it takes a finding, before the alert of it is written:
//! in a transaction of its own, right after the step of that one query, so that no other query
//! holds a decision up. Who takes over has read all decisions first, and finds the same again
//! with the same ids: so a kill between the decision and the checkpoint decides nothing twice.

use std::sync::Arc;

use ingest::decision::{
    self, Decision, Decisions, Lift, Maker, Mode, Safeguards, State as Become, Subject,
};
use ingest::emit::Emitter;
use ingest::event::{Clock, Event, Kind, Outcome};
use ingest::log::{Error, EventLog, GroupOffsets, Transaction, Writer};
use ingest::registry::View;

use crate::detect::{Alert, Change, Decided, DecidedState, OTHERS, State};
use crate::query::Act;

/// Decides, within the safeguards. Cheap to clone.
#[derive(Clone)]
pub struct Decider {
    /// Which decisions there are, followed.
    pub decisions: Decisions,
    /// The safeguards.
    pub view: View,
    /// Where it is told of.
    pub emitter: Emitter,
    /// When a decision is made, and which are over.
    pub clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Decider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a decider")
    }
}

/// What the findings of a step have decided, to be committed.
#[derive(Debug, Default)]
pub(super) struct Verdicts {
    made: Vec<(Decision, &'static str)>,
    held_back: Vec<Event>,
}

impl Verdicts {
    pub(super) fn is_empty(&self) -> bool {
        self.made.is_empty() && self.held_back.is_empty()
    }
}

impl Decider {
    /// Knows what former owners have decided, whom the caller has fenced.
    pub(super) async fn catch_up(&self, log: &dyn EventLog) -> Result<(), Error> {
        self.decisions.catch_up(log).await
    }

    /// Decides of whom a change of an alert is about, if it was found just now, and notes on the
    /// alert what is decided of them.
    pub(super) fn decide(&self, act: Option<&Act>, change: &mut Change, verdicts: &mut Verdicts) {
        let alert = &change.alert;
        // What was replayed is no traffic of this moment.
        if alert.replay_id.is_some() {
            return;
        }
        if let Some(act) = act
            && alert.state == State::Open
            && alert.subject != OTHERS
        {
            match self.weigh(act, alert, verdicts) {
                Ok(Some((decision, state))) => verdicts.made.push((decision, state)),
                Ok(None) => {}
                Err(why) => {
                    if change.opens {
                        verdicts.held_back.push(self.held_back(act, alert, &why));
                    }
                    change.alert.decision = Some(Decided {
                        does: act.action.to_string(),
                        state: DecidedState::HeldBack,
                        until: None,
                        why: Some(why),
                    });
                    return;
                }
            }
        }
        let made = verdicts.made.iter().rfind(|(of, _)| of.id == change.alert.id);
        let made = made.map(|(of, _)| (of.clone(), None));
        let known = made.or_else(|| self.decisions.get(&change.alert.id));
        change.alert.decision = known.map(|(decision, lift)| decided(&decision, lift));
    }

    /// The decision that is to be written, and whether it is a new one; nothing, where it stands
    /// as it is; or why there is none.
    fn weigh(
        &self,
        act: &Act,
        alert: &Alert,
        verdicts: &Verdicts,
    ) -> Result<Option<(Decision, &'static str)>, String> {
        let (now, until) = (self.clock.now(), alert.until.after(act.lasts));
        if until <= now {
            // It was found too long ago to count still.
            return Ok(None);
        }
        let subject = Subject::parse(act.against, &alert.subject)?;
        let safeguards = Safeguards::of(&self.view.snapshot());
        if safeguards.protect(&subject) {
            return Err("a safeguard protects the subject".to_owned());
        }
        let before = self.decisions.get(&alert.id);
        if let Some((_, Some(_))) = before {
            // What somebody took back stays so, as long as the alert is the same.
            return Ok(None);
        }
        let maker = Maker::Detection(alert.detection.clone());
        let id = alert.id.clone();
        let decision = Decision {
            id,
            subject,
            action: act.action,
            mode: safeguards.mode,
            maker,
            at: now,
            until,
        };
        let held = before.map(|(of, _)| of).filter(|of| of.until > now);
        if let Some(held) = &held {
            let is_same = |of: &Decision| (of.until, of.mode, of.action, of.subject.clone());
            let is_longer = is_same(held) != is_same(&decision);
            return Ok(is_longer.then_some((decision, "prolonged")));
        }
        let of_step = |of: &Decision| verdicts.made.iter().any(|(made, _)| made.id == of.id);
        let count = |is_counted: &dyn Fn(&Decision) -> bool| {
            let made = verdicts.made.iter().filter(|(of, _)| is_counted(of)).count();
            made + self.decisions.count(now, |of| is_counted(of) && !of_step(of))
        };
        let all = count(&|of| of.maker.detection().is_some());
        if all >= safeguards.decisions_max {
            return Err(format!("{all} decisions of detections are in force; more may not be"));
        }
        let own = count(&|of| of.maker.detection() == Some(&alert.detection));
        if own >= safeguards.decisions_of_detection_max {
            return Err(format!("{own} decisions of this detection are in force; more may not be"));
        }
        Ok(Some((decision, "made")))
    }

    fn held_back(&self, act: &Act, alert: &Alert, why: &str) -> Event {
        let mut event = self.emitter.event(Kind::Decision, Outcome::Refused);
        event.decision_id = Some(alert.id.clone().into());
        event.decision_action = Some(act.action.text().into());
        event.decision_state = Some("held_back".into());
        event.decision_subject_kind = Some(act.against.text().into());
        event.decision_subject = Some(alert.subject.clone().into());
        event.detection_name = Some(alert.detection.clone().into());
        event.fault_message = Some(why.to_owned().into());
        event
    }

    /// Commits what was decided, and tells of it; what ended long ago is forgotten with it.
    pub(super) async fn commit(
        &self,
        verdicts: Verdicts,
        writer: &mut dyn Writer,
    ) -> Result<(), Error> {
        let Verdicts { made, held_back } = verdicts;
        if !made.is_empty() {
            let old = self.decisions.old(self.clock.now());
            let old = old.iter().filter(|id| made.iter().all(|(of, _)| of.id != **id));
            let records = made.iter().map(|(of, _)| decision::made(of));
            let records = records.chain(old.flat_map(|id| decision::gone(id))).collect();
            let offsets = Vec::<GroupOffsets>::new();
            writer.commit(Transaction { records, offsets }).await?;
        }
        for (decision, state) in made {
            self.decisions.note(&decision);
            tracing::info!(
                decision = decision.id,
                detection = decision.maker.detection(),
                mode = ?decision.mode,
                state,
                "a detection has decided"
            );
            let mut event = self.emitter.event(Kind::Decision, Outcome::Success);
            decision.tell(state, &mut event);
            self.tell(event);
        }
        held_back.into_iter().for_each(|event| self.tell(event));
        Ok(())
    }

    fn tell(&self, event: Event) {
        if let Err(error) = self.emitter.emit(event) {
            tracing::error!(%error, "the event of a decision could not be kept");
        }
    }
}

/// What an alert says of a decision.
fn decided(decision: &Decision, lift: Option<Lift>) -> Decided {
    // An end by time is the reader's to see.
    let state = match decision.state(lift.as_ref(), decision.at, decision.mode == Mode::Enforce) {
        Become::Lifted => DecidedState::Lifted,
        Become::DryRun => DecidedState::DryRun,
        Become::InForce | Become::Ended => DecidedState::InForce,
    };
    let why = lift.map(|lift| match lift.note.is_empty() {
        true => format!("by {}", lift.by),
        false => format!("by {}: {}", lift.by, lift.note),
    });
    Decided { does: decision.action.to_string(), state, until: Some(decision.until), why }
}
