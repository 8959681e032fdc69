//! Where the rules of an axis are.

use crate::calendar::{Civil, DAY, HOUR, MINUTE, SECOND};
use crate::unit::Unit;

/// The distances between labels of time.
const TIME_STEPS: [i64; 17] = [
    SECOND,
    5 * SECOND,
    15 * SECOND,
    30 * SECOND,
    MINUTE,
    5 * MINUTE,
    10 * MINUTE,
    15 * MINUTE,
    30 * MINUTE,
    HOUR,
    2 * HOUR,
    3 * HOUR,
    6 * HOUR,
    12 * HOUR,
    DAY,
    2 * DAY,
    7 * DAY,
];

/// Round values from 0 to at least the largest, `count` or so.
pub(super) fn values(largest: f64, count: usize, unit: Unit) -> Vec<f64> {
    let least = match unit {
        // There is no half of a request.
        Unit::Count | Unit::Bytes => 1.0,
        Unit::Share => 0.001,
        _ => 1e-3,
    };
    let rough = (largest / count.max(1) as f64).max(least);
    let power = 10_f64.powf(rough.log10().floor());
    let of = [1.0, 2.0, 2.5, 5.0, 10.0];
    let fits = |factor: &&f64| power * **factor >= rough * (1.0 - 1e-9);
    let whole = |factor: &&f64| least < 1.0 || (power * **factor).fract() == 0.0;
    let step = power * of.iter().filter(whole).find(fits).unwrap_or(&10.0);
    let last = (largest / step).ceil().max(1.0);
    (0..=last as u64).map(|at| at as f64 * step).collect()
}

/// Times and their labels, `count` at most, each at a whole number of its distance.
pub(super) fn times(from: i64, until: i64, count: usize) -> Vec<(i64, String)> {
    let rough = (until - from) / i64::try_from(count.max(1)).unwrap_or(1);
    let weeks = || (rough / (7 * DAY) + 1) * 7 * DAY;
    let step = TIME_STEPS.iter().find(|step| **step >= rough).copied().unwrap_or_else(weeks);
    let first = (from + step - 1).div_euclid(step) * step;
    let label = |at: i64| {
        let civil = Civil::of(at);
        if step >= DAY || civil.is_midnight() {
            civil.day_of_month()
        } else {
            civil.clock_text(step)
        }
    };
    let step_of = usize::try_from(step).unwrap_or(usize::MAX);
    (first..until).step_by(step_of).map(|at| (at, label(at))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_round_and_reach_the_largest() {
        let check = |largest: f64, unit: Unit, expected: &[f64]| {
            assert_eq!(values(largest, 4, unit), expected, "{largest}");
        };
        check(0.0, Unit::Count, &[0.0, 1.0]);
        check(3.0, Unit::Count, &[0.0, 1.0, 2.0, 3.0]);
        check(160.0, Unit::Count, &[0.0, 50.0, 100.0, 150.0, 200.0]);
        check(9.0, Unit::Count, &[0.0, 5.0, 10.0]);
        check(0.8, Unit::Share, &[0.0, 0.2, 0.4, 0.6000000000000001, 0.8]);
        check(12_400.0, Unit::Duration, &[0.0, 5_000.0, 10_000.0, 15_000.0]);
    }

    #[test]
    fn times_are_where_people_look_for_them() {
        let day = 1_431_820_800_000_000; // 2015-05-17
        let labels = |from: i64, until: i64| {
            let times = times(from, until, 6);
            times.into_iter().map(|(_, label)| label).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(labels(day + 10 * HOUR, day + 94 * HOUR), "18 May 19 May 20 May");
        assert_eq!(
            labels(day + 20 * HOUR, day + 32 * HOUR),
            "20:00 22:00 18 May 02:00 04:00 06:00"
        );
        assert_eq!(labels(day, day + 20_000_000), "17 May 00:00:05 00:00:10 00:00:15");
    }
}
