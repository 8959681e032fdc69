//! What of an event may be written: secrets and personal data are taken out before.
//!
//! ```text
//!                         by the registry: Rule ──┐
//! Event ─► Redactor ─► of its API or of all: Rules ┤
//!              │                                   ├─► names of members, parameters, headers
//!              └─► each personal text, by its form ┤   paths into JSON
//!                  query, JSON, XML, headers, text └─► patterns: cards, tokens, emails, …
//! ```
//!
//! An [`crate::emit::Emitter`] hands every event through here, so that nothing is
//! in the spool, in the log or in the lake that was not looked at.
//!
//! What holds:
//!
//! - What is known for a secret by its name or its form is left out on every node from its
//!   first event on, whatever the registry says; a rule may keep what it names.
//! - What is not understood is not kept: a body of an unknown type, JSON or XML
//!   behind its first fault.
//! - Nothing is read twice in two ways: JSON and XML stay as they were written around what
//!   is replaced, and texts are looked at as their readers would decode them.
//! - What was taken out already stays as it is, so an event may come through again.
//! - What grows beyond all measure by what is put in it is left out as a whole.

mod action;
mod body;
mod card;
mod email;
mod iban;
mod json;
mod name;
mod path;
mod pattern;
mod query;
mod redactor;
mod rule;
mod rules;
#[cfg(test)]
mod tests;
mod xml;

pub use action::{Action, Pseudonyms};
pub use path::{JsonPath, PathError};
pub use pattern::Pattern;
pub use redactor::Redactor;
pub use rule::{PATTERN_BYTES_MAX, RULES_MAX, Rule, RuleFault};

/// What stands for a value that was taken out.
pub(crate) const MASK: &str = "***";

/// Whether a text is JSON that can be looked into, to its end: up to 64 levels, and no half
/// characters.
pub(crate) fn is_json(text: &str) -> bool {
    matches!(
        json::json(text, &rules::Rules::default(), rules::Place::Member),
        json::Looked::Whole(_)
    )
}
