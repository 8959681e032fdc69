//! Whether a document is one of OpenAPI: its keys, their forms and its references.

use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use super::grammar::{DOCUMENT, Form, Object, SCHEMA, SWAGGER};
use super::{Edition, Told};
use crate::registry::Fault;
use crate::registry::fault::nearest;

/// Everything in a document that OpenAPI does not allow, by the keys that lead there.
pub(super) fn check(root: &Value, edition: Edition) -> Vec<Told> {
    let mut checking = Checking { root, edition, at: Vec::new(), told: Vec::new() };
    checking.of(if edition == Edition::V2 { &SWAGGER } else { &DOCUMENT }, root);
    checking.told
}

/// What a reference within the document leads to; none if it leads to nothing. One to
/// another document is not followed (RFC 3986, section 4.4; RFC 6901, section 6).
pub(super) fn follow<'a>(root: &'a Value, reference: &str) -> Followed<'a> {
    let Some(pointer) = reference.strip_prefix('#') else { return Followed::Elsewhere };
    if !pointer.is_empty() && !pointer.starts_with('/') {
        // The name of an anchor (JSON Schema 2020-12, section 8.2.2).
        return Followed::Elsewhere;
    }
    match percent_decode_str(pointer).decode_utf8().ok().and_then(|at| root.pointer(&at)) {
        Some(value) => Followed::Here(value),
        None => Followed::Nothing,
    }
}

/// Where a reference leads.
pub(super) enum Followed<'a> {
    Here(&'a Value),
    Elsewhere,
    Nothing,
}

struct Checking<'a> {
    root: &'a Value,
    edition: Edition,
    /// The keys that lead to what is looked at.
    at: Vec<String>,
    told: Vec<Told>,
}

impl Checking<'_> {
    fn tell(&mut self, what: impl Into<String>, mend: impl Into<String>) {
        self.told.push((self.at.clone(), Fault::new("", what, mend)));
    }

    fn below(&mut self, key: &str, look: impl FnOnce(&mut Self)) {
        self.at.push(key.to_owned());
        look(self);
        self.at.pop();
    }

    fn mapping<'v>(&mut self, value: &'v Value) -> Option<&'v Map<String, Value>> {
        let mapping = value.as_object();
        if mapping.is_none() {
            self.tell("is not a mapping", "give keys and their values");
        }
        mapping
    }

    fn of(&mut self, object: &Object, value: &Value) {
        let Some(mapping) = self.mapping(value) else { return };
        let known = || {
            let keys = object.keys.iter().filter(|(_, when, _)| when.is_known(self.edition));
            keys.map(|&(key, ..)| key)
        };
        let mut unknown = Vec::new();
        for key in mapping.keys().filter(|key| !object.is_open && !key.starts_with("x-")) {
            if known().all(|known| known != key) {
                let all = known().collect::<Vec<_>>().join(", ");
                let mend = match nearest(key, known()) {
                    Some(near) => format!("did you mean `{near}`? known are {all}"),
                    None => format!("known are {all}"),
                };
                unknown.push((key, mend));
            }
        }
        for (key, mend) in unknown {
            self.below(key, |this| this.tell("unknown key", mend));
        }
        for (key, when, form) in object.keys {
            match mapping.get(*key) {
                Some(value) if when.is_known(self.edition) => {
                    self.below(key, |this| this.value(form, value));
                }
                None if when.is_needed(self.edition) => {
                    self.tell(format!("the key `{key}` is missing"), format!("add `{key}`"));
                }
                _ => {}
            }
        }
    }

    fn value(&mut self, form: &Form, value: &Value) {
        match form {
            Form::Any => {}
            Form::Text if value.is_string() => {}
            Form::Text if value.is_number() || value.is_boolean() => {
                self.tell("is not text", "write it in quotes");
            }
            Form::Text => self.tell("is not text", "write text"),
            Form::Flag if value.is_boolean() => {}
            Form::Flag => self.tell("is neither true nor false", "write one of the two"),
            Form::Number if value.is_number() => {}
            Form::Number => self.tell("is not a number", "write a number, without quotes"),
            Form::Word(known) => self.word(known, value),
            Form::Types => self.types(value),
            Form::List(form) => match value.as_array() {
                Some(list) => {
                    for (i, value) in list.iter().enumerate() {
                        self.below(&i.to_string(), |this| this.value(form, value));
                    }
                }
                None => self.tell("is not a list", "give a list"),
            },
            Form::Map(form) => {
                for (key, value) in self.mapping(value).into_iter().flatten() {
                    self.below(key, |this| this.value(form, value));
                }
            }
            Form::Paths(item) => {
                for (key, value) in self.mapping(value).into_iter().flatten() {
                    self.below(key, |this| match key.as_bytes() {
                        [b'/', ..] => this.of(item, value),
                        [b'x', b'-', ..] => {}
                        _ => this.tell("is not a path", "let it begin with /"),
                    });
                }
            }
            Form::Responses(response) => {
                let responses = self.mapping(value);
                if responses.is_some_and(Map::is_empty) {
                    self.tell("holds no response", "describe at least one");
                }
                for (key, value) in responses.into_iter().flatten() {
                    self.below(key, |this| match key.as_bytes() {
                        b"default" | [b'1'..=b'5', b'X', b'X'] => this.or_ref(response, value),
                        [b'1'..=b'5', b'0'..=b'9', b'0'..=b'9'] => this.or_ref(response, value),
                        [b'x', b'-', ..] => {}
                        _ => this.tell("is not a status", "use 100 to 599, 2XX or default"),
                    });
                }
            }
            Form::Of(object) => self.of(object, value),
            Form::OrRef(object) => self.or_ref(object, value),
            Form::Schema if value.is_boolean() => {}
            Form::Schema => self.or_ref(&SCHEMA, value),
        }
    }

    fn word(&mut self, known: &[&str], value: &Value) {
        let text = value.as_str().unwrap_or_default();
        if !known.contains(&text) {
            let all = known.join(", ");
            let mend = match nearest(text, known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`? known are {all}"),
                None => format!("known are {all}"),
            };
            self.tell("unknown value", mend);
        }
    }

    fn types(&mut self, value: &Value) {
        const TYPES: [&str; 7] =
            ["string", "number", "integer", "boolean", "array", "object", "null"];
        match value.as_array().filter(|_| self.edition == Edition::V31) {
            Some(several) => {
                for (i, value) in several.iter().enumerate() {
                    self.below(&i.to_string(), |this| this.word(&TYPES, value));
                }
            }
            None => {
                let known = if self.edition == Edition::V31 { &TYPES[..] } else { &TYPES[..6] };
                self.word(known, value);
            }
        }
    }

    fn or_ref(&mut self, object: &Object, value: &Value) {
        let Some(reference) = value.get("$ref") else { return self.of(object, value) };
        self.below("$ref", |this| match reference.as_str() {
            None => this.tell("is not text", "name what is meant"),
            Some(reference) => {
                if let Followed::Nothing = follow(this.root, reference) {
                    this.tell("leads to nothing", "name what is in this document");
                }
            }
        });
    }
}
