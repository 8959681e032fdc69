//! Expressions: jq, over the values of [`crate::message::json`], so that no number
//! loses a digit on the way in or out. What is calculated follows jq: integers have
//! any size, all else is a float of 64 bits.
//!
//! The input is the body. `$headers`, `$properties`, `$path` and `$query` are
//! objects. An expression gives exactly one result.
//!
//! There is no `env`, `$ENV`, `input`, `debug`, `stderr`, `halt` and no module: an
//! expression reads the message and nothing else. It runs off the runtime, but for a plain
//! path; it has no bound of its own on time and memory ([`super`]), and one that recurses
//! without end breaks the process, so routes are to be written by those who may configure.

use std::fmt;
use std::sync::Arc;

use jaq_core::data::JustLut;
use jaq_core::load::{Arena, Error, File, Loader};
use jaq_core::{Compiler, Ctx, Native, Vars};

use super::mask::mask;
use super::{Context, Fault, Needs, Scope};
use crate::message::{Message, Value};

/// The longest expression, in bytes.
pub const SOURCE_BYTES_MAX: usize = 64 * 1024;

const VARIABLES: [&str; 4] = ["$headers", "$properties", "$path", "$query"];
const ABSENT: [&str; 9] = [
    "env",
    "halt",
    "halt_error",
    "debug",
    "debug_empty",
    "stderr",
    "stderr_empty",
    "input",
    "inputs",
];

type Filter = jaq_core::compile::Filter<Native<JustLut<Value>>>;

/// A compiled expression. Cheap to clone.
#[derive(Clone)]
pub struct Jq {
    filter: Arc<Filter>,
    source: Arc<str>,
    /// Whether it only looks a value up, which takes no longer than to write it down.
    is_path: bool,
}

impl fmt::Debug for Jq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Jq").field(&self.source).finish()
    }
}

impl Jq {
    /// Compiles an expression.
    ///
    /// # Errors
    /// What is wrong, and at which byte.
    pub fn compile(source: &str) -> Result<Self, String> {
        if source.len() > SOURCE_BYTES_MAX {
            return Err(format!("has more than {SOURCE_BYTES_MAX} bytes"));
        }
        let is_there = |name: &str| !ABSENT.contains(&name);
        let defs = jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs());
        let funs = jaq_core::funs().chain(jaq_std::funs()).chain(jaq_json::funs());
        let arena = Arena::default();
        let modules = Loader::new(defs.filter(|def| is_there(def.name)))
            .load(&arena, File { code: source, path: () })
            .map_err(|errors| match errors.first() {
                Some((file, error)) => unreadable(file.code, error),
                None => "is no expression of jq".to_owned(),
            })?;
        let filter = Compiler::default()
            .with_funs(funs.filter(|(name, ..)| is_there(name)))
            .with_global_vars(VARIABLES)
            .compile(modules)
            .map_err(|errors| {
                match errors.first().and_then(|(_, undefined)| undefined.first()) {
                    Some((name, kind)) => format!("the {} `{name}` is not there", kind.as_str()),
                    None => "is no expression of jq".to_owned(),
                }
            })?;
        Ok(Self { filter: Arc::new(filter), source: source.into(), is_path: is_path(source) })
    }

    /// The one result. Blocks for as long as it takes.
    pub(crate) fn evaluate(&self, scope: Scope) -> Result<Value, Failed> {
        let vars = [scope.headers, scope.properties, scope.path, scope.query];
        let context = Ctx::<JustLut<Value>>::new(&self.filter.lut, Vars::new(vars));
        let mut results = self.filter.id.run((context, scope.body)).map(|result| {
            result.map_err(|exception| match exception.get_err() {
                Ok(error) => Failed::Raised(mask(&error.to_string(), &self.source)),
                Err(_) => Failed::Raised("it broke off".to_owned()),
            })
        });
        let first = results.next().ok_or(Failed::Results("no result"))??;
        match results.next() {
            None => Ok(first),
            Some(_) => Err(Failed::Results("more than one result")),
        }
    }

    /// The one result, of a message.
    pub(crate) async fn run(
        &self,
        message: &mut Message,
        needs: Needs,
        context: &Context<'_>,
    ) -> Result<Value, Fault> {
        let scope = Scope::of(message, context, needs)?;
        let evaluated = match self.is_path {
            true => self.evaluate(scope),
            false => {
                let this = self.clone();
                context.evaluator.run(move || Ok(this.evaluate(scope))).await?
            }
        };
        evaluated.map_err(|failed| match &failed {
            Failed::Raised(why) => match message.does_not_fit(why) {
                Some(error) => error.into(),
                None => Fault::failed(failed.to_string()),
            },
            Failed::Results(_) => Fault::failed(failed.to_string()),
        })
    }
}

/// Whether an expression is a path and nothing else: `.`, `.a.b`, `.items[0]`,
/// `$headers["x-a"]`.
fn is_path(source: &str) -> bool {
    let source = source.trim();
    let variable = VARIABLES.iter().find_map(|name| source.strip_prefix(name));
    let mut rest = match variable {
        Some(rest) => rest,
        None if source == "." => return true,
        None if source.starts_with('.') => source,
        None => return false,
    };
    while !rest.is_empty() {
        let behind_dot = rest.strip_prefix('.');
        let from = behind_dot.unwrap_or(rest);
        let behind = match from.strip_prefix('[') {
            Some(index) => behind_index(index),
            None if behind_dot.is_some() => behind_name(from),
            None => None,
        };
        let Some(behind) = behind else { return false };
        rest = behind;
    }
    true
}

