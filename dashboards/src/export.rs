//! A board taken away: as a page, a picture, or its numbers.

use arrow::array::RecordBatch;
use arrow::datatypes::DataType;
use arrow::util::display::{ArrayFormatter, FormatOptions};

use crate::board::{Board, Kind, Panel, Unit};

/// What a spreadsheet would take for a formula
/// (OWASP, "CSV Injection"): a text that begins so gets an apostrophe before it.
const FORMULA: [char; 6] = ['=', '+', '-', '@', '\t', '\r'];

/// The rows of all panels (RFC 4180), one table after another: the panel's title, its
/// columns, its rows, an empty line. Fractions to seven digits, times in RFC 3339, and rows
/// that begin with a time in its order.
pub(crate) fn csv(board: &Board, about: &str, rows: &[Result<Vec<RecordBatch>, String>]) -> String {
    let mut csv = String::new();
    line(&mut csv, [(board.title.as_str(), false), (about, false)]);
    for (panel, rows) in board.panels.iter().zip(rows) {
        csv.push_str("\r\n");
        line(&mut csv, [(panel.title.as_str(), false)]);
        match rows {
            Ok(rows) => table(&mut csv, panel, rows),
            Err(why) => line(&mut csv, [(why.as_str(), false)]),
        }
    }
    csv
}

fn table(csv: &mut String, panel: &Panel, rows: &[RecordBatch]) {
    let Some(first) = rows.first() else { return };
    let schema = first.schema();
    let names: Vec<String> = schema
        .fields()
        .iter()
        .map(|field| name_of(panel, field.name(), field.data_type()))
        .collect();
    line(csv, names.iter().map(|name| (name.as_str(), false)));
    let options = FormatOptions::default();
    let mut all: Vec<Vec<(String, bool)>> = Vec::new();
    for batch in rows {
        let columns = batch.columns().iter().map(|column| {
            let is_number = column.data_type().is_numeric();
            ArrayFormatter::try_new(column.as_ref(), &options).map(|of| (of, is_number))
        });
        let columns: Vec<_> = columns.filter_map(Result::ok).collect();
        for at in 0..batch.num_rows() {
            let cell = |(of, is): &(ArrayFormatter<'_>, bool)| (of.value(at).to_string(), *is);
            let cells = columns.iter().map(cell);
            all.push(
                cells.map(|(text, is)| if is { (rounded(text), is) } else { (text, is) }).collect(),
            );
        }
    }
    if matches!(schema.field(0).data_type(), DataType::Timestamp(..)) {
        // Of one length and zone, so the order of the texts is that of the times.
        all.sort_by(|one, other| one[0].cmp(&other[0]));
    }
    for cells in &all {
        line(csv, cells.iter().map(|(text, is_number)| (text.as_str(), *is_number)));
    }
}

/// A fraction to seven digits, whole ones all: what is beyond them is how it was computed.
fn rounded(text: String) -> String {
    match (text.split_once('.'), text.parse::<f64>()) {
        (Some((whole, decimals)), Ok(number)) if decimals.bytes().all(|of| of.is_ascii_digit()) => {
            let digits = whole.trim_start_matches('-').len();
            let rounded = format!("{number:.*}", 7_usize.saturating_sub(digits).max(1));
            rounded.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
        _ => text,
    }
}

/// A column's name, with the unit of its numbers: `p95 (us)`.
fn name_of(panel: &Panel, name: &str, of: &DataType) -> String {
    let named = panel.columns.iter().find(|column| column.name == name);
    let unit = match panel.kind {
        Kind::Table => named.map_or(Unit::Text, |column| column.unit),
        // As it is shown: a number beside is of the panel's unit if that is one of measure.
        Kind::Stat if name == "beside" && panel.unit == Unit::Share => Unit::Text,
        Kind::Stat | Kind::Line | Kind::Bars => panel.unit,
    };
    let shown = match (panel.kind, name) {
        (Kind::Stat, "beside") if !panel.beside.is_empty() => &panel.beside,
        _ => name,
    };
    let symbol = match unit {
        Unit::Duration if of.is_numeric() => " (us)",
        Unit::Bytes if of.is_numeric() => " (bytes)",
        Unit::Share if of.is_numeric() => " (of 1)",
        _ => "",
    };
    format!("{shown}{symbol}")
}

fn line<'a>(csv: &mut String, cells: impl IntoIterator<Item = (&'a str, bool)>) {
    for (at, (text, is_number)) in cells.into_iter().enumerate() {
        if at > 0 {
            csv.push(',');
        }
        let guard = if !is_number && text.starts_with(FORMULA) { "'" } else { "" };
        if text.contains(['"', ',', '\n', '\r']) {
            csv.push_str(&format!("\"{guard}{}\"", text.replace('"', "\"\"")));
        } else {
            csv.push_str(guard);
            csv.push_str(text);
        }
    }
    csv.push_str("\r\n");
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, TimestampMicrosecondArray};

    use super::*;

    #[test]
    fn rows_stand_in_the_order_of_their_times() {
        let hour = 3_600_000_000;
        let times = TimestampMicrosecondArray::from(vec![30 * hour, 9 * hour, 10 * hour]);
        let counts = Int64Array::from(vec![3, 1, 2]);
        let batch = RecordBatch::try_from_iter([
            ("at", Arc::new(times) as _),
            ("requests", Arc::new(counts) as _),
        ]);
        let mut csv = String::new();
        let text =
            "title: A\npanels:\n- {title: A, kind: line, width: 3, unit: duration, sql: S}\n";
        let board = Board::parse("a", "a.yaml", text).unwrap();
        table(&mut csv, &board.panels[0], &[batch.unwrap()]);
        assert!(csv.starts_with("at,requests (us)\r\n"), "{csv}");
        let counts: Vec<&str> =
            csv.lines().skip(1).filter_map(|line| line.rsplit(',').next()).collect();
        assert_eq!(counts, ["1", "2", "3"], "{csv}");
    }

    #[test]
    fn fractions_have_seven_digits() {
        let check = |text: &str, expected: &str| assert_eq!(rounded(text.to_owned()), expected);
        check("15861.949999999999", "15861.95");
        check("2169.699937", "2169.7");
        check("2.9999999999", "3");
        check("-0.0220000001", "-0.022");
        check("123456789.25", "123456789.2");
        check("10000", "10000");
        check("0.0", "0");
        check("1.5e300", "1.5e300");
    }

    #[test]
    fn cells_are_quoted_and_are_no_formulas() {
        let mut csv = String::new();
        let cells =
            [("a", false), ("a,\"b\"", false), ("=1+1", false), ("-5", true), ("-x", false)];
        line(&mut csv, cells);
        assert_eq!(csv, "a,\"a,\"\"b\"\"\",'=1+1,-5,'-x\r\n");
    }
}
