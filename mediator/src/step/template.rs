//! Templates: minijinja, strict. A name that is not there fails; what is inserted is
//! escaped for what the text is.
//!
//! Names: `body`, `headers`, `properties`, `path`, `query`. The filter `to_xml` writes
//! a value as XML, by the convention of [`crate::message::xml`].
//!
//! Limits: 64 KiB of text; fuel of 500,000, about as many instructions, and some 32 MB;
//! 64 levels. A number of more than 15 digits is a text, to keep them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use minijinja::value::Value as Shown;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::{Context, Evaluator, Fault, Needs, Scope};
use crate::message::{Message, Value, json, xml};

const TEXT_BYTES_MAX: usize = 64 * 1024;
const FUEL: u64 = 500_000;
const DEPTH_MAX: usize = 64;
const NAME: &str = "text";
/// What stays as it is in a segment of a path (RFC 3986, section 2.3).
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// How what is inserted is escaped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Escape {
    /// Not at all.
    None,
    /// As text of XML.
    Xml,
    /// Values are written as JSON, texts with their quotes.
    Json,
    /// As a part of a path or a query: percent-encoded.
    Path,
}

/// A compiled template. Cheap to clone.
#[derive(Clone)]
pub struct Template(Kind);

#[derive(Clone)]
enum Kind {
    /// It inserts nothing.
    Fixed(Arc<str>),
    Made(Arc<Environment<'static>>, Needs),
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Template")
    }
}

impl Template {
    /// Compiles a template.
    ///
    /// # Errors
    /// What is wrong, and on which line.
    pub fn compile(text: &str, escape: Escape) -> Result<Self, String> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(format!("has more than {TEXT_BYTES_MAX} bytes"));
        }
        if !text.contains("{{") && !text.contains("{%") && !text.contains("{#") {
            return Ok(Self(Kind::Fixed(text.into())));
        }
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(DEPTH_MAX);
        environment.set_auto_escape_callback(move |_| match escape {
            Escape::None => AutoEscape::None,
            Escape::Xml => AutoEscape::Html,
            Escape::Json => AutoEscape::Json,
            Escape::Path => AutoEscape::Custom("path".into()),
        });
        if escape == Escape::Path {
            environment.set_formatter(|out, _, value| {
                if value.is_undefined() {
                    return Err(Error::from(ErrorKind::UndefinedError));
                }
                let text = value.to_string();
                out.write_str(&utf8_percent_encode(&text, SEGMENT).to_string()).map_err(Error::from)
            });
        }
        environment.add_filter("to_xml", to_xml);
        environment
            .add_template_owned(NAME, text.to_owned())
            .map_err(|error| format!("is no template: {}", explain(&error)))?;
        let needs = if text.contains("body") { Needs::ValueOrText } else { Needs::NoBody };
        Ok(Self(Kind::Made(Arc::new(environment), needs)))
    }

    /// Renders it. Blocks for as long as the fuel lasts.
    pub(crate) fn evaluate(&self, scope: &Scope) -> Result<String, String> {
        let environment = match &self.0 {
            Kind::Fixed(text) => return Ok(text.to_string()),
            Kind::Made(environment, _) => environment,
        };
        let names = [
            ("body", &scope.body),
            ("headers", &scope.headers),
            ("properties", &scope.properties),
            ("path", &scope.path),
            ("query", &scope.query),
        ];
        let names = names.map(|(name, value)| (name, json::to_template(value)));
        let template = environment.get_template(NAME).expect("it was compiled under this name");
        template
            .render(Shown::from(BTreeMap::from(names)))
            .map_err(|error| format!("the template failed: {}", explain(&error)))
    }

    /// What the text asks of the body that is not there, such as `customer.name`: the first
    /// of the names behind `body.`.
    fn missing(&self, scope: &Scope) -> Option<String> {
        let Kind::Made(environment, _) = &self.0 else { return None };
        let template = environment.get_template(NAME).ok()?;
        let text = template.source();
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
        text.match_indices("body.").find_map(|(at, word)| {
            if text[..at].ends_with(|c: char| is_part(c) || c == '.') {
                return None;
            }
            let rest = &text[at + word.len()..];
            let path = &rest[..rest.find(|c| !is_part(c) && c != '.').unwrap_or(rest.len())];
            let mut value = json::to_template(&scope.body);
            for name in path.split('.') {
                value = value.get_attr(name).unwrap_or(Shown::UNDEFINED);
                if value.is_undefined() {
                    return Some(path.to_owned());
                }
            }
            None
        })
    }

    pub(crate) async fn run(
        &self,
        message: &mut Message,
        context: &Context<'_>,
    ) -> Result<String, Fault> {
        match &self.0 {
            Kind::Fixed(text) => Ok(text.to_string()),
            Kind::Made(_, needs) => {
                let (this, scope) = (self.clone(), Scope::of(message, context, *needs)?);
                let evaluator: &Evaluator = context.evaluator;
                let evaluated = evaluator.run(move || {
                    let text = this.evaluate(&scope);
                    Ok(text.map_err(|reason| (reason, this.missing(&scope))))
                });
                evaluated.await?.map_err(|(reason, missing)| {
                    let lacks = missing.and_then(|name| message.lacks(&name));
                    lacks.map_or_else(|| Fault::failed(reason), Fault::from)
                })
            }
        }
    }
}

