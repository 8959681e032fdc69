use std::fmt::Write as _;

use super::{closing, evidence, facts, lead, link, window};
use crate::alert::outbox::What;
use crate::detect::{Alert, State};

pub(super) fn one(alert: &Alert, what: What, console: Option<&str>) -> String {
    let mut text = String::new();
    if let Some(lead) = lead(alert, what) {
        let _ = writeln!(text, "{lead}\n");
    }
    let _ = writeln!(text, "{}\n", alert.message);
    for (name, value) in facts(alert) {
        let _ = writeln!(text, "{name:<12} {value}");
    }
    if let Some(console) = console {
        let _ = writeln!(text, "{:<12} {}", "Console", link(console, alert));
    }
    text.push_str("\nEvidence\n");
    for (name, value) in evidence(alert) {
        let _ = writeln!(text, "  {name:<20} {value}");
    }
    let _ = writeln!(text, "\nThe events behind it, by `weir query`:\n\n{}\n", alert.query);
    let _ = writeln!(text, "{}", closing(alert));
    text
}

pub(super) fn many(alerts: &[Alert], console: Option<&str>) -> String {
    let mut text = format!("{} alerts.\n", alerts.len());
    for alert in alerts {
        let over = if alert.state == State::Resolved { ", over" } else { "" };
        let label = format!("{}{over}", alert.severity.word());
        let _ = writeln!(text, "\n[{label}] {}: {}", alert.title, alert.subject);
        let _ = writeln!(text, "  {}", alert.message);
        let _ = writeln!(text, "  {}. Alert {}", window(alert), alert.id);
        if let Some(console) = console {
            let _ = writeln!(text, "  {}", link(console, alert));
        }
    }
    text.push_str(
        "\n`weir alerts show ID` has the evidence of one, `weir alerts ack ID` acknowledges \
         it.\n",
    );
    text
}
