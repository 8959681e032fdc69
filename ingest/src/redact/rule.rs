use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

use super::{Action, JsonPath, Pattern};
use crate::event::{Personal, field, fields};
use crate::registry::nearest;

/// How many rules an entity has at most.
pub const RULES_MAX: usize = 100;
/// The longest name, path and expression of a rule, in bytes.
pub const PATTERN_BYTES_MAX: usize = 256;
/// How much memory a compiled expression may take.
const EXPRESSION_BYTES_MAX: usize = 256 * 1024;

/// What is to become of what: one of `field`, `name`, `header`, `json_path`, `pattern` and
/// `regex` says of what.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// A field of events, as `client_address`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The name of a member of JSON, a parameter of a query or a form, an element or attribute of
    /// XML (without its prefix), or a header, in any case of letters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The name of a header, in any case of letters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// A path into JSON: [`JsonPath`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json_path: Option<String>,
    /// What is known by its form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<Pattern>,
    /// A regular expression, with the syntax of the crate `regex`, that fits one character at least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regex: Option<String>,
    /// What becomes of it.
    #[serde(default)]
    pub action: Action,
}

/// What is wrong with a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleFault {
    /// The key of the rule; empty for the whole.
    pub key: &'static str,
    /// What is wrong.
    pub what: String,
    /// What would be right.
    pub mend: String,
}

impl RuleFault {
    fn new(key: &'static str, what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { key, what: what.into(), mend: mend.into() }
    }
}

/// Of what a rule is, read.
#[derive(Clone)]
pub(super) enum Selected {
    Field(&'static str),
    Name(String),
    Header(String),
    Path(JsonPath),
    Pattern(Pattern),
    Expression(Regex),
}

impl Rule {
    /// Whether it can hold.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&self) -> Result<(), RuleFault> {
        self.selected().map(drop)
    }

    pub(super) fn selected(&self) -> Result<Selected, RuleFault> {
        let given = [
            ("field", &self.field),
            ("name", &self.name),
            ("header", &self.header),
            ("json_path", &self.json_path),
            ("regex", &self.regex),
        ];
        let mut texts = given.into_iter().filter_map(|(key, text)| Some((key, text.as_deref()?)));
        let selected = match (texts.next(), self.pattern, texts.next()) {
            (Some((key, text)), None, None) => selected(key, text)?,
            (None, Some(pattern), None) => Selected::Pattern(pattern),
            (None, None, _) => {
                let mend = "give field, name, header, json_path, pattern or regex";
                return Err(RuleFault::new("", "is of nothing", mend));
            }
            _ => {
                let mend = "give one of field, name, header, json_path, pattern and regex";
                return Err(RuleFault::new("", "is of several things", mend));
            }
        };
        self.check_action(&selected)?;
        Ok(selected)
    }

    fn check_action(&self, selected: &Selected) -> Result<(), RuleFault> {
        let fault = |what, mend| Err(RuleFault::new("action", what, mend));
        match (self.action, selected) {
            (Action::Keep, Selected::Expression(_)) => fault(
                "what only an expression fits cannot be kept",
                "keep the field, name, header, path or pattern that it stands in",
            ),
            (Action::Remove, Selected::Field(_)) => Ok(()),
            (Action::Remove, _) => fault("only a field can be left out", "use mask"),
            (Action::Shorten, Selected::Field(name)) => {
                match field(name).and_then(|field| field.personal) {
                    Some(Personal::Address) => Ok(()),
                    _ => fault("only a field of an address can be shortened", "use mask or hash"),
                }
            }
            (Action::Shorten, _) => {
                fault("only a field of an address can be shortened", "use mask or hash")
            }
            (Action::Keep | Action::Hash | Action::Mask, _) => Ok(()),
        }
    }
}

fn selected(key: &'static str, text: &str) -> Result<Selected, RuleFault> {
    if text.is_empty() || text.len() > PATTERN_BYTES_MAX {
        let mend = format!("give 1 to {PATTERN_BYTES_MAX} bytes");
        return Err(RuleFault::new(key, format!("has {} bytes", text.len()), mend));
    }
    match key {
        "field" => personal_field(text),
        "name" => Ok(Selected::Name(text.to_lowercase())),
        "header" => header(text),
        "json_path" => JsonPath::parse(text).map(Selected::Path).map_err(|error| {
            let mend = "write names, [*], indexes and .. as in $.items[*].iban";
            RuleFault::new("json_path", error.to_string(), mend)
        }),
        _ => expression(text),
    }
}

/// Headers that are fields of their own, and those.
const FIELDS: [(&str, &str); 3] = [
    ("user-agent", "user_agent_original"),
    ("referer", "http_request_header_referer"),
    ("host", "server_address"),
];

fn header(name: &str) -> Result<Selected, RuleFault> {
    let name = name.to_lowercase();
    match FIELDS.iter().find(|(header, _)| *header == name) {
        Some((_, field)) => Err(RuleFault::new(
            "header",
            format!("{name} is in a field of every event"),
            format!("give field: {field}"),
        )),
        None => Ok(Selected::Header(name)),
    }
}

fn personal_field(name: &str) -> Result<Selected, RuleFault> {
    let personal = || fields().filter(|field| field.personal.is_some()).map(|field| field.name);
    if let Some(field) = personal().find(|field| *field == name) {
        return Ok(Selected::Field(field));
    }
    let what = match field(name) {
        Some(_) => format!("{name} tells of no person, and queries rest on it"),
        None => format!("there is no field {name}"),
    };
    let mend = match nearest(name, personal()) {
        Some(meant) => format!("did you mean {meant}?"),
        None => "give one of docs/events.md whose column `personal` is not empty".to_owned(),
    };
    Err(RuleFault::new("field", what, mend))
}

fn expression(text: &str) -> Result<Selected, RuleFault> {
    let compiled = RegexBuilder::new(text)
        .size_limit(EXPRESSION_BYTES_MAX)
        .dfa_size_limit(EXPRESSION_BYTES_MAX)
        .build();
    let compiled = compiled.map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => {
            let what = format!("takes more than {EXPRESSION_BYTES_MAX} bytes once it is compiled");
            RuleFault::new("regex", what, "repeat less, or write ASCII classes as [0-9]")
        }
        error => {
            // Its last line says what; those before draw where.
            let text = error.to_string();
            let what = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
            RuleFault::new("regex", what, "see the syntax of the crate `regex`")
        }
    })?;
    let parsed = regex_syntax::parse(text).ok();
    match parsed.and_then(|of| of.properties().minimum_len()) {
        Some(1..) => Ok(Selected::Expression(compiled)),
        _ => {
            let mend = "use + in place of *, and leave ? out";
            Err(RuleFault::new("regex", "also fits where there is nothing", mend))
        }
    }
}