/// What comes behind a name.
fn behind_name(text: &str) -> Option<&str> {
    let begins = text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    begins.then(|| text.trim_start_matches(|of: char| of.is_ascii_alphanumeric() || of == '_'))
}

/// What comes behind `"name"]` or `7]`; a text with `\` may have an expression in it.
fn behind_index(text: &str) -> Option<&str> {
    let (index, behind) = match text.strip_prefix('"') {
        Some(name) => name.split_once("\"]")?,
        None => text.split_once(']').filter(|(number, _)| {
            !number.is_empty() && number.bytes().all(|of| of.is_ascii_digit())
        })?,
    };
    (!index.contains(['"', '\\'])).then_some(behind)
}

/// Why an expression gave no value.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failed {
    /// It raised an error, by the values that it was given; those are masked.
    #[error("the expression failed: {0}")]
    Raised(String),
    /// It has not one result.
    #[error("the expression gave {0}")]
    Results(&'static str),
}

fn unreadable(source: &str, error: &Error<&str>) -> String {
    let at = |part: &str| {
        let at = (part.as_ptr() as usize).wrapping_sub(source.as_ptr() as usize);
        if at > source.len() { source.len() } else { at }
    };
    match error {
        Error::Io(_) => "names a module, and there are none".to_owned(),
        Error::Lex(errors) => match errors.first() {
            Some((expected, part)) => {
                format!(
                    "is no expression of jq: expected {} at byte {}",
                    expected.as_str(),
                    at(part)
                )
            }
            None => "is no expression of jq".to_owned(),
        },
        Error::Parse(errors) => match errors.first() {
            Some((expected, part)) => {
                format!(
                    "is no expression of jq: expected {} at byte {}",
                    expected.as_str(),
                    at(part)
                )
            }
            None => "is no expression of jq".to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::json;

    #[test]
    fn a_path_is_told_from_what_may_take_long() {
        for path in [
            ".",
            " .a ",
            ".a.b_2",
            ".items[0].id",
            r#".["a b"].c"#,
            "$headers.key",
            r#"$headers["x-a"]"#,
            "$path.id",
            "$query",
        ] {
            assert!(is_path(path) && Jq::compile(path).is_ok(), "{path}");
        }
        for other in [
            "",
            "..",
            ".a | .b",
            ".a, .b",
            ".a + 1",
            ".[]",
            ".a[]",
            ".a[1:2]",
            ".a?",
            "$other.a",
            "$headersx",
            "repeat(.)",
            "1",
            r#".["\(repeat(.))"]"#,
            r#".["a"] | repeat(.) | .["b"]"#,
            ".a-1",
        ] {
            assert!(!is_path(other), "{other}");
        }
    }

    fn evaluate(source: &str, body: &str) -> Result<String, String> {
        let object = |name: &str| json::object([(name, "v".to_owned())]);
        let scope = Scope {
            body: json::parse(body.as_bytes()).unwrap(),
            headers: object("x-a"),
            properties: object("p"),
            path: object("id"),
            query: object("q"),
        };
        let value = Jq::compile(source)?.evaluate(scope).map_err(|failed| failed.to_string())?;
        json::write(&value).map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn an_expression_gives_one_result() {
        let check = |source: &str, body: &str, expected: Result<&str, &str>| {
            let found = evaluate(source, body);
            assert_eq!(found.as_deref().map_err(String::as_str), expected, "{source}");
        };
        check(".a", r#"{"a":[1,2.50]}"#, Ok("[1,2.50]"));
        check(
            "{id: .id, n: (.n + 1)}",
            r#"{"id":0.10,"n":9007199254740993}"#,
            Ok(r#"{"id":0.10,"n":9007199254740994}"#),
        );
        check(".", "123456789012345678901234567890", Ok("123456789012345678901234567890"));
        check("[.[] | ascii_upcase] | join(\",\")", r#"["a","b"]"#, Ok(r#""A,B""#));
        check(r#"$headers["x-a"] + $properties.p + $path.id + $query.q"#, "null", Ok(r#""vvvv""#));
        check("now | type", "null", Ok(r#""number""#));
        check("map(select(. > 1))", "[1,2]", Ok("[2]"));
        check(".[]", "[1,2]", Err("the expression gave more than one result"));
        check("empty", "1", Err("the expression gave no result"));
        check(
            ".a",
            r#"["hush"]"#,
            Err("the expression failed: cannot index [\u{2026}] with \u{2026}"),
        );
        check("nan", "1", Err("the value holds a number that JSON cannot say"));
        check("{(1|tostring): 1}", "1", Ok(r#"{"1":1}"#));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let check = |source: &str, expected: &str| {
            assert_eq!(Jq::compile(source).unwrap_err(), expected, "{source}");
        };
        check(".a | foo", "the filter `foo` is not there");
        check("$body", "the variable `$body` is not there");
        check("env", "the filter `env` is not there");
        check("$ENV", "the variable `$ENV` is not there");
        check("halt", "the filter `halt` is not there");
        check("input", "the filter `input` is not there");
        check("debug", "the filter `debug` is not there");
        check(r#"include "a"; ."#, "names a module, and there are none");
        assert!(Jq::compile("(.a").unwrap_err().starts_with("is no expression of jq: expected"));
        assert!(Jq::compile(&" ".repeat(SOURCE_BYTES_MAX + 1)).is_err());
    }
}
