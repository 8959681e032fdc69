use maud::{DOCTYPE, Markup, html};

use super::{CHART, closing, evidence, facts, lead, link, window};
use crate::alert::outbox::What;
use crate::alert::picture::Picture;
use crate::detect::{Alert, State};
use crate::query::Severity;

/// Readers of mail know no style sheets: each thing has its style with it.
const BODY: &str =
    "margin:0;padding:20px;font-family:system-ui,-apple-system,'Segoe UI',sans-serif";
const LABEL: &str =
    "margin:0;font-size:12px;font-weight:600;letter-spacing:.06em;text-transform:uppercase;color:";
const TITLE: &str = "font-size:20px;line-height:26px;margin:4px 0 12px";
const LEAD: &str = "font-size:15px;line-height:22px;margin:0 0 12px;font-weight:600";
const MESSAGE: &str = "font-size:15px;line-height:22px;margin:0 0 16px";
const TABLE: &str = "border-collapse:collapse;font-size:14px;line-height:20px";
const NAME: &str = "padding:5px 16px 5px 0;opacity:.7;vertical-align:top;white-space:nowrap";
const VALUE: &str = "padding:5px 0;word-break:break-word";
const HEADING: &str = "font-size:14px;margin:24px 0 6px";
const SQL: &str = "font:12px/18px ui-monospace,Menlo,Consolas,monospace;white-space:pre-wrap;\
                   word-break:break-word;margin:0;padding:12px;border:1px solid #8886;\
                   border-radius:6px";
const PICTURE: &str = "display:block;max-width:100%;height:auto;margin:20px 0 0;border:0;\
                       border-radius:6px";
const ACTION: &str = "margin:16px 0 0";
const BUTTON: &str = "display:inline-block;padding:8px 14px;border:1px solid #8888;\
                      border-radius:6px;font-size:14px;text-decoration:none";
const SMALL: &str = "font-size:12px;line-height:18px;opacity:.7;margin:20px 0 0";
const ENTRY: &str = "padding:12px 0;border-top:1px solid #8886;vertical-align:top";
const RESOLVED: &str = "#1a7f37";

fn colour(alert: &Alert) -> &'static str {
    if alert.state == State::Resolved && alert.replay_id.is_none() {
        return RESOLVED;
    }
    of_severity(alert.severity)
}

fn of_severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Low => "#5b6b7b",
        Severity::Medium => "#9a6700",
        Severity::High => "#bc4c00",
        Severity::Critical => "#b3261e",
    }
}

fn label(alert: &Alert, what: What) -> String {
    let severity = alert.severity.word();
    match (what, alert.state) {
        (_, State::Resolved) if alert.replay_id.is_none() => format!("{severity}, resolved"),
        (What::Escalated(_), _) => format!("{severity}, not acknowledged"),
        _ => severity.to_owned(),
    }
}

fn page(title: &str, colour: &str, content: &Markup) -> String {
    let frame =
        format!("max-width:600px;margin:0 auto;border-top:4px solid {colour};padding-top:16px");
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width";
                meta name="color-scheme" content="light dark";
                title { (title) }
            }
            body style=(BODY) {
                div style=(frame) { (content) }
            }
        }
    };
    page.into_string()
}

fn table(rows: impl IntoIterator<Item = (String, String)>) -> Markup {
    html! {
        table role="presentation" style=(TABLE) {
            @for (name, value) in rows {
                tr { td style=(NAME) { (name) } td style=(VALUE) { (value) } }
            }
        }
    }
}

pub(super) fn one(
    alert: &Alert,
    what: What,
    console: Option<&str>,
    picture: Option<&Picture>,
) -> String {
    let colour = colour(alert);
    let facts = facts(alert).into_iter().map(|(name, value)| (name.to_owned(), value));
    let content = html! {
        p style={ (LABEL) (colour) } { (label(alert, what)) }
        h1 style=(TITLE) { (alert.title) }
        @if let Some(lead) = lead(alert, what) { p style=(LEAD) { (lead) } }
        p style=(MESSAGE) { (alert.message) }
        (table(facts))
        @if let Some(console) = console {
            p style=(ACTION) { a href=(link(console, alert)) style=(BUTTON) { "Open in the console" } }
        }
        @if let Some(picture) = picture {
            img src={ "cid:" (CHART) } alt=(picture.words) width=(Picture::WIDTH) style=(PICTURE);
        }
        h2 style=(HEADING) { "Evidence" }
        (table(evidence(alert)))
        h2 style=(HEADING) { "The events behind it" }
        pre style=(SQL) { (alert.query) }
        p style=(SMALL) { (closing(alert)) }
    };
    page(&alert.title, colour, &content)
}

pub(super) fn many(alerts: &[Alert], title: &str, console: Option<&str>) -> String {
    let worst = alerts.iter().map(|alert| alert.severity).max().unwrap_or_default();
    let content = html! {
        h1 style=(TITLE) { (alerts.len()) " alerts" }
        table role="presentation" style={ (TABLE) ";width:100%" } {
            @for alert in alerts {
                tr {
                    td style=(ENTRY) {
                        p style={ (LABEL) (colour(alert)) } { (label(alert, What::Opened)) }
                        p style="margin:2px 0;font-weight:600" {
                            @let title = format!("{}: {}", alert.title, alert.subject);
                            @match console {
                                Some(console) => a href=(link(console, alert)) { (title) },
                                None => (title),
                            }
                        }
                        p style="margin:2px 0" { (alert.message) }
                        p style="margin:2px 0;font-size:12px;opacity:.7" {
                            (window(alert)) br; "Alert " (alert.id)
                        }
                    }
                }
            }
        }
        p style=(SMALL) {
            code { "weir alerts show ID" } " has the evidence of one, " code { "weir alerts ack ID" }
            " acknowledges it."
        }
    };
    page(title, of_severity(worst), &content)
}
