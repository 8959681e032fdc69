//! A run of a route: its steps in order, within its time, and then its events.

use std::sync::Arc;
use std::time::Duration;

use ingest::emit::Emitter;
use ingest::event::{Clock, Event};
use ingest::registry::Snapshot;
use tokio::time::{Instant, timeout_at};

use super::events::{Ended, of_run, of_step};
use super::plan::{Compiled, Route};
use crate::deliver::Queues;
use crate::endpoint::http::Caller;
use crate::message::{Message, Value};
use crate::step::{Answer, Context, Evaluator, Fault, Flow, Seen, Step};
use ingest::http::{Code, Correlation, Problem};

/// What every run has in common.
pub(crate) struct Runner {
    pub(crate) emitter: Emitter,
    pub(crate) caller: Caller,
    pub(crate) queues: Queues,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) evaluator: Evaluator,
}

/// What a run begins with.
pub(crate) struct Request {
    pub(crate) route: Arc<Route>,
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) method: http::Method,
    pub(crate) path: Value,
    pub(crate) query: Value,
    pub(crate) idempotency_key: Option<String>,
    pub(crate) correlation: Correlation,
    pub(crate) message: Message,
}

/// How far a run has come, kept outside of what its timeout drops.
struct Progress {
    /// The step that is under way.
    at: usize,
    begun: Instant,
    correlation: Correlation,
    seen: Seen,
    events: Vec<Event>,
}

impl Runner {
    /// Runs a route to its end. The events are in the spool when this answers.
    pub(crate) async fn run(&self, mut request: Request) -> Result<Answer, Problem> {
        let (begun, route) = (Instant::now(), request.route.clone());
        let end = begun + Duration::from_millis(route.spec.timeout_ms);
        let mut progress = Progress {
            at: 0,
            begun,
            correlation: request.correlation.clone(),
            seen: Seen::default(),
            events: Vec::with_capacity(route.steps.len() + 1),
        };
        let ran = timeout_at(end, self.run_steps(&mut request, &mut progress)).await;
        let result = match ran {
            Ok(result) => result,
            Err(_) => {
                let compiled = &route.steps[progress.at];
                let stores = matches!(compiled.step, Step::Store(_));
                let code = if stores { Code::QueueUnavailable } else { Code::RouteTimeout };
                let reason = format!("the route's {} ms ended", route.spec.timeout_ms);
                let fault = Fault::new(code, reason);
                self.tell_step(&request, &mut progress, Some(&fault));
                Err(fault)
            }
        };
        let answer = match result {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => finish(&mut request.message),
            Err(fault) => Err(fault),
        };
        self.tell(&request, progress, begun, answer)
    }

    async fn run_steps(
        &self,
        request: &mut Request,
        progress: &mut Progress,
    ) -> Result<Option<Answer>, Fault> {
        let route = request.route.clone();
        for (at, compiled) in route.steps.iter().enumerate() {
            (progress.at, progress.begun) = (at, Instant::now());
            progress.correlation = request.correlation.child(|| fastrand::u64(..));
            progress.seen = Seen::default();
            let context = Context {
                snapshot: &request.snapshot,
                caller: &self.caller,
                queues: &self.queues,
                evaluator: &self.evaluator,
                path: &request.path,
                query: &request.query,
                idempotency_key: request.idempotency_key.as_deref(),
                correlation: progress.correlation.clone(),
            };
            let step = compiled.step.run(&mut request.message, &context, &mut progress.seen);
            let flow = Box::pin(step).await;
            self.tell_step(request, progress, flow.as_ref().err());
            if let Flow::Answer(answer) = flow? {
                return Ok(Some(answer));
            }
        }
        Ok(None)
    }

    fn tell_step(&self, request: &Request, progress: &mut Progress, fault: Option<&Fault>) {
        let compiled: &Compiled = &request.route.steps[progress.at];
        let ended = Ended {
            route: &request.route,
            correlation: &progress.correlation,
            fault: fault.map(|fault| (compiled, fault)),
            duration_us: micros_since(progress.begun),
        };
        let seen = std::mem::take(&mut progress.seen);
        let mut event = of_step(&self.emitter, &ended, compiled, seen);
        event.event_time = self.clock.now();
        event.config_hash = Some(request.snapshot.config_hash().to_string().into());
        event.config_revision = Some(request.snapshot.revision().cast_signed());
        progress.events.push(event);
    }

    /// Writes the events, then lets the answer go.
    fn tell(
        &self,
        request: &Request,
        mut progress: Progress,
        begun: Instant,
        answer: Result<Answer, Fault>,
    ) -> Result<Answer, Problem> {
        let fault = answer.as_ref().err();
        let ended = Ended {
            route: &request.route,
            correlation: &request.correlation,
            fault: fault.map(|fault| (&request.route.steps[progress.at], fault)),
            duration_us: micros_since(begun),
        };
        let status =
            answer.as_ref().map_or_else(|fault| fault.code.status(), |answer| answer.status);
        let mut event = of_run(&self.emitter, &ended, &request.method, status);
        event.event_time = self.clock.now();
        event.config_hash = Some(request.snapshot.config_hash().to_string().into());
        event.config_revision = Some(request.snapshot.revision().cast_signed());
        progress.events.push(event);
        if let Err(error) = self.emitter.emit_all(&mut progress.events) {
            tracing::error!(route = %request.route.name, %error, "the events of a run were not kept");
            return Err(Code::EventsUnavailable.into());
        }
        answer.map_err(|fault| Problem { code: fault.code, detail: fault.detail })
    }
}

/// The answer of a run that no step ended: the message as it is, with the status of
/// the last answer, or 200.
fn finish(message: &mut Message) -> Result<Answer, Fault> {
    let body = message.bytes()?;
    let status = message.status.unwrap_or(http::StatusCode::OK);
    Ok(Answer { status, headers: message.answer_headers(), body })
}

fn micros_since(begun: Instant) -> i64 {
    i64::try_from(begun.elapsed().as_micros()).unwrap_or(i64::MAX)
}
