//! Expressions: jq, over a body and what is around it.
//!
//! An expression is compiled once and gives one value: the first, as `jq` would
//! print; none is an error. It reads `.` (the body) and `$headers`, `$properties`,
//! `$path`, `$query`. It cannot reach the process: `env`, `input`, `halt`, `debug`
//! and `stderr` are errors here.
//!
//! jq has loops, and no fuel that would end them. So an expression runs on a thread
//! for blocking work, not on the runtime: one that never ends takes one of those
//! threads, fails its run by the route's timeout, and holds one of 64 places. When
//! all are taken, further runs are told that Weir is busy.

use std::fmt;
use std::sync::Arc;

use jaq_core::load::{Arena, File, Loader};
use jaq_core::native::Fun;
use jaq_core::{
    Compiler, Ctx, DataT, Error as JqError, Exn, Vars, compile, data, load, unwrap_valr,
};
use tokio::sync::Semaphore;

use super::Fault;
use super::mask::mask;
use crate::endpoint::http::Code;
use crate::message::Value;

type Data = data::JustLut<Value>;

/// The longest expression, in bytes.
const TEXT_BYTES_MAX: usize = 64 * 1024;
/// The most expressions that run at a time.
const PLACES: usize = 64;
/// What an expression may read besides the body, in the order in which it is given.
const VARIABLES: [&str; 4] = ["$headers", "$properties", "$path", "$query"];
/// What would reach out of the expression, by name and number of arguments.
const FORBIDDEN: [(&str, usize); 6] =
    [("env", 0), ("input", 0), ("inputs", 0), ("halt", 1), ("debug_empty", 0), ("stderr_empty", 0)];

static RUNNING: Semaphore = Semaphore::const_new(PLACES);

/// A compiled expression. Clones share it.
#[derive(Clone)]
pub(crate) struct Expression(Arc<Compiled>);

struct Compiled {
    text: String,
    filter: compile::Filter<jaq_core::Native<Data>>,
}

/// What an expression reads besides the body.
#[derive(Debug, Clone, Default)]
pub(crate) struct Variables {
    pub(crate) headers: Value,
    pub(crate) properties: Value,
    pub(crate) path: Value,
    pub(crate) query: Value,
}

impl Expression {
    /// Compiles a text.
    ///
    /// # Errors
    /// What is wrong, and near what.
    pub(crate) fn compile(text: &str) -> Result<Self, String> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(format!("has {} bytes, of {TEXT_BYTES_MAX}", text.len()));
        }
        let defs = jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs());
        let arena = Arena::default();
        let file = File { code: text, path: () };
        let modules =
            Loader::new(defs).load(&arena, file).map_err(|errors| unread(text, &errors))?;
        let filter = Compiler::default()
            .with_funs(functions())
            .with_global_vars(VARIABLES)
            .compile(modules)
            .map_err(|errors| undefined(&errors))?;
        Ok(Self(Arc::new(Compiled { text: text.to_owned(), filter })))
    }

    /// The value that the expression gives for a body.
    ///
    /// # Errors
    /// [`Code::StepFailed`] with what jq says; [`Code::Overloaded`] if all places
    /// are taken.
    pub(crate) async fn run(&self, body: Value, variables: Variables) -> Result<Value, Fault> {
        let place = RUNNING.try_acquire().map_err(|_| {
            Fault::new(Code::Overloaded, format!("{PLACES} expressions are running"))
        })?;
        let compiled = self.0.clone();
        let running = tokio::task::spawn_blocking(move || {
            let _place = place;
            compiled.run(body, variables)
        });
        let ended = running.await.map_err(|_| failed("the expression broke off".to_owned()))?;
        ended.map_err(failed)
    }
}

fn failed(reason: String) -> Fault {
    Fault::new(Code::StepFailed, reason)
}

impl Compiled {
    fn run(&self, body: Value, variables: Variables) -> Result<Value, String> {
        let Variables { headers, properties, path, query } = variables;
        let variables = Vars::new([headers, properties, path, query]);
        let context = Ctx::<Data>::new(&self.filter.lut, variables);
        let mut values = self.filter.id.run((context, body)).map(unwrap_valr);
        match values.next() {
            Some(Ok(value)) => Ok(value),
            // jq quotes the values that it met.
            Some(Err(error)) => Err(mask(&error.to_string(), &self.text)),
            None => Err("the expression gives no value".to_owned()),
        }
    }
}

