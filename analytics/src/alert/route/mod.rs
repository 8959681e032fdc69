//! Who is told of which alerts, and when: the first route that an alert fits.

mod quiet;

use ingest::registry::Fault;
use lettre::message::Mailbox;
use serde::Deserialize;
use serde_json::Value;

pub use quiet::Quiet;

use super::{Mail, Webhook};
use crate::detect::Alert;
use crate::query::Severity;

/// How many routes there are at most, and steps of an escalation.
const ROUTES_MAX: usize = 100;
const STEPS_MAX: usize = 5;
/// How many names or addresses a list has at most.
const LIST_MAX: usize = 20;
/// How long a digest gathers, and how long nobody may have acknowledged.
const DIGEST_MS: std::ops::RangeInclusive<u64> = 1_000..=86_400_000;
const AFTER_MS: std::ops::RangeInclusive<u64> = 1_000..=86_400_000;

/// Who is told of the alerts that fit it, and when. What is left out fits all, or is as
/// without routes.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Route {
    /// From which severity on.
    pub severity: Severity,
    /// Detections by name; a star stands for any letters.
    pub detections: Vec<String>,
    /// Who answers for the detection; with stars.
    pub owners: Vec<String>,
    /// The API that it is about: the subject, or the column `api_name` of its finding; with
    /// stars.
    pub apis: Vec<String>,
    /// Whether it was found in a replay.
    pub replays: Option<bool>,
    /// Who is written to; if it is left out, whom the detection names, else those of
    /// [`Mail::recipients`].
    pub emails: Option<Vec<String>>,
    /// The webhooks that are posted to, by name; if it is left out, all.
    pub webhooks: Option<Vec<String>>,
    /// Whether they are told too when an alert is over; so it is, if it is left out.
    pub resolved: Option<bool>,
    /// How long alerts are gathered for one message, in ms, 1 s to a day; if it is left out,
    /// each is told of at once.
    pub digest_ms: Option<u64>,
    /// When nobody is to be disturbed.
    pub quiet: Option<Quiet>,
    /// Who else is told if nobody acknowledges it, step by step.
    pub escalate: Vec<Escalation>,
}

/// A step of an escalation.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Escalation {
    /// How long after the first were told, in ms, 1 s to a day; each step later than the one
    /// before it.
    pub after_ms: u64,
    /// Who is written to.
    #[serde(default)]
    pub emails: Vec<String>,
    /// The webhooks that are posted to, by name.
    #[serde(default)]
    pub webhooks: Vec<String>,
}

impl Route {
    /// Whether an alert fits.
    pub(super) fn fits(&self, alert: &Alert) -> bool {
        let any = |patterns: &[String], name: Option<&str>| {
            patterns.is_empty()
                || name.is_some_and(|name| patterns.iter().any(|of| is_like(name, of)))
        };
        alert.severity >= self.severity
            && any(&self.detections, Some(&alert.detection))
            && any(&self.owners, Some(&alert.owner))
            && any(&self.apis, api_of(alert))
            && self.replays.is_none_or(|replays| replays == alert.replay_id.is_some())
    }

    /// Says everything that is wrong with it, `path` being where it stands.
    fn faults(&self, path: &str, mail: Option<&Mail>, webhooks: &[Webhook]) -> Vec<Fault> {
        let mut faults = Vec::new();
        for (name, list) in
            [("detections", &self.detections), ("owners", &self.owners), ("apis", &self.apis)]
        {
            if list.len() > LIST_MAX {
                let what = format!("{} names", list.len());
                faults.push(Fault::new(format!("{path}.{name}"), what, "give up to 20"));
            }
        }
        let to = Told { path, emails: self.emails.as_deref(), webhooks: self.webhooks.as_deref() };
        to.faults(mail, webhooks, &mut faults);
        if self.digest_ms.is_some_and(|digest| !DIGEST_MS.contains(&digest)) {
            let what = "is out of range".to_owned();
            faults.push(Fault::new(
                format!("{path}.digest_ms"),
                what,
                "use 1,000 to 86,400,000 ms, a day",
            ));
        }
        if let Some(quiet) = &self.quiet
            && let Err(why) = quiet.check()
        {
            let mend = "leave some time of the week in which alerts are told of";
            faults.push(Fault::new(format!("{path}.quiet"), why, mend));
        }
        if self.escalate.len() > STEPS_MAX {
            let what = format!("{} steps", self.escalate.len());
            faults.push(Fault::new(format!("{path}.escalate"), what, "give up to 5"));
        }
        let tells = |list: &Option<Vec<String>>| list.as_ref().is_none_or(|list| !list.is_empty());
        if !self.escalate.is_empty() && !tells(&self.emails) && !tells(&self.webhooks) {
            let what = "nobody is told before".to_owned();
            let mend = "give emails or webhooks of the route, who are told at once";
            faults.push(Fault::new(format!("{path}.escalate"), what, mend));
        }
        let mut before = 0;
        for (at, step) in self.escalate.iter().enumerate() {
            let path = format!("{path}.escalate[{at}]");
            if !AFTER_MS.contains(&step.after_ms) || step.after_ms <= before {
                let what = format!("{} is out of range", step.after_ms);
                let mend = "use 1,000 to 86,400,000 ms, and more than the step before it";
                faults.push(Fault::new(format!("{path}.after_ms"), what, mend));
            }
            before = step.after_ms;
            if step.emails.is_empty() && step.webhooks.is_empty() {
                let what = "tells nobody".to_owned();
                faults.push(Fault::new(path.clone(), what, "give emails or webhooks"));
            }
            let to =
                Told { path: &path, emails: Some(&step.emails), webhooks: Some(&step.webhooks) };
            to.faults(mail, webhooks, &mut faults);
        }
        faults
    }
}

