//! `fault`: ends the run with an error. And what every step fails with.

use ingest::registry::{self, read_part};
use serde::Deserialize;

use super::Next;
use crate::endpoint::http::{Code, Problem};
use crate::message::{BodyError, Message};
use crate::route::Context;

/// Why a step failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {reason}", code.text())]
pub(crate) struct Fault {
    /// What the caller is told, and whose doing it was.
    pub(crate) code: Code,
    /// What happened, for operators; it quotes nothing of a body.
    pub(crate) reason: String,
    /// What the caller is told besides, if the route or the kind of error says so.
    pub(crate) detail: Option<String>,
}

impl Fault {
    /// A fault of which the caller learns the code alone.
    pub(crate) fn new(code: Code, reason: impl Into<String>) -> Self {
        Self { code, reason: reason.into(), detail: None }
    }

    /// As the caller sees it.
    pub(crate) fn problem(&self) -> Problem {
        Problem { code: self.code, detail: self.detail.clone() }
    }
}

impl From<BodyError> for Fault {
    fn from(error: BodyError) -> Self {
        // A caller may know what is wrong with its own body.
        let is_callers = matches!(error.code, Code::BodyInvalid | Code::ContentTypeUnsupported);
        let detail = is_callers.then(|| error.reason.clone());
        Self { code: error.code, reason: error.reason, detail }
    }
}

/// Ends the run with a message of the route's own.
#[derive(Debug)]
pub(crate) struct Raise {
    code: Code,
    message: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Spec {
    /// A code of the list; `step_failed` if it is left out.
    code: Option<String>,
    /// What the caller is told.
    message: String,
}

impl Raise {
    pub(super) fn parse(body: &serde_json::Value) -> Result<Self, Vec<registry::Fault>> {
        let Spec { code, message } = read_part(body)?;
        let code = match code {
            None => Code::StepFailed,
            Some(text) => Code::parse(&text).ok_or_else(|| {
                let mend = "give one of the documented codes, as body_invalid";
                vec![registry::Fault::new("code", "is not a known code", mend)]
            })?,
        };
        Ok(Self { code, message })
    }

    #[expect(clippy::unused_async, reason = "steps are run alike")]
    pub(super) async fn run(&self, _: &mut Message, _: &Context<'_>) -> Result<Next, Fault> {
        let detail = Some(self.message.clone());
        Err(Fault { code: self.code, reason: self.message.clone(), detail })
    }
}