/// Everything but what reaches out, in whose place stands an error.
fn functions() -> impl Iterator<Item = Fun<Data>> {
    let all = jaq_core::funs().chain(jaq_std::funs()).chain(jaq_json::funs());
    let is_allowed = |(name, args, _): &Fun<Data>| !FORBIDDEN.contains(&(name, args.len()));
    all.filter(is_allowed).chain(FORBIDDEN.map(refused))
}

/// A function that fails.
fn refused<D: DataT>((name, arity): (&'static str, usize)) -> Fun<D> {
    jaq_core::native::run((name, jaq_core::native::v(arity), |_| {
        let error = JqError::str("this function reaches out of the expression");
        Box::new(std::iter::once(Err(Exn::from(error))))
    }))
}

/// Near what the text cannot be read.
fn unread(text: &str, errors: &load::Errors<&str, ()>) -> String {
    let rest = errors.iter().find_map(|(_, error)| match error {
        load::Error::Io(_) => None,
        load::Error::Lex(errors) => errors.first().map(|(_, rest)| *rest),
        load::Error::Parse(errors) => errors.first().map(|(_, rest)| *rest),
    });
    near(text, rest.unwrap_or_default())
}

fn near(text: &str, rest: &str) -> String {
    let at = load::span(text, rest).start.min(text.len());
    match rest.split_whitespace().next() {
        None => "is not a jq expression: it ends too early".to_owned(),
        Some(word) => {
            let word: String = word.chars().take(20).collect();
            format!("is not a jq expression at byte {at}, near `{word}`")
        }
    }
}

fn undefined(errors: &compile::Errors<&str, ()>) -> String {
    match errors.iter().flat_map(|(_, errors)| errors).next() {
        Some((name, what)) => format!("names `{name}`, an unknown {}", what.as_str()),
        None => "is not a jq expression".to_owned(),
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "jq {:?}", self.0.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::json;

    fn value(text: &str) -> Value {
        json::parse(text.as_bytes()).unwrap()
    }

    async fn run(expression: &str, body: &str) -> Result<String, String> {
        let variables = Variables { path: value(r#"{"id":"7"}"#), ..Variables::default() };
        let expression = Expression::compile(expression)?;
        let found = expression.run(value(body), variables).await.map_err(|f| f.reason)?;
        json::write(&found).map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[tokio::test]
    async fn an_expression_gives_its_first_value() {
        let check = async |expression: &str, body: &str, expected: &str| {
            assert_eq!(run(expression, body).await.as_deref(), Ok(expected), "{expression}");
        };
        check(".a", r#"{"a":12345678901234567890123}"#, "12345678901234567890123").await;
        check("{id: $path.id, n: (.n | tonumber)}", r#"{"n":"1.10"}"#, r#"{"id":"7","n":1.10}"#)
            .await;
        check(".[]", "[1,2]", "1").await;
        check("[.[] | select(. > 1)] | length", "[1,2,3]", "2").await;
        check(". as $x | $headers", "1", "null").await;
    }

    #[tokio::test]
    async fn what_fails_is_told() {
        let check = async |expression: &str, body: &str, expected: &str| {
            let found = run(expression, body).await.unwrap_err();
            assert!(found.contains(expected), "{expression}: {found}");
        };
        check(".a |", "{}", "ends too early").await;
        check(".a }", "{}", "is not a jq expression at byte 3, near `}`").await;
        check("foo(1)", "{}", "names `foo`, an unknown filter").await;
        check("$nobody", "{}", "names `$nobody`, an unknown variable").await;
        check("empty", "{}", "gives no value").await;
        check(".a.b", r#"{"a":1}"#, "cannot index").await;
        let found = run(".a | tonumber", r#"{"a":"hush 4711"}"#).await.unwrap_err();
        assert!(!found.contains("hush") && !found.contains("4711"), "{found}");
        for out in ["env", "input", "halt", "debug", "stderr", "$ENV"] {
            let found = run(out, "{}").await;
            assert!(found.is_err(), "{out}: {found:?}");
        }
    }
}