/// Says everything that is wrong with routes.
pub(crate) fn faults(routes: &[Route], mail: Option<&Mail>, webhooks: &[Webhook]) -> Vec<Fault> {
    if routes.len() > ROUTES_MAX {
        let what = format!("{} of them", routes.len());
        return vec![Fault::new("routes", what, format!("give up to {ROUTES_MAX}"))];
    }
    let mut faults = Vec::new();
    for (at, route) in routes.iter().enumerate() {
        faults.extend(route.faults(&format!("routes[{at}]"), mail, webhooks));
    }
    faults
}

/// Who is told, where it stands.
struct Told<'a> {
    path: &'a str,
    emails: Option<&'a [String]>,
    webhooks: Option<&'a [String]>,
}

impl Told<'_> {
    fn faults(&self, mail: Option<&Mail>, webhooks: &[Webhook], faults: &mut Vec<Fault>) {
        let mut add = |of: &str, what: String, mend: &str| {
            faults.push(Fault::new(format!("{}.{of}", self.path), what, mend));
        };
        let emails = self.emails.unwrap_or_default();
        if emails.len() > LIST_MAX {
            add("emails", format!("{} addresses", emails.len()), "give up to 20");
        }
        for email in emails {
            if let Err(error) = email.parse::<Mailbox>() {
                let what = format!("{email:?} is no address: {error}");
                add("emails", what, "write ops@example.org");
            }
        }
        if mail.is_none() && !emails.is_empty() {
            add("emails", "there is no mail server".to_owned(), "give analytics.mail");
        }
        for name in self.webhooks.unwrap_or_default() {
            if webhooks.iter().all(|webhook| webhook.name != *name) {
                let what = format!("no webhook is called {name}");
                add("webhooks", what, "name some of analytics.webhooks");
            }
        }
    }
}

/// The API that an alert is about.
fn api_of(alert: &Alert) -> Option<&str> {
    const API: &str = "api_name";
    if alert.subject_kind == API {
        return Some(&alert.subject);
    }
    let column = alert.evidence.iter().find(|column| column.name == API)?;
    match &column.value {
        Value::String(name) => Some(name),
        _ => None,
    }
}

/// Whether a name is like a pattern, in which stars stand for any letters, and what follows a
/// backslash for itself.
pub(super) fn is_like(name: &str, pattern: &str) -> bool {
    // What stands between the stars.
    let mut parts = vec![String::new()];
    let mut letters = pattern.chars();
    while let Some(letter) = letters.next() {
        let part = parts.last_mut().expect("there is one from the first");
        match letter {
            '*' => parts.push(String::new()),
            '\\' => part.extend(letters.next()),
            letter => part.push(letter),
        }
    }
    let [first, middle @ .., last] = &parts[..] else { return name == parts[0] };
    let Some(mut rest) = name.strip_prefix(first.as_str()) else { return false };
    for part in middle {
        let Some(at) = rest.find(part.as_str()) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_any_letters() {
        for (name, pattern, expected) in [
            ("scanner", "scanner", true),
            ("scanner", "scan", false),
            ("scanner", "scan*", true),
            ("scanner", "*", true),
            ("scanner", "*ner", true),
            ("scanner", "s*n*r", true),
            ("scanner", "s*r*n", false),
            ("scanner", "scanner*", true),
            ("scan", "scan*n", false),
            ("", "*", true),
            ("a*b", "a\\*b", true),
            ("axb", "a\\*b", false),
            ("a\\", "a\\\\", true),
        ] {
            assert_eq!(is_like(name, pattern), expected, "{name} {pattern}");
        }
    }
}
