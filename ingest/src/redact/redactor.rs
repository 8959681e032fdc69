use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use super::action::replacement;
use super::body::body;
use super::json::{Looked, json};
use super::query::{address, path, query};
use super::rules::{Place, Rules};
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
        of_all.iter().flat_map(|(_, rules)| *rules).for_each(|rule| all.add(rule));
        let mut by_api = HashMap::<Box<str>, Rules>::new();
        for (apis, rules) in of_some {
            for api in apis {
                let of_api = by_api.entry(api.into()).or_insert_with(|| all.clone());
                rules.iter().for_each(|rule| of_api.add(rule));
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
            is_cut: event.payload_truncated == Some(true),
        };
        let mut is_cut = false;
        event.each_personal_text(|name, personal, text| match rules.field(name) {
            Some(Action::Keep) => {}
            Some(Action::Remove) => *text = None,
            Some(action) => {
                let value = text.as_deref().unwrap_or_default();
                let with = replacement(action, value, MASK, rules.pseudonyms());
                *text = Some(with.into());
            }
            None if personal == Personal::Content => {
                is_cut |= content(name, text, &types, rules);
            }
            None => {}
        });
        if is_cut {
            event.payload_truncated = Some(true);
        }
    }
}

/// What is told of the bodies of an event.
struct Types {
    request: Option<Text>,
    response: Option<Text>,
    is_cut: bool,
}

/// Looks at what somebody sent or asked for, by the form that the field has. Whether it is
/// less now, but for what was taken out.
fn content(name: &str, text: &mut Option<Text>, types: &Types, rules: &Rules) -> bool {
    let Some(value) = text.as_deref() else { return false };
    let masked = match name {
        "url_query" => query(value, rules),
        "url_path" => path(value, rules),
        "http_request_header_referer" => address(value, rules),
        "external_data" | "external_attributes" => whole(json(value, rules, Place::Member)),
        "payload_request_headers" | "payload_response_headers" => {
            whole(json(value, rules, Place::Header))
        }
        "payload_request" | "payload_response" => {
            let content_type =
                if name == "payload_request" { &types.request } else { &types.response };
            let kept = body(value, content_type.as_deref(), types.is_cut, rules);
            let is_cut = kept.as_ref().is_some_and(|kept| kept.is_cut);
            match kept.map(|kept| kept.text) {
                Some(Cow::Borrowed(same)) if same.len() == value.len() => {}
                kept => *text = kept.map(|kept| kept.into_owned().into()),
            }
            return is_cut;
        }
        _ => rules.text(value),
    };
    if let Cow::Owned(masked) = masked {
        *text = Some(masked.into());
    }
    false
}

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
