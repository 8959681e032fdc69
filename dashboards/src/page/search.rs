//! Events that are searched for, as HTML. It needs no script.

use maud::{Markup, html};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::{Nav, framed};
use charts::Unit;

/// How many events a page shows.
pub(crate) const SHOWN_MAX: usize = 100;

/// Within which time events are searched, the usual one first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Within {
    Day,
    Hour,
    Week,
    Always,
}

impl Within {
    pub(crate) const ALL: [Self; 4] = [Self::Hour, Self::Day, Self::Week, Self::Always];

    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|within| within.name() == text)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Hour => "1h",
            Self::Day => "24h",
            Self::Week => "7d",
            Self::Always => "all",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Hour => "Last hour",
            Self::Day => "Last 24 hours",
            Self::Week => "Last 7 days",
            Self::Always => "All time",
        }
    }

    /// As an interval of SQL, if it has an end.
    pub(crate) fn interval(self) -> Option<&'static str> {
        match self {
            Self::Hour => Some("1 hour"),
            Self::Day => Some("24 hours"),
            Self::Week => Some("7 days"),
            Self::Always => None,
        }
    }
}

/// An event that was found.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Found {
    pub(crate) time: String,
    pub(crate) kind: String,
    pub(crate) outcome: String,
    /// The API, the route, the queue, or the source of an event of another system.
    pub(crate) of: String,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) status: String,
    pub(crate) error: String,
    pub(crate) message: String,
    pub(crate) correlation: String,
    /// Bodies and data, by their titles.
    pub(crate) bodies: Vec<(&'static str, String)>,
}

/// What was found: the newest, and how many there are.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Results {
    pub(crate) shown: Vec<Found>,
    pub(crate) count: u64,
}

/// What is asked for, and what came of it.
pub(crate) fn page(
    nav: &Nav<'_>,
    text: &str,
    within: Within,
    results: Option<&Result<Results, String>>,
) -> Markup {
    let head =
        html! { p { "Every word that events say, errors, addresses and bodies that are kept." } };
    framed(
        nav,
        "Search",
        head,
        html! {
            form .asked .search method="get" action="/search" role="search" {
                label .wide-field {
                    span { "Words, in quotes what belongs together, fields as error: or url:" }
                    input type="search" name="q" value=(text) maxlength="1024" autofocus
                        placeholder="timeout url:orders";
                }
                label { span { "Within" }
                    select name="within" {
                        @for of in Within::ALL {
                            option value=(of.name()) selected[of == within] { (of.title()) }
                        }
                    }
                }
                button { "Search" }
            }
            @match results {
                None => {}
                Some(Err(why)) => p .notice .wrong role="alert" { (why) },
                Some(Ok(results)) => (found(results)),
            }
        },
    )
}

fn found(results: &Results) -> Markup {
    let count = Unit::Count.exact(results.count as f64);
    let events = if results.count == 1 { "event" } else { "events" };
    html! {
        section .panel {
            @if results.shown.is_empty() {
                p .empty { "No event says that in this time." }
            } @else {
                p .about role="status" {
                    (count) " " (events)
                    @if (results.shown.len() as u64) < results.count {
                        ", the newest " (results.shown.len()) " of them"
                    }
                    ". Times are UTC."
                }
                ol .found { @for event in &results.shown { li { (one(event)) } } }
            }
        }
    }
}

fn one(event: &Found) -> Markup {
    let is_bad = !matches!(event.outcome.as_str(), "success" | "unknown");
    html! {
        p .line {
            time { (event.time.get(..23).unwrap_or(&event.time).replace('T', " ")) }
            span .kind { (event.kind) }
            @if !event.of.is_empty() { span { (event.of) } }
            @if !event.path.is_empty() { code { (event.method) " " (event.path) } }
            @if !event.status.is_empty() { span .off[is_bad] { (event.status) } }
            @if !event.error.is_empty() { span .off { (event.error) } }
            @if event.status.is_empty() && event.error.is_empty() {
                span .off[is_bad] { (event.outcome) }
            }
        }
        @if !event.message.is_empty() { p .says { (event.message) } }
        @for (title, body) in &event.bodies {
            details { summary { (title) } pre { (body) } }
        }
        @if !event.correlation.is_empty() {
            p .about {
                a href=(of_correlation(&event.correlation)) { "All events of " (event.correlation) }
            }
        }
    }
}

/// Where all events of one message's way are.
fn of_correlation(id: &str) -> String {
    let text = format!("about:\"{}\"", id.replace(['"', '\\'], " "));
    format!("/search?within=all&q={}", utf8_percent_encode(&text, NON_ALPHANUMERIC))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_callers_sent_is_text_and_links_lead_to_all_of_a_way() {
        let nav = Nav { boards: &[], has_queues: true, current: "/search" };
        let event = Found {
            time: "2026-01-31T23:59:59.123456Z".into(),
            kind: "request".into(),
            outcome: "upstream_error".into(),
            path: "/<script>".into(),
            status: "502".into(),
            message: "<b>".into(),
            correlation: "a\"b&c".into(),
            bodies: vec![("Request", "<i>&".into())],
            ..Found::default()
        };
        let results = Ok(Results { shown: vec![event], count: 1_234 });
        let page = page(&nav, "\"><x", Within::Day, Some(&results)).into_string();
        assert!(!page.contains("<b>") && !page.contains("<i>") && !page.contains("<x"), "{page}");
        assert!(page.contains("1,234 events, the newest 1 of them"), "{page}");
        assert!(page.contains("2026-01-31 23:59:59.123"), "{page}");
        assert!(page.contains("q=about%3A%22a%20b%26c%22"), "{page}");
        assert!(page.contains("<option value=\"24h\" selected>"), "{page}");
    }
}
