//! `store`: puts the message into a queue, and answers 202 once it is durable.

use bytes::Bytes;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use ingest::registry::{self, Name, read_part};
use serde::Deserialize;

use super::header::scalar;
use super::{Expression, Fault, Next, expression};
use crate::deliver::{MessageId, NewMessage};
use crate::endpoint::http::Code;
use crate::message::{Message, json};
use crate::route::Context;

/// The header by which a caller makes it safe to send a message again.
const ID_HEADER: &str = "idempotency-key";

/// Stores the message, and ends the run.
#[derive(Debug)]
pub(crate) struct Store {
    queue: Name,
    /// Gives the ordering key: messages of one key are delivered in order.
    key: Option<Expression>,
    /// Gives the message's id, before what the caller says and what is made here.
    id: Option<Expression>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Spec {
    queue: Name,
    #[serde(default)]
    key: Option<String>,
    #[serde(default)]
    id: Option<String>,
}

impl Store {
    pub(super) fn parse(body: &serde_json::Value) -> Result<Self, Vec<registry::Fault>> {
        let Spec { queue, key, id } = read_part(body)?;
        let compile = |name, text: Option<String>| text.map(|text| expression(name, &text));
        Ok(Self {
            queue,
            key: compile("key", key).transpose()?,
            id: compile("id", id).transpose()?,
        })
    }

    pub(super) async fn run(
        &self,
        message: &mut Message,
        context: &Context<'_>,
    ) -> Result<Next, Fault> {
        let id = self.id_of(message, context).await?;
        let key = match &self.key {
            None => None,
            Some(key) => Some(Bytes::from(text_of(key, "key", message, context).await?)),
        };
        let accepted = context
            .accept(
                &self.queue,
                NewMessage {
                    id,
                    key,
                    content_type: message.headers.get(CONTENT_TYPE).cloned(),
                    headers: http::HeaderMap::new(),
                    body: message.bytes()?,
                    correlation: context.correlation.clone(),
                },
            )
            .await?;
        message.replace(json::object([("id", accepted.id.as_str().to_owned())]));
        message.status = Some(StatusCode::ACCEPTED);
        Ok(Next::Answer)
    }

    async fn id_of(
        &self,
        message: &mut Message,
        context: &Context<'_>,
    ) -> Result<MessageId, Fault> {
        let text = match &self.id {
            Some(id) => text_of(id, "id", message, context).await?,
            None => match message.headers.get(ID_HEADER) {
                None => uuid::Uuid::now_v7().to_string(),
                Some(value) => value.to_str().unwrap_or_default().to_owned(),
            },
        };
        MessageId::new(&text).map_err(|error| {
            // A caller's own key is the caller's to mend.
            let code = if self.id.is_some() { Code::StepFailed } else { Code::BodyInvalid };
            let reason = format!("the message's id: {error}");
            Fault { code, reason: reason.clone(), detail: Some(reason) }
        })
    }
}

/// What an expression gives, as text.
async fn text_of(
    expression: &Expression,
    what: &str,
    message: &mut Message,
    context: &Context<'_>,
) -> Result<String, Fault> {
    let value = context.evaluate(expression, message).await?;
    scalar(&value).filter(|text| !text.is_empty()).ok_or_else(|| {
        let reason = format!("the message's {what} is no text or number");
        Fault { code: Code::BodyInvalid, reason: reason.clone(), detail: Some(reason) }
    })
}
