//! How many rows there were over time, as a picture.

use anyhow::Context as _;
use charts::calendar::step_of;
use charts::theme::Theme;
use charts::{Chart, Series, Shape, Unit, WIDE};
use jiff::Timestamp;

use super::compare::Compared;
use crate::cli::Failure;

/// How many steps of time it has at most.
const STEPS_MAX: i64 = 90;
/// Pixels for each of CSS.
const SCALE: f32 = 2.0;

/// Bars of rows by the time in a column, as a PNG; of two versions that are called so, those
/// in both and those in one alone.
pub(super) fn draw(
    title: String,
    compared: &[Compared],
    column: &str,
    names: Option<[String; 2]>,
) -> Result<Vec<u8>, Failure> {
    let time = |of: &Compared| of.row[column].as_str()?.parse::<Timestamp>().ok();
    let timed = compared.iter().filter_map(|of| Some((time(of)?.as_microsecond(), of)));
    let timed: Vec<(i64, &Compared)> = timed.collect();
    let (first, last) = timed
        .iter()
        .fold((i64::MAX, i64::MIN), |(first, last), (time, _)| (first.min(*time), last.max(*time)));
    let step_us =
        if timed.is_empty() { 3_600_000_000 } else { step_of(last - first + 1, STEPS_MAX) };
    let from_us = if timed.is_empty() { 0 } else { first.div_euclid(step_us) * step_us };
    let steps = if timed.is_empty() { 1 } else { (last - from_us).div_euclid(step_us) + 1 };
    let kinds: Vec<(String, &'static str, Option<String>)> = match names {
        None => vec![("all".to_owned(), "bad", None)],
        Some([name, other]) => vec![
            ("in both".to_owned(), "quiet", None),
            (format!("only in {name}"), "bad", Some(name)),
            (format!("only in {other}"), "warn", Some(other)),
        ],
    };
    let series = kinds.into_iter().map(|(title, colour, only)| {
        let mut values = vec![Some(0.0); usize::try_from(steps).unwrap_or(1)];
        let of_kind = timed.iter().filter(|(_, of)| of.only == only);
        for (time, _) in of_kind {
            let at = usize::try_from((time - from_us).div_euclid(step_us)).unwrap_or(0);
            if let Some(Some(value)) = values.get_mut(at) {
                *value += 1.0;
            }
        }
        Series { title, colour, values }
    });
    let series = series.collect();
    let chart = Chart { title, shape: Shape::Bars, unit: Unit::Count, from_us, step_us, series };
    Ok(chart.png(WIDE, Theme::Light, SCALE).context("draw the chart")?)
}
