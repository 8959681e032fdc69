//! Charts over time, as SVG: lines, and stacked bars.
//!
//! Every shape has a class and no colour; every text has its size. A chart says in words
//! what it shows (`role="img"` with a title), and gives its numbers for a table and for
//! what is shown under the pointer.

mod scale;
mod svg;

use serde_json::{Value, json};

use crate::calendar::Civil;
use crate::raster;
use crate::theme::{self, Theme};
use crate::unit::Unit;

pub use svg::{escaped, text_width};

/// A chart's size on a page that is wide enough, and on a narrow one, in CSS pixels.
pub const WIDE: (f64, f64) = (568.0, 240.0);
/// See [`WIDE`].
pub const NARROW: (f64, f64) = (338.0, 220.0);

/// The room around a chart that stands by itself, and that of its title, in CSS pixels.
const PAD: f64 = 16.0;
const HEADING: f64 = 28.0;

/// How the series are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A line for each.
    Lines,
    /// One upon the other.
    Bars,
}

/// A series, with a value or none for each step of time.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// What it is of.
    pub title: String,
    /// The end of its classes, as `good` of `fill-good`.
    pub colour: &'static str,
    /// By step.
    pub values: Vec<Option<f64>>,
}

/// A chart.
#[derive(Debug, Clone, PartialEq)]
pub struct Chart {
    /// What it shows.
    pub title: String,
    /// How it is drawn.
    pub shape: Shape,
    /// What its values are of.
    pub unit: Unit,
    /// The first step's beginning, and how long a step is, in microseconds.
    pub from_us: i64,
    /// See [`Self::from_us`].
    pub step_us: i64,
    /// All of one length, which is the number of steps.
    pub series: Vec<Series>,
}

impl Chart {
    /// Draws it at a size, in CSS pixels.
    pub fn svg(&self, size: (f64, f64)) -> String {
        svg::draw(self, size)
    }

    /// Draws it by itself on a card, with its title, as a PNG of so many pixels for each of CSS.
    ///
    /// # Errors
    /// See [`raster::Error`].
    pub fn png(
        &self,
        (width, height): (f64, f64),
        theme: Theme,
        scale: f32,
    ) -> Result<Vec<u8>, raster::Error> {
        let (css, card) = (theme.resolved(theme::CHART_CSS), theme.colour("card"));
        let (text, title) = (theme.colour("text"), escaped(&self.title));
        let (outer_width, outer_height) = (width + 2.0 * PAD, height + 2.0 * PAD + HEADING);
        let (y, inner_y) = (PAD + 13.0, PAD + HEADING);
        let drawn = self.svg((width, height)).replacen(
            "<svg ",
            &format!(r#"<svg x="{PAD}" y="{inner_y}" width="{width}" height="{height}" "#),
            1,
        );
        let svg = format!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {outer_width} {outer_height}" width="{outer_width}" height="{outer_height}"><style>{css}</style><rect width="100%" height="100%" fill="{card}"/><text x="{PAD}" y="{y}" font-size="13" font-weight="600" fill="{text}">{title}</text>{drawn}</svg>"#
        );
        raster::png(&svg, scale)
    }

    fn steps(&self) -> usize {
        self.series.iter().map(|series| series.values.len()).max().unwrap_or(0)
    }

    /// The beginning of a step, for reading.
    fn time(&self, step: usize) -> String {
        let at = self.from_us + i64::try_from(step).unwrap_or(0) * self.step_us;
        let civil = Civil::of(at);
        format!("{}, {}", civil.day_text(), civil.clock_text(self.step_us))
    }

