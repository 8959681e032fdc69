use jiff::Zoned;
use jiff::civil::{Time, Weekday};
use jiff::tz::TimeZone;
use serde::{Deserialize, Deserializer, de};

use crate::query::Severity;

/// When nobody is to be disturbed: hours of each day, and whole days. What comes then waits
/// for the end.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quiet {
    /// When it begins each day, as `22:00`; not at all if it is left out.
    #[serde(default, deserialize_with = "time")]
    pub from: Option<Time>,
    /// When it ends, the next day if that is earlier.
    #[serde(default, deserialize_with = "time")]
    pub until: Option<Time>,
    /// The days that are quiet from midnight to midnight.
    #[serde(default)]
    pub days: Vec<Day>,
    /// Whose hours they are, by the name of the IANA's database, as `Europe/Berlin`; UTC if it
    /// is left out.
    #[serde(default = "utc", deserialize_with = "zone")]
    pub timezone: TimeZone,
    /// From which severity on alerts do not wait; `critical` if it is left out.
    #[serde(default = "worst")]
    pub but: Severity,
}

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Day {
    Monday,
    Tuesday,
    Wednesday,
    Thursday,
    Friday,
    Saturday,
    Sunday,
}

fn worst() -> Severity {
    Severity::Critical
}

fn utc() -> TimeZone {
    TimeZone::UTC
}

fn time<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Time>, D::Error> {
    let text = String::deserialize(from)?;
    match Time::strptime("%H:%M", &text) {
        Ok(time) => Ok(Some(time)),
        Err(_) => Err(de::Error::custom(format!("{text:?} is no time of a day; write 22:00"))),
    }
}

fn zone<'de, D: Deserializer<'de>>(from: D) -> Result<TimeZone, D::Error> {
    let text = String::deserialize(from)?;
    TimeZone::get(&text).map_err(|_| {
        de::Error::custom(format!("{text:?} is no time zone; write its name, as Europe/Berlin"))
    })
}

impl Quiet {
    /// When the quiet ends that a time lies in, in ms since 1970; none if it lies in none.
    pub(crate) fn end(&self, at_ms: i64) -> Option<i64> {
        let began = jiff::Timestamp::from_millisecond(at_ms).ok()?.to_zoned(self.timezone.clone());
        let mut at = began.clone();
        // From border to border: two weeks have all that there are.
        for _ in 0..2 * 14 {
            if !self.has(&at) {
                return (at > began).then(|| at.timestamp().as_millisecond());
            }
            at = self.next_border(&at)?;
        }
        None
    }

    fn has(&self, at: &Zoned) -> bool {
        let day = match at.weekday() {
            Weekday::Monday => Day::Monday,
            Weekday::Tuesday => Day::Tuesday,
            Weekday::Wednesday => Day::Wednesday,
            Weekday::Thursday => Day::Thursday,
            Weekday::Friday => Day::Friday,
            Weekday::Saturday => Day::Saturday,
            Weekday::Sunday => Day::Sunday,
        };
        let time = at.time();
        let is_in_hours = match (self.from, self.until) {
            (Some(from), Some(until)) if from <= until => from <= time && time < until,
            (Some(from), Some(until)) => from <= time || time < until,
            _ => false,
        };
        is_in_hours || self.days.contains(&day)
    }

    /// The next time at which quiet may end.
    fn next_border(&self, at: &Zoned) -> Option<Zoned> {
        let midnight = at.tomorrow().ok()?.start_of_day().ok()?;
        let until = self.until.and_then(|until| at.with().time(until).build().ok());
        Some(until.filter(|until| until > at).map_or(midnight.clone(), |until| until.min(midnight)))
    }

    /// Why it cannot be.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.from.is_some() != self.until.is_some() {
            return Err("from and until belong together".to_owned());
        }
        if self.from.is_some() && self.from == self.until {
            return Err("from and until are the same time".to_owned());
        }
        if self.from.is_none() && self.days.is_empty() {
            return Err("neither hours nor days are given".to_owned());
        }
        // A Monday; each border of a week is looked at.
        let mut at = jiff::civil::date(2024, 1, 1).to_zoned(self.timezone.clone()).ok();
        for _ in 0..2 * 8 {
            match at.take() {
                Some(of) if self.has(&of) => at = self.next_border(&of),
                _ => return Ok(()),
            }
        }
        Err("all of the week is quiet".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quiet(yaml: &str) -> Result<Quiet, String> {
        serde_json::from_str::<Quiet>(yaml).map_err(|error| error.to_string())
    }

    fn ends(quiet: &Quiet, at: &str) -> Option<String> {
        let at: jiff::Timestamp = at.parse().unwrap();
        let end = quiet.end(at.as_millisecond())?;
        Some(jiff::Timestamp::from_millisecond(end).unwrap().to_string())
    }

    #[test]
    fn what_comes_in_the_night_waits_for_the_morning() {
        let night = quiet(r#"{"from": "22:00", "until": "07:00"}"#).unwrap();
        for (at, expected) in [
            ("2026-03-04T21:59:59Z", None),
            ("2026-03-04T22:00:00Z", Some("2026-03-05T07:00:00Z")),
            ("2026-03-05T03:00:00Z", Some("2026-03-05T07:00:00Z")),
            ("2026-03-05T07:00:00Z", None),
        ] {
            assert_eq!(ends(&night, at).as_deref(), expected, "{at}");
        }
        let noon = quiet(r#"{"from": "12:00", "until": "13:30"}"#).unwrap();
        assert_eq!(ends(&noon, "2026-03-04T12:01:00Z").as_deref(), Some("2026-03-04T13:30:00Z"));
        assert_eq!(ends(&noon, "2026-03-04T22:01:00Z"), None);
    }

    /// Friday evening to Monday morning, over the night in which Berlin's clocks go forward.
    #[test]
    fn nights_and_days_are_one_quiet_by_the_clocks_of_a_place() {
        let weekend = r#"{"from": "20:00", "until": "08:00", "days": ["saturday", "sunday"],
            "timezone": "Europe/Berlin"}"#;
        let quiet = quiet(weekend).unwrap();
        assert_eq!(quiet.check(), Ok(()));
        for (at, expected) in [
            ("2026-03-27T18:59:00Z", None),
            ("2026-03-27T19:00:00Z", Some("2026-03-30T06:00:00Z")),
            ("2026-03-29T12:00:00Z", Some("2026-03-30T06:00:00Z")),
            ("2026-03-30T06:00:00Z", None),
        ] {
            assert_eq!(ends(&quiet, at).as_deref(), expected, "{at}");
        }
    }

    #[test]
    fn a_quiet_that_cannot_be_is_refused() {
        let days =
            r#"["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]"#;
        for (text, expected) in [
            (r#"{"from": "22:00"}"#.to_owned(), "from and until belong together"),
            (r#"{"from": "22:00", "until": "22:00"}"#.to_owned(), "the same time"),
            ("{}".to_owned(), "neither hours nor days"),
            (format!(r#"{{"days": {days}}}"#), "all of the week is quiet"),
            (r#"{"from": "25:00", "until": "07:00"}"#.to_owned(), "is no time of a day"),
            (r#"{"from": "soon", "until": "07:00"}"#.to_owned(), "is no time of a day"),
            (r#"{"days": ["sunday"], "timezone": "Mars"}"#.to_owned(), "is no time zone"),
            (r#"{"days": ["holiday"]}"#.to_owned(), "holiday"),
        ] {
            let why = quiet(&text).and_then(|quiet| quiet.check()).unwrap_err();
            assert!(why.contains(expected), "{text}: {why}");
        }
    }
}
