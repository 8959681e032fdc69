//! What detections decide of those whom they find.
//!
//! The owner of the queries decides as it takes a finding, before the alert of it is written: in
//! a transaction of its own, right after the step of that one query. So a decision waits for no
//! other query's commit; for their steps it does, which follow one another. Who takes over has
//! read all decisions first, and finds the same again with the same ids: so a kill between the
//! decision and the checkpoint decides nothing twice, and what was lifted meanwhile stays so.
//!
//! A single address of IPv6 stands for its /64, of which its owner may take any. Of a subject
//! that a rule of redaction has taken from the events nothing is decided: it is not known who
//! it is.

use std::collections::BTreeSet;
use std::sync::Arc;

use ingest::decision::{
    self, Decision, Decisions, Lift, Maker, Mode, Safeguards, State as Become, Subject, SubjectKind,
};
use ingest::emit::Emitter;
use ingest::event::{Clock, Event, Kind, Outcome};
use ingest::log::{Error, EventLog, GroupOffsets, Transaction, Writer};
use ingest::redact;
use ingest::registry::kind::Redaction;
use ingest::registry::{Snapshot, View};

use crate::detect::{Alert, Change, Decided, DecidedState, State};
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
    made: Vec<Made>,
    held_back: Vec<Event>,
}

/// A decision that is to be written.
#[derive(Debug)]
struct Made {
    decision: Decision,
    /// What is told of it; nothing of one that somebody took back.
    told: Option<&'static str>,
    lift: Option<Lift>,
}

impl Verdicts {
    pub(super) fn is_empty(&self) -> bool {
        self.made.is_empty() && self.held_back.is_empty()
    }

    /// What is told of each.
    #[cfg(test)]
    pub(super) fn told(&self) -> Vec<&'static str> {
        self.made.iter().filter_map(|of| of.told).collect()
    }
}

impl Decider {
    /// Knows what former owners have decided, whom the caller has fenced.
    pub(super) async fn catch_up(&self, log: &dyn EventLog) -> Result<(), Error> {
        self.decisions.catch_up(log).await
    }

    /// Decides of whom changes of alerts are about, if they were found just now, and notes on each
    /// alert what is decided of its subject.
    pub(super) fn decide(
        &self,
        act: Option<&Act>,
        changes: &mut [Change],
        verdicts: &mut Verdicts,
    ) {
        // What was replayed is no traffic of this moment.
        let mut live = changes.iter_mut().filter(|of| of.alert.replay_id.is_none()).peekable();
        if live.peek().is_none() {
            return;
        }
        let snapshot = self.view.snapshot();
        let safeguards = Safeguards::of(&snapshot);
        for change in live {
            if let Some(act) = act
                && change.alert.state == State::Open
            {
                let weighed = match redacted(act.against, &snapshot) {
                    Some(why) => Err(why),
                    None => self.weigh(act, &change.alert, &safeguards, verdicts),
                };
                match weighed {
                    Ok(made) => verdicts.made.extend(made),
                    Err(why) => {
                        if change.opens {
                            verdicts.held_back.push(self.held_back(act, &change.alert, &why));
                        }
                        change.alert.decision = Some(Decided {
                            does: act.action.to_string(),
                            state: DecidedState::HeldBack,
                            until: None,
                            why: Some(why),
                        });
                        continue;
                    }
                }
            }
            let known = self.known(&change.alert.id, verdicts);
            change.alert.decision = known.map(|(decision, lift)| decided(&decision, lift));
        }
    }

    /// The decision of an alert, this step's before those that are written.
    fn known(&self, id: &str, verdicts: &Verdicts) -> Option<(Decision, Option<Lift>)> {
        let made = verdicts.made.iter().rfind(|of| of.decision.id == id);
        let made = made.map(|of| (of.decision.clone(), of.lift.clone()));
        made.or_else(|| self.decisions.get(id))
    }

