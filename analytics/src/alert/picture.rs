//! The chart of an email: what the subject of an alert did, before it and while it lasted.

use std::fmt;
use std::time::Duration;

use arrow::array::AsArray as _;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, TimeUnit};
use charts::calendar::{DAY, HOUR, step_of};
use charts::theme::Theme;
use charts::{Chart, Series, Shape, Unit, WIDE};
use ingest::event::Timestamp;

use super::note::{Note, Says};
use crate::detect::Alert;
use crate::intake::stamped_schema;
use crate::sql::Sql;

/// How long it may take. An email does not wait longer for its picture.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many times as long as the alert what came before it is shown, and the least and the most.
const BEFORE: i64 = 6;
const BEFORE_RANGE: (i64, i64) = (HOUR / 2, 7 * DAY);
const STEPS_MAX: i64 = 60;
/// Pixels for each of CSS.
const SCALE: f32 = 2.0;

/// A chart, drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Picture {
    /// A PNG, of [`Picture::WIDTH`] CSS pixels.
    pub(super) png: Vec<u8>,
    /// What it shows, in words.
    pub(super) words: String,
}

impl Picture {
    /// As wide as the text of an email.
    pub(super) const WIDTH: u32 = 600;
}

/// Draws pictures of what is in the history.
#[derive(Clone)]
pub struct Pictures(Sql);

impl fmt::Debug for Pictures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pictures")
    }
}

impl Pictures {
    /// Of what SQL tells.
    pub fn new(sql: Sql) -> Self {
        Self(sql)
    }

    /// The picture of a note, if it is of one alert whose subject stands in events. An email
    /// does without one rather than wait.
    pub(super) async fn of(&self, note: &Note) -> Option<Picture> {
        let ([alert], Says::One(_)) = (&note.alerts[..], note.says) else { return None };
        stamped_schema().index_of(&alert.subject_kind).ok()?;
        match tokio::time::timeout(PATIENCE, self.draw(alert)).await {
            Ok(Ok(picture)) => Some(picture),
            Ok(Err(why)) => {
                tracing::warn!(alert = alert.id, why, "an email has no chart");
                None
            }
            Err(_) => {
                tracing::warn!(alert = alert.id, "an email has no chart: it would take too long");
                None
            }
        }
    }

    async fn draw(&self, alert: &Alert) -> Result<Picture, String> {
        let asked = Asked::of(alert);
        let answer = self.0.query(&asked.sql).await.map_err(|error| error.to_string())?;
        let mut chart = asked.chart;
        for batch in &answer.batches {
            let micros = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
            let times = cast(batch.column(0), &micros).and_then(|of| cast(&of, &DataType::Int64));
            let times = times.map_err(|error| error.to_string())?;
            let times = times.as_primitive::<Int64Type>();
            for (series, of) in chart.series.iter_mut().zip(&batch.columns()[1..]) {
                let counts = of.as_primitive::<Int64Type>();
                for (time, count) in times.values().iter().zip(counts.values()) {
                    let step = (time - chart.from_us).div_euclid(chart.step_us);
                    let value = usize::try_from(step).ok().and_then(|at| series.values.get_mut(at));
                    if let Some(value) = value {
                        *value = Some(*count as f64);
                    }
                }
            }
        }
        let words = chart.words();
        let png = tokio::task::spawn_blocking(move || chart.png(WIDE, Theme::Light, SCALE));
        let png = png.await.map_err(|error| error.to_string())?;
        Ok(Picture { png: png.map_err(|error| error.to_string())?, words })
    }
}

/// What is asked, and the chart that its answer fills.
struct Asked {
    sql: String,
    chart: Chart,
}

impl Asked {
    fn of(alert: &Alert) -> Self {
        let (from, until) = (alert.from.as_micros(), alert.until.as_micros());
        let before = ((until - from).saturating_mul(BEFORE)).clamp(BEFORE_RANGE.0, BEFORE_RANGE.1);
        let step = step_of(until - from + before, STEPS_MAX);
        let begin = (from - before).div_euclid(step) * step;
        let end = (until + step - 1).div_euclid(step) * step;
        let text = |value: &str| format!("'{}'", value.replace('\'', "''"));
        let replay = match &alert.replay_id {
            Some(replay) => format!("replay_id = {}", text(replay)),
            None => "replay_id IS NULL".to_owned(),
        };
        let sql = format!(
            "SELECT date_bin(INTERVAL '{step} microseconds', event_time) AS step, \
             count(*) FILTER (WHERE outcome = 'success') AS good, \
             count(*) FILTER (WHERE outcome <> 'success') AS bad FROM events \
             WHERE {} = {} AND {replay} AND kind <> 'heartbeat' \
             AND event_time >= '{}' AND event_time < '{}' GROUP BY step",
            alert.subject_kind,
            text(&alert.subject),
            Timestamp::from_micros(begin),
            Timestamp::from_micros(end),
        );
        let steps = usize::try_from((end - begin) / step).unwrap_or(0);
        let series = |title: &str, colour| Series {
            title: title.to_owned(),
            colour,
            values: vec![Some(0.0); steps],
        };
        let mut title = format!("Events of {}", alert.subject);
        title.truncate(title.floor_char_boundary(70));
        let series = vec![series("success", "good"), series("other outcomes", "bad")];
        let (shape, unit) = (Shape::Bars, Unit::Count);
        let chart = Chart { title, shape, unit, from_us: begin, step_us: step, series };
        Self { sql, chart }
    }
}
