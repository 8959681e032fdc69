//! Templates: minijinja, for bodies that are text, and for paths.
//!
//! A template reads `body`, `headers`, `properties`, `path` and `query`. What is
//! not there is an error, so that no half message leaves. Of an XML template every
//! value is escaped; of a path, percent-encoded.
//!
//! Limits: a text 256 KiB; 1,000,000 instructions a run; what comes out 8 MiB.

use std::fmt;
use std::sync::Arc;

use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior, context};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::mask::mask;
use super::{Fault, Variables};
use crate::endpoint::http::Code;
use crate::message::{Value, json};

const TEXT_BYTES_MAX: usize = 256 * 1024;
const FUEL: u64 = 1_000_000;
const OUT_BYTES_MAX: usize = 8 * 1024 * 1024;
const NAME: &str = "template";

/// What is kept of a value in a segment of a path (RFC 3986, section 2.3).
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What a template's text is, and so how values are written into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Language {
    /// Values as they are.
    Text,
    /// Values escaped.
    Xml,
    /// Values percent-encoded, such that none becomes a part of the path.
    Path,
}

/// A compiled template. Clones share it.
#[derive(Clone)]
pub(crate) struct Template {
    text: Arc<str>,
    environment: Arc<Environment<'static>>,
    /// Whether the body is read at all: a body that cannot be read as JSON or XML
    /// does no harm to a path without it.
    reads_body: bool,
}

impl Template {
    /// Compiles a text.
    ///
    /// # Errors
    /// What is wrong, and in which line.
    pub(crate) fn compile(text: &str, language: Language) -> Result<Self, String> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(format!("has {} bytes, of {TEXT_BYTES_MAX}", text.len()));
        }
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_fuel(Some(FUEL));
        // It would show everything that a template has.
        environment.remove_global("debug");
        environment.set_auto_escape_callback(move |_| match language {
            Language::Text => AutoEscape::None,
            Language::Xml => AutoEscape::Html,
            Language::Path => AutoEscape::Custom("path".into()),
        });
        if language == Language::Path {
            environment.set_formatter(|out, state, value| {
                if value.is_undefined() {
                    return Err(ErrorKind::UndefinedError.into());
                }
                let _ = state;
                let text = value.to_string();
                write!(out, "{}", utf8_percent_encode(&text, SEGMENT)).map_err(Into::into)
            });
        }
        environment
            .add_template_owned(NAME, text.to_owned())
            .map_err(|error| explain(&error, text))?;
        let names = environment
            .get_template(NAME)
            .map_err(|error| explain(&error, text))?
            .undeclared_variables(false);
        const KNOWN: [&str; 5] = ["body", "headers", "properties", "path", "query"];
        if let Some(name) = names.iter().find(|name| {
            !KNOWN.contains(&name.as_str())
                && environment.globals().all(|(known, _)| known != *name)
        }) {
            return Err(format!("names `{name}`; known are {}", KNOWN.join(", ")));
        }
        let reads_body = names.contains("body");
        Ok(Self { text: text.into(), environment: Arc::new(environment), reads_body })
    }

    /// Whether a run reads the body.
    pub(crate) fn reads_body(&self) -> bool {
        self.reads_body
    }

    /// What comes out.
    ///
    /// # Errors
    /// [`Code::StepFailed`] with what minijinja says, and the line.
    pub(crate) fn render(&self, body: &Value, variables: &Variables) -> Result<String, Fault> {
        let context = context! {
            body => json::to_template(body),
            headers => json::to_template(&variables.headers),
            properties => json::to_template(&variables.properties),
            path => json::to_template(&variables.path),
            query => json::to_template(&variables.query),
        };
        let failed = |error| Fault::new(Code::StepFailed, explain(&error, &self.text));
        let template = self.environment.get_template(NAME).map_err(failed)?;
        let text = template.render(context).map_err(failed)?;
        if text.len() > OUT_BYTES_MAX {
            let reason = format!("the template gives {} bytes, of {OUT_BYTES_MAX}", text.len());
            return Err(Fault::new(Code::StepFailed, reason));
        }
        Ok(text)
    }
}

/// What is wrong and in which line, without the values that it may quote.
fn explain(error: &minijinja::Error, text: &str) -> String {
    let what = error.detail().map_or_else(|| error.kind().to_string(), |what| mask(what, text));
    match error.line() {
        Some(line) => format!("{what}, in line {line} of the template"),
        None => what,
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Template").field("reads_body", &self.reads_body).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(text: &str, language: Language, body: &str) -> Result<String, String> {
        let template = Template::compile(text, language)?;
        let body = json::parse(body.as_bytes()).unwrap();
        let path = json::parse(br#"{"id":"a/b ?#"}"#).unwrap();
        let variables = Variables { path, ..Variables::default() };
        template.render(&body, &variables).map_err(|fault| fault.reason)
    }

    #[test]
    fn values_are_written_as_the_language_asks() {
        use Language::{Path, Text, Xml};
        let check = |text: &str, language, body: &str, expected: &str| {
            assert_eq!(render(text, language, body).as_deref(), Ok(expected), "{text}");
        };
        check("{{ body.a }}", Text, r#"{"a":"<&"}"#, "<&");
        check("<a>{{ body.a }}</a>", Xml, r#"{"a":"<&\"'"}"#, "<a>&lt;&amp;&quot;&#x27;</a>");
        check("/orders/{{ path.id }}", Path, "null", "/orders/a%2Fb%20%3F%23");
        check("{% for x in body %}{{ x }};{% endfor %}", Text, "[1,2.5]", "1;2.5;");
        check("{{ body.n }}", Text, r#"{"n":12345678901234567890123}"#, "12345678901234567890123");
    }

    #[test]
    fn what_fails_is_told() {
        use Language::{Path, Text};
        let check = |text: &str, language, expected: &str| {
            let found = render(text, language, "{}").unwrap_err();
            assert!(found.contains(expected), "{text}: {found}");
        };
        check("{{ body.a }}", Text, "undefined, in line 1");
        check("a\n{{ body.a.b }}", Text, "in line 2 of the template");
        check("/{{ path.nothing }}", Path, "undefined");
        check("{{ bodi }}", Text, "names `bodi`; known are body, headers");
        check("{% if %}", Text, "in line 1 of the template");
        check(
            "{% for x in range(100000) %}{% for y in range(100000) %}.{% endfor %}{% endfor %}",
            Text,
            "fuel",
        );
    }
}