    /// The decision that is to be written; nothing, where it stands as it is; or why there is none.
    fn weigh(
        &self,
        act: &Act,
        alert: &Alert,
        safeguards: &Safeguards,
        verdicts: &Verdicts,
    ) -> Result<Option<Made>, String> {
        let (now, until) = (self.clock.now(), alert.until.after(act.lasts));
        if until <= now {
            // It was found too long ago to count still.
            return Ok(None);
        }
        if alert.of_others {
            return Err("too many alerts of the detection are open for one of each".to_owned());
        }
        let subject = match Subject::parse(act.against, &alert.subject)? {
            Subject::Address(network) => Subject::Address(network.of_client()),
            other => other,
        };
        if safeguards.protect(&subject) {
            return Err("a safeguard protects the subject".to_owned());
        }
        let maker = Maker::Detection(alert.detection.clone());
        let (id, mode, action) = (alert.id.clone(), safeguards.mode, act.action);
        let decision = Decision { id, subject, action, mode, maker, at: now, until };
        let before = self.known(&alert.id, verdicts);
        if let Some((before, lift @ Some(_))) = before {
            // What somebody took back stays so as long as the alert goes on: for as long, it is
            // to be known.
            let is_longer = before.until < until;
            return Ok(is_longer.then_some(Made { decision, told: None, lift }));
        }
        let held = before.map(|(of, _)| of).filter(|of| of.until > now);
        if let Some(held) = &held {
            let what = |of: &Decision| (of.until, of.mode, of.action, of.subject.clone());
            let is_other = what(held) != what(&decision);
            return Ok(is_other.then_some(Made { decision, told: Some("prolonged"), lift: None }));
        }
        self.has_room(&decision, safeguards, verdicts)?;
        Ok(Some(Made { decision, told: Some("made"), lift: None }))
    }

    /// Whether one more subject may be decided of. One of whom it is already takes no place.
    fn has_room(
        &self,
        decision: &Decision,
        safeguards: &Safeguards,
        verdicts: &Verdicts,
    ) -> Result<(), String> {
        let mut held = self.decisions.held(decision.at, |of| of.maker.detection().is_some());
        held.extend(
            verdicts.made.iter().filter(|of| of.lift.is_none()).map(|of| of.decision.clone()),
        );
        let mut all: BTreeSet<(&Maker, &Subject)> =
            held.iter().map(|of| (&of.maker, &of.subject)).collect();
        if !all.insert((&decision.maker, &decision.subject)) {
            return Ok(());
        }
        let (count, max) = (all.len() - 1, safeguards.decisions_max);
        if count >= max {
            return Err(format!("{count} decisions of detections are in force; more may not be"));
        }
        let own = all.iter().filter(|(maker, _)| *maker == &decision.maker).count() - 1;
        if own >= safeguards.decisions_of_detection_max {
            return Err(format!("{own} decisions of this detection are in force; more may not be"));
        }
        Ok(())
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

    /// Tells of what was decided, and commits it; what ended long ago is forgotten with it.
    pub(super) async fn commit(
        &self,
        verdicts: Verdicts,
        writer: &mut dyn Writer,
    ) -> Result<(), Error> {
        let Verdicts { made, held_back } = verdicts;
        // As elsewhere the event comes before the commit: a kill between them may tell of one
        // that is made a moment later, and leaves none without its event.
        for Made { decision, told, .. } in &made {
            let Some(state) = *told else { continue };
            tracing::info!(
                decision = decision.id,
                detection = decision.maker.detection(),
                mode = ?decision.mode,
                state,
                "a detection decides"
            );
            let mut event = self.emitter.event(Kind::Decision, Outcome::Success);
            decision.tell(state, &mut event);
            self.tell(event);
        }
        held_back.into_iter().for_each(|event| self.tell(event));
        if made.is_empty() {
            return Ok(());
        }
        let old = self.decisions.old(self.clock.now());
        let old = old.iter().filter(|id| made.iter().all(|of| of.decision.id != **id));
        let records = made.iter().map(|of| decision::made(&of.decision));
        let records = records.chain(old.flat_map(|id| decision::gone(id))).collect();
        let offsets = Vec::<GroupOffsets>::new();
        writer.commit(Transaction { records, offsets }).await?;
        made.iter().for_each(|of| self.decisions.note(&of.decision));
        Ok(())
    }

    fn tell(&self, event: Event) {
        if let Err(error) = self.emitter.emit(event) {
            tracing::error!(%error, "the event of a decision could not be kept");
        }
    }
}

/// Why subjects of a kind are not known, if a rule takes them from events.
fn redacted(kind: SubjectKind, snapshot: &Snapshot) -> Option<String> {
    let fields: &[&str] = match kind {
        SubjectKind::Address => &["client_address"],
        SubjectKind::Application => &["app_id", "app_name"],
        SubjectKind::User => &["auth_subject"],
    };
    let rules = snapshot.all::<Redaction>().flat_map(|(_, of)| &of.rules);
    let taken = rules.filter(|rule| rule.action != redact::Action::Keep);
    let field = taken.filter_map(|rule| rule.field.as_deref()).find(|of| fields.contains(of))?;
    Some(format!("a rule of redaction takes {field} from the events"))
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
