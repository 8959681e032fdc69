//! `transform` and `template`: a new body from the old one.

use http::HeaderValue;
use ingest::registry::Faults;
use serde::Deserialize;

use super::jq::Jq;
use super::template::{Escape, Template};
use super::{Context, Fault, Needs, read, read_jq, read_template};
use crate::message::{Format, Message};

/// Makes the one result of an expression the body.
#[derive(Debug)]
pub(crate) struct Transform(Jq);

impl Transform {
    pub(super) fn compile(body: &serde_json::Value, at: &str, faults: &mut Faults) -> Option<Self> {
        let source: String = read(body, at, faults)?;
        read_jq(&source, at, faults).map(Self)
    }

    pub(super) async fn run(
        &self,
        message: &mut Message,
        context: &Context<'_>,
    ) -> Result<(), Fault> {
        let value = self.0.run(message, Needs::Value, context).await?;
        message.set_json(value);
        Ok(())
    }
}

/// Makes a rendered text the body.
#[derive(Debug)]
pub(crate) struct Render {
    content_type: HeaderValue,
    text: Template,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a mapping")]
struct RenderSpec {
    content_type: String,
    text: String,
}

impl Render {
    pub(super) fn compile(body: &serde_json::Value, at: &str, faults: &mut Faults) -> Option<Self> {
        let spec: RenderSpec = read(body, at, faults)?;
        let escape = match Format::of(&spec.content_type) {
            Format::Json => Escape::Json,
            Format::Xml => Escape::Xml,
            Format::Other => Escape::None,
        };
        let content_type = HeaderValue::from_str(&spec.content_type).ok();
        if content_type.is_none() || !spec.content_type.contains('/') {
            let mend = "give it as application/json";
            faults.add(format!("{at}.content_type"), "is not a content type", mend);
        }
        let text = read_template(&spec.text, escape, &format!("{at}.text"), faults);
        Some(Self { content_type: content_type?, text: text? })
    }

    pub(super) async fn run(
        &self,
        message: &mut Message,
        context: &Context<'_>,
    ) -> Result<(), Fault> {
        let text = self.text.run(message, context).await?;
        message.set_bytes(self.content_type.clone(), text.into());
        Ok(())
    }
}
