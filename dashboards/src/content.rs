//! What a panel shows: rows, read by what the panel is.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType};
use arrow::util::display::{ArrayFormatter, FormatOptions};

use charts::{Chart, Series, Shape};

use crate::board::{Column, Kind, Palette, Panel, Tone, Unit};
use crate::view::View;

/// The most series of a chart; the smallest are one that is called so.
const SERIES_MAX: usize = 7;
const OTHERS: &str = "others";

/// What a panel shows.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Content {
    /// One number, and what is said beside it.
    Stat {
        value: String,
        beside: Option<String>,
    },
    Chart(Chart),
    Table(Table),
    /// There is nothing, which is said so.
    Empty(String),
    /// Why it cannot be shown.
    Failed(String),
}

/// Rows for reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    /// Their titles, and whether they are numbers.
    pub(crate) columns: Vec<(String, bool)>,
    pub(crate) rows: Vec<Vec<String>>,
}

impl Content {
    /// Reads what a panel's query answered.
    pub(crate) fn of(panel: &Panel, view: &View, rows: &[RecordBatch]) -> Self {
        let has_rows = rows.iter().any(|batch| batch.num_rows() > 0);
        if !has_rows {
            return Self::Empty(panel.empty.clone());
        }
        let read = match panel.kind {
            Kind::Stat => stat(panel, rows),
            Kind::Line => chart(panel, view, rows, Shape::Lines),
            Kind::Bars => chart(panel, view, rows, Shape::Bars),
            Kind::Table => table(panel, rows).map(Self::Table),
        };
        read.unwrap_or_else(Self::Failed)
    }
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a dyn Array, String> {
    let found = batch.column_by_name(name);
    Ok(found.ok_or_else(|| format!("the query gives no column called {name}"))?.as_ref())
}

fn cast_to(array: &dyn Array, name: &str, to: &DataType) -> Result<arrow::array::ArrayRef, String> {
    cast(array, to).map_err(|error| format!("column {name}: {error}"))
}

fn numbers(array: &dyn Array, name: &str) -> Result<Vec<Option<f64>>, String> {
    let array = cast_to(array, name, &DataType::Float64)?;
    Ok(array.as_primitive::<Float64Type>().iter().collect())
}

fn texts(array: &dyn Array, name: &str) -> Result<Vec<Option<String>>, String> {
    let array = cast_to(array, name, &DataType::Utf8)?;
    Ok(array.as_string::<i32>().iter().map(|text| text.map(str::to_owned)).collect())
}

fn times(array: &dyn Array, name: &str) -> Result<Vec<Option<i64>>, String> {
    if let DataType::Int64 = array.data_type() {
        return Ok(array.as_primitive::<Int64Type>().iter().collect());
    }
    let zone = Some("UTC".into());
    let array = cast_to(array, name, &DataType::Timestamp(TimeUnit::Microsecond, zone))?;
    Ok(array.as_primitive::<TimestampMicrosecondType>().iter().collect())
}

fn stat(panel: &Panel, rows: &[RecordBatch]) -> Result<Content, String> {
    let batch = rows.iter().find(|batch| batch.num_rows() > 0).ok_or("there is no row")?;
    let value = numbers(column(batch, "value")?, "value")?.into_iter().next().flatten();
    let Some(value) = value else { return Ok(Content::Empty(panel.empty.clone())) };
    let beside = batch.column_by_name("beside").map(|array| beside_of(panel, array.as_ref()));
    let beside = beside.transpose()?.flatten();
    Ok(Content::Stat { value: panel.unit.exact(value), beside })
}

/// A text as it is; a number with the panel's word for it, of the panel's unit if that is
/// one of measure.
fn beside_of(panel: &Panel, array: &dyn Array) -> Result<Option<String>, String> {
    if !array.data_type().is_numeric() {
        return Ok(texts(array, "beside")?.into_iter().next().flatten());
    }
    let unit = match panel.unit {
        unit @ (Unit::Duration | Unit::Bytes) => unit,
        _ => Unit::Count,
    };
    let Some(value) = numbers(array, "beside")?.into_iter().next().flatten() else {
        return Ok(None);
    };
    let word = panel.beside.as_str();
    let one = word.strip_suffix('s').filter(|_| unit == Unit::Count && value == 1.0);
    Ok(Some(format!("{} {}", unit.exact(value), one.unwrap_or(word)).trim_end().to_owned()))
}

fn chart(
    panel: &Panel,
    view: &View,
    rows: &[RecordBatch],
    shape: Shape,
) -> Result<Content, String> {
    let steps: BTreeMap<i64, usize> = view.steps().enumerate().map(|(at, t)| (t, at)).collect();
    let mut series: Vec<(String, Vec<Option<f64>>)> = Vec::new();
    for column in &panel.columns {
        series.push((column.name.clone(), vec![None; steps.len()]));
    }
    for batch in rows {
        let at: Vec<Option<usize>> = times(column(batch, "time")?, "time")?
            .into_iter()
            .map(|time| {
                steps.get(&time?.div_euclid(view.step_us).wrapping_mul(view.step_us)).copied()
            })
            .collect();
        let of_rows: Vec<(String, Vec<Option<f64>>)> = match batch.column_by_name("series") {
            Some(names) => {
                let values = numbers(column(batch, "value")?, "value")?;
                let names = texts(names.as_ref(), "series")?;
                for ((name, value), at) in names.into_iter().zip(values).zip(&at) {
                    let name = name.unwrap_or_else(|| "none".to_owned());
                    put(&mut series, &name, *at, value, steps.len());
                }
                continue;
            }
            None => {
                let schema = batch.schema();
                let named = schema.fields().iter().zip(batch.columns());
                let named = named.filter(|(field, _)| field.name() != "time");
                let read =
                    |(field, array): (&arrow::datatypes::FieldRef, &arrow::array::ArrayRef)| {
                        Ok::<_, String>((
                            field.name().clone(),
                            numbers(array.as_ref(), field.name())?,
                        ))
                    };
                named.map(read).collect::<Result<_, _>>()?
            }
        };
        for (name, values) in of_rows {
            for (value, at) in values.into_iter().zip(&at) {
                put(&mut series, &name, *at, value, steps.len());
            }
        }
    }
    let known = |name: &str| panel.columns.iter().find(|column| column.name == name);
    fold_small(&mut series, panel.columns.len());
    let mut chart = Chart {
        title: panel.title.clone(),
        shape,
        unit: panel.unit,
        from_us: view.from_us,
        step_us: view.step_us,
        series: Vec::new(),
    };
    chart.series = series
        .into_iter()
        .enumerate()
        .map(|(at, (name, values))| Series {
            colour: colour_of(known(&name).and_then(|of| of.tone), panel.palette, at),
            title: known(&name).map_or(name.clone(), |of| of.shown().to_owned()),
            values,
        })
        .collect();
    if chart.series.iter().all(|of| of.values.iter().flatten().next().is_none()) {
        return Ok(Content::Empty(panel.empty.clone()));
    }
    Ok(Content::Chart(chart))
}

/// The colours of series whose meaning nobody said, by palette.
const USUAL: [&str; 7] = ["middle", "extra1", "warn", "extra2", "bad", "extra3", "quiet"];
const ERRORS: [&str; 6] = ["warn", "bad", "extra1", "extra3", "high", "quiet"];

/// The colour of the series at a place.
fn colour_of(tone: Option<Tone>, palette: Palette, at: usize) -> &'static str {
    match tone {
        Some(Tone::Good) => "good",
        Some(Tone::Quiet) => "quiet",
        Some(Tone::Warn) => "warn",
        Some(Tone::Bad) => "bad",
        Some(Tone::Low) => "low",
        Some(Tone::Middle) => "middle",
        Some(Tone::High) => "high",
        None => match palette {
            Palette::Usual => USUAL[at % USUAL.len()],
            Palette::Errors => ERRORS[at % ERRORS.len()],
        },
    }
}

