//! The steps of a route: a file for each kind.
//!
//! A step is read once, when its route is compiled, and run for each message. It
//! changes the message, ends the run with an answer, or fails.
//!
//! | kind | does | ends the run |
//! | --- | --- | --- |
//! | `set_header` `{name, value or expression}` | sets a header | |
//! | `remove_header` `{name}` | removes a header | |
//! | `transform` expression | makes the expression's one result the body | |
//! | `template` `{content_type, text}` | makes the rendered text the body | |
//! | `call` `{upstream, method, path, headers, timeout_ms, accept_status}` | makes the answer the message | |
//! | `soap` `{upstream, path, version, action, body, timeout_ms}` | makes the answer's first element the body, as JSON | |
//! | `respond` `{status, headers}` | answers with the message | yes |
//! | `fault` `{code, message}` | fails | yes |
//! | `store` `{queue, key, id, expires_after_ms, deliver_at or deliver_after_ms}` | puts the message into a queue, answers 202 | yes |
//!
//! Expressions are jq ([`jq`]), templates minijinja ([`template`]). Both see the
//! body, headers, properties, the path's parameters and the query.

mod call;
mod evaluator;
mod fault;
mod header;
pub mod jq;
mod mask;
mod respond;
mod scope;
mod soap;
mod store;
pub mod template;
mod transform;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use ingest::registry::{Faults, Snapshot, explain, nearest};
use serde::de::DeserializeOwned;

pub(crate) use self::call::to_method;
pub(crate) use self::evaluator::Evaluator;
pub(crate) use self::scope::{Needs, Scope};
use crate::deliver::Queues;
use crate::endpoint::http::Caller;
use crate::message::{BodyError, Message, Value};
use ingest::http::{Code, Correlation};

/// What a step does.
#[derive(Debug)]
pub(crate) enum Step {
    SetHeader(header::SetHeader),
    RemoveHeader(header::RemoveHeader),
    Transform(transform::Transform),
    Template(transform::Render),
    Call(call::Call),
    Soap(soap::Soap),
    Respond(respond::Respond),
    Fault(fault::Fail),
    Store(store::Store),
}

/// The names of the kinds, as a route is written.
pub const KINDS: [&str; 9] = [
    "set_header",
    "remove_header",
    "transform",
    "template",
    "call",
    "soap",
    "respond",
    "fault",
    "store",
];

/// Why a step failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// What the caller is told.
    pub(crate) code: Code,
    /// What happened, for operators: short, without values of the message.
    pub(crate) reason: String,
    /// What the route wrote for its caller.
    pub(crate) detail: Option<String>,
}

impl Fault {
    pub(crate) fn new(code: Code, reason: impl Into<String>) -> Self {
        Self { code, reason: reason.into(), detail: None }
    }

    fn failed(reason: impl Into<String>) -> Self {
        Self::new(Code::StepFailed, reason)
    }
}

impl From<BodyError> for Fault {
    /// A caller may know what is wrong with what it sent itself.
    fn from(error: BodyError) -> Self {
        let own = matches!(error.code, Code::BodyInvalid | Code::ContentTypeUnsupported);
        let detail = own.then(|| error.reason.clone());
        Self { code: error.code, reason: error.reason, detail }
    }
}

/// What follows a step.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// The next one.
    Next,
    /// Nothing: this is the answer.
    Answer(Answer),
}

/// The answer of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers, the content type among them.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// What a run has besides its message.
pub(crate) struct Context<'a> {
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) caller: &'a Caller,
    pub(crate) queues: &'a Queues,
    pub(crate) evaluator: &'a Evaluator,
    /// The parameters of the path, by name.
    pub(crate) path: &'a Value,
    /// The parameters of the query, of each the first.
    pub(crate) query: &'a Value,
    /// What the caller calls its message.
    pub(crate) idempotency_key: Option<&'a str>,
    /// The span of this step.
    pub(crate) correlation: Correlation,
}

