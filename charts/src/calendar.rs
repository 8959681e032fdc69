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
