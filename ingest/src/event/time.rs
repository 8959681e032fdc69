//! A point in time, in whole microseconds of UTC.
//!
//! The text form is RFC 3339 with exactly six digits of fraction and `Z`: 27 bytes
//! whose order is the order of time. Writing and reading are done here, since both
//! happen for each event and the range is exactly the one that RFC 3339 can say.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Error;

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;
/// Days of 400 years, after which the calendar repeats.
const ERA_DAYS: i64 = 146_097;
/// Days from the first of March of year 0 to the first of January of 1970.
const EPOCH_DAYS: i64 = 719_468;
const EXPECTED: &str = "expected a time as in 2026-01-31T23:59:59.000000Z";

/// Microseconds since 1970-01-01T00:00:00Z, without leap seconds; negative before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// 0000-01-01T00:00:00.000000Z, the earliest that RFC 3339 can write.
    pub const MIN: Self = Self(-719_528 * DAY);
    /// 9999-12-31T23:59:59.999999Z, the latest.
    pub const MAX: Self = Self(2_932_897 * DAY - 1);

    /// The time so many microseconds after 1970 began. One that lies outside the
    /// years 0 to 9999 becomes [`Timestamp::MIN`] or [`Timestamp::MAX`].
    pub const fn from_micros(micros: i64) -> Self {
        if micros < Self::MIN.0 {
            Self::MIN
        } else if micros > Self::MAX.0 {
            Self::MAX
        } else {
            Self(micros)
        }
    }

    /// Microseconds since 1970 began.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Microseconds from `earlier` to this time, negative if it came after.
    pub const fn micros_since(self, earlier: Self) -> i64 {
        self.0 - earlier.0
    }

    /// The time so much later.
    pub fn after(self, wait: Duration) -> Self {
        let micros = i64::try_from(wait.as_micros()).unwrap_or(i64::MAX);
        Self::from_micros(self.0.saturating_add(micros))
    }

    /// The text form, in ASCII.
    pub fn to_ascii(self) -> [u8; 27] {
        let (days, micros) = (self.0.div_euclid(DAY), self.0.rem_euclid(DAY));
        let (year, month, day) = date_of(days);
        let seconds = micros / SECOND;
        let mut text = *b"0000-00-00T00:00:00.000000Z";
        digits(&mut text[0..4], year);
        digits(&mut text[5..7], month);
        digits(&mut text[8..10], day);
        digits(&mut text[11..13], seconds / 3600);
        digits(&mut text[14..16], seconds / 60 % 60);
        digits(&mut text[17..19], seconds % 60);
        digits(&mut text[20..26], micros % SECOND);
        text
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.to_ascii();
        f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

/// As text, by RFC 3339.
impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

impl FromStr for Timestamp {
    type Err = Error;

    /// Reads any RFC 3339 time: with any offset, any number of fractional digits
    /// (what is finer than a microsecond is cut off), and a leap second, which is
    /// the second after it.
    fn from_str(text: &str) -> Result<Self, Error> {
        let fail = |reason: &str| Error::Text { what: "time", reason: reason.to_owned() };
        let micros = parse(text.as_bytes()).ok_or_else(|| fail(EXPECTED))?;
        if !(Self::MIN.0..=Self::MAX.0).contains(&micros) {
            return Err(fail("the time lies outside the years 0000 to 9999"));
        }
        Ok(Self(micros))
    }
}

fn digits(place: &mut [u8], number: i64) {
    let mut rest = number;
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
}

/// The civil date of a day counted from 1970. Years are taken to begin in March, so
/// that the leap day comes last and the months before it have a fixed pattern: five
/// of them take 153 days.
fn date_of(days: i64) -> (i64, i64, i64) {
    let from_march_0 = days + EPOCH_DAYS;
    let era = from_march_0.div_euclid(ERA_DAYS);
    let day_of_era = from_march_0.rem_euclid(ERA_DAYS);
    let leap_days = day_of_era / 1_460 - day_of_era / 36_524 + day_of_era / 146_096;
    let year_of_era = (day_of_era - leap_days) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

/// The day, counted from 1970, of a civil date that exists.
fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let march_year = if month <= 2 { year - 1 } else { year };
    let march_month = (month + 9) % 12;
    let day_of_year = (153 * march_month + 2) / 5 + day - 1;
    let (era, year_of_era) = (march_year.div_euclid(400), march_year.rem_euclid(400));
    let leap_days = year_of_era / 4 - year_of_era / 100;
    era * ERA_DAYS + year_of_era * 365 + leap_days + day_of_year - EPOCH_DAYS
}

fn month_days(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn parse(text: &[u8]) -> Option<i64> {
    let (main, rest) = text.split_at_checked(19)?;
    let separators = [(4, b'-'), (7, b'-'), (13, b':'), (16, b':')];
    if separators.iter().any(|&(at, byte)| main[at] != byte) || !matches!(main[10], b'T' | b't') {
        return None;
    }
    let (year, month) = (number(&main[0..4])?, number(&main[5..7])?);
    let (day, hour) = (number(&main[8..10])?, number(&main[11..13])?);
    let (minute, second) = (number(&main[14..16])?, number(&main[17..19])?);
    let exists = (1..=12).contains(&month) && (1..=month_days(year, month)).contains(&day);
    if !exists || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (fraction, offset) = parse_fraction(rest)?;
    let seconds = hour * 3600 + minute * 60 + second - parse_offset(offset)?;
    Some(days_of(year, month, day) * DAY + seconds * SECOND + fraction)
}

/// The microseconds of a fraction, if there is one, and what follows it.
fn parse_fraction(text: &[u8]) -> Option<(i64, &[u8])> {
    let Some(rest) = text.strip_prefix(b".") else {
        return Some((0, text));
    };
    let length = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let kept = &rest[..length.min(6)];
    let micros = number(kept)? * 10_i64.pow(6 - kept.len() as u32);
    Some((micros, &rest[length..]))
}

/// Seconds that the written time is ahead of UTC.
fn parse_offset(text: &[u8]) -> Option<i64> {
    match text {
        b"Z" | b"z" => Some(0),
        [sign @ (b'+' | b'-'), hours @ .., b':', m1, m2] if hours.len() == 2 => {
            let (hours, minutes) = (number(hours)?, number(&[*m1, *m2])?);
            let seconds = hours * 3600 + minutes * 60;
            let fits = hours <= 23 && minutes <= 59;
            fits.then_some(if *sign == b'-' { -seconds } else { seconds })
        }
        _ => None,
    }
}

/// A number of one to six digits.
fn number(text: &[u8]) -> Option<i64> {
    let digit = |byte: &u8| byte.is_ascii_digit().then(|| i64::from(byte - b'0'));
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0, |sum, byte| Some(sum * 10 + digit(byte)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_text(micros: i64, expected: &str) {
        let time = Timestamp::from_micros(micros);
        assert_eq!(time.to_string(), expected);
        assert_eq!(expected.parse(), Ok(time));
    }

    #[test]
    fn times_are_written_and_read() {
        check_text(0, "1970-01-01T00:00:00.000000Z");
        check_text(-1, "1969-12-31T23:59:59.999999Z");
        check_text(1_709_210_096_000_007, "2024-02-29T12:34:56.000007Z");
        check_text(951_782_400_000_000, "2000-02-29T00:00:00.000000Z");
        check_text(-2_203_891_200_000_000, "1900-03-01T00:00:00.000000Z");
        check_text(Timestamp::MAX.as_micros(), "9999-12-31T23:59:59.999999Z");
        check_text(Timestamp::MIN.as_micros(), "0000-01-01T00:00:00.000000Z");
    }

    #[test]
    fn times_outside_the_years_become_the_nearest() {
        assert_eq!(Timestamp::from_micros(i64::MAX), Timestamp::MAX);
        assert_eq!(Timestamp::from_micros(i64::MIN), Timestamp::MIN);
    }

    #[test]
    fn every_day_agrees_with_jiff() {
        let first: jiff::Timestamp = "0001-01-01T00:00:00Z".parse().unwrap();
        for days in 0..3_652_000_i64 {
            let micros = first.as_microsecond() + days * DAY + days * 23_456_789 % DAY;
            if days % 7 != 0 && days > 160_000 {
                continue;
            }
            let theirs = jiff::Timestamp::from_microsecond(micros).unwrap();
            let ours = Timestamp::from_micros(micros).to_string();
            assert_eq!(ours, format!("{theirs:.6}"));
            assert_eq!(ours.parse(), Ok(Timestamp::from_micros(micros)));
        }
    }

    fn check_read(text: &str, expected: Option<&str>) {
        let read = text.parse::<Timestamp>().ok().map(|time| time.to_string());
        assert_eq!(read.as_deref(), expected, "{text}");
    }

    #[test]
    fn other_forms_of_rfc_3339_are_read() {
        check_read("2026-01-31T10:00:00Z", Some("2026-01-31T10:00:00.000000Z"));
        check_read("2026-01-31t10:00:00.5z", Some("2026-01-31T10:00:00.500000Z"));
        check_read("2026-01-31T10:00:00.123456789Z", Some("2026-01-31T10:00:00.123456Z"));
        check_read("2026-01-31T10:00:00+05:30", Some("2026-01-31T04:30:00.000000Z"));
        check_read("2026-01-01T00:00:00-00:01", Some("2026-01-01T00:01:00.000000Z"));
        check_read("2016-12-31T23:59:60Z", Some("2017-01-01T00:00:00.000000Z"));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "2026-01-31",
            "2026-01-31 10:00:00Z",
            "2026-01-31T10:00:00",
            "2026-01-31T10:00:00.Z",
            "2026-01-31T10:00:00,5Z",
            "2026-02-29T10:00:00Z",
            "2026-13-01T10:00:00Z",
            "2026-00-01T10:00:00Z",
            "2026-01-32T10:00:00Z",
            "2026-01-31T24:00:00Z",
            "2026-01-31T10:60:00Z",
            "2026-01-31T10:00:61Z",
            "2026-01-31T10:00:00+0530",
            "2026-01-31T10:00:00+24:00",
            "2026-01-31T10:00:00ZZ",
            "+026-01-31T10:00:00Z",
            "2026-01-31T10:00:0٣Z",
            "9999-12-31T23:59:60Z",
            "9999-12-31T23:59:59-00:01",
            "0000-01-01T00:00:00+00:01",
        ] {
            check_read(text, None);
        }
    }
}
