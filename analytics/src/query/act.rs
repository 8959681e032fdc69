use std::time::Duration;

use ingest::decision::{Action, LASTS_MAX, SubjectKind};
use ingest::registry::kind::Quota;
use jiff::SignedDuration;
use serde::Deserialize;

use super::Header;

/// What a detection decides of whom it finds, as its header says it:
/// `action: {block: address, for: 30 min}`, or
/// `action: {slow: application, to: 60/1 min, for: 1 h}`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub struct Act {
    /// What the subject of the detection is.
    pub against: SubjectKind,
    /// What becomes of its requests.
    pub action: Action,
    /// For how long, from the end of the last window in which it is found.
    pub lasts: Duration,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    block: Option<SubjectKind>,
    slow: Option<SubjectKind>,
    to: Option<String>,
    #[serde(rename = "for")]
    lasts: String,
}

/// What the columns of events are that name a subject.
const COLUMNS: [(&str, SubjectKind); 4] = [
    ("client_address", SubjectKind::Address),
    ("app_id", SubjectKind::Application),
    ("app_name", SubjectKind::Application),
    ("auth_subject", SubjectKind::User),
];

impl Act {
    /// What of it does not fit the rest of the header, and what to do.
    pub(super) fn misfit(&self, header: &Header) -> Option<(String, String)> {
        let subject = header.subject.as_deref().unwrap_or_default();
        let column = COLUMNS.iter().find(|(name, _)| *name == subject);
        if let Some((name, kind)) = column.filter(|(_, kind)| *kind != self.against) {
            let (is, said) = (kind.text(), self.against.text());
            return Some((
                format!("is against {said}, and {name} is {is}"),
                format!("name {is} there, or another column as the subject"),
            ));
        }
        // A finding comes when the lateness is over.
        if self.lasts <= header.lateness {
            let lateness = header.lateness.as_secs();
            return Some((
                format!("is over before anything is found: the lateness is {lateness} s"),
                "give a longer time".to_owned(),
            ));
        }
        None
    }
}

impl TryFrom<Written> for Act {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let Written { block, slow, to, lasts } = written;
        let lasts = span(&lasts).filter(|of| *of >= Duration::from_secs(1) && *of <= LASTS_MAX);
        let lasts = lasts.ok_or("action: for: give a second to 720 h, as `30 min` or `2 h`")?;
        let (against, action) = match (block, slow, to) {
            (Some(against), None, None) => (against, Action::Block),
            (None, Some(against), Some(to)) => (against, Action::Slow(quota(&to)?)),
            (None, Some(_), None) => {
                return Err(
                    "action: to: is missing; say how many requests it may make, as `60/1 min`"
                        .into(),
                );
            }
            (Some(_), None, Some(_)) => {
                return Err("action: to: is for `slow`; what is blocked may make none".into());
            }
            _ => {
                return Err(
                    "action: give one of `block` and `slow`, with address, application or user"
                        .into(),
                );
            }
        };
        action.check().map_err(|why| format!("action: to: {why}"))?;
        Ok(Self { against, action, lasts })
    }
}

fn span(text: &str) -> Option<Duration> {
    text.trim().parse::<SignedDuration>().ok()?.try_into().ok()
}

fn quota(text: &str) -> Result<Quota, String> {
    let read = text.split_once('/').and_then(|(max, window)| {
        let window_ms = u64::try_from(span(window)?.as_millis()).ok()?;
        Some(Quota { max: max.trim().parse().ok()?, window_ms })
    });
    read.ok_or_else(|| {
        format!("action: to: `{text}` is no number of requests in a time; write `60/1 min`")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_decided_is_read_or_refused_by_its_key() {
        let check = |yaml: &str, expected: Result<(&str, &str, u64), &str>| {
            let read = serde_norway::from_str::<Act>(yaml);
            match (read, expected) {
                (Ok(act), Ok((against, does, seconds))) => {
                    assert_eq!(act.against.text(), against, "{yaml}");
                    assert_eq!(act.action.to_string(), does, "{yaml}");
                    assert_eq!(act.lasts.as_secs(), seconds, "{yaml}");
                }
                (Err(error), Err(says)) => {
                    assert!(error.to_string().contains(says), "{yaml}: {error}");
                }
                (read, _) => panic!("{yaml}: {read:?}"),
            }
        };
        check("{block: address, for: 30 min}", Ok(("address", "blocked", 1_800)));
        check(
            "{slow: application, to: 60/1 min, for: 2 h}",
            Ok(("application", "slowed to 60 requests in 60 s", 7_200)),
        );
        check("{block: address}", Err("missing field `for`"));
        check("{block: address, for: soon}", Err("for: give a second"));
        check("{block: address, for: 721 h}", Err("for: give a second"));
        check("{for: 1 h}", Err("give one of"));
        check("{block: user, slow: user, to: 1/1 s, for: 1 h}", Err("give one of"));
        check("{slow: user, for: 1 h}", Err("to: is missing"));
        check("{slow: user, to: many, for: 1 h}", Err("to: `many` is no number"));
        check("{slow: user, to: 0/1 s, for: 1 h}", Err("to: max: 0 is out of range"));
        check("{block: user, to: 1/1 s, for: 1 h}", Err("action: to: is for `slow`"));
        check("{block: country, for: 1 h}", Err("unknown variant `country`"));
        check("{ban: user, for: 1 h}", Err("unknown field `ban`"));
    }
}
