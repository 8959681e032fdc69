//! `transform` makes a new body by an expression, `template` by a template.

use http::HeaderValue;
use ingest::registry::{self, read_part};
use serde::Deserialize;

use super::{Expression, Fault, Language, Next, Template, expression, template};
use crate::message::Message;
use crate::route::Context;

/// Makes the value of an expression the body, as JSON.
#[derive(Debug)]
pub(crate) struct Transform(Expression);

impl Transform {
    pub(super) fn parse(body: &serde_json::Value) -> Result<Self, Vec<registry::Fault>> {
        let text: String = read_part(body)?;
        expression("", &text).map(Self)
    }

    pub(super) async fn run(
        &self,
        message: &mut Message,
        context: &Context<'_>,
    ) -> Result<Next, Fault> {
        let value = context.evaluate(&self.0, message).await?;
        message.set_json(value);
        Ok(Next::Step)
    }
}

/// Makes what a template gives the body.
#[derive(Debug)]
pub(crate) struct Fill {
    content_type: HeaderValue,
    template: Template,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Spec {
    content_type: String,
    text: String,
}

impl Fill {
    pub(super) fn parse(body: &serde_json::Value) -> Result<Self, Vec<registry::Fault>> {
        let Spec { content_type, text } = read_part(body)?;
        let is_xml = {
            let media = content_type.split(';').next().unwrap_or_default().trim();
            media.ends_with("/xml") || media.ends_with("+xml") || media == "text/html"
        };
        let language = if is_xml { Language::Xml } else { Language::Text };
        let content_type = HeaderValue::from_str(&content_type).map_err(|_| {
            let mend = "give it as text/plain; charset=utf-8";
            vec![registry::Fault::new("content_type", "is not a content type", mend)]
        })?;
        Ok(Self { content_type, template: template("text", &text, language)? })
    }

    #[expect(clippy::unused_async, reason = "steps are run alike")]
    pub(super) async fn run(
        &self,
        message: &mut Message,
        context: &Context<'_>,
    ) -> Result<Next, Fault> {
        let text = context.render(&self.template, message)?;
        message.set_bytes(self.content_type.clone(), text.into());
        Ok(Next::Step)
    }
}
