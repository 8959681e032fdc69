use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::HeaderMap;
use ingest::registry::Snapshot;

use super::told::{Told, events};
use super::{Context, Found, Shared};
use crate::endpoint::http::{Code, Correlation};
use crate::message::{Message, Value};
use crate::step::{Fault, Next};

/// A request that a route takes.
pub(crate) struct Request {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// The query's parameters.
    pub(crate) query: Value,
    /// Where it stands in its journey: the run's span.
    pub(crate) correlation: Correlation,
}

/// A step that ended.
pub(super) struct Ended {
    pub(super) duration: Duration,
    /// Its span.
    pub(super) span: u64,
}

/// Runs a route on a request. Its events are in the spool when this answers.
///
/// # Errors
/// The fault of the step that failed; [`Code::RouteTimeout`];
/// [`Code::EventsUnavailable`] before anything was done.
pub(crate) async fn run(
    shared: &Shared,
    snapshot: Arc<Snapshot>,
    found: &Found,
    request: Request,
) -> Result<Message, Fault> {
    if shared.emitter.admit().is_err() {
        return Err(Fault::new(Code::EventsUnavailable, "the spool of events is full"));
    }
    let plan = &found.plan;
    let began = Instant::now();
    let deadline = tokio::time::Instant::now() + plan.timeout;
    let Request { headers, body, query, correlation } = request;
    let mut context = Context {
        shared,
        snapshot,
        correlation: correlation.clone(),
        path: found.path.clone(),
        query,
    };
    let mut message = Message::new(headers, body);
    let mut ended: Vec<Ended> = Vec::with_capacity(plan.steps.len());
    let mut fault = None;
    for planned in &plan.steps {
        let step_began = Instant::now();
        // A step's span is a child of the run's.
        context.correlation = correlation.child(|| fastrand::u64(..));
        let step = Box::pin(planned.step.run(&mut message, &context));
        let result = match tokio::time::timeout_at(deadline, step).await {
            Ok(result) => result,
            Err(_) => {
                let reason = format!("the run took longer than {} ms", plan.timeout.as_millis());
                Err(Fault::new(Code::RouteTimeout, reason))
            }
        };
        let span = context.correlation.span;
        ended.push(Ended { duration: step_began.elapsed(), span });
        match result {
            Ok(Next::Step) => {}
            Ok(Next::Answer) => break,
            Err(failed) => {
                fault = Some(failed);
                break;
            }
        }
    }
    // What leaves as an answer is written here, so that a fault of it is the run's.
    if fault.is_none()
        && let Err(error) = message.bytes()
    {
        fault = Some(error.into());
    }
    let told = Told { plan, ended: &ended, fault: fault.as_ref(), correlation: &correlation };
    let mut events = events(&shared.emitter, &told, began.elapsed());
    for batch in events.chunks_mut(256) {
        if let Err(error) = shared.emitter.emit_all(batch) {
            tracing::error!(%error, route = %plan.name, "the events of a run could not be kept");
            return Err(Fault::new(Code::InternalError, "the events of the run could not be kept"));
        }
    }
    match fault {
        None => Ok(message),
        Some(fault) => Err(fault),
    }
}
