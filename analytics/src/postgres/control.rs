//! Statements that ask nothing of the tables: settings, and transactions that have nothing to
//! commit. What a client sets is taken where it is how things are; else it is refused.

use datafusion::sql::sqlparser::ast::{Expr, Set, Statement, Value};
use pgwire::api::results::{Response, Tag};
use pgwire::error::PgWireResult;

use super::sqlstate::{self, INVALID_PARAMETER_VALUE, UNDEFINED_OBJECT};

/// The version that clients take the server for.
pub(super) const VERSION: &str = concat!("16.6 (Weir ", env!("CARGO_PKG_VERSION"), ")");

/// What a setting is; nothing of one that there is not.
pub(super) fn setting(name: &str) -> Option<&'static str> {
    let of = SETTINGS.iter().find(|(of, ..)| of.eq_ignore_ascii_case(name));
    of.map(|(_, value, _)| *value)
}

/// Whether a setting may be set to another value, which changes nothing that a client could
/// see.
#[derive(Clone, Copy, PartialEq, Eq)]
enum May {
    Change,
    Stay,
}

const SETTINGS: [(&str, &str, May); 22] = [
    ("application_name", "", May::Change),
    ("bytea_output", "hex", May::Stay),
    ("client_encoding", "UTF8", May::Stay),
    ("client_min_messages", "notice", May::Change),
    ("datestyle", "ISO, YMD", May::Change),
    ("default_transaction_isolation", "read committed", May::Change),
    ("default_transaction_read_only", "on", May::Stay),
    ("extra_float_digits", "3", May::Change),
    ("idle_in_transaction_session_timeout", "0", May::Change),
    ("integer_datetimes", "on", May::Stay),
    ("intervalstyle", "postgres", May::Stay),
    ("lock_timeout", "0", May::Change),
    ("max_identifier_length", "63", May::Stay),
    ("row_security", "on", May::Change),
    ("search_path", "public", May::Stay),
    ("server_encoding", "UTF8", May::Stay),
    ("server_version", VERSION, May::Stay),
    ("server_version_num", "160006", May::Stay),
    ("standard_conforming_strings", "on", May::Stay),
    // Times are those of UTC, and say so.
    ("timezone", "UTC", May::Change),
    ("transaction_isolation", "read committed", May::Change),
    ("transaction_read_only", "on", May::Stay),
];

/// The answer to a statement that asks nothing of the tables; nothing for one that does.
/// `has_failed`: whether the transaction at hand has.
pub(super) fn answer(statement: &Statement, has_failed: bool) -> Option<PgWireResult<Response>> {
    Some(match statement {
        Statement::Set(set) => self::set(set),
        Statement::StartTransaction { .. } => Ok(Response::TransactionStart(Tag::new("BEGIN"))),
        Statement::Commit { .. } if has_failed => {
            Ok(Response::TransactionEnd(Tag::new("ROLLBACK")))
        }
        Statement::Commit { .. } => Ok(Response::TransactionEnd(Tag::new("COMMIT"))),
        Statement::Rollback { savepoint: None, .. } => {
            Ok(Response::TransactionEnd(Tag::new("ROLLBACK")))
        }
        Statement::Discard { .. } => Ok(Response::Execution(Tag::new("DISCARD ALL"))),
        Statement::Deallocate { .. } => Ok(Response::Execution(Tag::new("DEALLOCATE"))),
        Statement::Reset(_) => Ok(Response::Execution(Tag::new("RESET"))),
        _ => return None,
    })
}

/// The setting that a statement shows.
pub(super) fn shown(statement: &Statement) -> Option<(String, &'static str)> {
    let Statement::ShowVariable { variable } = statement else { return None };
    let words: Vec<String> = variable.iter().map(|word| word.value.to_ascii_lowercase()).collect();
    let name = match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["transaction", "isolation", "level"] => "transaction_isolation".to_owned(),
        ["time", "zone"] => "timezone".to_owned(),
        _ => words.join("."),
    };
    let value = setting(&name)?;
    Some((name, value))
}

fn set(set: &Set) -> PgWireResult<Response> {
    let done = || Ok(Response::Execution(Tag::new("SET")));
    match set {
        Set::SingleAssignment { variable, values, .. } => {
            let name = variable.to_string();
            let values: Vec<String> = values.iter().map(plain).collect();
            check(&name, &values.join(", "))?;
            done()
        }
        // What a transaction may is the same for all: to read.
        Set::SetTransaction { .. } | Set::SetTimeZone { .. } | Set::SetNamesDefault { .. } => {
            done()
        }
        Set::SetNames { charset_name, .. } => {
            check("client_encoding", &charset_name.value)?;
            done()
        }
        other => Err(sqlstate::error(
            sqlstate::FEATURE_NOT_SUPPORTED,
            format!("{other} is not there; queries have the settings of the node"),
        )),
    }
}

/// A value as it is meant, without quotes.
fn plain(value: &Expr) -> String {
    match value {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) | Value::DoubleQuotedString(text) => text.clone(),
            other => other.to_string(),
        },
        other => other.to_string().trim_matches('"').to_owned(),
    }
}

fn check(name: &str, value: &str) -> PgWireResult<()> {
    let Some((_, is, may)) = SETTINGS.iter().find(|(of, ..)| of.eq_ignore_ascii_case(name)) else {
        let message = format!("there is no setting {name}; queries have the limits of the node");
        return Err(sqlstate::error(UNDEFINED_OBJECT, message));
    };
    let bare = |text: &str| {
        let kept = text.chars().filter(|of| of.is_ascii_alphanumeric());
        kept.collect::<String>().to_ascii_lowercase()
    };
    let is_same = bare(value) == bare(is) || bare(value) == "default";
    match *may == May::Change || is_same {
        true => Ok(()),
        false => Err(sqlstate::error(
            INVALID_PARAMETER_VALUE,
            format!("{name} is {is} here, and cannot be set to {value}"),
        )),
    }
}
