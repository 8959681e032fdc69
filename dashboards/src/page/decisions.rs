//! Decisions against callers as HTML: whom gateways block or slow down, and the forms by which
//! it is decided. They need no script.

use maud::{Markup, html};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use super::{Nav, framed};
use crate::manager::decisions::{Against, Listed};

/// What a form gives, as it was written.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Given {
    pub(crate) kind: String,
    pub(crate) subject: String,
    pub(crate) action: String,
    #[serde(default)]
    pub(crate) max: String,
    pub(crate) lasts: String,
    pub(crate) unit_ms: u64,
    #[serde(default)]
    pub(crate) dry_run: Option<String>,
    pub(crate) by: String,
    #[serde(default)]
    pub(crate) note: String,
}

impl Default for Given {
    fn default() -> Self {
        Self {
            kind: "address".to_owned(),
            subject: String::new(),
            action: "block".to_owned(),
            max: "60".to_owned(),
            lasts: "1".to_owned(),
            unit_ms: HOUR_MS,
            dry_run: None,
            by: String::new(),
            note: String::new(),
        }
    }
}

const HOUR_MS: u64 = 3_600_000;
const UNITS: [(u64, &str); 3] = [(60_000, "minutes"), (HOUR_MS, "hours"), (24 * HOUR_MS, "days")];

/// What was done before a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Did {
    Made,
    Lifted,
}

impl Did {
    pub(crate) fn parse(name: &str) -> Option<Self> {
        [Self::Made, Self::Lifted].into_iter().find(|did| did.name() == name)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Made => "made",
            Self::Lifted => "lifted",
        }
    }

    fn says(self) -> &'static str {
        match self {
            Self::Made => "It is decided. Every gateway knows it within a second.",
            Self::Lifted => "It is lifted. Every gateway knows it within a second.",
        }
    }
}

/// What is said above a page: what was done, or why it was not.
pub(crate) type Notice = Result<Did, String>;

/// A time to the second.
fn time(text: &str) -> String {
    text.get(..19).unwrap_or(text).replace('T', " ")
}

/// All of them, in the order in which they are given.
pub(crate) fn all(
    nav: &Nav<'_>,
    listed: &Result<Listed, String>,
    said: Option<&Notice>,
    given: &Given,
) -> Markup {
    let head = html! { p { "Whom gateways refuse or slow down, by whose word, and until when." } };
    framed(
        nav,
        "Decisions",
        head,
        html! {
            @match said {
                None => {}
                Some(Ok(did)) => p .notice role="status" { (did.says()) },
                Some(Err(why)) => p .notice .wrong role="alert" { (why) },
            }
            section .panel {
                @match listed {
                    Err(why) => p .failed role="alert" { (why) },
                    Ok(listed) => (found(listed)),
                }
            }
            section .panel {
                details open[matches!(said, Some(Err(_))) && !given.subject.is_empty()] {
                    summary { "Decide of somebody" }
                    (form(given))
                }
            }
        },
    )
}

fn found(listed: &Listed) -> Markup {
    let mode = match listed.detections_enforce {
        true => "What detections decide counts.",
        false => {
            "What detections decide is tried only: no safeguard of the configuration says \
             mode: enforce, or one says dry_run."
        }
    };
    html! {
        p .about { (mode) " Times are UTC." }
        @if listed.decisions.is_empty() {
            p .empty { "Nobody is blocked or slowed down, nor was in the last seven days." }
        } @else {
            ol .found .queries { @for of in &listed.decisions { li { (one(of)) } } }
        }
    }
}

fn badge(state: &str) -> Markup {
    let (tone, words) = match state {
        "in_force" => ("critical", "in force"),
        "dry_run" => ("medium", "dry run"),
        other => ("low", other),
    };
    html! { span class={ "severity " (tone) } { (words) } }
}

