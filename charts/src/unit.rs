//! Numbers as people read them.

use serde::Deserialize;

/// What a number is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Things that are counted.
    #[default]
    Count,
    /// A share, 0 to 1, shown as a percentage.
    Share,
    /// Microseconds.
    Duration,
    /// Bytes.
    Bytes,
    /// No number.
    Text,
}

impl Unit {
    /// A value for reading: `9,998`, `12.4 ms`, `2.7 GB`, `3.8%`.
    pub fn exact(self, value: f64) -> String {
        match self {
            Self::Count if value.fract() == 0.0 => grouped(value),
            Self::Count => decimals(value),
            Self::Share => format!("{}%", decimals(value * 100.0)),
            Self::Duration => duration(value),
            Self::Bytes => bytes(value),
            Self::Text => decimals(value),
        }
    }

    /// A value for an axis, which is a round one: `10k`, `25 ms`.
    pub fn short(self, value: f64) -> String {
        match self {
            Self::Count | Self::Text => {
                let size = value.abs();
                match size {
                    1e9.. => format!("{}B", decimals(value / 1e9)),
                    1e6.. => format!("{}M", decimals(value / 1e6)),
                    1e4.. => format!("{}k", decimals(value / 1e3)),
                    _ => grouped_or_decimals(value),
                }
            }
            _ => self.exact(value),
        }
    }
}

fn grouped_or_decimals(value: f64) -> String {
    if value.fract() == 0.0 { grouped(value) } else { decimals(value) }
}

/// A whole number with its thousands apart.
fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if value < 0.0 { format!("-{text}") } else { text }
}

/// Three digits that say something, at most, and no zeros behind the point.
fn decimals(value: f64) -> String {
    let text = match value.abs() {
        100.0.. => return grouped(value.round()),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    };
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

fn duration(micros: f64) -> String {
    match micros.abs() {
        60e6.. => format!("{} min", decimals(micros / 60e6)),
        1e6.. => format!("{} s", decimals(micros / 1e6)),
        1e3.. => format!("{} ms", decimals(micros / 1e3)),
        0.0 => "0".to_owned(),
        _ => format!("{} µs", decimals(micros)),
    }
}

fn bytes(bytes: f64) -> String {
    match bytes.abs() {
        1e12.. => format!("{} TB", decimals(bytes / 1e12)),
        1e9.. => format!("{} GB", decimals(bytes / 1e9)),
        1e6.. => format!("{} MB", decimals(bytes / 1e6)),
        1e3.. => format!("{} kB", decimals(bytes / 1e3)),
        _ => format!("{} B", decimals(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_people_read_them() {
        let check = |unit: Unit, value: f64, exact: &str, short: &str| {
            assert_eq!((unit.exact(value), unit.short(value)), (exact.into(), short.into()));
        };
        check(Unit::Count, 0.0, "0", "0");
        check(Unit::Count, 9_998.0, "9,998", "9,998");
        check(Unit::Count, 1_234_567.0, "1,234,567", "1.23M");
        check(Unit::Count, 12_500.0, "12,500", "12.5k");
        check(Unit::Count, -1_000.0, "-1,000", "-1,000");
        check(Unit::Count, 0.5, "0.5", "0.5");
        check(Unit::Share, 0.0378, "3.78%", "3.78%");
        check(Unit::Share, 1.0, "100%", "100%");
        check(Unit::Duration, 850.0, "850 µs", "850 µs");
        check(Unit::Duration, 12_400.0, "12.4 ms", "12.4 ms");
        check(Unit::Duration, 1_500_000.0, "1.5 s", "1.5 s");
        check(Unit::Bytes, 2_747_282_740.0, "2.75 GB", "2.75 GB");
    }
}
