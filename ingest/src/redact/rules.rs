use std::borrow::Cow;
use std::collections::HashMap;

use regex::Regex;

use super::action::replacement;
use super::path::{Progress, Step};
use super::pattern::replaced;
use super::rule::Selected;
use super::{Action, JsonPath, MASK, Pattern, Pseudonyms, Rule};

/// How often a text is looked at again, since what was taken out may have hidden something.
const PASSES_MAX: usize = 3;

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

    /// Adds a rule; what cannot hold was refused where it was written, and is left out.
    pub(super) fn add(&mut self, rule: &Rule) {
        let action = rule.action;
        let Ok(selected) = rule.selected() else {
            return tracing::error!(?rule, "a rule of redaction left out");
        };
        match selected {
            Selected::Field(field) => stricter(self.fields.entry(field).or_insert(action), action),
            Selected::Name(name) => stricter(self.names.entry(name).or_insert(action), action),
            Selected::Header(name) => stricter(self.headers.entry(name).or_insert(action), action),
            Selected::Pattern(of) => stricter(self.patterns.entry(of).or_insert(action), action),
            Selected::Path(path) => self.paths.push((path, action)),
            Selected::Expression(expression) => self.expressions.push((expression, action)),
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
        // The shortest of all, an address of email, has six characters.
        if text.len() < 6 && self.expressions.is_empty() {
            return Cow::Borrowed(text);
        }
        let mut text = Cow::Borrowed(text);
        for _ in 0..PASSES_MAX {
            match self.pass(&text) {
                Some(masked) => text = Cow::Owned(masked),
                None => break,
            }
        }
        text
    }

    /// The text as one look at it for each pattern leaves it, if that is not as it was.
    fn pass(&self, text: &str) -> Option<String> {
        let mut masked = None::<String>;
        for pattern in Pattern::ALL {
            let action = self.patterns.get(&pattern).copied().unwrap_or_default();
            if action == Action::Keep {
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

fn stricter(held: &mut Action, action: Action) {
    *held = action.max(*held);
}
