//! A board taken away: as a page, a picture, or its numbers.

use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};

use crate::board::Board;

/// What a spreadsheet would take for a formula
/// (OWASP, "CSV Injection"): a text that begins so gets an apostrophe before it.
const FORMULA: [char; 6] = ['=', '+', '-', '@', '\t', '\r'];

/// The rows of all panels (RFC 4180), one table after another: the panel's title, its
/// columns, its rows, an empty line. Numbers as they are, times in RFC 3339.
pub(crate) fn csv(board: &Board, about: &str, rows: &[Result<Vec<RecordBatch>, String>]) -> String {
    let mut csv = String::new();
    line(&mut csv, [(board.title.as_str(), false), (about, false)]);
    for (panel, rows) in board.panels.iter().zip(rows) {
        csv.push_str("\r\n");
        line(&mut csv, [(panel.title.as_str(), false)]);
        match rows {
            Ok(rows) => table(&mut csv, rows),
            Err(why) => line(&mut csv, [(why.as_str(), false)]),
        }
    }
    csv
}

fn table(csv: &mut String, rows: &[RecordBatch]) {
    let Some(first) = rows.first() else { return };
    let schema = first.schema();
    line(csv, schema.fields().iter().map(|field| (field.name().as_str(), false)));
    let options = FormatOptions::default();
    for batch in rows {
        let columns = batch.columns().iter().map(|column| {
            let is_number = column.data_type().is_numeric();
            ArrayFormatter::try_new(column.as_ref(), &options).map(|of| (of, is_number))
        });
        let columns: Vec<_> = columns.filter_map(Result::ok).collect();
        for at in 0..batch.num_rows() {
            let cells: Vec<(String, bool)> =
                columns.iter().map(|(of, is)| (of.value(at).to_string(), *is)).collect();
            line(csv, cells.iter().map(|(text, is_number)| (text.as_str(), *is_number)));
        }
    }
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
    use super::*;

    #[test]
    fn cells_are_quoted_and_are_no_formulas() {
        let mut csv = String::new();
        let cells =
            [("a", false), ("a,\"b\"", false), ("=1+1", false), ("-5", true), ("-x", false)];
        line(&mut csv, cells);
        assert_eq!(csv, "a,\"a,\"\"b\"\"\",'=1+1,-5,'-x\r\n");
    }
}
