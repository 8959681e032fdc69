use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::KindSpec;
use crate::registry::Faults;

/// What its users may read of the traffic, by SQL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Role {
    /// What it is for, up to 1,024 bytes.
    #[serde(default)]
    pub description: Option<String>,
    /// The tables that may be read, 1 to 100, by name; `*` for all that there are, also later
    /// ones, and then whole. A table that is named beside `*` is as it is said there.
    pub tables: BTreeMap<String, TableRights>,
}

/// What may be read of one table.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TableRights {
    /// Which rows: a condition in SQL over the table's columns, up to 4,096 bytes; all, if
    /// it is left out. `current_user` is the name of the user.
    pub rows: Option<String>,
    /// The only columns that are there, 1 to 500; all, if it is left out.
    pub columns: Option<Vec<String>>,
    /// The columns that are not there, 0 to 500. Not beside `columns`.
    pub without: Vec<String>,
    /// What stands in the place of a column's values, by column, 0 to 100: an expression in
    /// SQL over the table's columns, of the column's type, up to 1,024 bytes.
    pub mask: BTreeMap<String, String>,
}

impl Role {
    /// The name that stands for every table.
    pub const ALL_TABLES: &'static str = "*";
}

impl TableRights {
    /// Whether a column is there.
    pub fn has(&self, column: &str) -> bool {
        let is_it = |other: &String| other == column;
        self.columns.as_ref().is_none_or(|columns| columns.iter().any(is_it))
            && !self.without.iter().any(is_it)
    }

    /// Whether everything of the table may be read.
    pub fn are_whole(&self) -> bool {
        *self == Self::default()
    }
}

const COLUMNS_MAX: usize = 500;
const NAME_BYTES_MAX: usize = 128;

impl KindSpec for Role {
    fn validate(&self, faults: &mut Faults) {
        if let Some(description) = &self.description {
            faults.text("description", description, 1_024);
        }
        faults.count("tables", self.tables.len(), 1, 100);
        for (table, rights) in self.tables.iter().take(100) {
            let at = format!("tables.{table}");
            faults.text(at.as_str(), table, NAME_BYTES_MAX);
            if table == Self::ALL_TABLES && !rights.are_whole() {
                let mend = "name each table that has rules; give * none";
                faults.add(at.as_str(), "has rules for tables that have other columns", mend);
            }
            rights.validate(&at, faults);
        }
    }
}

impl TableRights {
    fn validate(&self, at: &str, faults: &mut Faults) {
        if let Some(rows) = &self.rows {
            sql(faults, format!("{at}.rows"), rows, 4_096);
        }
        if self.columns.is_some() && !self.without.is_empty() {
            let mend = "name those that are there, or those that are not";
            faults.add(format!("{at}.without"), "stands beside columns", mend);
        }
        let only = self.columns.iter().map(|columns| ("columns", columns, 1));
        for (key, columns, min) in only.chain([("without", &self.without, 0)]) {
            faults.count(format!("{at}.{key}"), columns.len(), min, COLUMNS_MAX);
            for (i, column) in columns.iter().enumerate().take(COLUMNS_MAX) {
                faults.text(format!("{at}.{key}[{i}]"), column, NAME_BYTES_MAX);
            }
        }
        faults.count(format!("{at}.mask"), self.mask.len(), 0, 100);
        for (column, mask) in self.mask.iter().take(100) {
            let at = format!("{at}.mask.{column}");
            faults.text(at.as_str(), column, NAME_BYTES_MAX);
            if !self.has(column) {
                let mend = "leave the mask out, or the column in";
                faults.add(at.as_str(), "masks a column that is not there", mend);
            }
            sql(faults, at, mask, 1_024);
        }
    }
}

/// Adds a fault of a text that is no expression by its length alone.
fn sql(faults: &mut Faults, at: String, text: &str, max: usize) {
    if text.trim().is_empty() {
        faults.add(at, "is empty", "write an expression in SQL, or leave the key out");
    } else if text.len() > max {
        faults.add(at, format!("has {} bytes", text.len()), format!("use up to {max}"));
    }
}
