//! Queues as HTML: what waits in them, what is dead, and the forms by which it is decided of.
//! They need no script.

use http::StatusCode;
use maud::{Markup, PreEscaped, html};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::{Nav, framed};
use crate::manager::{Decision, LISTED_MAX, Letter, Letters, Message, Overview, Waiting, Which};
use charts::Unit;

/// The most bytes that are shown of a body that is no text.
const SHOWN_BYTES_MAX: usize = 256;

/// What was done before a page, or why it was not.
#[derive(Debug)]
pub(crate) enum Notice {
    Done(String),
    Failed(String),
}

impl Notice {
    /// What a decision came to.
    pub(crate) fn of(decision: Decision, count: u64) -> Self {
        let what = match decision {
            Decision::Replay => "put back into the queue",
            Decision::Drop => "dropped",
            Decision::Retry => "will be tried at once",
            Decision::GiveUp => "will be attempted no more",
        };
        let of = if decision.is_of_dead() { "dead letter" } else { "message" };
        Self::Done(format!("{} {what}.", counted(count, of)))
    }

    fn shown(&self) -> Markup {
        match self {
            Self::Done(what) => html! { p .notice role="status" { (what) } },
            Self::Failed(why) => html! { p .notice .wrong role="alert" { (why) } },
        }
    }
}

/// A queue with what is to be decided of it.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) overview: Overview,
    pub(crate) dead: Letters,
    pub(crate) waiting: Waiting,
}

fn number(count: u64) -> String {
    Unit::Count.exact(count as f64)
}

fn counted(count: u64, what: &str) -> String {
    format!("{} {what}{}", number(count), if count == 1 { "" } else { "s" })
}

/// A time to the second, which is as exact as people decide.
fn time(text: &str) -> String {
    text.get(..19).map_or_else(|| text.to_owned(), |text| text.replace('T', " "))
}

fn bytes(count: u64) -> String {
    Unit::Bytes.exact(count as f64)
}

fn link(queue: &str) -> String {
    format!("/queues/{}", utf8_percent_encode(queue, NON_ALPHANUMERIC))
}

/// Where a letter is looked at.
fn letter_link(queue: &str, id: &str) -> String {
    format!("{}/letter?id={}", link(queue), utf8_percent_encode(id, NON_ALPHANUMERIC))
}

fn state_of(overview: &Overview) -> Markup {
    html! {
        @match &overview.paused {
            None => "delivers",
            Some(pause) => {
                span .off { "paused" } " by " (pause.by) " since " (time(&pause.since))
                @if !pause.reason.is_empty() { ": " (pause.reason) }
            }
        }
    }
}

/// All queues, each with how many dead letters it has, if that is known.
pub(crate) fn all(nav: &Nav<'_>, queues: &[(Overview, Option<u64>)]) -> Markup {
    let head = html! { p { "What waits to be delivered, and what could not be." } };
    framed(
        nav,
        "Queues",
        head,
        html! {
            section .panel {
                @if queues.is_empty() {
                    p .empty { "There is no queue." }
                } @else {
                    div .scroll { table .queues {
                        thead { tr {
                            th scope="col" { "Queue" }
                            @for title in ["Dead letters", "Waiting", "Scheduled", "Parked", "Retrying", "Held"] {
                                th .number scope="col" { (title) }
                            }
                            th scope="col" { "Oldest tried (UTC)" }
                            th scope="col" { "State" }
                        } }
                        tbody { @for (of, dead) in queues { tr {
                            th scope="row" { a href=(link(&of.queue)) { (of.queue) } }
                            td .number .some[dead.is_some_and(|dead| dead > 0)] {
                                (dead.map_or_else(|| "unknown".to_owned(), number))
                            }
                            @for count in [of.waiting, of.scheduled, of.parked, of.retrying, of.held] {
                                td .number { (number(count)) }
                            }
                            td { (of.oldest.as_deref().map(time).unwrap_or_default()) }
                            td { (state_of(of)) }
                        } } }
                    } }
                }
            }
        },
    )
}

