use std::fmt;

/// What is said of a table that is not there, before its name.
pub(super) const NO_TABLE: &str = "there is no table ";
/// The same of a column.
pub(super) const NO_COLUMN: &str = "there is no column ";

/// What is wrong with a query file, where, and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The line, from 1; absent for the file as a whole.
    pub line: Option<usize>,
    /// What is wrong.
    pub what: String,
    /// What would be right.
    pub mend: String,
}

impl Fault {
    /// A fault of the file as a whole.
    pub fn of_file(what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self::new(None, what, mend)
    }

    /// Whether it is that a table is not there: among other files it may be.
    pub(crate) fn lacks_a_table(&self) -> bool {
        self.what.starts_with(NO_TABLE)
    }

    /// Whether it is that a column is not there.
    pub(crate) fn lacks_a_column(&self) -> bool {
        self.what.starts_with(NO_COLUMN)
    }

    pub(super) fn new(
        line: impl Into<Option<usize>>,
        what: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        Self { line: line.into(), what: what.into(), mend: mend.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        f.write_str(&self.what)?;
        if !self.mend.is_empty() {
            write!(f, "; {}", self.mend)?;
        }
        Ok(())
    }
}
