use std::fmt::Write as _;

use maud::Escaper;

use super::{Chart, Series, Shape, scale};

/// Above the plot: the legend, of lines so high. Below: labels of time.
const TOP: f64 = 18.0;
const LEGEND: f64 = 16.0;
const BOTTOM: f64 = 24.0;
const RIGHT: f64 = 8.0;
/// What the labels of values take at most.
const LABELS_MAX: f64 = 56.0;
/// Between two values of the axis at least, and two labels of time, in pixels.
const VALUE_EVERY: f64 = 42.0;
const TIME_EVERY: f64 = 66.0;

/// How wide a text of 11 pixels is, near enough to place another beside it.
pub fn text_width(text: &str) -> f64 {
    let width = |c: char| match c {
        'i' | 'l' | 'j' | '.' | ',' | ':' | '\'' | '|' | 'I' => 3.2,
        'f' | 't' | 'r' | ' ' | '-' | '(' | ')' => 4.2,
        'm' | 'w' | 'M' | 'W' | '%' | '@' => 9.4,
        'A'..='Z' => 7.6,
        _ => 6.4,
    };
    text.chars().map(width).sum()
}

/// A text within SVG.
pub fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    Escaper::new(&mut escaped).write_str(text).expect("a string takes it");
    // XML, of which a picture is made, has no such characters (section 2.2).
    escaped.retain(|c| !c.is_control() && !matches!(c, '\u{FFFE}' | '\u{FFFF}'));
    escaped
}

/// Where things are on the plot.
struct Plot {
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
    steps: usize,
    largest: f64,
}

impl Plot {
    fn step_width(&self) -> f64 {
        (self.right - self.left) / self.steps.max(1) as f64
    }

    /// The middle of a step.
    fn x(&self, step: usize) -> f64 {
        self.left + (step as f64 + 0.5) * self.step_width()
    }

    fn y(&self, value: f64) -> f64 {
        self.bottom - (value / self.largest) * (self.bottom - self.top)
    }
}

pub(super) fn draw(chart: &Chart, (width, height): (f64, f64)) -> String {
    let steps = chart.steps();
    let largest = match chart.shape {
        Shape::Lines => {
            chart.series.iter().flat_map(|of| &of.values).flatten().copied().fold(0.0, f64::max)
        }
        Shape::Bars => (0..steps).map(|step| stacked(chart, step)).fold(0.0, f64::max),
    };
    let legend = legend(chart, width);
    let top = TOP + LEGEND * legend.last().map_or(1.0, |(_, line, _)| *line as f64 + 1.0);
    let count = ((height - top - BOTTOM) / VALUE_EVERY) as usize;
    let values = scale::values(largest, count, chart.unit);
    let labels: Vec<String> = values.iter().map(|value| chart.unit.short(*value)).collect();
    let left = labels.iter().map(|label| text_width(label)).fold(0.0, f64::max).ceil() + 8.0;
    let plot = Plot {
        left,
        right: width - RIGHT,
        top,
        bottom: height - BOTTOM,
        steps,
        largest: values.last().copied().unwrap_or(1.0),
    };
    let mut svg = String::with_capacity(8 * 1024);
    let words = escaped(&chart.words());
    // A string takes whatever is written.
    let _ = write!(
        svg,
        r#"<svg class="chart" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-label="{words}" data-left="{:.1}" data-right="{:.1}">"#,
        plot.left, plot.right
    );
    for (x, line, series) in legend {
        let (x, y) = (plot.left + x, LEGEND * line as f64);
        let _ = write!(
            svg,
            r#"<rect class="fill-{}" x="{x:.1}" y="{:.0}" width="8" height="8" rx="2"/><text class="value" x="{:.1}" y="{:.0}">{}</text>"#,
            series.colour,
            y + 6.0,
            x + 13.0,
            y + 14.0,
            escaped(&series.title)
        );
    }
    for (value, label) in values.iter().zip(&labels) {
        let (y, class) = (plot.y(*value), if *value == 0.0 { "base" } else { "rule" });
        let _ = write!(
            svg,
            r#"<line class="{class}" x1="{:.1}" y1="{y:.1}" x2="{:.1}" y2="{y:.1}"/><text class="label" x="{:.1}" y="{:.1}" text-anchor="end">{}</text>"#,
            plot.left,
            plot.right,
            plot.left - 8.0,
            y + 3.8,
            escaped(label)
        );
    }
    times(&mut svg, chart, &plot);
    match chart.shape {
        Shape::Lines => lines(&mut svg, chart, &plot),
        Shape::Bars => bars(&mut svg, chart, &plot),
    }
    svg.push_str("</svg>");
    svg
}