/// What a step met, for its event.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) upstream: Option<String>,
    pub(crate) address: Option<String>,
    pub(crate) attempts: Option<u32>,
    pub(crate) status: Option<StatusCode>,
    pub(crate) upstream_us: Option<i64>,
    pub(crate) queue: Option<String>,
    pub(crate) message_id: Option<String>,
}

impl Step {
    /// Reads a step of this kind; what is wrong with it goes to `faults`.
    pub(crate) fn compile(
        kind: &str,
        body: &serde_json::Value,
        at: &str,
        faults: &mut Faults,
    ) -> Option<Self> {
        let at = &format!("{at}.{kind}");
        match kind {
            "set_header" => header::SetHeader::compile(body, at, faults).map(Self::SetHeader),
            "remove_header" => {
                header::RemoveHeader::compile(body, at, faults).map(Self::RemoveHeader)
            }
            "transform" => transform::Transform::compile(body, at, faults).map(Self::Transform),
            "template" => transform::Render::compile(body, at, faults).map(Self::Template),
            "call" => call::Call::compile(body, at, faults).map(Self::Call),
            "soap" => soap::Soap::compile(body, at, faults).map(Self::Soap),
            "respond" => respond::Respond::compile(body, at, faults).map(Self::Respond),
            "fault" => fault::Fail::compile(body, at, faults).map(Self::Fault),
            "store" => store::Store::compile(body, at, faults).map(Self::Store),
            unknown => {
                let known = KINDS.join(", ");
                let mend = match nearest(unknown, KINDS) {
                    Some(near) => format!("did you mean `{near}`? known are {known}"),
                    None => format!("known are {known}"),
                };
                faults.add(at.as_str(), "unknown kind of step", mend);
                None
            }
        }
    }

    /// Whether nothing can follow it.
    pub(crate) fn is_last(&self) -> bool {
        matches!(self, Self::Respond(_) | Self::Fault(_) | Self::Store(_))
    }

    pub(crate) async fn run(
        &self,
        message: &mut Message,
        context: &Context<'_>,
        seen: &mut Seen,
    ) -> Result<Flow, Fault> {
        match self {
            Self::SetHeader(step) => step.run(message, context).await?,
            Self::RemoveHeader(step) => step.run(message),
            Self::Transform(step) => step.run(message, context).await?,
            Self::Template(step) => step.run(message, context).await?,
            Self::Call(step) => step.run(message, context, seen).await?,
            Self::Soap(step) => step.run(message, context, seen).await?,
            Self::Respond(step) => return step.run(message, context).await.map(Flow::Answer),
            Self::Fault(step) => return Err(step.run(message, context).await?),
            Self::Store(step) => {
                return step.run(message, context, seen).await.map(Flow::Answer);
            }
        }
        Ok(Flow::Next)
    }
}

/// Reads the body of a step.
fn read<T: DeserializeOwned>(body: &serde_json::Value, at: &str, faults: &mut Faults) -> Option<T> {
    match serde_path_to_error::deserialize(body.clone()) {
        Ok(read) => Some(read),
        Err(error) => {
            let path = error.path().to_string();
            let path = if path == "." { String::new() } else { path };
            let fault = explain(&path, &error.into_inner().to_string(), false);
            let dot = if fault.path.is_empty() { "" } else { "." };
            faults.add(format!("{at}{dot}{}", fault.path), fault.what, fault.mend);
            None
        }
    }
}

/// Reads an expression of a step.
fn read_jq(source: &str, at: &str, faults: &mut Faults) -> Option<jq::Jq> {
    jq::Jq::compile(source).map_err(|what| faults.add(at, what, "see the manual of jq")).ok()
}

/// Reads a template of a step.
fn read_template(
    text: &str,
    escape: template::Escape,
    at: &str,
    faults: &mut Faults,
) -> Option<template::Template> {
    template::Template::compile(text, escape)
        .map_err(|what| faults.add(at, what, "see the manual of minijinja"))
        .ok()
}
