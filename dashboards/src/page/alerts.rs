//! Alerts as HTML, and the forms by which people say that they acknowledge one, or want
//! to hear no more of it. They need no script.

use maud::{Markup, html};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::{Nav, framed};
use charts::Unit;

/// How many alerts a page lists.
pub(crate) const LISTED_MAX: usize = 200;

/// Which alerts are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    Open,
    Resolved,
    All,
}

impl Which {
    pub(crate) const ALL: [Self; 3] = [Self::Open, Self::Resolved, Self::All];

    pub(crate) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|which| which.name() == name)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Resolved => "resolved",
            Self::All => "all",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Open => "Open",
            Self::Resolved => "Resolved",
            Self::All => "Open and resolved",
        }
    }
}

/// An alert as it is now.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Alert {
    pub(crate) id: String,
    pub(crate) state: String,
    pub(crate) severity: String,
    pub(crate) detection: String,
    pub(crate) title: String,
    pub(crate) owner: String,
    /// Empty for live traffic.
    pub(crate) replay: String,
    pub(crate) subject_kind: String,
    pub(crate) subject: String,
    pub(crate) begins: String,
    pub(crate) until: String,
    pub(crate) findings: String,
    pub(crate) message: String,
    /// The columns of the first finding, and what was in them.
    pub(crate) evidence: Vec<(String, String)>,
    pub(crate) query: String,
    /// When somebody acknowledged it; empty if nobody did.
    pub(crate) acknowledged: String,
    pub(crate) acknowledged_by: String,
    pub(crate) note: String,
}

impl Alert {
    fn is_open(&self) -> bool {
        self.state == "open"
    }

    fn is_seen(&self) -> bool {
        !self.acknowledged.is_empty()
    }
}

/// A silence that holds.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Silence {
    pub(crate) id: String,
    /// Empty for all.
    pub(crate) detection: String,
    pub(crate) subject: String,
    pub(crate) until: String,
    pub(crate) by: String,
    pub(crate) note: String,
}

/// What was done before a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Did {
    Acknowledged,
    TakenBack,
    Silenced,
    Ended,
}

impl Did {
    const ALL: [Self; 4] = [Self::Acknowledged, Self::TakenBack, Self::Silenced, Self::Ended];

    pub(crate) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|did| did.name() == name)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Acknowledged => "acknowledged",
            Self::TakenBack => "taken-back",
            Self::Silenced => "silenced",
            Self::Ended => "ended",
        }
    }

    fn says(self) -> &'static str {
        match self {
            Self::Acknowledged => "Acknowledged: it is escalated no further.",
            Self::TakenBack => "The acknowledgement was taken back.",
            Self::Silenced => "Nobody is told of such alerts until then.",
            Self::Ended => "The silence has ended.",
        }
    }
}

/// What is said above a page: what was done, or why it was not.
pub(crate) type Notice = Result<Did, String>;

/// For how long alerts can be silenced: in ms, and in words.
pub(crate) const SPANS: [(u64, &str); 4] = [
    (3_600_000, "an hour"),
    (4 * 3_600_000, "4 hours"),
    (24 * 3_600_000, "a day"),
    (7 * 24 * 3_600_000, "a week"),
];

fn notice(notice: Option<&Notice>) -> Markup {
    html! {
        @match notice {
            None => {}
            Some(Ok(did)) => p .notice role="status" { (did.says()) },
            Some(Err(why)) => p .notice .wrong role="alert" { (why) },
        }
    }
}

/// Where an alert is looked at.
pub(crate) fn link(id: &str) -> String {
    format!("/alerts/{}", utf8_percent_encode(id, NON_ALPHANUMERIC))
}

/// A time to the second.
fn time(text: &str) -> String {
    text.get(..19).unwrap_or(text).replace('T', " ")
}

fn badge(alert: &Alert) -> Markup {
    html! {
        span class={ "severity " (alert.severity) } { (alert.severity) }
        @if !alert.is_open() { span .over { "resolved" } }
    }
}

fn findings(alert: &Alert) -> String {
    let count: f64 = alert.findings.parse().unwrap_or_default();
    let what = if alert.findings == "1" { "finding" } else { "findings" };
    format!("{} {what}", Unit::Count.exact(count))
}

/// Alerts, the latest first, and the silences that hold.
pub(crate) fn all(
    nav: &Nav<'_>,
    which: Which,
    alerts: &Result<Vec<Alert>, String>,
    silences: &[Silence],
    said: Option<&Notice>,
) -> Markup {
    let head = html! { p { "What detections have found, and who takes care of it." } };
    framed(
        nav,
        "Alerts",
        head,
        html! {
            (notice(said))
            form .asked method="get" action="/alerts" {
                label { span { "Which" }
                    select name="state" {
                        @for of in Which::ALL {
                            option value=(of.name()) selected[of == which] { (of.title()) }
                        }
                    }
                }
                button { "Show" }
            }
            section .panel {
                @match alerts {
                    Err(why) => p .failed role="alert" { (why) },
                    Ok(alerts) if alerts.is_empty() => p .empty { "There are no such alerts." },
                    Ok(alerts) => {
                        p .about {
                            @if alerts.len() >= LISTED_MAX { "The latest " (LISTED_MAX) ". " }
                            "Times are UTC."
                        }
                        ol .found .alerts { @for alert in alerts { li { (listed(alert)) } } }
                    }
                }
            }
            @if !silences.is_empty() {
                section .panel .below {
                    h2 { "Silences" }
                    p .about { "Nobody is told of these; what is still found when one ends is told then." }
                    ol .found { @for silence in silences { li { (silence_of(silence)) } } }
                }
            }
        },
    )
}

