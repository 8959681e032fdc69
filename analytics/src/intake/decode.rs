//! Records of the log as rows: one pass from JSON to columns.
//!
//! A run of records is read at once: as events that Weir wrote ([`plain`]), or else as any JSON.
//! If one of them is no event, all are read one by one, so that it is named and the others
//! are kept.

mod plain;

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::json::ReaderBuilder;
use ingest::event::generate::arrow_schema;
use ingest::log::Record;
use parking_lot::Mutex;

use super::Nulls;

/// Reads records as events. Its clones share the columns without values.
#[derive(Debug, Clone)]
pub struct Decoder {
    schema: SchemaRef,
    nulls: Arc<Mutex<Nulls>>,
}

/// What became of some records.
#[derive(Debug)]
pub struct Decoded {
    /// One row per event, in the order of the records.
    pub rows: RecordBatch,
    /// Which record each row is, by its place among those given.
    pub places: Vec<usize>,
    /// The records that are no events, by their place, and why; never with their content.
    pub unreadable: Vec<(usize, &'static str)>,
}

impl Decoder {
    /// Reads by the table of fields of this program.
    pub fn new() -> Self {
        Self { schema: Arc::new(arrow_schema()), nulls: Arc::default() }
    }

    /// The columns of the rows: those of the events, without any of the log's.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Reads records. Names that the table does not have are passed over.
    ///
    /// # Errors
    /// None of the records' doing: those that cannot be read are told of in the answer.
    pub fn decode(&self, records: &[Record]) -> Result<Decoded, ArrowError> {
        if let Ok(Some(rows)) = self.rows(records) {
            let places = (0..records.len()).collect();
            return Ok(Decoded { rows, places, unreadable: Vec::new() });
        }
        let (mut parts, mut places, mut unreadable) = (Vec::new(), Vec::new(), Vec::new());
        for (place, record) in records.iter().enumerate() {
            match self.rows(std::slice::from_ref(record)) {
                Ok(Some(row)) => {
                    parts.push(row);
                    places.push(place);
                }
                Ok(None) => unreadable.push((place, "there is not one JSON object")),
                // Without arrow's words, which quote what they found.
                Err(_) => unreadable.push((place, "a field is missing, or of another type")),
            }
        }
        let rows = concat_batches(&self.schema, &parts)?;
        Ok(Decoded { rows, places, unreadable })
    }

    /// One row for each record, or nothing.
    fn rows(&self, records: &[Record]) -> Result<Option<RecordBatch>, ArrowError> {
        match plain::read(&self.schema, records, &self.nulls) {
            Some(rows) => Ok(Some(rows)),
            None => read(self.schema.clone(), records),
        }
    }
}

/// Reads records of any JSON, one row for each, or nothing.
fn read(schema: SchemaRef, records: &[Record]) -> Result<Option<RecordBatch>, ArrowError> {
    let builder = ReaderBuilder::new(schema).with_batch_size(records.len() + 1);
    let mut decoder = builder.build_decoder()?;
    for (at, record) in records.iter().enumerate() {
        let value = record.value.as_deref().unwrap_or_default();
        decoder.decode(value)?;
        // Each record is one object, whole: none may begin in one and end in another.
        if decoder.has_partial_record() || decoder.len() != at + 1 {
            return Ok(None);
        }
    }
    let rows = decoder.flush()?;
    Ok(rows.filter(|rows| rows.num_rows() == records.len()))
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray as _;
    use arrow::datatypes::Int64Type;
    use ingest::log::{Headers, LogTime};

    use super::*;

    fn record(value: &str) -> Record {
        let value = Some(value.to_owned().into());
        Record { offset: 0, time: LogTime(0), key: None, value, headers: Headers::default() }
    }

    fn event(sequence: i64, rest: &str) -> String {
        format!(
            r#"{{"event_time":"2026-01-31T23:59:59.000001Z","producer":"p","boot":1,"sequence":{sequence},"schema_version":1,"kind":"request","outcome":"success"{rest}}}"#
        )
    }

    fn check(values: &[String], sequences: &[i64], unreadable: &[(usize, &str)]) {
        let records: Vec<Record> = values.iter().map(|value| record(value)).collect();
        let decoded = Decoder::new().decode(&records).unwrap();
        let column = decoded.rows.column_by_name("sequence").unwrap();
        assert_eq!(column.as_primitive::<Int64Type>().values(), sequences);
        assert_eq!(decoded.places.len(), sequences.len());
        let told: Vec<usize> = decoded.unreadable.iter().map(|(place, _)| *place).collect();
        let expected: Vec<usize> = unreadable.iter().map(|(place, _)| *place).collect();
        assert_eq!(told, expected);
        for ((_, told), (_, expected)) in decoded.unreadable.iter().zip(unreadable) {
            assert!(told.contains(expected), "{told}");
        }
    }

    #[test]
    fn records_become_rows() {
        check(&[event(1, ""), event(2, r#","from_a_newer_release":[1]"#)], &[1, 2], &[]);
        check(&[], &[], &[]);
    }

    #[test]
    fn a_record_that_is_no_event_is_named_and_the_others_are_kept() {
        let bad = [
            ("", "one JSON object"),
            ("{", "one JSON object"),
            ("[]", "of another type"),
            (r#"{"kind":"request"}"#, "missing"),
            (&event(7, r#","http_response_status_code":"many""#), "of another type"),
            (&format!("{}{}", event(8, ""), event(9, "")), "one JSON object"),
        ];
        for (bad, why) in bad {
            check(&[event(1, ""), bad.to_owned(), event(3, "")], &[1, 3], &[(1, why)]);
        }
    }

    /// Two halves would be a whole if only the bytes were looked at.
    #[test]
    fn an_object_does_not_go_on_in_the_next_record() {
        let whole = event(1, "");
        let (head, tail) = whole.split_at(20);
        let halves = [head.to_owned(), tail.to_owned(), event(2, "")];
        check(&halves, &[2], &[(0, "one JSON object"), (1, "")]);
    }
}
