use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use super::action::replacement;
use super::body::body;
use super::json::{Looked, json};
use super::query::{address, path, query};
use super::rules::{Place, Rules, selected};
use super::{Action, MASK, Pseudonyms, Rule};
use crate::event::{Event, Personal, Text};

/// Takes out of events what may not be written.
///
/// Without a rule, as [`Self::default`] has none: what is known by its name or its form is
/// masked in all that somebody sent or asked for ([`Personal::Content`]).
#[derive(Clone, Default)]
pub struct Redactor {
    all: Rules,
    /// Those of some APIs, with those of all.
    by_api: HashMap<Box<str>, Rules>,
}

impl Redactor {
    /// By sets of rules, each of the events of some APIs, or of all events if it names none.
    pub fn new<'a>(
        sets: impl IntoIterator<Item = (Vec<&'a str>, &'a [Rule])>,
        pseudonyms: Option<&Pseudonyms>,
    ) -> Self {
        let (of_some, of_all): (Vec<_>, Vec<_>) =
            sets.into_iter().partition(|(apis, _)| !apis.is_empty());
        let mut all = Rules::new(pseudonyms.cloned());
        of_all.iter().for_each(|(_, rules)| all.add(&selected(rules)));
        let mut by_api = HashMap::<Box<str>, Rules>::new();
        for (apis, rules) in of_some {
            // Read once for all of them.
            let rules = selected(rules);
            for api in apis {
                let of_api = by_api.entry(api.into()).or_insert_with(|| all.clone());
                of_api.add(&rules);
            }
        }
        Self { all, by_api }
    }

    /// Whether a rule asks for pseudonyms and there is no key of them.
    pub fn is_without_key(&self) -> bool {
        std::iter::once(&self.all).chain(self.by_api.values()).any(Rules::is_without_key)
    }

    /// Takes out of the event what may not be written.
    pub fn apply(&self, event: &mut Event) {
        let of_api = event.api_name.as_deref().filter(|_| !self.by_api.is_empty());
        let rules = of_api.and_then(|api| self.by_api.get(api)).unwrap_or(&self.all);
        let types = Types {
            request: event.payload_request_content_type.clone(),
            response: event.payload_response_content_type.clone(),
            is_request_cut: event.payload_request_truncated == Some(true),
            is_response_cut: event.payload_response_truncated == Some(true),
        };
        let mut cut = (false, false);
        event.each_personal_text(|name, personal, text| match rules.field(name) {
            Some(Action::Keep) => {}
            Some(Action::Remove) => *text = None,
            Some(action) => {
                let value = text.as_deref().unwrap_or_default();
                let with = replacement(action, value, MASK, rules.pseudonyms());
                *text = Some(quoted(name, &with));
            }
            None if personal == Personal::Content => {
                content(name, text, &types, rules, &mut cut);
            }
            None => {}
        });
        if cut.0 {
            event.payload_request_truncated = Some(true);
        }
        if cut.1 {
            event.payload_response_truncated = Some(true);
        }
        if cut.0 || cut.1 {
            event.payload_truncated = Some(true);
        }
    }
}

/// What is told of the bodies of an event.
struct Types {
    request: Option<Text>,
    response: Option<Text>,
    is_request_cut: bool,
    is_response_cut: bool,
}

/// The longest text that is written of a field, in bytes: what is put in the place of secrets
/// may make it longer than an event can be.
const TEXT_BYTES_MAX: usize = 400 * 1024;
/// Of a body.
const BODY_BYTES_MAX: usize = 128 * 1024;

/// Looks at what somebody sent or asked for, by the form that the field has. `cut` is whether
/// the bodies of request and answer are less than they were, but for what was taken out.
fn content(
    name: &str,
    text: &mut Option<Text>,
    types: &Types,
    rules: &Rules,
    cut: &mut (bool, bool),
) {
    let Some(value) = text.as_deref() else { return };
    let masked = match name {
        "url_query" => query(value, rules),
        "url_path" => path(value, rules),
        "http_request_header_referer" => address(value, rules),
        "external_data" | "external_attributes" => whole(json(value, rules, Place::Member)),
        "payload_request_headers" | "payload_response_headers" => {
            whole(json(value, rules, Place::Header))
        }
        "payload_request" | "payload_response" => {
            let (content_type, was_cut, is_cut) = match name {
                "payload_request" => (&types.request, types.is_request_cut, &mut cut.0),
                _ => (&types.response, types.is_response_cut, &mut cut.1),
            };
            let kept = body(value, content_type.as_deref(), was_cut, rules);
            let is_long = kept.as_ref().is_some_and(|kept| kept.text.len() > BODY_BYTES_MAX);
            *is_cut = is_long || kept.as_ref().is_some_and(|kept| kept.is_cut);
            match kept.filter(|_| !is_long).map(|kept| kept.text) {
                Some(Cow::Borrowed(same)) if same.len() == value.len() => {}
                kept => *text = kept.map(|kept| kept.into_owned().into()),
            }
            return;
        }
        "correlation_id"
        | "messaging_message_id"
        | "external_id"
        | "http_request_method"
        | "server_address" => rules.id(value),
        "external_source" => address(value, rules),
        _ => rules.text(value),
    };
    match masked {
        Cow::Borrowed(_) => {}
        Cow::Owned(masked) if masked.len() > TEXT_BYTES_MAX => *text = Some(quoted(name, MASK)),
        Cow::Owned(masked) => *text = Some(masked.into()),
    }
}

/// A text in a column: as JSON where that is what the column holds.
fn quoted(name: &str, text: &str) -> Text {
    match JSON_COLUMNS.contains(&name) {
        true => serde_json::Value::from(text).to_string().into(),
        false => text.to_owned().into(),
    }
}

/// The columns that hold JSON, whatever is taken out of them.
const JSON_COLUMNS: [&str; 4] =
    ["external_data", "external_attributes", "payload_request_headers", "payload_response_headers"];

/// A column of JSON stays one.
fn whole(looked: Looked<'_>) -> Cow<'_, str> {
    match looked {
        Looked::Whole(text) => text,
        Looked::Beginning(_) => Cow::Owned(format!("\"{MASK}\"")),
    }
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a redactor with rules of its own for {} APIs", self.by_api.len())
    }
}