/// A queue, with what can be decided of it.
pub(crate) fn one(nav: &Nav<'_>, queue: &Queue, notice: Option<&Notice>) -> Markup {
    let Queue { overview, dead, waiting } = queue;
    let head = html! { p { (state_of(overview)) } };
    let numbers = [
        ("Dead letters", dead.total),
        ("Waiting", overview.waiting),
        ("Scheduled", overview.scheduled),
        ("Parked", overview.parked),
        ("Retrying", overview.retrying),
        ("Held", overview.held),
    ];
    framed(
        nav,
        &overview.queue,
        head,
        html! {
            @if let Some(notice) = notice { (notice.shown()) }
            div #panels {
                @for (title, count) in numbers {
                    section .panel .width-2 { h2 { (title) } p .stat { (number(count)) } }
                }
                section .panel .width-12 { h2 { "Dead letters" } (dead_letters(&overview.queue, dead)) }
                section .panel .width-12 {
                    h2 { "Tried, and waiting for the next attempt" }
                    (waiting_messages(&overview.queue, waiting))
                }
                section .panel .width-12 { h2 { "Attempts" } (pausing(overview)) }
            }
        },
    )
}

fn is_cut(shown: usize, total: u64) -> Markup {
    html! {
        @if total > shown as u64 {
            p .about { "The first " (LISTED_MAX) " of " (number(total)) "." }
        }
    }
}

/// The box before a message by which it is chosen.
fn chosen(id: &str) -> Markup {
    html! { td .choose { input type="checkbox" name="id" value=(id) aria-label={ "Choose " (id) }; } }
}

/// The head of a table whose rows are chosen: titles of columns, and their class.
fn heads_of_chosen<const N: usize>(columns: [(&str, &str); N]) -> Markup {
    html! {
        thead { tr {
            th scope="col" {}
            @for (title, class) in columns { th class=[(!class.is_empty()).then_some(class)] scope="col" { (title) } }
        } }
    }
}

fn button(decision: Decision, title: &str) -> Markup {
    html! { button name="do" value=(decision.name()) { (title) } }
}

fn button_for_all(decision: Decision, title: &str) -> Markup {
    html! { button .quiet name="do" value={ (decision.name()) "-all" } { (title) } }
}

/// The columns of dead letters, and their class.
const DEAD_COLUMNS: [(&str, &str); 8] = [
    ("Message", ""),
    ("Key", ""),
    ("Why", ""),
    ("Said last", ""),
    ("Attempts", "number"),
    ("Size", "number"),
    ("Accepted (UTC)", ""),
    ("Given up (UTC)", ""),
];

fn dead_letters(queue: &str, dead: &Letters) -> Markup {
    if dead.letters.is_empty() {
        return html! { p .empty { "No message is dead." } };
    }
    html! {
        form method="post" action={ (link(queue)) "/decide" } {
            div .scroll { table {
                (heads_of_chosen(DEAD_COLUMNS))
                tbody { @for letter in &dead.letters { tr {
                    (chosen(&letter.id))
                    th scope="row" { a href=(letter_link(queue, &letter.id)) { (letter.id) } }
                    td { (letter.key.as_deref().unwrap_or_default()) }
                    td { (letter.reason) }
                    td { (said_last(letter)) }
                    td .number { (letter.attempts) }
                    td .number { (bytes(letter.body_bytes)) }
                    td .time { (time(&letter.accepted)) }
                    td .time { (letter.died.as_deref().map(time).unwrap_or_default()) }
                } } }
            } }
            (is_cut(dead.letters.len(), dead.total))
            p .decide {
                (button(Decision::Replay, "Put back"))
                (button(Decision::Drop, "Drop"))
                span .between {}
                (button_for_all(Decision::Replay, "Put all back"))
                (button_for_all(Decision::Drop, "Drop all"))
            }
        }
    }
}

/// What the target answered, or what went wrong before it could.
fn said_last(letter: &Letter) -> String {
    match (letter.status, &letter.error) {
        (Some(status), _) => format!("HTTP {status}"),
        (None, Some(error)) => error.clone(),
        (None, None) => String::new(),
    }
}

/// Those of messages that wait.
const WAITING_COLUMNS: [(&str, &str); 6] = [
    ("Message", ""),
    ("Key", ""),
    ("Next attempt (UTC)", ""),
    ("Attempts", "number"),
    ("Size", "number"),
    ("Accepted (UTC)", ""),
];

fn waiting_messages(queue: &str, waiting: &Waiting) -> Markup {
    if waiting.messages.is_empty() {
        return html! { p .empty { "No message waits for another attempt." } };
    }
    let due = |of: &Message| match of.state.as_str() {
        "under_way" => "under way".to_owned(),
        "held" => "held".to_owned(),
        _ => of.due.as_deref().map(time).unwrap_or_default(),
    };
    html! {
        form method="post" action={ (link(queue)) "/decide" } {
            div .scroll { table {
                (heads_of_chosen(WAITING_COLUMNS))
                tbody { @for of in &waiting.messages { tr {
                    (chosen(&of.id))
                    th scope="row" { (of.id) }
                    td { (of.key.as_deref().unwrap_or_default()) }
                    td { (due(of)) }
                    td .number { (of.attempts) }
                    td .number { (bytes(of.body_bytes)) }
                    td .time { (time(&of.accepted)) }
                } } }
            } }
            (is_cut(waiting.messages.len(), waiting.total))
            p .decide {
                (button(Decision::Retry, "Try now"))
                (button(Decision::GiveUp, "Give up"))
                span .between {}
                (button_for_all(Decision::Retry, "Try all that is held"))
                (button_for_all(Decision::GiveUp, "Give up all that is held"))
            }
        }
    }
}

