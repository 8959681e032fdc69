//! Continuous queries as HTML: how each fares, and the forms by which one is let rest or goes
//! on. They need no script.

use maud::{Markup, html};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::{Nav, framed};
use charts::Unit;

/// How a query fares.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Query {
    pub(crate) name: String,
    /// `view` or `detection`.
    pub(crate) kind: String,
    pub(crate) state: String,
    /// Why it failed; empty if it did not.
    pub(crate) error: String,
    pub(crate) title: String,
    pub(crate) owner: String,
    pub(crate) origin: String,
    pub(crate) runs_on: String,
    /// Rows that it took in, and gave.
    pub(crate) rows_in: f64,
    pub(crate) rows_out: f64,
    /// Rows that came too late.
    pub(crate) late: f64,
    /// Records that it has not read.
    pub(crate) behind: f64,
    pub(crate) state_bytes: f64,
    pub(crate) memory_bytes: f64,
    pub(crate) replays_given_up: f64,
    pub(crate) watermark: String,
    pub(crate) closed_until: String,
    pub(crate) committed: String,
    /// Who lets it rest, why and since when; empty if nobody does.
    pub(crate) paused_by: String,
    pub(crate) paused_note: String,
    pub(crate) paused: String,
}

/// What was done before a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Did {
    Paused,
    Resumed,
}

impl Did {
    pub(crate) fn parse(name: &str) -> Option<Self> {
        [Self::Paused, Self::Resumed].into_iter().find(|did| did.name() == name)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Paused => "paused",
            Self::Resumed => "resumed",
        }
    }

    fn says(self) -> &'static str {
        match self {
            Self::Paused => "It rests until it is resumed, and keeps what it has.",
            Self::Resumed => "It goes on, and takes in what came meanwhile.",
        }
    }
}

/// What is said above a page: what was done, or why it was not.
pub(crate) type Notice = Result<Did, String>;

/// Where a query is let rest, or goes on.
fn action(name: &str, what: &str) -> String {
    format!("/queries/{}/{what}", utf8_percent_encode(name, NON_ALPHANUMERIC))
}

/// A time to the second.
fn time(text: &str) -> String {
    text.get(..19).unwrap_or(text).replace('T', " ")
}

/// All of them, in the order in which they are given.
pub(crate) fn all(
    nav: &Nav<'_>,
    queries: &Result<Vec<Query>, String>,
    said: Option<&Notice>,
) -> Markup {
    let head = html! { p { "Views and detections that run all the time, and how they fare." } };
    framed(
        nav,
        "Continuous queries",
        head,
        html! {
            @match said {
                None => {}
                Some(Ok(did)) => p .notice role="status" { (did.says()) },
                Some(Err(why)) => p .notice .wrong role="alert" { (why) },
            }
            section .panel {
                @match queries {
                    Err(why) => p .failed role="alert" { (why) },
                    Ok(queries) if queries.is_empty() => p .empty { "No node has said anything of queries yet." },
                    Ok(queries) => {
                        p .about { (summary(queries)) " Times are UTC." }
                        ol .found .queries { @for query in queries { li { (listed(query)) } } }
                    }
                }
            }
        },
    )
}

/// How many are in each state.
fn summary(queries: &[Query]) -> String {
    let states = ["running", "starting", "paused", "failed", "silent"];
    let count = |state: &&str| queries.iter().filter(|of| of.state == **state).count();
    let counted = states.iter().map(|state| (count(state), state)).filter(|(count, _)| *count > 0);
    let counted: Vec<String> = counted.map(|(count, state)| format!("{count} {state}")).collect();
    format!("{}.", counted.join(", "))
}

fn badge(state: &str) -> Markup {
    let tone = match state {
        "failed" => "critical",
        "silent" => "high",
        "paused" | "starting" => "medium",
        _ => "low",
    };
    html! { span class={ "severity " (tone) } { (state) } }
}

/// Where a query is from, in words.
fn origin(of: &str) -> &str {
    match of {
        "shipped" => "comes with Weir",
        "directory" => "from the directory of its node",
        _ => "from the registry",
    }
}

fn listed(query: &Query) -> Markup {
    let bytes = |bytes| Unit::Bytes.exact(bytes);
    let count = |count| Unit::Count.exact(count);
    html! {
        p .line { (badge(&query.state)) strong { (query.name) } span { (query.title) } }
        p .line .about {
            span { (query.kind) ", " (origin(&query.origin)) ", owned by " (query.owner) }
            @if !query.closed_until.is_empty() {
                span { "answered until " time { (time(&query.closed_until)) } }
            }
            @if !query.watermark.is_empty() {
                span { "watermark " time { (time(&query.watermark)) } }
            }
            span { (count(query.rows_in)) " rows in, " (count(query.rows_out)) " out" }
            @if !query.committed.is_empty() {
                span { "checkpoint of " time { (time(&query.committed)) } }
            }
            span { "holds " (bytes(query.state_bytes)) " of " (bytes(query.memory_bytes)) }
            @if query.behind > 0.0 { span { (count(query.behind)) " records behind" } }
            @if query.late > 0.0 { span { (count(query.late)) " rows came too late" } }
            @if query.replays_given_up > 0.0 {
                span { (count(query.replays_given_up)) " replays given up" }
            }
            @if query.state != "paused" { span { "on " (query.runs_on) } }
        }
        @if !query.error.is_empty() { p .failed { (query.error) } }
        @if query.state == "paused" {
            p { "Rests since " (time(&query.paused)) ", by " (query.paused_by)
                @if !query.paused_note.is_empty() { ": " (query.paused_note) } }
        }
        details {
            summary { @if query.state == "paused" { "Let it go on" } @else { "Let it rest" } }
            (order(query))
        }
    }
}

fn order(query: &Query) -> Markup {
    let by = html! {
        label { span { "Your name" }
            input name="by" required maxlength="100" autocomplete="name";
        }
    };
    html! {
        @if query.state == "paused" {
            form .pausing method="post" action=(action(&query.name, "resume")) {
                (by) button { "Resume" }
            }
        } @else {
            form .pausing method="post" action=(action(&query.name, "pause")) {
                (by)
                label { span { "Why" } input name="note" maxlength="1000"; }
                button { "Pause" }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_query_says_is_text_and_it_has_the_form_that_fits() {
        let nav = Nav { boards: &[], has_queues: true, current: "/queries" };
        let query = Query {
            name: "calls".into(),
            state: "failed".into(),
            error: "<script>".into(),
            late: 1_234.0,
            memory_bytes: 67_108_864.0,
            ..Query::default()
        };
        let rests = Query { state: "paused".into(), paused_note: "<b>".into(), ..query.clone() };
        let page = all(&nav, &Ok(vec![query]), None).into_string();
        assert!(!page.contains("<script>alert") && page.contains("&lt;script&gt;"), "{page}");
        assert!(page.contains("1 failed. Times are UTC."), "{page}");
        assert!(page.contains("1,234 rows came too late"), "{page}");
        assert!(page.contains("action=\"/queries/calls/pause\""), "{page}");
        let page = all(&nav, &Ok(vec![rests]), None).into_string();
        assert!(
            page.contains("action=\"/queries/calls/resume\"") && !page.contains("<b>"),
            "{page}"
        );
    }
}