/// What went wrong and on which line, without the detail, which quotes values.
fn explain(error: &Error) -> String {
    match (error.kind(), error.line()) {
        (ErrorKind::SyntaxError, Some(line)) => {
            format!("{} on line {line}", error.detail().unwrap_or("syntax error"))
        }
        (kind, Some(line)) => format!("{kind} on line {line}"),
        (kind, None) => kind.to_string(),
    }
}

fn to_xml(value: &Shown) -> Result<Shown, Error> {
    let failed = |reason: String| Error::new(ErrorKind::InvalidOperation, reason);
    let text = serde_json::to_string(value).map_err(|error| failed(error.to_string()))?;
    let value: Value = json::parse(text.as_bytes()).map_err(failed)?;
    xml::write(&value).map(Shown::from_safe_string).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(text: &str, escape: Escape, body: &str) -> Result<String, String> {
        let scope = Scope { body: json::parse(body.as_bytes()).unwrap(), ..Scope::default() };
        Template::compile(text, escape)?.evaluate(&scope)
    }

    #[test]
    fn what_is_inserted_is_escaped_for_what_the_text_is() {
        let check = |text: &str, escape, body: &str, expected: &str| {
            assert_eq!(render(text, escape, body).as_deref(), Ok(expected), "{text}");
        };
        check("{{ body.a }}", Escape::None, r#"{"a":"<&\""}"#, "<&\"");
        check("<a>{{ body.a }}</a>", Escape::Xml, r#"{"a":"<&"}"#, "<a>&lt;&amp;</a>");
        check(r#"{"a":{{ body.a }}}"#, Escape::Json, r#"{"a":"x\"y"}"#, r#"{"a":"x\"y"}"#);
        check("/o/{{ body }}", Escape::Path, r#""a/../b?c d""#, "/o/a%2F..%2Fb%3Fc%20d");
        check(
            "{% for i in body %}<i>{{ i }}</i>{% endfor %}",
            Escape::Xml,
            "[1,2]",
            "<i>1</i><i>2</i>",
        );
        check("{{ body | to_xml }}", Escape::Xml, r#"{"a":["<",2]}"#, "<a>&lt;</a><a>2</a>");
        check("no { template }", Escape::None, "1", "no { template }");
    }

    #[test]
    fn what_the_body_lacks_is_named() {
        let check = |text: &str, body: &str, expected: Option<&str>| {
            let scope = Scope { body: json::parse(body.as_bytes()).unwrap(), ..Scope::default() };
            let template = Template::compile(text, Escape::None).unwrap();
            assert_eq!(template.missing(&scope).as_deref(), expected, "{text} {body}");
        };
        check("{{ body.a }}{{ body.b.c }}", r#"{"a": 1, "b": {}}"#, Some("b.c"));
        check("{{ body.a }}", "[]", Some("a"));
        check("{{ body.a }}", "null", Some("a"));
        check("{{ body.a | int }}", r#"{"a": "x"}"#, None);
        check("{{ headers.body.a }}{{ nobody.b }}", "{}", None);
    }

    #[test]
    fn what_fails_says_where_and_quotes_nothing() {
        let check = |text: &str, escape, expected: &str| {
            let found = render(text, escape, r#"{"a":"hush"}"#).unwrap_err();
            assert!(found.contains(expected), "{text}: {found}");
            assert!(!found.contains("hush"), "{found}");
        };
        check("{{ body.b }}", Escape::None, "the template failed: undefined value on line 1");
        check("/{{ body.b }}", Escape::Path, "undefined value");
        check("\n{{ nothing }}", Escape::None, "undefined value on line 2");
        check("{% for x in %}", Escape::None, "is no template");
        check("{{ body.a | int }}", Escape::None, "the template failed");
        check("{{ body.a | nope }}", Escape::None, "unknown filter");
        let endless =
            "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}";
        check(endless, Escape::None, "fuel");
        check("{% include 'etc' %}", Escape::None, "template");
    }
}
