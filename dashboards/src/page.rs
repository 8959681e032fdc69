//! Boards as HTML; alerts in [`alerts`], decisions in [`decisions`], continuous queries in [`queries`], queues in [`queues`], the search for events in
//! [`search`].

pub(crate) mod alerts;
pub(crate) mod decisions;
pub(crate) mod queries;
pub(crate) mod queues;
pub(crate) mod search;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::board::{Board, Panel};
use crate::content::{Content, Table};
use crate::view::{Known, Span, Timeline, View};
use charts::theme::{self, Theme};
use charts::{Chart, NARROW, WIDE};

/// How a page looks, but for colours.
pub(crate) const CSS: &str = include_str!("../assets/console.css");

/// A board that was filled.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Filled {
    pub(crate) view: View,
    pub(crate) known: Vec<Known>,
    /// One for each panel.
    pub(crate) contents: Vec<Content>,
    /// When, as text.
    pub(crate) made: String,
}

/// Everything that gives a page its colours.
pub(crate) fn colours() -> String {
    let (light, dark) = (Theme::Light.properties(), Theme::Dark.properties());
    format!(
        ":root{{color-scheme:light;{light}}}\n\
         @media(prefers-color-scheme:dark){{:root:not([data-theme=light]){{color-scheme:dark;{dark}}}}}\n\
         :root[data-theme=dark]{{color-scheme:dark;{dark}}}\n"
    )
}

/// How a page is dressed that the console serves.
const STYLE_SHEET: PreEscaped<&str> =
    PreEscaped("<link rel=\"stylesheet\" href=\"/assets/console.css\">");

/// What every page begins with.
fn head_of(title: &str, dress: Markup) -> Markup {
    html! {
        head {
            meta charset="utf-8";
            meta name="viewport" content="width=device-width, initial-scale=1";
            title { (title) " · Weir" }
            (dress)
        }
    }
}

/// The pages that there are.
#[derive(Debug)]
pub(crate) struct Nav<'a> {
    pub(crate) boards: &'a [Board],
    pub(crate) has_queues: bool,
    /// Where this one is.
    pub(crate) current: &'a str,
}

/// The bar above a page.
fn bar(nav: &Nav<'_>, state: Markup) -> Markup {
    let boards = nav.boards.iter().map(|of| (format!("/boards/{}", of.name), of.title.as_str()));
    let others = [
        ("/alerts", "Alerts"),
        ("/decisions", "Decisions"),
        ("/queries", "Queries"),
        ("/queues", "Queues"),
        ("/search", "Search"),
    ];
    let others = others.map(|(link, title)| (link.to_owned(), title));
    // They are for who has the admin token, which the manager node knows.
    let others = others.into_iter().filter(|_| nav.has_queues);
    html! {
        header .bar {
            span .brand { "Weir" }
            nav aria-label="Pages" {
                @for (link, title) in boards.chain(others) {
                    @let current = (link == nav.current).then_some("page");
                    a href=(link) aria-current=[current] { (title) }
                }
            }
            (state)
            button .theme type="button" hidden { "Dark" }
        }
    }
}

/// A page that does not follow.
fn framed(nav: &Nav<'_>, title: &str, head: Markup, body: Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            (head_of(title, html! {
                (STYLE_SHEET)
                script type="module" src="/assets/console.js" {}
            }))
            body {
                (bar(nav, html! {}))
                main { div .head { h1 { (title) } (head) } (body) }
            }
        }
    }
}

/// A board as the console serves it.
pub(crate) fn board(nav: &Nav<'_>, board: &Board, filled: &Filled) -> Markup {
    let view = &filled.view;
    html! {
        (DOCTYPE)
        html lang="en" {
            (head_of(&board.title, html! {
                (STYLE_SHEET)
                script type="module" src="/assets/console.js" {}
            }))
            body data-live={ "/boards/" (board.name) "/live?" (view.query()) } {
                a .skip href="#panels" { "To the panels" }
                (bar(nav, html! {
                    span .state role="status" { span .dot {} span .said { "static" } }
                }))
                main {
                    (head(board, filled))
                    form .asked method="get" {
                        label { span { "Timeline" } (timelines(view, &filled.known)) }
                        label { span { "Span" } (spans(view)) }
                        button .show { "Show" }
                        span .exports {
                            "Export "
                            @for format in ["html", "png", "csv"] {
                                a href={ "/boards/" (board.name) "/export." (format) "?" (view.query()) } download {
                                    (format.to_uppercase())
                                }
                            }
                        }
                    }
                    (panels(board, &filled.contents))
                }
            }
        }
    }
}

