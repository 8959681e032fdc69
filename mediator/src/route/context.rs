use std::sync::Arc;

use http::header::{AUTHORIZATION, COOKIE, HeaderMap, PROXY_AUTHORIZATION};
use ingest::emit::Emitter;
use ingest::registry::kind::Upstream;
use ingest::registry::{Name, Snapshot};

use crate::deliver::{Accepted, NewMessage, Queues};
use crate::endpoint::http::{Answer, Caller, Code, Correlation, Request};
use crate::message::{Message, Value, json};
use crate::step::{Expression, Fault, Template, Variables};

/// What all runs share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) caller: Caller,
    pub(crate) queues: Queues,
    pub(crate) emitter: Emitter,
}

/// What a step has besides the message.
pub(crate) struct Context<'a> {
    pub(crate) shared: &'a Shared,
    /// The configuration that the run sees.
    pub(crate) snapshot: Arc<Snapshot>,
    /// The place of this step in the journey.
    pub(crate) correlation: Correlation,
    /// The parts of the path that the route's template names.
    pub(crate) path: Value,
    /// The query's parameters.
    pub(crate) query: Value,
}

impl Context<'_> {
    /// The value of an expression over the message. A body that is no JSON and no
    /// XML by its content type is null to it.
    pub(crate) async fn evaluate(
        &self,
        expression: &Expression,
        message: &mut Message,
    ) -> Result<Value, Fault> {
        let body = self.body(message)?;
        expression.run(body, self.variables(message)).await
    }

    /// What a template gives for the message.
    pub(crate) fn render(
        &self,
        template: &Template,
        message: &mut Message,
    ) -> Result<String, Fault> {
        let body = if template.reads_body() { self.body(message)? } else { Value::Null };
        template.render(&body, &self.variables(message))
    }

    fn body(&self, message: &mut Message) -> Result<Value, Fault> {
        match message.json() {
            Ok(body) => Ok(body.clone()),
            Err(error) if error.code == Code::ContentTypeUnsupported => Ok(Value::Null),
            Err(error) => Err(error.into()),
        }
    }

    fn variables(&self, message: &Message) -> Variables {
        let properties = serde_json::Value::Object(message.properties.clone());
        Variables {
            headers: headers(&message.headers),
            properties: json::from_serde(&properties),
            path: self.path.clone(),
            query: self.query.clone(),
        }
    }

    /// Calls an upstream of the registry, as a child of this step.
    pub(crate) async fn call(&self, name: &Name, mut request: Request) -> Result<Answer, Fault> {
        let upstream = self.snapshot.get::<Upstream>(name).ok_or_else(|| {
            Fault::new(Code::UpstreamUnreachable, format!("there is no upstream {name}"))
        })?;
        request.correlation = Some(self.correlation.clone());
        self.shared.caller.call(name, upstream, request).await.map_err(|error| {
            let reason = format!("upstream {name} at {}: {}", error.address, error.reason);
            Fault::new(error.code, reason)
        })
    }

    /// Puts a message into a queue.
    pub(crate) async fn accept(
        &self,
        queue: &Name,
        message: NewMessage,
    ) -> Result<Accepted, Fault> {
        let id = message.id.as_str().to_owned();
        self.shared.queues.accept(queue, message).await.map_err(|error| Fault {
            code: error.code,
            reason: format!("queue {queue}: {}", error.reason),
            // By which the caller can send it again, and have it once.
            detail: (error.code == Code::QueueUnavailable)
                .then(|| format!("send it again with Idempotency-Key: {id}")),
        })
    }
}

/// Headers as an object, by lower-case name; the first of each. Credentials are not
/// for expressions.
fn headers(headers: &HeaderMap) -> Value {
    let hidden = [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE];
    let shown = headers.iter().filter(|(name, _)| !hidden.contains(name));
    json::object(
        shown.filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?.to_owned()))),
    )
}