fn one(of: &Against) -> Markup {
    let holds = matches!(of.state.as_str(), "in_force" | "dry_run");
    let would = if of.state == "dry_run" { "would be " } else { "" };
    html! {
        p .line {
            (badge(&of.state)) strong { (of.subject) } span { (of.subject_kind) ", " (would) (of.does) }
        }
        p .line .about {
            span { "from " time { (time(&of.at)) } " until " time { (time(&of.until)) } }
            @match (&of.detection, &of.by) {
                (Some(detection), _) => span { "by the detection " a href={ "/alerts/" (of.id) } { (detection) } },
                (None, by) => span { "by " (by.as_deref().unwrap_or("?")) },
            }
        }
        @if let Some(note) = of.note.as_ref().filter(|note| !note.is_empty()) { p { (note) } }
        @if of.protected && holds { p { "A safeguard protects it: no gateway refuses it." } }
        @if let Some(lift) = &of.lifted {
            p { "Lifted by " (lift.by) ", " time { (time(&lift.at)) }
                @if !lift.note.is_empty() { ": " (lift.note) } }
        } @else if holds {
            details {
                summary { "Lift it" }
                form .pausing method="post" action={ "/decisions/" (utf8_percent_encode(&of.id, NON_ALPHANUMERIC)) "/lift" } {
                    (by("")) (note("")) button { "Lift" }
                }
            }
        }
    }
}

fn by(given: &str) -> Markup {
    html! {
        label { span { "Your name" }
            input name="by" required maxlength="100" autocomplete="name" value=(given);
        }
    }
}

fn note(given: &str) -> Markup {
    html! { label { span { "Why" } input name="note" maxlength="1000" value=(given); } }
}

fn form(given: &Given) -> Markup {
    let kinds =
        [("address", "Address or network"), ("application", "Application"), ("user", "User")];
    let actions = [("block", "Block"), ("slow", "Slow down")];
    html! {
        form .pausing method="post" action="/decisions" {
            label { span { "What" }
                select name="kind" { @for (name, words) in kinds {
                    option value=(name) selected[given.kind == name] { (words) }
                } }
            }
            label { span { "Whom" }
                input name="subject" required maxlength="256" placeholder="192.0.2.7" value=(given.subject);
            }
            label { span { "Do" }
                select name="action" { @for (name, words) in actions {
                    option value=(name) selected[given.action == name] { (words) }
                } }
            }
            label { span { "Requests a minute, if slowed" }
                input name="max" inputmode="numeric" maxlength="7" value=(given.max);
            }
            label { span { "For" }
                input name="lasts" required inputmode="numeric" maxlength="5" value=(given.lasts);
            }
            label { span { "Unit" }
                select name="unit_ms" { @for (unit, words) in UNITS {
                    option value=(unit) selected[given.unit_ms == unit] { (words) }
                } }
            }
            (by(&given.by)) (note(&given.note))
            label .check { input type="checkbox" name="dry_run" value="yes" checked[given.dry_run.is_some()];
                span { "Dry run: refuse nothing" } }
            button { "Decide" }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manager::decisions::Lift;

    #[test]
    fn what_a_decision_says_is_text_and_one_that_holds_can_be_lifted() {
        let nav = Nav { boards: &[], has_queues: true, current: "/decisions" };
        let holds = Against {
            id: "0a".into(),
            state: "in_force".into(),
            subject_kind: "user".into(),
            subject: "<script>".into(),
            does: "blocked".into(),
            by: Some("ada".into()),
            ..Against::default()
        };
        let lift = Lift { by: "ann".into(), note: "<b>".into(), at: String::new() };
        let lifted = Against { state: "lifted".into(), lifted: Some(lift), ..holds.clone() };
        let page = |of: Against| {
            let listed = Listed { decisions: vec![of], detections_enforce: false };
            all(&nav, &Ok(listed), None, &Given::default()).into_string()
        };
        let (holding, over) = (page(holds), page(lifted));
        assert!(!holding.contains("<script>alert") && holding.contains("&lt;script&gt;"));
        assert!(holding.contains("action=\"/decisions/0a/lift\""), "{holding}");
        assert!(holding.contains("What detections decide is tried only"), "{holding}");
        assert!(!over.contains("/decisions/0a/lift"), "{over}");
        assert!(over.contains("Lifted by ann") && !over.contains("<b>"), "{over}");
    }
}
