//! A table of a picture: nobody can scroll there, so texts that are long take several lines.

use std::fmt::Write as _;

use super::{Drawing, SMALL, ended, fitted, text};
use crate::content::Table;
use charts::text_width;

/// How high a row of one line is, and each line more.
const ROW: f64 = 28.0;
const LINE: f64 = 16.0;
/// The most rows, and the most lines of one.
const ROWS_MAX: usize = 12;
const LINES_MAX: usize = 3;
/// The size of texts, and the room behind a column.
const SIZE: f64 = 12.0;
const BEHIND: f64 = 14.0;
/// A column that gives way keeps as much.
const WIDTH_MIN: f64 = 40.0;

/// A table with its place for everything.
pub(super) struct Laid<'a> {
    table: &'a Table,
    room: f64,
    widths: Vec<f64>,
    /// The titles, then the rows: of each cell its lines.
    rows: Vec<Vec<Vec<String>>>,
}

impl<'a> Laid<'a> {
    pub(super) fn out(table: &'a Table, room: f64) -> Self {
        let shown = &table.rows[..table.rows.len().min(ROWS_MAX)];
        let wanted = |at: usize| {
            let cells = shown.iter().map(|row| row[at].as_str());
            let titles = std::iter::once(table.columns[at].0.as_str());
            cells.chain(titles).map(width_of).fold(0.0, f64::max) + BEHIND + 2.0
        };
        let mut widths: Vec<f64> = (0..table.columns.len()).map(wanted).collect();
        // The widest gives way, until all have room.
        while widths.iter().sum::<f64>() > room {
            match widths.iter_mut().max_by(|a, b| a.total_cmp(b)) {
                Some(width) if *width > WIDTH_MIN => *width -= 8.0,
                _ => break,
            }
        }
        // What is left over is between the columns.
        let spare = (room - widths.iter().sum::<f64>()).max(0.0) / widths.len().max(1) as f64;
        widths.iter_mut().for_each(|width| *width += spare);
        let titles: Vec<&str> = table.columns.iter().map(|(title, _)| title.as_str()).collect();
        let rows = std::iter::once(titles)
            .chain(shown.iter().map(|row| row.iter().map(String::as_str).collect()));
        let lines = |row: Vec<&str>| {
            row.iter().zip(&widths).map(|(cell, width)| wrapped(cell, width - BEHIND)).collect()
        };
        let rows = rows.map(lines).collect();
        Self { table, room, widths, rows }
    }

    pub(super) fn height(&self) -> f64 {
        let more = if self.has_more() { ROW } else { 0.0 };
        self.rows.iter().map(|row| height_of(row)).sum::<f64>() + more
    }

    fn has_more(&self) -> bool {
        self.table.rows.len() > ROWS_MAX
    }

    pub(super) fn draw(&self, drawn: &mut Drawing, (left, top): (f64, f64)) {
        let (edge, right) = (drawn.theme.colour("grid"), left + self.room);
        let mut y = top;
        for (at, row) in self.rows.iter().enumerate() {
            let mut x = left;
            let colour = if at == 0 { SMALL.1 } else { "text" };
            for ((lines, width), (_, is_number)) in
                row.iter().zip(&self.widths).zip(&self.table.columns)
            {
                let is_last = x + width > right - 1.0;
                let end = if is_last { right } else { x + width - BEHIND - 2.0 };
                for (line, below) in lines.iter().zip(0_u8..) {
                    let at = y + 18.0 + LINE * f64::from(below);
                    let style = (SIZE, tone_of(line).unwrap_or(colour));
                    match is_number {
                        true => ended(drawn, (end, at), style, line),
                        false => text(drawn, (x, at), style, line),
                    }
                }
                x += width;
            }
            y += height_of(row);
            let below = y - 0.5;
            let _ = write!(
                drawn.svg,
                r#"<line x1="{left}" y1="{below}" x2="{right:.1}" y2="{below}" stroke="{edge}"/>"#
            );
        }
        if self.has_more() {
            let more = format!("and {} more", self.table.rows.len() - ROWS_MAX);
            text(drawn, (left, y + 18.0), SMALL, &more);
        }
    }
}

/// The colour of what an account says.
fn tone_of(cell: &str) -> Option<&'static str> {
    match cell {
        "holds" => Some("extra2"),
        cell if cell.starts_with("off by") => Some("bad"),
        _ => None,
    }
}

fn height_of(row: &[Vec<String>]) -> f64 {
    let lines = row.iter().map(Vec::len).max().unwrap_or(1).max(1);
    ROW + LINE * (lines - 1) as f64
}

fn width_of(text: &str) -> f64 {
    text_width(text) * SIZE / 11.0
}

/// A text in lines, broken between words; what does not fit into the last is cut off.
fn wrapped(text: &str, room: f64) -> Vec<String> {
    let mut lines = Vec::new();
    let mut rest = text.trim();
    while width_of(rest) > room && lines.len() + 1 < LINES_MAX {
        let fits = |end: &usize| width_of(&rest[..*end]) <= room;
        let mut ends = rest.char_indices().map(|(at, _)| at).skip(1).chain([rest.len()]);
        // One character at least, however little room there is.
        let first = ends.next().unwrap_or(rest.len());
        let end = ends.take_while(fits).last().unwrap_or(first);
        // Within a word only if it has no line of its own.
        let end = rest[..end].rfind(' ').filter(|at| *at > 0).unwrap_or(end);
        let (line, behind) = rest.split_at(end);
        lines.push(line.trim_end().to_owned());
        rest = behind.trim_start();
    }
    if !rest.is_empty() || lines.is_empty() {
        lines.push(fitted(rest, room, SIZE));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_takes_several_lines() {
        assert_eq!(wrapped("short", 100.0), ["short"]);
        assert_eq!(wrapped("", 100.0), [""]);
        let words = "one two three four five six seven eight nine ten eleven twelve";
        let lines = wrapped(words, 120.0);
        assert_eq!(lines.len(), LINES_MAX);
        assert!(lines.iter().all(|line| width_of(line) <= 120.0), "{lines:?}");
        assert!(lines[2].ends_with('…') && !lines[0].ends_with(' '), "{lines:?}");
        let whole = wrapped(words, 220.0).join(" ");
        assert_eq!(whole, words);
        // One word that is too long for a line.
        let lines = wrapped(&"ä".repeat(30), 100.0);
        assert_eq!(lines.concat(), "ä".repeat(30));
        assert!(wrapped("ab", 1.0).iter().all(|line| !line.is_empty()));
    }
}
