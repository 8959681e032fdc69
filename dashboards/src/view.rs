//! What of the history is looked at: which timeline, from when to when, in which steps.

use charts::calendar::{Civil, DAY, HOUR, MINUTE, SECOND, step_of};

use crate::board::Literal;

/// The most steps in a chart.
const STEPS_MAX: i64 = 96;

/// Live traffic, or one replay.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Timeline {
    Live,
    Replay(String),
}

impl Timeline {
    /// As in an address.
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Live => "live",
            Self::Replay(id) => id,
        }
    }

    /// What holds of its rows.
    fn sql(&self) -> String {
        match self {
            Self::Live => "(replay_id IS NULL)".to_owned(),
            Self::Replay(id) => format!("(replay_id = {})", Literal::Text(id).sql()),
        }
    }
}

/// How much of a timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Span {
    /// So many microseconds up to its end.
    Last(i64),
    All,
}

impl Span {
    pub(crate) const CHOICES: [(&'static str, &'static str, Self); 6] = [
        ("15m", "15 minutes", Self::Last(15 * MINUTE)),
        ("1h", "1 hour", Self::Last(HOUR)),
        ("6h", "6 hours", Self::Last(6 * HOUR)),
        ("24h", "24 hours", Self::Last(DAY)),
        ("7d", "7 days", Self::Last(7 * DAY)),
        ("all", "all", Self::All),
    ];

    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::CHOICES.iter().find(|(name, ..)| *name == text).map(|(.., span)| *span)
    }

    pub(crate) fn text(self) -> &'static str {
        Self::CHOICES.iter().find(|(.., span)| *span == self).map_or("all", |(name, ..)| name)
    }
}

/// A timeline that there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) timeline: Timeline,
    pub(crate) requests: i64,
    /// Of its first and its last request.
    pub(crate) from_us: i64,
    pub(crate) until_us: i64,
}

/// What is asked for; what is left out is chosen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Asked {
    pub(crate) timeline: Option<Timeline>,
    pub(crate) span: Option<Span>,
}

/// What is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) timeline: Timeline,
    pub(crate) span: Span,
    /// From this time on, in microseconds since 1970, a whole number of steps.
    pub(crate) from_us: i64,
    /// Up to before this time.
    pub(crate) until_us: i64,
    /// How long a step is.
    pub(crate) step_us: i64,
}

impl View {
    /// Live traffic if there was any in the last day, else the latest replay, else live.
    pub(crate) fn of(asked: &Asked, known: &[Known], now_us: i64) -> Self {
        let live = known.iter().find(|of| of.timeline == Timeline::Live);
        let timeline = asked.timeline.clone().unwrap_or_else(|| {
            let replay = known.iter().find(|of| of.timeline != Timeline::Live);
            match (live, replay) {
                (Some(live), _) if live.until_us >= now_us - DAY => Timeline::Live,
                (_, Some(replay)) => replay.timeline.clone(),
                _ => Timeline::Live,
            }
        });
        let of_it = known.iter().find(|of| of.timeline == timeline);
        let (usual, end) = match timeline {
            Timeline::Live => (Span::Last(HOUR), now_us),
            Timeline::Replay(_) => (Span::All, of_it.map_or(now_us, |of| of.until_us + 1)),
        };
        let span = asked.span.unwrap_or(usual);
        let from = match (span, of_it) {
            (Span::Last(micros), _) => end - micros,
            (Span::All, Some(of)) => of.from_us,
            (Span::All, None) => end - HOUR,
        };
        let step = step_of(end - from, STEPS_MAX);
        let from_us = from.div_euclid(step) * step;
        let until_us = (end + step - 1).div_euclid(step) * step;
        Self { timeline, span, from_us, until_us: until_us.max(from_us + step), step_us: step }
    }

    /// The steps' beginnings.
    pub(crate) fn steps(&self) -> impl Iterator<Item = i64> {
        let step = usize::try_from(self.step_us).unwrap_or(usize::MAX);
        (self.from_us..self.until_us).step_by(step)
    }