fn head(board: &Board, filled: &Filled) -> Markup {
    html! {
        div .head {
            h1 { (board.title) }
            @if !board.about.is_empty() { p { (board.about) } }
            p .range { (where_of(&filled.view)) ", " span #range { (filled.view.words()) } }
        }
    }
}

/// Which timeline it is, in words.
pub(crate) fn where_of(view: &View) -> String {
    match &view.timeline {
        Timeline::Live => "Live traffic".to_owned(),
        Timeline::Replay(id) => format!("Replay {id}"),
    }
}

fn timelines(view: &View, known: &[Known]) -> Markup {
    let mut choices: Vec<(&Timeline, String)> = vec![(&Timeline::Live, "Live traffic".to_owned())];
    for of in known.iter().filter(|of| of.timeline != Timeline::Live) {
        choices.push((&of.timeline, format!("Replay {}", of.timeline.text())));
    }
    if choices.iter().all(|(timeline, _)| **timeline != view.timeline) {
        choices.push((&view.timeline, where_of(view)));
    }
    html! {
        select name="timeline" {
            @for (timeline, title) in choices {
                option value=(timeline.text()) selected[*timeline == view.timeline] { (title) }
            }
        }
    }
}

fn spans(view: &View) -> Markup {
    html! {
        select name="span" {
            @for (name, title, span) in Span::CHOICES {
                option value=(name) selected[span == view.span] { (title) }
            }
        }
    }
}

fn panels(board: &Board, contents: &[Content]) -> Markup {
    html! {
        div #panels tabindex="-1" {
            @for (at, (of, content)) in board.panels.iter().zip(contents).enumerate() {
                section id={ "panel-" (at) } .panel .{ "width-" (of.width) } aria-labelledby={ "title-" (at) } {
                    h2 id={ "title-" (at) } { (of.title) }
                    @if !of.about.is_empty() { p .about { (of.about) } }
                    div .body { (body(of, content)) }
                }
            }
        }
    }
}

/// What is in a panel.
pub(crate) fn body(panel: &Panel, content: &Content) -> Markup {
    match content {
        Content::Stat { value, beside } => html! {
            p .stat { (value) }
            @if let Some(beside) = beside { p .beside { (beside) } }
        },
        Content::Chart(chart) => drawn(chart),
        Content::Table(table) => table_of(&panel.title, table),
        Content::Empty(why) => html! { p .empty { (why) } },
        Content::Failed(why) => html! { p .failed role="alert" { (why) } },
    }
}

fn drawn(chart: &Chart) -> Markup {
    let hover = chart.hover().to_string();
    let rows = chart.rows();
    html! {
        div .drawn data-hover=(hover) {
            div .wide { (PreEscaped(chart.svg(WIDE))) }
            div .narrow { (PreEscaped(chart.svg(NARROW))) }
            div .cross hidden {}
            div .tip hidden {}
        }
        details {
            summary { "As a table" }
            div .scroll {
                table {
                    thead { tr {
                        th scope="col" { "Time (UTC)" }
                        @for series in &chart.series { th .number scope="col" { (series.title) } }
                    } }
                    tbody {
                        @for (time, values) in rows {
                            tr { th scope="row" { (time) } @for value in values { td .number { (value) } } }
                        }
                    }
                }
            }
        }
    }
}

fn table_of(title: &str, table: &Table) -> Markup {
    html! {
        div .scroll tabindex="0" role="region" aria-label=(title) {
            table {
                thead { tr {
                    @for (title, is_number) in &table.columns {
                        th scope="col" .number[*is_number] { (title) }
                    }
                } }
                tbody {
                    @for row in &table.rows {
                        tr {
                            @for (cell, (_, is_number)) in row.iter().zip(&table.columns) {
                                td .number[*is_number] .holds[cell == "holds"] .off[cell.starts_with("off by")] {
                                    (cell)
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The font within the page.
fn font() -> String {
    let font = BASE64_STANDARD.encode(charts::raster::FONT);
    format!("@font-face{{font-family:Inter;src:url(data:font/otf;base64,{font})}}\n")
}

/// A page of its own: nothing is fetched for it, and nothing runs in it.
pub(crate) fn alone(board: &Board, filled: &Filled) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            (head_of(&format!("{} · {}", board.title, where_of(&filled.view)), html! {
                style { (PreEscaped(font())) (PreEscaped(colours())) (PreEscaped(CSS)) (PreEscaped(theme::CHART_CSS)) }
            }))
            body .alone {
                main {
                    (head(board, filled))
                    (panels(board, &filled.contents))
                    footer { "Made by Weir at " (filled.made) "." }
                }
            }
        }
    }
}

/// Which token is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wanted {
    /// The console's, for boards.
    Console,
    /// The admin token, for queues and the search.
    Admin,
}

/// Where a token is asked for.
pub(crate) fn login(wanted: Wanted, failed: Option<&str>, next: &str) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            (head_of("Log in", html! { (STYLE_SHEET) }))
            body .login {
                main {
                    form .card method="post" action="/login" {
                        h1 { "Weir" }
                        @match wanted {
                            Wanted::Console => p {
                                "The console's token is in the file " code { "console-token" }
                                " of its data directory."
                            },
                            Wanted::Admin => p {
                                "Who looks into alerts, queries, queues and messages, and decides of callers, has the admin token. It is in the file "
                                code { "admin-token" } " of the manager node's data directory."
                            },
                        }
                        input type="hidden" name="next" value=(next);
                        label { span { "Token" }
                            input type="password" name="token" autocomplete="current-password" required autofocus;
                        }
                        @if let Some(failed) = failed { p .failed role="alert" { (failed) } }
                        button { "Log in" }
                    }
                }
            }
        }
    }
}

/// A page with a sentence on it.
pub(crate) fn said(title: &str, what: &str) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            (head_of(title, html! { (STYLE_SHEET) }))
            body .login { main { div .card { h1 { (title) } p { (what) } p { a href="/" { "To the boards" } } } } }
        }
    }
}
