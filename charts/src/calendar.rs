//! Times as people read them, in UTC.

use ingest::event::Timestamp;

/// A second, in microseconds.
pub const SECOND: i64 = 1_000_000;
/// A minute.
pub const MINUTE: i64 = 60 * SECOND;
/// An hour.
pub const HOUR: i64 = 60 * MINUTE;
/// A day.
pub const DAY: i64 = 24 * HOUR;

/// The steps that time is divided into.
const STEPS: [i64; 18] = [
    SECOND,
    2 * SECOND,
    5 * SECOND,
    10 * SECOND,
    15 * SECOND,
    30 * SECOND,
    MINUTE,
    2 * MINUTE,
    5 * MINUTE,
    10 * MINUTE,
    15 * MINUTE,
    30 * MINUTE,
    HOUR,
    2 * HOUR,
    6 * HOUR,
    12 * HOUR,
    DAY,
    7 * DAY,
];
/// The shortest step that divides a span of time, in microseconds, into no more than so many;
/// of years whole weeks, as many as it takes.
pub fn step_of(span_us: i64, steps_max: i64) -> i64 {
    let fits = |step: &&i64| span_us <= **step * steps_max;
    let weeks = || (span_us / (7 * DAY * steps_max) + 1) * 7 * DAY;
    STEPS.iter().find(fits).copied().unwrap_or_else(weeks)
}

/// A time as the calendar has it, in UTC.
#[derive(Debug, Clone)]
pub struct Civil(String);

impl Civil {
    /// Of microseconds since 1970.
    pub fn of(micros: i64) -> Self {
        Self(Timestamp::from_micros(micros).to_string())
    }

    /// `17 May 2015`.
    pub fn day_text(&self) -> String {
        format!("{} {}", self.day_of_month(), &self.0[..4])
    }

    /// `17 May`.
    pub fn day_of_month(&self) -> String {
        const MONTHS: [&str; 12] =
            ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let month = self.0[5..7].parse::<usize>().ok().and_then(|month| MONTHS.get(month - 1));
        format!("{} {}", self.0[8..10].trim_start_matches('0'), month.unwrap_or(&"?"))
    }

    /// `10:00`, or with seconds where steps are shorter than a minute.
    pub fn clock_text(&self, step_us: i64) -> String {
        let end = if step_us < MINUTE { 19 } else { 16 };
        self.0[11..end].to_owned()
    }

    /// Whether a day begins then.
    pub fn is_midnight(&self) -> bool {
        self.0[11..19] == *"00:00:00"
    }
}