    /// A parameter's value in SQL.
    pub(crate) fn parameter(&self, name: &str) -> Option<String> {
        Some(match name {
            "from" => Literal::Time(self.from_us).sql(),
            "until" => Literal::Time(self.until_us).sql(),
            "bin" => Literal::Interval(self.step_us).sql(),
            "timeline" => self.timeline.sql(),
            _ => return None,
        })
    }

    /// As in an address.
    pub(crate) fn query(&self) -> String {
        let mut query = format!("span={}&timeline=", self.span.text());
        for byte in self.timeline.text().bytes() {
            if byte.is_ascii_alphanumeric() || b"-._".contains(&byte) {
                query.push(char::from(byte));
            } else {
                query.push_str(&format!("%{byte:02X}"));
            }
        }
        query
    }

    /// In words: `17 May 2015, 10:00 to 20 May 2015, 22:00 UTC, in steps of 1 h`.
    pub(crate) fn words(&self) -> String {
        let (from, until) = (Civil::of(self.from_us), Civil::of(self.until_us));
        let until = if from.day_text() == until.day_text() {
            until.clock_text(self.step_us)
        } else {
            format!("{}, {}", until.day_text(), until.clock_text(self.step_us))
        };
        let from = format!("{}, {}", from.day_text(), from.clock_text(self.step_us));
        format!("{from} to {until} UTC, in steps of {}", step_text(self.step_us))
    }
}

fn step_text(micros: i64) -> String {
    match micros {
        DAY.. => format!("{} d", micros / DAY),
        HOUR.. => format!("{} h", micros / HOUR),
        MINUTE.. => format!("{} min", micros / MINUTE),
        _ => format!("{} s", micros / SECOND),
    }
}

#[cfg(test)]
mod tests {
    use ingest::event::Timestamp;

    use super::*;

    fn micros(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_micros()
    }

    #[test]
    fn what_is_looked_at_follows_what_there_is() {
        let now = micros("2026-11-25T12:34:56Z");
        let replay = Known {
            timeline: Timeline::Replay("may".to_owned()),
            requests: 10,
            from_us: micros("2015-05-17T10:05:00Z"),
            until_us: micros("2015-05-20T21:05:59Z"),
        };
        let live = Known {
            timeline: Timeline::Live,
            requests: 1,
            from_us: micros("2026-11-01T00:00:00Z"),
            until_us: now - HOUR,
        };
        let check = |asked: Asked, known: &[Known], timeline: &str, words: &str| {
            let view = View::of(&asked, known, now);
            assert_eq!((view.timeline.text(), view.words().as_str()), (timeline, words));
            assert!((view.until_us - view.from_us) / view.step_us <= STEPS_MAX + 2);
        };
        let none = Asked::default();
        let hour = "25 Nov 2026, 11:34:00 to 12:35:00 UTC, in steps of 1 min";
        let hour = hour.replace(":00 to", " to").replace(":00 UTC", " UTC");
        check(none.clone(), &[], "live", &hour);
        check(none.clone(), &[replay.clone(), live.clone()], "live", &hour);
        let may = "17 May 2015, 10:00 to 20 May 2015, 22:00 UTC, in steps of 1 h";
        check(none, std::slice::from_ref(&replay), "may", may);
        let last = Asked { timeline: None, span: Span::parse("15m") };
        let quarter = "20 May 2015, 20:50:50 to 21:06:00 UTC, in steps of 10 s";
        check(last, &[replay], "may", quarter);
        let all = Asked { timeline: Some(Timeline::Live), span: Some(Span::All) };
        let weeks = "1 Nov 2026, 00:00 to 26 Nov 2026, 00:00 UTC, in steps of 12 h";
        check(all, &[live], "live", weeks);
    }

    #[test]
    fn a_name_in_an_address_is_encoded() {
        let asked = Asked { timeline: Some(Timeline::Replay("a&b".to_owned())), span: None };
        let view = View::of(&asked, &[], 0);
        assert_eq!(view.query(), "span=all&timeline=a%26b");
        assert_eq!(view.parameter("timeline").unwrap(), "(replay_id = 'a&b')");
    }
}
