//! What is told of a run: an event for each step that ran, then one for the run.

use std::time::Duration;

use ingest::emit::Emitter;
use ingest::event::{Event, Kind, Outcome, Text};

use super::Plan;
use super::run::Ended;
use crate::endpoint::http::Correlation;
use crate::step::Fault;

/// A run that ended.
pub(super) struct Told<'a> {
    pub(super) plan: &'a Plan,
    /// The steps that ran, in order.
    pub(super) ended: &'a [Ended],
    /// Of the last of them, if there is one.
    pub(super) fault: Option<&'a Fault>,
    /// The run's place in the journey.
    pub(super) correlation: &'a Correlation,
}

pub(super) fn events(emitter: &Emitter, told: &Told<'_>, total: Duration) -> Vec<Event> {
    let mut events = Vec::with_capacity(told.ended.len() + 1);
    let parent = format!("{:016x}", told.correlation.span);
    for (i, ended) in told.ended.iter().enumerate() {
        let is_last = i + 1 == told.ended.len();
        let mut event = event(emitter, told, Kind::Step, told.fault.filter(|_| is_last));
        event.span_id = Some(format!("{:016x}", ended.span).into());
        event.parent_span_id = Some(parent.clone().into());
        let step = &told.plan.steps[i];
        event.mediation_step_id = Some(step.id.clone().into());
        event.mediation_step_kind = Some(Text::from_static(step.step.kind()));
        event.mediation_step_duration_us = micros(ended.duration);
        events.push(event);
    }
    let mut run = event(emitter, told, Kind::Route, told.fault);
    run.span_id = Some(parent.into());
    run.parent_span_id = told.correlation.parent.map(|parent| format!("{parent:016x}").into());
    run.latency_total_us = micros(total);
    run.mediation_transport = Some(Text::from_static("http"));
    if told.fault.is_some() {
        let last = told.ended.len().checked_sub(1).map(|i| &told.plan.steps[i]);
        run.mediation_step_id = last.map(|step| step.id.clone().into());
    }
    events.push(run);
    events
}

/// What both kinds say.
fn event(emitter: &Emitter, told: &Told<'_>, kind: Kind, fault: Option<&Fault>) -> Event {
    let outcome = fault.map_or(Outcome::Success, |fault| fault.code.outcome());
    let mut event = emitter.event(kind, outcome);
    event.correlation_id = Some(told.correlation.id.to_string().into());
    event.trace_id = Some(format!("{:032x}", told.correlation.trace).into());
    event.mediation_route = Some(told.plan.name.clone().into());
    event.service_name = Some(Text::from_static("weir-mediator"));
    if let Some(fault) = fault {
        event.error_type = Some(Text::from_static(fault.code.text()));
        event.fault_code = Some(Text::from_static(fault.code.text()));
        event.fault_message = Some(fault.reason.clone().into());
        event.fault_file = told.plan.file.clone().map(Into::into);
        let last = told.ended.len().checked_sub(1).map(|i| &told.plan.steps[i]);
        event.fault_step = last.map(|step| step.id.clone().into());
        event.fault_line = last.and_then(|step| step.line).map(Into::into);
    }
    event
}

fn micros(duration: Duration) -> Option<i64> {
    i64::try_from(duration.as_micros()).ok()
}
