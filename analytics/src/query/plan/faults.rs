//! What the planner says, with the line that it means.

use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;

use super::super::fault::{NO_COLUMN, NO_TABLE};
use super::super::shape::Refusal;
use super::super::{Fault, QueryFile};

/// How much is told of what the planner says: it may write a whole plan down.
const CHARS_MAX: usize = 400;

pub(super) fn refused(file: &QueryFile, refusal: Refusal) -> Fault {
    Fault::new(line_of(&file.text, &refusal.at), refusal.what, refusal.mend)
}

pub(super) fn fault(file: &QueryFile, error: &DataFusionError) -> Fault {
    match error.find_root() {
        DataFusionError::SchemaError(missing, _) => match &**missing {
            SchemaError::FieldNotFound { field, .. } => {
                let what = format!("{NO_COLUMN}{}", field.flat_name());
                let mend = "`weir query \"SELECT column_name FROM information_schema.columns\"` has those that there are";
                Fault::new(line_of(&file.text, &field.name), what, mend)
            }
            other => Fault::new(None, other.to_string(), ""),
        },
        DataFusionError::SQL(parse, _) => {
            let what = parse.to_string();
            let what = what.strip_prefix("sql parser error: ").unwrap_or(&what).to_owned();
            let line = what
                .split("at Line: ")
                .nth(1)
                .and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok());
            let line = line.or(what.contains("EOF").then(|| file.text.lines().count()));
            Fault::new(line, what, "")
        }
        other => {
            let what = other.strip_backtrace();
            let known = ["TUMBLE", "HOP", "SESSION"].iter().find(|name| what.contains(**name));
            let line = known.and_then(|name| line_of(&file.text, name));
            let told = error.diagnostic().and_then(|told| told.span);
            let line = line.or(told.map(|span| span.start.line as usize));
            // After the first line it guesses what was meant, and often wrongly.
            let what = what.lines().next().unwrap_or_default();
            let what = what.strip_prefix("Error during planning: ").unwrap_or(what);
            if let Some(name) = missing_table(what) {
                return Fault::new(line_of(&file.text, name), format!("{NO_TABLE}{name}"), "");
            }
            let short: String = what.chars().take(CHARS_MAX).collect();
            Fault::new(line, short, "")
        }
    }
}

/// The name of a table that is not there, as the planner says it.
fn missing_table(what: &str) -> Option<&str> {
    let (_, rest) = what.split_once("table 'datafusion.public.")?;
    Some(rest.split_once("' not found")?.0)
}

/// The line, from 1, on which a word of the query stands.
fn line_of(text: &str, word: &str) -> Option<usize> {
    let word = word.to_ascii_lowercase();
    let header = word.ends_with(':');
    let holds = |line: &str| {
        line.trim_start().starts_with("--") == header && line.to_ascii_lowercase().contains(&word)
    };
    text.lines().position(holds).map(|at| at + 1)
}