fn pausing(overview: &Overview) -> Markup {
    html! {
        @if overview.paused.is_some() {
            form .pausing method="post" action={ (link(&overview.queue)) "/resume" } {
                p { "No attempt begins. What is sent to the queue is accepted." }
                button { "Resume" }
            }
        } @else {
            form .pausing method="post" action={ (link(&overview.queue)) "/pause" } {
                label { span { "Why" } input name="reason" maxlength="200" placeholder="the target is mended"; }
                button { "Pause" }
            }
        }
    }
}

/// Asks whether that is meant.
pub(crate) fn sure(nav: &Nav<'_>, queue: &str, which: &Which, decision: Decision) -> Markup {
    let what = match (which, decision.is_of_dead()) {
        (Which::Ids(ids), true) => counted(ids.len() as u64, "dead letter"),
        (Which::Ids(ids), false) => counted(ids.len() as u64, "message"),
        (Which::All, true) => "all dead letters".to_owned(),
        (Which::All, false) => "all messages that are held".to_owned(),
    };
    let (title, consequence) = match decision {
        Decision::Replay => {
            ("Put back", "They go behind what was accepted of their keys meanwhile.")
        }
        Decision::Drop => ("Drop", "They stay undelivered, and are listed no more."),
        Decision::Retry => ("Try now", "Their attempts are counted anew."),
        Decision::GiveUp => {
            ("Give up", "They become dead letters, from where they can be put back.")
        }
    };
    let suffix = if *which == Which::All { "-all" } else { "" };
    framed(
        nav,
        queue,
        html! {},
        html! {
            section .panel .question {
                h2 { (title) " " (what) "?" }
                p .about { (consequence) }
                form .decide method="post" action={ (link(queue)) "/decide" } {
                    input type="hidden" name="sure" value="1";
                    @if let Which::Ids(ids) = which {
                        @for id in ids { input type="hidden" name="id" value=(id); }
                    }
                    button name="do" value={ (decision.name()) (suffix) } { (title) }
                    a href=(link(queue)) { "Back" }
                }
            }
        },
    )
}

/// The dead letters of one message, with their bodies.
pub(crate) fn letter(
    nav: &Nav<'_>,
    queue: &str,
    letters: &[Letter],
    notice: Option<&Notice>,
) -> Markup {
    let id = letters.first().map_or("", |letter| letter.id.as_str());
    let head = html! { p { "A dead letter of " a href=(link(queue)) { (queue) } } };
    framed(
        nav,
        id,
        head,
        html! {
            @if let Some(notice) = notice { (notice.shown()) }
            div #panels { @for letter in letters { section .panel .width-12 {
                (facts(letter))
                form .mend method="post" action=(letter_link(queue, &letter.id)) {
                    (body_of(letter, letters.len() == 1))
                    p .decide { (button(Decision::Replay, "Put back")) (button(Decision::Drop, "Drop")) }
                }
            } } }
        },
    )
}

fn facts(letter: &Letter) -> Markup {
    let time_of = |text: &Option<String>| text.as_deref().map(time).unwrap_or_default();
    let facts = [
        ("Key", letter.key.clone().unwrap_or_default()),
        ("Why", letter.reason.clone()),
        ("The target said last", said_last(letter)),
        ("Attempts", letter.attempts.to_string()),
        ("Accepted (UTC)", time(&letter.accepted)),
        ("Given up (UTC)", time_of(&letter.died)),
        ("Correlation id", letter.correlation_id.clone().unwrap_or_default()),
        ("Size", bytes(letter.body_bytes)),
    ];
    html! {
        dl .facts { @for (name, value) in facts.iter().filter(|(_, value)| !value.is_empty()) {
            div { dt { (name) } dd { (value) } }
        } }
    }
}

