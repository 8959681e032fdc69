use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::Hash;

use regex::Regex;

use super::action::replacement;
use super::path::{Progress, Step};
use super::pattern::{Suspected, named_words, replaced};
use super::rule::Selected;
use super::{Action, JsonPath, MASK, Pattern, Pseudonyms, Rule};

/// How often a text is looked at again, since what was taken out may have hidden something.
const PASSES_MAX: usize = 3;

/// How many times as long a text may get by what is put in it.
const GROWTH_MAX: usize = 4;

/// Where a name stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Parameter,
    Member,
    Markup,
    Header,
}

/// What holds of an event.
#[derive(Debug, Clone, Default)]
pub(super) struct Rules {
    fields: HashMap<&'static str, Action>,
    names: HashMap<String, Action>,
    headers: HashMap<String, Action>,
    paths: Vec<(JsonPath, Action)>,
    patterns: HashMap<Pattern, Action>,
    expressions: Vec<(Regex, Action)>,
    pseudonyms: Option<Pseudonyms>,
}

impl Rules {
    pub(super) fn new(pseudonyms: Option<Pseudonyms>) -> Self {
        Self { pseudonyms, ..Self::default() }
    }

    /// Adds rules that were read.
    pub(super) fn add(&mut self, rules: &[(Selected, Action)]) {
        for (selected, action) in rules.iter().cloned() {
            match selected {
                Selected::Field(field) => stricter(&mut self.fields, field, action),
                Selected::Name(name) => stricter(&mut self.names, name, action),
                Selected::Header(name) => stricter(&mut self.headers, name, action),
                Selected::Pattern(pattern) => stricter(&mut self.patterns, pattern, action),
                Selected::Path(path) => self.paths.push((path, action)),
                Selected::Expression(expression) => self.expressions.push((expression, action)),
            }
        }
    }

    /// By what values become pseudonyms, if there is a key.
    pub(super) fn pseudonyms(&self) -> Option<&Pseudonyms> {
        self.pseudonyms.as_ref()
    }

    /// Whether a rule asks for pseudonyms and there is no key of them.
    pub(super) fn is_without_key(&self) -> bool {
        let named = [&self.names, &self.headers].into_iter().flat_map(HashMap::values);
        let listed = self.paths.iter().map(|(_, action)| action);
        let listed = listed.chain(self.expressions.iter().map(|(_, action)| action));
        let mut all = named.chain(listed).chain(self.fields.values()).chain(self.patterns.values());
        self.pseudonyms.is_none() && all.any(|action| *action == Action::Hash)
    }

    /// What becomes of a field, whatever it holds.
    pub(super) fn field(&self, name: &str) -> Option<Action> {
        self.fields.get(name).copied()
    }

    /// What becomes of what has this name; `is_secret` is what the name says itself.
    pub(super) fn named(&self, place: Place, name: &str, is_secret: bool) -> Option<Action> {
        let of = |names: &HashMap<String, Action>| match names.is_empty() {
            true => None,
            false => names.get(&name.to_lowercase()).copied(),
        };
        let header = if place == Place::Header { of(&self.headers) } else { None };
        header.or_else(|| of(&self.names)).or(is_secret.then_some(Action::Mask))
    }

    /// The paths, as they begin.
    pub(super) fn paths(&self) -> Vec<Progress> {
        vec![Progress::START; self.paths.len()]
    }

    /// The paths one step further, and what becomes of what is there, if one names it.
    pub(super) fn step(
        &self,
        from: &[Progress],
        step: Step<'_>,
    ) -> (Vec<Progress>, Option<Action>) {
        let mut named = None;
        let next = self.paths.iter().zip(from).map(|((path, action), from)| {
            let (next, is_named) = path.step(*from, step);
            named = named.max(is_named.then_some(*action));
            next
        });
        (next.collect(), named)
    }

    /// What stands for a value, or none if it stays.
    pub(super) fn value(&self, action: Action, value: &str) -> Option<String> {
        (action != Action::Keep).then(|| replacement(action, value, MASK, self.pseudonyms.as_ref()))
    }

    /// A text without what is known by its form.
    pub(super) fn text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        self.looked(text, &Pattern::ALL)
    }

    /// As [`Self::text`], of an id, where digits are digits.
    pub(super) fn id<'a>(&self, text: &'a str) -> Cow<'a, str> {
        self.looked(text, &[Pattern::Token, Pattern::Email])
    }

    /// As [`Self::text`], of a text that people write, where a secret stands behind its name and
    /// a colon too.
    pub(super) fn plain<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let action = self.patterns.get(&Pattern::Token).copied().unwrap_or_default();
        let places = if action == Action::Keep { Vec::new() } else { named_words(text) };
        let with = |found: &str| {
            replacement(action, found, Pattern::Token.mask(), self.pseudonyms.as_ref())
        };
        match replaced(text, &places, with) {
            Some(masked) => Cow::Owned(self.text(&masked).into_owned()),
            None => self.text(text),
        }
    }

    fn looked<'a>(&self, text: &'a str, patterns: &[Pattern]) -> Cow<'a, str> {
        // The shortest of all, an address of email, has six characters.
        if text.len() < 6 && self.expressions.is_empty() {
            return Cow::Borrowed(text);
        }
        let bytes_max = GROWTH_MAX * text.len() + 1_024;
        let mut looked = Cow::Borrowed(text);
        for _ in 0..PASSES_MAX {
            match self.pass(&looked, patterns) {
                Some(masked) if masked.len() > bytes_max => return Cow::Owned(MASK.to_owned()),
                Some(masked) if masked == *looked => break,
                Some(masked) => looked = Cow::Owned(masked),
                None => break,
            }
        }
        looked
    }

    /// The text as one look at it for each pattern leaves it, if that is not as it was.
    fn pass(&self, text: &str, patterns: &[Pattern]) -> Option<String> {
        let mut masked = None::<String>;
        let suspected = Suspected::of(text);
        for pattern in patterns {
            let action = self.patterns.get(pattern).copied().unwrap_or_default();
            if action == Action::Keep || !suspected.has(*pattern) {
                continue;
            }
            let text = masked.as_deref().unwrap_or(text);
            let with =
                |found: &str| replacement(action, found, pattern.mask(), self.pseudonyms.as_ref());
            masked = replaced(text, &pattern.find(text), with).or(masked);
        }
        for (expression, action) in self.expressions.iter().filter(|(_, of)| *of != Action::Keep) {
            let text = masked.as_deref().unwrap_or(text);
            let places = expression.find_iter(text).map(|found| found.range()).collect::<Vec<_>>();
            let with = |found: &str| replacement(*action, found, MASK, self.pseudonyms.as_ref());
            masked = replaced(text, &places, with).or(masked);
        }
        masked
    }
}

/// The rules of a set; what cannot hold was refused where it was written, and is left out.
pub(super) fn selected(rules: &[Rule]) -> Vec<(Selected, Action)> {
    let read = rules.iter().filter_map(|rule| match rule.selected() {
        Ok(selected) => Some((selected, rule.action)),
        Err(fault) => {
            tracing::error!(what = fault.what, "a rule of redaction left out");
            None
        }
    });
    read.collect()
}

fn stricter<K: Eq + Hash>(held: &mut HashMap<K, Action>, of: K, action: Action) {
    let held = held.entry(of).or_insert(action);
    *held = action.max(*held);
}