fn listed(alert: &Alert) -> Markup {
    html! {
        p .line {
            (badge(alert))
            a href=(link(&alert.id)) { (alert.title) ": " (alert.subject) }
        }
        p .says { (alert.message) }
        p .line .about {
            span { time { (time(&alert.begins)) } " to " time { (time(&alert.until)) } }
            span { (findings(alert)) }
            @if !alert.replay.is_empty() { span { "replay " (alert.replay) } }
            @if alert.is_seen() {
                span { "acknowledged by " (alert.acknowledged_by) }
            } @else if alert.is_open() && alert.replay.is_empty() {
                span .off { "not acknowledged" }
            }
        }
    }
}

fn silence_of(silence: &Silence) -> Markup {
    let pattern = |text: &str| if text.is_empty() { "all".to_owned() } else { text.to_owned() };
    html! {
        form .line .ending method="post" action={ "/alerts/silences/" (silence.id) "/end" } {
            span { "detections " code { (pattern(&silence.detection)) }
                ", subjects " code { (pattern(&silence.subject)) } }
            span { "until " time { (time(&silence.until)) } " by " (silence.by) }
            @if !silence.note.is_empty() { span { (silence.note) } }
            (by_field())
            button { "End" }
        }
    }
}

fn by_field() -> Markup {
    html! {
        label { span { "Your name" }
            input name="by" required maxlength="100" autocomplete="name";
        }
    }
}

/// An alert, with what can be said of it.
pub(crate) fn one(nav: &Nav<'_>, alert: &Alert, said: Option<&Notice>) -> Markup {
    let head = html! { p { (badge(alert)) } };
    let title = format!("{}: {}", alert.title, alert.subject);
    let window = format!("{} to {} UTC", time(&alert.begins), time(&alert.until));
    let facts = [
        ("Subject", format!("{} ({})", alert.subject, alert.subject_kind)),
        ("Window", window),
        ("Findings", findings(alert)),
        ("Detection", alert.detection.clone()),
        ("Owner", alert.owner.clone()),
        ("Replay", alert.replay.clone()),
    ];
    framed(
        nav,
        &title,
        head,
        html! {
            (notice(said))
            section .panel {
                p .says { (alert.message) }
                dl .facts .after {
                    @for (name, value) in facts.iter().filter(|(_, value)| !value.is_empty()) {
                        div { dt { (name) } dd { (value) } }
                    }
                }
                @if alert.is_seen() {
                    p { "Acknowledged by " (alert.acknowledged_by) " at " (time(&alert.acknowledged)) " UTC"
                        @if !alert.note.is_empty() { ": " (alert.note) } }
                }
                @if alert.is_open() { (answers(alert)) }
            }
            section .panel .below {
                h2 { "Evidence" }
                p .about { "The first finding." }
                div .scroll { table .evidence { tbody {
                    @for (name, value) in &alert.evidence {
                        tr { th scope="row" { (name.replace('_', " ")) } td { (value) } }
                    }
                } } }
            }
            section .panel .below {
                h2 { "The events behind it" }
                p .about { "As SQL, for " code { "weir query" } " or any other client." }
                pre .sql { (alert.query) }
                p .about { "Alert " (alert.id) }
            }
        },
    )
}

fn answers(alert: &Alert) -> Markup {
    let action = |what: &str| format!("{}/{what}", link(&alert.id));
    let note = html! {
        label { span { "Note" } input name="note" maxlength="1000"; }
    };
    html! {
        @if alert.is_seen() {
            form .pausing method="post" action=(action("unacknowledge")) {
                (by_field())
                button { "Take the acknowledgement back" }
            }
        } @else if alert.replay.is_empty() {
            form .pausing method="post" action=(action("acknowledge")) {
                (by_field()) (note)
                button { "Acknowledge" }
            }
        }
        form .pausing method="post" action=(action("silence")) {
            label { span { "Tell nobody of" }
                select name="what" {
                    option value="both" { "this detection about this subject" }
                    option value="subject" { "this subject" }
                    option value="detection" { "this detection" }
                }
            }
            label { span { "For" }
                select name="for_ms" {
                    @for (ms, words) in SPANS { option value=(ms) { (words) } }
                }
            }
            (by_field()) (note)
            button { "Silence" }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_is_text_and_an_alert_that_is_over_has_no_forms() {
        let nav = Nav { boards: &[], has_queues: true, current: "/alerts" };
        let alert = Alert {
            id: "0a".into(),
            state: "open".into(),
            severity: "high".into(),
            title: "A scan".into(),
            subject: "<script>".into(),
            findings: "1234".into(),
            evidence: vec![("user_agent".into(), "<b>".into())],
            query: "SELECT '<i>'".into(),
            ..Alert::default()
        };
        let open = one(&nav, &alert, None).into_string();
        assert!(!open.contains("<script>") && !open.contains("<b>") && !open.contains("<i>"));
        assert!(open.contains("1,234 findings") && open.contains(">Acknowledge<"), "{open}");
        assert!(open.contains("action=\"/alerts/0a/acknowledge\""), "{open}");
        let over = Alert { state: "resolved".into(), ..alert.clone() };
        let over = one(&nav, &over, None).into_string();
        assert!(!over.contains("<form"), "{over}");
        let seen = Alert {
            acknowledged: "2026-01-31T10:00:00Z".into(),
            acknowledged_by: "ann".into(),
            ..alert
        };
        let list = all(&nav, Which::Open, &Ok(vec![seen]), &[], None).into_string();
        assert!(list.contains("acknowledged by ann") && !list.contains("<script>"), "{list}");
    }
}
