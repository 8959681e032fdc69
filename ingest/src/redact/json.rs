//! JSON, as it was written but for what is taken out.

use std::borrow::Cow;

use jiter::{Jiter, JiterError, Peek};

use super::Action;
use super::name::{is_secret, is_secret_header};
use super::path::{Progress, Step};
use super::query::address;
use super::rules::{Place, Rules};

/// How deep it may be nested; what is deeper is not looked into, and so not kept.
const DEPTH_MAX: usize = 64;

/// What could be looked at: all of it, or what stands before its first fault.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Looked<'a> {
    Whole(Cow<'a, str>),
    Beginning(String),
}

/// One value of JSON (RFC 8259), as a body has it or the data of an event. `place` is what
/// the names of its outermost members are.
pub(super) fn json<'a>(text: &'a str, rules: &Rules, place: Place) -> Looked<'a> {
    let jiter = Jiter::new(text.as_bytes());
    let mut walk = Walk { text, jiter, rules, place, out: String::new(), copied: 0, seen: 0 };
    match walk.all() {
        Ok(()) if walk.copied == 0 => Looked::Whole(Cow::Borrowed(text)),
        Ok(()) => Looked::Whole(Cow::Owned(walk.out + &text[walk.copied..])),
        Err(Fault) => Looked::Beginning(walk.out + &text[walk.copied..walk.seen.max(walk.copied)]),
    }
}

/// It is no JSON from here on, or too deep.
struct Fault;

impl From<JiterError> for Fault {
    fn from(_: JiterError) -> Self {
        Self
    }
}

struct Walk<'a, 'r> {
    text: &'a str,
    jiter: Jiter<'a>,
    rules: &'r Rules,
    place: Place,
    out: String,
    /// Up to where the text is in `out`, or left out of it.
    copied: usize,
    /// Up to where the text was looked at.
    seen: usize,
}

impl Walk<'_, '_> {
    fn all(&mut self) -> Result<(), Fault> {
        let first = self.jiter.peek()?;
        // Paths are those of bodies and data.
        let paths = if self.place == Place::Header { Vec::new() } else { self.rules.paths() };
        self.value(first, &paths, 0)?;
        self.jiter.finish()?;
        Ok(())
    }

    /// The value that begins here.
    fn value(&mut self, first: Peek, paths: &[Progress], depth: usize) -> Result<(), Fault> {
        if depth > DEPTH_MAX {
            return Err(Fault);
        }
        let start = self.jiter.current_index();
        self.seen = start;
        match first {
            Peek::Object => self.members(paths, depth),
            Peek::Array => self.elements(paths, depth),
            Peek::String => {
                let text = self.jiter.known_str()?;
                if let Cow::Owned(masked) = self.rules.text(text) {
                    self.replace(start, &masked);
                }
                // A number may go on where the text was cut; a text has ended.
                self.seen = self.jiter.current_index();
                Ok(())
            }
            _ => {
                self.jiter.known_skip(first)?;
                // What is behind the point, or how it is scaled, makes a number no other.
                let number = &self.text[start..self.jiter.current_index()];
                let whole = number.split(['.', 'e', 'E']).next().unwrap_or_default();
                let is_zero = |rest: &str| rest.bytes().all(|byte| b".0eE+".contains(&byte));
                let whole = if is_zero(&number[whole.len()..]) { whole } else { number };
                if let Cow::Owned(masked) = self.rules.text(whole) {
                    self.replace(start, &masked);
                }
                Ok(())
            }
        }
    }

