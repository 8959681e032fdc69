//! The columns of the tables: those of all kinds, and those that the history has of a kind.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use ingest::registry::Kind;
use ingest::registry::history::{self, KINDS, Type};
use serde_json::Value;

use super::held::Version;

/// The revision from which on a version was in force.
pub(crate) const FIRST_REVISION: &str = "first_revision";
/// And the one until which it was; of the one that is, the greatest number there is.
pub(crate) const LAST_REVISION: &str = "last_revision";
/// Whether it is in force now.
pub(crate) const IS_CURRENT: &str = "is_current";

/// What the table of a kind is called.
fn name(kind: Kind) -> String {
    let kind = kind.as_str();
    match kind.strip_suffix('y') {
        Some(stem) => format!("weir_{stem}ies"),
        None => format!("weir_{kind}s"),
    }
}

/// The tables that there are, by kind and name.
pub(crate) fn tables() -> impl Iterator<Item = (Kind, String)> {
    KINDS.iter().map(|(kind, _)| (*kind, name(*kind)))
}

/// Whether a table of entities is called so.
pub(crate) fn is_table(name: &str) -> bool {
    tables().any(|(_, table)| table == name)
}

pub(super) fn own(kind: Kind) -> &'static [history::Field] {
    KINDS.iter().find(|(of, _)| *of == kind).map_or(&[], |(_, fields)| fields)
}

/// The columns of a kind's table.
pub(super) fn schema(kind: Kind) -> SchemaRef {
    let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let of_all = [
        Field::new("name", DataType::Utf8, false),
        Field::new("version", DataType::Int64, false),
        Field::new(FIRST_REVISION, DataType::Int64, false),
        Field::new(LAST_REVISION, DataType::Int64, false),
        Field::new(IS_CURRENT, DataType::Boolean, false),
        Field::new("since", utc, false),
    ];
    let of_kind = own(kind).iter().map(|field| {
        let of = match field.of {
            Type::Text => DataType::Utf8,
            Type::Number => DataType::Int64,
            Type::Bool => DataType::Boolean,
        };
        Field::new(field.name, of, true)
    });
    Arc::new(Schema::new(of_all.into_iter().chain(of_kind).collect::<Vec<_>>()))
}

/// Versions as rows of a kind's table.
pub(super) fn rows(kind: Kind, versions: &[Version]) -> RecordBatch {
    let numbers = |of: fn(&Version) -> u64| -> ArrayRef {
        Arc::new(versions.iter().map(|version| number(of(version))).collect::<Int64Array>())
    };
    let names = versions.iter().map(|version| Some(version.name.as_str()));
    let is_current = versions.iter().map(|version| Some(version.last.is_none()));
    let since: TimestampMicrosecondArray =
        versions.iter().map(|version| version.since_us).collect::<Vec<_>>().into();
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(names.collect::<StringArray>()),
        numbers(|version| version.version),
        numbers(|version| version.first),
        numbers(|version| version.last.unwrap_or(u64::MAX)),
        Arc::new(is_current.collect::<BooleanArray>()),
        Arc::new(since.with_timezone("UTC")),
    ];
    for (at, field) in own(kind).iter().enumerate() {
        let values = versions.iter().map(|version| &version.fields[at]);
        columns.push(match field.of {
            Type::Text => Arc::new(values.map(Value::as_str).collect::<StringArray>()),
            Type::Number => {
                let numbers = values.map(|value| value.as_u64().and_then(number));
                Arc::new(numbers.collect::<Int64Array>())
            }
            Type::Bool => Arc::new(values.map(Value::as_bool).collect::<BooleanArray>()),
        });
    }
    RecordBatch::try_new(schema(kind), columns).expect("the columns are those of the schema")
}

/// A number of the registry, as SQL has them; what is greater is as great as can be.
fn number(of: u64) -> Option<i64> {
    Some(i64::try_from(of).unwrap_or(i64::MAX))
}
