use std::time::Duration;

use datafusion::common::{DataFusionError, SchemaError};
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::DFParser;
use datafusion::sql::sqlparser::parser::ParserError;
use ingest::registry::nearest;

use super::{CATALOG, SCHEMA};
use crate::lake;

/// Why a query has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text is no query, names what is not there, or is not allowed.
    #[error("{0}")]
    Query(String),
    /// It passed the limit of time.
    #[error("the query took longer than {} s; ask for less time or fewer columns", .0.as_secs_f64())]
    Time(Duration),
    /// It passed the limit of memory.
    #[error(
        "the query needs more than {0} bytes of memory; group by fewer values, or ask for less time"
    )]
    Memory(usize),
    /// A part of it would make more than it may at once.
    #[error("{0}")]
    TooMuch(String),
    /// It waited for its turn as long as a query may run.
    #[error("too many queries run at once; try again later")]
    Busy,
    /// The lake could not be read.
    #[error(transparent)]
    Lake(#[from] lake::Error),
    /// Something else failed while it ran.
    #[error("the query failed: {0}")]
    Failed(String),
}

/// Words that a query begins with.
const STATEMENTS: [&str; 8] =
    ["select", "with", "explain", "show", "describe", "desc", "values", "table"];

/// Why a text is no query that can be run.
pub(super) fn not_planned(session: &SessionContext, text: &str, error: &DataFusionError) -> Error {
    let statements = DFParser::parse_sql(text).map_or(1, |of| of.len());
    if statements > 1 {
        return Error::Query(format!("these are {statements} statements; ask one query at a time"));
    }
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with("--"));
    let first = lines.flat_map(str::split_whitespace).next().unwrap_or_default();
    let is_word = !first.is_empty() && first.chars().all(|c| c.is_ascii_alphabetic());
    if is_word && !STATEMENTS.contains(&first.to_ascii_lowercase().as_str()) {
        return Error::Query(format!(
            "{} is not run here: only queries are, which begin with SELECT, WITH, EXPLAIN, SHOW \
             or DESCRIBE, and change nothing",
            first.to_ascii_uppercase()
        ));
    }
    let told = plain(error);
    let missing = told
        .split_once(&format!("table '{CATALOG}.{SCHEMA}."))
        .and_then(|(_, rest)| rest.split_once("' not found").map(|(name, _)| name.to_owned()));
    let Some(missing) = missing else { return Error::Query(told) };
    let schema = session.catalog(CATALOG).and_then(|catalog| catalog.schema(SCHEMA));
    let mut tables = schema.map_or_else(Vec::new, |schema| schema.table_names());
    if tables.is_empty() {
        return Error::Query(format!("there is no table {missing}: your roles give none"));
    }
    tables.sort_unstable();
    let mend = match nearest(&missing, tables.iter().map(String::as_str)) {
        Some(near) => format!("did you mean {near}? "),
        None => String::new(),
    };
    Error::Query(format!("there is no table {missing}; {mend}there are {}", tables.join(", ")))
}

/// What an analyst needs of an error: neither where in the program it was made, nor
/// a trace.
pub(crate) fn plain(error: &DataFusionError) -> String {
    match error.find_root() {
        // It would list all hundred and fifty that there are.
        DataFusionError::SchemaError(missing, _) => match &**missing {
            SchemaError::FieldNotFound { field, .. } => format!(
                "there is no column {}; information_schema.columns has those that there are",
                field.flat_name()
            ),
            other => other.to_string(),
        },
        DataFusionError::SQL(error, _)
            if matches!(**error, ParserError::RecursionLimitExceeded) =>
        {
            "it is nested too deep; ask for less at once".to_owned()
        }
        DataFusionError::SQL(error, _) => {
            let told = error.to_string();
            told.strip_prefix("sql parser error: ").unwrap_or(&told).to_owned()
        }
        other => other.strip_backtrace(),
    }
}