    fn members(&mut self, paths: &[Progress], depth: usize) -> Result<(), Fault> {
        let mut before = self.jiter.current_index();
        let mut name = self.jiter.known_object()?.map(str::to_owned);
        while let Some(found) = name {
            let (paths, by_path) = self.rules.step(paths, Step::Name(&found));
            let place = if depth == 0 { self.place } else { Place::Member };
            let is_secret = match place {
                Place::Header => is_secret_header(&found),
                _ => is_secret(&found),
            };
            let action = by_path.or_else(|| self.rules.named(place, &found, is_secret));
            if let Cow::Owned(masked) = self.rules.text(&found)
                && action != Some(Action::Keep)
            {
                self.rename(before, &masked);
            }
            let first = self.jiter.peek()?;
            match action {
                Some(action) => self.whole(first, action)?,
                None if place == Place::Header && holds_address(&found) => self.address(first)?,
                None => self.value(first, &paths, depth + 1)?,
            }
            before = self.jiter.current_index();
            name = self.jiter.next_key()?.map(str::to_owned);
        }
        self.seen = self.jiter.current_index();
        Ok(())
    }

    fn elements(&mut self, paths: &[Progress], depth: usize) -> Result<(), Fault> {
        let mut next = self.jiter.known_array()?;
        for index in 0.. {
            let Some(first) = next else { break };
            let (paths, by_path) = self.rules.step(paths, Step::Index(index));
            match by_path {
                Some(action) => self.whole(first, action)?,
                None => self.value(first, &paths, depth + 1)?,
            }
            next = self.jiter.array_step()?;
        }
        self.seen = self.jiter.current_index();
        Ok(())
    }

    /// A value that a rule or its name speaks of. That there is none stays.
    fn whole(&mut self, first: Peek, action: Action) -> Result<(), Fault> {
        let start = self.jiter.current_index();
        self.seen = start;
        let value = match first {
            Peek::String => Cow::Owned(self.jiter.known_str()?.to_owned()),
            Peek::Null => return Ok(self.jiter.known_null()?),
            _ => {
                self.jiter.known_skip(first)?;
                Cow::Borrowed(&self.text[start..self.jiter.current_index()])
            }
        };
        if let Some(with) = self.rules.value(action, &value) {
            self.replace(start, &with);
        }
        if first == Peek::String {
            self.seen = self.jiter.current_index();
        }
        Ok(())
    }

    /// The value of a header that is an address.
    fn address(&mut self, first: Peek) -> Result<(), Fault> {
        if first == Peek::Array {
            let mut next = self.jiter.known_array()?;
            while let Some(first) = next {
                self.address(first)?;
                next = self.jiter.array_step()?;
            }
            return Ok(());
        }
        if first != Peek::String {
            return self.value(first, &[], 1);
        }
        let start = self.jiter.current_index();
        self.seen = start;
        let text = self.jiter.known_str()?.to_owned();
        if let Cow::Owned(masked) = address(&text, self.rules) {
            self.replace(start, &masked);
        }
        Ok(())
    }

    /// A text in the place of the value from `start` to here.
    fn replace(&mut self, start: usize, with: &str) {
        self.out.push_str(&self.text[self.copied..start]);
        self.out.push_str(&quoted(with));
        self.copied = self.jiter.current_index();
    }

    /// Another name for the member whose name is the first text behind `before`; the
    /// colon is behind us.
    fn rename(&mut self, before: usize, with: &str) {
        let Some(start) = self.text[before..].find('"').map(|to| before + to) else { return };
        let mut end = start + 1;
        let bytes = self.text.as_bytes();
        while end < bytes.len() && bytes[end] != b'"' {
            end += if bytes[end] == b'\\' { 2 } else { 1 };
        }
        self.out.push_str(&self.text[self.copied..start]);
        self.out.push_str(&quoted(with));
        self.copied = (end + 1).min(bytes.len());
    }
}

/// Headers whose value is an address, or a part of one.
const ADDRESSES: [&str; 9] = [
    "referer",
    "location",
    "content-location",
    "origin",
    "destination",
    "x-original-url",
    "x-original-uri",
    "x-forwarded-uri",
    "x-rewrite-url",
];

fn holds_address(header: &str) -> bool {
    ADDRESSES.iter().any(|name| header.eq_ignore_ascii_case(name))
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