fn put(
    series: &mut Vec<(String, Vec<Option<f64>>)>,
    name: &str,
    at: Option<usize>,
    value: Option<f64>,
    steps: usize,
) {
    let (Some(at), Some(value)) = (at, value) else { return };
    let place = series.iter().position(|(of, _)| of == name).unwrap_or_else(|| {
        series.push((name.to_owned(), vec![None; steps]));
        series.len() - 1
    });
    let slot = &mut series[place].1[at];
    *slot = Some(slot.unwrap_or(0.0) + value);
}

/// The largest stay, in the order of their sums; those that the board names all do.
fn fold_small(series: &mut Vec<(String, Vec<Option<f64>>)>, named: usize) {
    let sum = |values: &[Option<f64>]| values.iter().flatten().sum::<f64>();
    series[named..].sort_by(|(a, of_a), (b, of_b)| sum(of_b).total_cmp(&sum(of_a)).then(a.cmp(b)));
    let most = SERIES_MAX.max(named);
    if series.len() <= most {
        return;
    }
    let small = series.split_off(most - 1);
    let mut all = vec![None; small[0].1.len()];
    for (_, values) in small {
        for (slot, value) in all.iter_mut().zip(values) {
            if let Some(value) = value {
                *slot = Some(slot.unwrap_or(0.0) + value);
            }
        }
    }
    series.push((OTHERS.to_owned(), all));
}

fn table(panel: &Panel, rows: &[RecordBatch]) -> Result<Table, String> {
    let schema = rows.first().ok_or("there is no row")?.schema();
    let named = |name: &str| panel.columns.iter().find(|column| column.name == name);
    let columns = schema.fields().iter().map(|field| {
        let title = named(field.name()).map_or(field.name().as_str(), Column::shown);
        (title.to_owned(), field.data_type().is_numeric())
    });
    let mut table = Table { columns: columns.collect(), rows: Vec::new() };
    for batch in rows {
        let cells = schema.fields().iter().zip(batch.columns()).map(|(field, array)| {
            let unit = named(field.name()).map_or(Unit::Text, |column| column.unit);
            match (unit, field.data_type().is_numeric()) {
                (Unit::Text, _) | (_, false) => plain(array.as_ref(), field.name()),
                (unit, true) => {
                    let shown = |value: Option<f64>| value.map(|value| unit.exact(value));
                    let values = numbers(array.as_ref(), field.name())?.into_iter();
                    Ok(values.map(|value| shown(value).unwrap_or_default()).collect())
                }
            }
        });
        let cells = cells.collect::<Result<Vec<Vec<String>>, String>>()?;
        let row = |at: usize| cells.iter().map(|column| column[at].clone()).collect();
        table.rows.extend((0..batch.num_rows()).map(row));
    }
    Ok(table)
}

/// As Arrow prints it.
fn plain(array: &dyn Array, name: &str) -> Result<Vec<String>, String> {
    let options = FormatOptions::default();
    let failed = |error| format!("column {name}: {error}");
    let formatter = ArrayFormatter::try_new(array, &options).map_err(failed)?;
    Ok((0..array.len()).map(|at| formatter.value(at).to_string()).collect())
}
