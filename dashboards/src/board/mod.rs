//! A board: a file that says which panels there are, and by which SQL each is filled.

mod bind;
mod library;

use ingest::registry::Fault;
use ingest::registry::files::{self, FileErrors};
use serde::Deserialize;

pub(crate) use bind::{Literal, bind};
pub use charts::Unit;
pub use library::Library;

/// The most panels of a board.
const PANELS_MAX: usize = 40;
/// The columns of the grid that panels stand in.
const COLUMNS: u8 = 12;

/// A board, as its file says.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Board {
    /// The file's name without its ending.
    #[serde(skip)]
    pub name: String,
    /// What it is called.
    pub title: String,
    /// What it shows, in a sentence.
    #[serde(default)]
    pub about: String,
    /// 1 to 40, in the order of reading.
    pub panels: Vec<Panel>,
}

/// A part of a board.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Panel {
    /// What it is called.
    pub title: String,
    /// What its numbers mean, where the title does not say all.
    #[serde(default)]
    pub about: String,
    /// How it is drawn.
    pub kind: Kind,
    /// Of 12 columns.
    pub width: u8,
    /// What its numbers are of.
    #[serde(default)]
    pub unit: Unit,
    /// Of a `stat`: what the number beside it counts, such as `clients`.
    #[serde(default)]
    pub beside: String,
    /// A chart's series, in the order of drawing; a series that is not named comes after
    /// them. A table's columns.
    #[serde(default)]
    pub columns: Vec<Column>,
    /// A chart's colours of series that have no tone.
    #[serde(default)]
    pub palette: Palette,
    /// What is said where there are no rows.
    #[serde(default = "nothing")]
    pub empty: String,
    /// The query, with `$from`, `$until`, `$bin` and `$timeline` for what is looked at.
    ///
    /// `stat`: one row, `value` and, if there is something to say beside it, `beside`: a
    /// text, or a number, of the same unit if that is one of measure.
    /// `line` and `bars`: rows of `time`, and `value` with `series`, or a column for each
    /// series. `table`: as it is.
    pub sql: String,
}

/// How a panel is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// One number.
    Stat,
    /// A line for each series, over time.
    Line,
    /// A bar for each step of time, its series stacked.
    Bars,
    /// Rows and columns.
    Table,
}

/// A series of a chart, or a column of a table.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// As in the rows.
    pub name: String,
    /// As it is called; its name, if it is left out.
    #[serde(default)]
    pub title: Option<String>,
    /// What it is of, in a table.
    #[serde(default)]
    pub unit: Unit,
    /// What colour it has, in a chart.
    #[serde(default)]
    pub tone: Option<Tone>,
}

/// A colour by its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tone {
    /// As it should be.
    Good,
    /// Neither good nor bad.
    Quiet,
    /// To look at.
    Warn,
    /// To mend.
    Bad,
    /// More of it, darker: for percentiles and the like.
    Low,
    /// See [`Self::Low`].
    Middle,
    /// See [`Self::Low`].
    High,
}

/// The colours of series whose meaning nobody said, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Palette {
    /// Of things that are neither good nor bad.
    #[default]
    Usual,
    /// Of what went wrong: none is that of success.
    Errors,
}

fn nothing() -> String {
    "Nothing in this time.".to_owned()
}

impl Board {
    /// Reads a board.
    ///
    /// # Errors
    /// What is wrong with it, with line and mend.
    pub fn parse(name: &str, file: &str, text: &str) -> Result<Self, FileErrors> {
        let mut board: Self = files::settings(file, text, &[])?;
        name.clone_into(&mut board.name);
        let faults = board.faults();
        if faults.is_empty() { Ok(board) } else { Err(files::placed(file, text, &[], faults)) }
    }

    fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c);
        if self.name.is_empty() || self.name.len() > 64 || !self.name.chars().all(is_part) {
            let mend = "name the file by 1 to 64 of a-z 0-9 - _";
            faults.push(Fault::new("", format!("{:?} is no name", self.name), mend));
        }
        if !(1..=PANELS_MAX).contains(&self.panels.len()) {
            let mend = format!("give 1 to {PANELS_MAX}");
            faults.push(Fault::new("panels", format!("{} of them", self.panels.len()), mend));
        }
        for (at, panel) in self.panels.iter().enumerate() {
            let mut fail = |key: &str, what: String, mend: String| {
                faults.push(Fault::new(format!("panels[{at}].{key}"), what, mend));
            };
            if !(1..=COLUMNS).contains(&panel.width) {
                fail("width", format!("{} is out of range", panel.width), "use 1 to 12".to_owned());
            }
            if let Err(unknown) = bind(&panel.sql, |_| Some(String::new())) {
                fail("sql", unknown.to_string(), "close what is open".to_owned());
            }
            for name in bind::names(&panel.sql) {
                if !bind::PARAMETERS.contains(&name.as_str()) {
                    let known = bind::PARAMETERS.map(|name| format!("${name}")).join(", ");
                    fail("sql", format!("${name} is no parameter"), format!("use {known}"));
                }
            }
        }
        faults
    }
}

impl Column {
    /// What it is called.
    pub fn shown(&self) -> &str {
        self.title.as_deref().unwrap_or(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let error = Board::parse("a", "a.yaml", text).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn a_board_with_faults_is_refused_with_line_and_mend() {
        let panel = "panels:\n- {title: A, kind: stat, width: 3, sql: SELECT 1}\n";
        assert!(Board::parse("a", "a.yaml", &format!("title: A\n{panel}")).is_ok());
        check(panel, "title");
        check(&format!("title: A\ncolour: red\n{panel}"), "a.yaml:2");
        check("title: A\npanels: []\n", "give 1 to 40");
        let wide = panel.replace('3', "13");
        check(&format!("title: A\n{wide}"), "panels[0].width: 13 is out of range; use 1 to 12");
        let kind = panel.replace("stat", "pie");
        check(&format!("title: A\n{kind}"), "pie");
        let sql = panel.replace("SELECT 1", "SELECT $since");
        check(
            &format!("title: A\n{sql}"),
            "$since is no parameter; use $from, $until, $bin, $timeline",
        );
        let sql = panel.replace("SELECT 1", "\"SELECT '\"");
        check(&format!("title: A\n{sql}"), "a text does not end");
    }
}