/// The body, to be changed if it can be: browsers send each line with CR LF, so a text with
/// other ends of lines among those would not come back as it was.
fn body_of(letter: &Letter, is_one: bool) -> Markup {
    let Some(text) = &letter.body else {
        let bytes = letter.bytes().unwrap_or_default();
        return html! {
            p .about { "The body is no text. With another one it is put back from the command line." }
            pre .scroll { (hex(&bytes)) }
        };
    };
    if !is_one || !is_editable(text) {
        return html! { pre .scroll tabindex="0" { (text) } };
    }
    html! {
        label { span { "Content type" }
            input name="content_type" value=(letter.content_type.as_deref().unwrap_or_default());
        }
        label { span { "Body" }
            // The first line feed in it is not of the text (HTML, 13.1.2.5).
            textarea name="body" rows=(text.lines().count().clamp(6, 30)) spellcheck="false" {
                (PreEscaped("\n")) (text)
            }
        }
    }
}

/// Whether a browser gives a text back so that it can be told what it was.
pub(crate) fn is_editable(text: &str) -> bool {
    let lone_cr = text.replace("\r\n", "").contains('\r');
    let mixed = text.contains("\r\n") && text.replace("\r\n", "").contains('\n');
    !lone_cr && !mixed && !text.contains('\0')
}

/// A text that came back from a browser, with the ends of lines that it had.
pub(crate) fn edited(text: &str, before: &str) -> String {
    if before.contains("\r\n") { text.to_owned() } else { text.replace("\r\n", "\n") }
}

/// The first bytes, 16 in a line.
fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for (at, line) in bytes[..bytes.len().min(SHOWN_BYTES_MAX)].chunks(16).enumerate() {
        let digits: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        let shown = |byte: &u8| match byte.is_ascii_graphic() || *byte == b' ' {
            true => char::from(*byte),
            false => '.',
        };
        let letters: String = line.iter().map(shown).collect();
        text += &format!("{:04x}  {:<47}  {letters}\n", at * 16, digits.join(" "));
    }
    if bytes.len() > SHOWN_BYTES_MAX {
        text += &format!("… {} bytes more\n", bytes.len() - SHOWN_BYTES_MAX);
    }
    text
}

/// That something was refused, where a page would be.
pub(crate) fn refused(nav: &Nav<'_>, status: StatusCode, why: &str) -> Markup {
    let title = match status {
        StatusCode::NOT_FOUND => "Not there",
        StatusCode::BAD_GATEWAY => "No answer",
        _ => "Refused",
    };
    let back = html! { p { a href="/queues" { "To the queues" } } };
    framed(nav, title, back, html! { (Notice::Failed(why.to_owned()).shown()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_comes_back_from_a_browser_as_it_was() {
        for body in ["{\n  \"a\": 1\n}\n", "a\r\nb", "one line", "", "\n\nfirst lines"] {
            assert!(is_editable(body), "{body:?}");
            let sent = body.replace("\r\n", "\n").replace('\n', "\r\n");
            assert_eq!(edited(&sent, body), body);
        }
        for body in ["a\rb", "a\r\nb\nc", "a\0b"] {
            assert!(!is_editable(body), "{body:?}");
        }
    }

    #[test]
    fn bytes_are_shown_as_they_are() {
        let shown = hex(&(0..300).map(|at| (at % 256) as u8).collect::<Vec<_>>());
        assert!(shown.starts_with("0000  00 01 02"), "{shown}");
        assert!(
            shown.contains(
                "0040  40 41 42 43 44 45 46 47 48 49 4a 4b 4c 4d 4e 4f  @ABCDEFGHIJKLMNO"
            )
        );
        assert!(shown.ends_with("… 44 bytes more\n"), "{shown}");
    }

    #[test]
    fn what_a_message_says_of_itself_is_text_on_the_page() {
        let evil = "\"><script>alert(1)</script>";
        let letter: Letter = serde_json::from_value(serde_json::json!({
            "id": evil, "key": evil, "reason": "refused", "attempts": 1, "status": 422,
            "error": evil, "accepted": evil, "died": evil, "correlation_id": evil,
            "content_type": evil, "body_bytes": 3, "body": format!("</textarea>{evil}"),
        }))
        .unwrap();
        let nav = Nav { boards: &[], has_queues: true, current: "" };
        let letters = Letters { total: 1, letters: vec![letter.clone()] };
        let shown = dead_letters("orders", &letters).into_string();
        let alone = super::letter(&nav, "orders", &[letter], None).into_string();
        for page in [shown, alone] {
            assert!(page.contains("&lt;script&gt;"), "{page}");
            assert!(!page.contains("<script>alert") && !page.contains("</textarea>&"), "{page}");
        }
    }
}
