//! Rows as the table holds them.

use std::sync::{Arc, LazyLock};

use arrow::array::{Array as _, AsArray as _, Date32Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimestampMicrosecondType};
use arrow::error::ArrowError;

use crate::intake::stamped_schema;

/// The column that the table is partitioned by: the day of `event_time`, in UTC.
pub(super) const EVENT_DATE: &str = "event_date";

const DAY_US: i64 = 86_400 * 1_000_000;

/// The columns of the table: those of [`stamped_schema`], then `event_date`.
pub fn table_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let stamped = stamped_schema();
        let mut fields: Vec<Arc<Field>> = stamped.fields().iter().cloned().collect();
        let about = [("description".to_owned(), "Day of the event time, in UTC.".to_owned())];
        let date = Field::new(EVENT_DATE, DataType::Date32, false);
        fields.push(Arc::new(date.with_metadata(about.into())));
        Arc::new(Schema::new_with_metadata(fields, stamped.metadata().clone()))
    });
    SCHEMA.clone()
}

/// Puts the day to stamped rows.
pub(super) fn with_date(rows: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let times = rows.column_by_name("event_time").expect("the table of fields has it");
    let times = times.as_primitive::<TimestampMicrosecondType>();
    let days = times.values().iter().map(|time| day_of(*time));
    let dates: Date32Array = days.collect::<Vec<_>>().into();
    let mut columns = rows.columns().to_vec();
    columns.push(Arc::new(dates));
    RecordBatch::try_new(table_schema(), columns)
}

/// The day of a time in microseconds since 1970, in UTC, counted from there.
pub(super) fn day_of(time_us: i64) -> i32 {
    i32::try_from(time_us.div_euclid(DAY_US)).unwrap_or(i32::MAX)
}

/// The rows at `offset` and after it. Rows are in the order of their offsets.
pub(super) fn from_offset(rows: &RecordBatch, offset: u64) -> RecordBatch {
    let at = place_of(rows, offset);
    rows.slice(at, rows.num_rows() - at)
}

/// The rows before `offset`.
pub(super) fn before_offset(rows: &RecordBatch, offset: u64) -> RecordBatch {
    rows.slice(0, place_of(rows, offset))
}

/// How much memory rows take, in bytes. Columns without a value share theirs with others.
pub(super) fn bytes_of(rows: &RecordBatch) -> usize {
    let has_values = rows.columns().iter().filter(|of| of.null_count() < of.len());
    has_values.map(|of| of.get_array_memory_size()).sum()
}

fn place_of(rows: &RecordBatch, offset: u64) -> usize {
    let offsets = rows.column_by_name("log_offset").expect("stamped rows have it");
    let offset = i64::try_from(offset).unwrap_or(i64::MAX);
    offsets.as_primitive::<Int64Type>().values().partition_point(|of| *of < offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_day_is_that_of_utc_before_1970_too() {
        assert_eq!([0, DAY_US - 1, DAY_US, -1].map(day_of), [0, 0, 1, -1]);
        assert_eq!(table_schema().field(table_schema().fields().len() - 1).name(), EVENT_DATE);
    }
}