fn stacked(chart: &Chart, step: usize) -> f64 {
    chart.series.iter().filter_map(|of| of.values.get(step).copied().flatten()).sum()
}

/// Where the series' names stand: how far from the plot's left edge, and on which line.
fn legend(chart: &Chart, width: f64) -> Vec<(f64, usize, &Series)> {
    // The labels of values are left of it; of what they take most is allowed for.
    let room = width - RIGHT - LABELS_MAX;
    let (mut x, mut line) = (0.0, 0);
    let mut placed = Vec::with_capacity(chart.series.len());
    for series in &chart.series {
        let taken = 13.0 + text_width(&series.title) + 14.0;
        if x > 0.0 && x + taken > room {
            (x, line) = (0.0, line + 1);
        }
        placed.push((x, line, series));
        x += taken;
    }
    placed
}

fn times(svg: &mut String, chart: &Chart, plot: &Plot) {
    let steps = i64::try_from(plot.steps).unwrap_or(0);
    let until = chart.from_us + steps * chart.step_us;
    let count = ((plot.right - plot.left) / TIME_EVERY) as usize;
    for (at, label) in scale::times(chart.from_us, until, count) {
        let share = (at - chart.from_us) as f64 / (until - chart.from_us) as f64;
        let x = plot.left + share * (plot.right - plot.left);
        // At the ends a label stays within the picture.
        let half = text_width(&label) / 2.0;
        let anchor = match x {
            x if x - half < plot.left - 4.0 => "start",
            x if x + half > plot.right + RIGHT => "end",
            _ => "middle",
        };
        let _ = write!(
            svg,
            r#"<line class="base" x1="{x:.1}" y1="{:.1}" x2="{x:.1}" y2="{:.1}"/><text class="label" x="{x:.1}" y="{:.1}" text-anchor="{anchor}">{}</text>"#,
            plot.bottom,
            plot.bottom + 4.0,
            plot.bottom + 18.0,
            escaped(&label)
        );
    }
}

/// A line ends where there is no value; one alone is a dot.
fn lines(svg: &mut String, chart: &Chart, plot: &Plot) {
    for series in &chart.series {
        let (mut path, mut dots) = (String::new(), String::new());
        let has = |step: usize| series.values.get(step).copied().flatten().is_some();
        for (step, value) in series.values.iter().enumerate() {
            let Some(value) = value else { continue };
            let (x, y) = (plot.x(step), plot.y(*value));
            let begins = step == 0 || !has(step - 1);
            let _ = write!(path, "{}{x:.1} {y:.1}", if begins { "M" } else { "L" });
            if begins && !has(step + 1) {
                let class = series.colour;
                let _ =
                    write!(dots, r#"<circle class="fill-{class}" cx="{x:.1}" cy="{y:.1}" r="2"/>"#);
            }
        }
        if !path.is_empty() {
            let _ =
                write!(svg, r#"<path class="line stroke-{}" d="{path}"/>{dots}"#, series.colour);
        }
    }
}

/// One path for all bars of a series.
fn bars(svg: &mut String, chart: &Chart, plot: &Plot) {
    let gap = if plot.step_width() > 5.0 { 1.5 } else { 0.5 };
    let width = (plot.step_width() - gap).max(0.75);
    let mut below = vec![0.0; plot.steps];
    for series in &chart.series {
        let mut path = String::new();
        for (step, value) in series.values.iter().enumerate() {
            let Some(value) = value.filter(|value| *value > 0.0) else { continue };
            let (x, y) = (plot.x(step) - width / 2.0, plot.y(below[step] + value));
            // What is there is seen, however little it is.
            let height = (plot.y(below[step]) - y).max(0.75);
            let _ = write!(path, "M{x:.1} {y:.1}h{width:.1}v{height:.1}h-{width:.1}z");
            below[step] += value;
        }
        if !path.is_empty() {
            let _ = write!(svg, r#"<path class="fill-{}" d="{path}"/>"#, series.colour);
        }
    }
}
