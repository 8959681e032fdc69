//! `fault`: the run fails, with a code and a message for its caller.

use ingest::registry::{Faults, nearest};
use serde::Deserialize;

use super::mask::mask;
use super::template::{Escape, Template};
use super::{Context, Fault, read, read_template};
use crate::message::Message;
use ingest::http::Code;

/// The longest message, in bytes.
const MESSAGE_BYTES_MAX: usize = 1_000;

#[derive(Debug)]
pub(crate) struct Fail {
    code: Code,
    message: Template,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a mapping")]
struct Spec {
    #[serde(default)]
    code: Option<String>,
    message: String,
}

impl Fail {
    pub(super) fn compile(body: &serde_json::Value, at: &str, faults: &mut Faults) -> Option<Self> {
        let spec: Spec = read(body, at, faults)?;
        let text = spec.code.as_deref().unwrap_or(Code::StepFailed.text());
        let code = Code::ALL.iter().copied().find(|code| code.text() == text);
        if code.is_none() {
            let mend = match nearest(text, Code::ALL.iter().map(|code| code.text())) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "give a code of the list, or none".to_owned(),
            };
            faults.add(format!("{at}.code"), "unknown code", mend);
        }
        let message = read_template(&spec.message, Escape::None, &format!("{at}.message"), faults);
        Some(Self { code: code?, message: message? })
    }

    /// The fault that the route asks for. Its event holds the message masked, since a
    /// template may have put values of the body into it.
    pub(super) async fn run(
        &self,
        message: &mut Message,
        context: &Context<'_>,
    ) -> Result<Fault, Fault> {
        let mut text = self.message.run(message, context).await?;
        text.truncate(text.floor_char_boundary(MESSAGE_BYTES_MAX));
        Ok(Fault { code: self.code, reason: mask(&text, ""), detail: Some(text) })
    }
}
