//! `respond`: ends the run with the message as the answer.

use http::StatusCode;
use ingest::registry::{self, read_part};
use serde::Deserialize;

use super::{Fault, Next};
use crate::message::Message;
use crate::route::Context;

/// Ends the run.
#[derive(Debug)]
pub(crate) struct Respond(StatusCode);

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Spec {
    status: u16,
}

impl Default for Spec {
    fn default() -> Self {
        Self { status: 200 }
    }
}

impl Respond {
    pub(super) fn parse(body: &serde_json::Value) -> Result<Self, Vec<registry::Fault>> {
        let Spec { status } = read_part(body)?;
        // An informational status is no answer (RFC 9110, section 15.2).
        match StatusCode::from_u16(status) {
            Ok(status) if (200..600).contains(&status.as_u16()) => Ok(Self(status)),
            _ => {
                let what = format!("{status} is no status of an answer");
                Err(vec![registry::Fault::new("status", what, "use 200 to 599")])
            }
        }
    }

    #[expect(clippy::unused_async, reason = "steps are run alike")]
    pub(super) async fn run(&self, message: &mut Message, _: &Context<'_>) -> Result<Next, Fault> {
        message.status = Some(self.0);
        Ok(Next::Answer)
    }
}