    /// What it shows, in words.
    pub fn words(&self) -> String {
        let mut words = format!("{}, over time.", self.title);
        for series in &self.series {
            let (peak, sum) = series.values.iter().flatten().fold((None, 0.0), |(peak, sum), v| {
                (Some(peak.map_or(*v, |peak: f64| peak.max(*v))), sum + v)
            });
            let Some(peak) = peak else { continue };
            let peak = self.unit.exact(peak);
            match self.shape {
                Shape::Bars => {
                    let sum = self.unit.exact(sum);
                    words.push_str(&format!(" {}: {sum} in all, at most {peak}.", series.title));
                }
                Shape::Lines => words.push_str(&format!(" {}: at most {peak}.", series.title)),
            }
        }
        words
    }

    /// For each step that has a value: its time, and the values of the series.
    pub fn rows(&self) -> Vec<(String, Vec<String>)> {
        let shown = |value: Option<f64>| value.map_or_else(String::new, |v| self.unit.exact(v));
        let row = |step: usize| {
            let values = self.series.iter().map(|of| of.values.get(step).copied().flatten());
            let values: Vec<Option<f64>> = values.collect();
            let is_empty = values.iter().all(|value| value.is_none_or(|value| value == 0.0));
            (!is_empty).then(|| (self.time(step), values.into_iter().map(shown).collect()))
        };
        (0..self.steps()).filter_map(row).collect()
    }

    /// What is shown under the pointer, for the page's script.
    pub fn hover(&self) -> Value {
        let times: Vec<String> = (0..self.steps()).map(|step| self.time(step)).collect();
        let shown = |value: &Option<f64>| value.map(|value| self.unit.exact(value));
        let series = self.series.iter().map(|series| {
            let values: Vec<Option<String>> = series.values.iter().map(shown).collect();
            json!({"title": series.title, "colour": series.colour, "values": values})
        });
        let series: Vec<Value> = series.collect();
        json!({"times": times, "series": series})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(shape: Shape) -> Chart {
        let steps = 91;
        let values = |of: fn(usize) -> Option<f64>| (0..steps).map(of).collect::<Vec<_>>();
        let series = vec![
            Series {
                title: "2xx".to_owned(),
                colour: "good",
                values: values(|at| (at % 10 != 3).then_some((at * at) as f64)),
            },
            Series {
                title: "5xx".to_owned(),
                colour: "bad",
                values: values(|at| Some((at % 7) as f64)),
            },
        ];
        let title = "Requests <by status>".to_owned();
        let (from_us, step_us) = (1_431_857_040_000_000, 120_000_000);
        Chart { title, shape, unit: Unit::Count, from_us, step_us, series }
    }

    /// The pictures are beside this; `WEIR_BLESS=1` draws them anew, to be looked at.
    #[test]
    fn charts_are_drawn_as_they_were() {
        for (shape, name) in [(Shape::Lines, "lines"), (Shape::Bars, "bars")] {
            let drawn = chart(shape).svg(WIDE);
            let file = format!("{}/src/chart/drawn/{name}.svg", env!("CARGO_MANIFEST_DIR"));
            if std::env::var_os("WEIR_BLESS").is_some() {
                std::fs::write(&file, &drawn).unwrap();
            }
            let before = std::fs::read_to_string(&file).unwrap_or_default();
            assert!(drawn == before, "{file} is another; look at it with WEIR_BLESS=1");
        }
    }

    #[test]
    fn a_name_cannot_break_the_picture() {
        let mut odd = chart(Shape::Bars);
        odd.series[0].title = "</text><script>\u{1}\u{FFFE}\"&".to_owned();
        let drawn = odd.svg(WIDE);
        assert!(drawn.contains("&lt;/text&gt;&lt;script&gt;&quot;&amp;</text>"), "{drawn}");
        assert!(resvg::usvg::Tree::from_str(&drawn, &resvg::usvg::Options::default()).is_ok());
    }

    #[test]
    fn a_chart_without_a_value_can_be_drawn() {
        let mut empty = chart(Shape::Lines);
        for series in &mut empty.series {
            series.values.fill(None);
        }
        assert!(empty.svg(NARROW).contains("</svg>"));
        empty.series.clear();
        assert!(empty.svg(NARROW).contains("</svg>"));
        assert!(empty.rows().is_empty());
    }
}
