//! The events of a run.

use http::StatusCode;
use ingest::emit::Emitter;
use ingest::event::{Event, Kind, Outcome};

use super::plan::{Compiled, Route};
use crate::step::{Fault, Seen};
use ingest::http::Correlation;

/// How a step, or a run at a step, ended.
pub(super) struct Ended<'a> {
    pub(super) route: &'a Route,
    pub(super) correlation: &'a Correlation,
    /// The step that failed, with its fault.
    pub(super) fault: Option<(&'a Compiled, &'a Fault)>,
    pub(super) duration_us: i64,
}

/// The event of a step.
pub(super) fn of_step(
    emitter: &Emitter,
    ended: &Ended<'_>,
    compiled: &Compiled,
    seen: Seen,
) -> Event {
    let mut event = of(emitter, Kind::Step, ended);
    event.mediation_step_id = Some(compiled.id.clone().into());
    event.mediation_step_kind = Some(compiled.kind.clone().into());
    event.mediation_step_duration_us = Some(ended.duration_us);
    event.upstream_name = seen.upstream.map(Into::into);
    event.upstream_address = seen.address.map(Into::into);
    event.upstream_attempts = seen.attempts.map(Into::into);
    event.upstream_status_code = seen.status.map(|status| status.as_u16().into());
    event.latency_upstream_us = seen.upstream_us;
    event.delivery_queue = seen.queue.map(Into::into);
    event.messaging_message_id = seen.message_id.map(Into::into);
    event
}

/// The event of a run.
pub(super) fn of_run(
    emitter: &Emitter,
    ended: &Ended<'_>,
    method: &http::Method,
    status: StatusCode,
) -> Event {
    let mut event = of(emitter, Kind::Route, ended);
    event.latency_total_us = Some(ended.duration_us);
    event.mediation_step_id = ended.fault.map(|(compiled, _)| compiled.id.clone().into());
    event.mediation_transport = Some("http".into());
    event.mediation_endpoint = Some(ended.route.http().path.clone().into());
    event.http_request_method = Some(method.as_str().to_owned().into());
    event.http_response_status_code = Some(status.as_u16().into());
    event
}

fn of(emitter: &Emitter, kind: Kind, ended: &Ended<'_>) -> Event {
    let outcome = ended.fault.map_or(Outcome::Success, |(_, fault)| fault.code.outcome());
    let mut event = emitter.event(kind, outcome);
    ended.correlation.note(&mut event);
    event.mediation_route = Some(ended.route.name.to_string().into());
    if let Some((compiled, fault)) = ended.fault {
        event.error_type = Some(fault.code.text().into());
        event.fault_code = Some(fault.code.text().into());
        event.fault_message = Some(fault.reason.clone().into());
        event.fault_step = Some(compiled.id.clone().into());
        let source = ended.route.spec.source.as_ref();
        event.fault_file = source.map(|source| source.file.clone().into());
        event.fault_line = compiled.line.map(Into::into);
    }
    event
}
