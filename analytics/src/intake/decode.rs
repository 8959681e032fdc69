//! Records of the log as rows: one pass from JSON to columns.
//!
//! A run of records is read at once, as events that Weir wrote ([`plain`]). One that is not
//! plainly such an event is read by itself, as any JSON, and if it is none it is named; behind
//! it the run goes on.

mod plain;

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::json::ReaderBuilder;
use ingest::log::Record;
use parking_lot::Mutex;

use super::Nulls;

/// So many records are read at a time: room for each is made before.
const RUN_MAX: usize = 8_192;
/// How deep an event may be nested, whose own fields are not at all: arrow's reader calls
/// itself for each step when it tells of what it cannot read.
const DEPTH_MAX: usize = 64;

/// Reads records as events. Its clones share the columns without values.
#[derive(Debug, Clone)]
pub struct Decoder {
    fields: Arc<plain::Fields>,
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
        Self { fields: Arc::new(plain::Fields::new()), nulls: Arc::default() }
    }

    /// The columns of the rows: those of the events, without any of the log's.
    pub fn schema(&self) -> &SchemaRef {
        &self.fields.schema
    }

    /// Reads records. Names that the table does not have are passed over.
    ///
    /// # Errors
    /// None of the records' doing: those that cannot be read are told of in the answer.
    pub fn decode(&self, records: &[Record]) -> Result<Decoded, ArrowError> {
        let (mut parts, mut places, mut unreadable) = (Vec::new(), Vec::new(), Vec::new());
        let (mut next, mut run) = (0, RUN_MAX);
        while next < records.len() {
            let end = records.len().min(next + run);
            let rows = self.fields.read(&records[next..end], &self.nulls)?;
            let unusual = next + rows.num_rows();
            places.extend(next..unusual);
            // Where one is unusual the next may be too, and room would be made in vain.
            run = RUN_MAX.min(2 * rows.num_rows() + 1);
            if rows.num_rows() > 0 {
                parts.push(rows);
            }
            next = end;
            if unusual < end {
                match read(self.schema().clone(), &records[unusual]) {
                    Ok(row) => {
                        places.push(unusual);
                        parts.push(row);
                    }
                    Err(why) => unreadable.push((unusual, why)),
                }
                next = unusual + 1;
            }
        }
        let rows = match <[RecordBatch; 1]>::try_from(parts) {
            Ok([rows]) => rows,
            Err(parts) => concat_batches(self.schema(), &parts)?,
        };
        Ok(Decoded { rows, places, unreadable })
    }
}

/// Reads a record of any JSON as one row, or says why there is none; never by arrow's words,
/// which quote what they found.
fn read(schema: SchemaRef, record: &Record) -> Result<RecordBatch, &'static str> {
    const NOT_ONE: &str = "there is not one JSON object";
    let value = record.value.as_deref().unwrap_or_default();
    if depth_of(value) > DEPTH_MAX {
        return Err("it is nested too deeply");
    }
    let other = |_: ArrowError| "a field is missing, or of another type";
    let mut decoder =
        ReaderBuilder::new(schema).with_batch_size(2).build_decoder().map_err(other)?;
    decoder.decode(value).map_err(other)?;
    // Whole, and nothing behind it.
    if decoder.has_partial_record() || decoder.len() != 1 {
        return Err(NOT_ONE);
    }
    decoder.flush().map_err(other)?.filter(|rows| rows.num_rows() == 1).ok_or(NOT_ONE)
}

/// How deep a value in JSON is nested at most.
fn depth_of(json: &[u8]) -> usize {
    let (mut depth, mut deepest, mut is_text, mut is_escaped) = (0_usize, 0, false, false);
    for byte in json {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_text => is_escaped = true,
            b'"' => is_text = !is_text,
            b'{' | b'[' if !is_text => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !is_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
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

    /// What has no place in an event is as deep as it likes within the limit.
    #[test]
    fn what_is_nested_too_deeply_is_named_and_ends_nothing() {
        let deep = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        let unknown = |depth| event(2, &format!(r#","from_a_newer_release":{}"#, deep(depth)));
        check(&[event(1, ""), unknown(DEPTH_MAX - 1), event(3, "")], &[1, 2, 3], &[]);
        let text = format!(r#","url_path":"{}\" [","new":[]"#, "[{".repeat(99));
        check(&[event(1, ""), event(2, &text)], &[1, 2], &[]);
        for bad in [unknown(DEPTH_MAX), event(2, &format!(r#","url_path":{}"#, deep(100_000)))] {
            check(&[event(1, ""), bad, event(3, "")], &[1, 3], &[(1, "too deeply")]);
        }
    }

    #[test]
    fn the_unusual_between_the_usual_keeps_its_place() {
        let mut rng = fastrand::Rng::with_seed(7);
        let (mut values, mut sequences, mut unreadable) = (Vec::new(), Vec::new(), Vec::new());
        for place in 0..3 * RUN_MAX {
            let sequence = place as i64;
            match rng.u8(..) {
                0 => unreadable.push((place, "")),
                _ => sequences.push(sequence),
            }
            values.push(match (unreadable.last(), rng.u8(..)) {
                (Some((bad, _)), _) if *bad == place => "[7]".to_owned(),
                (_, 0) => event(sequence, r#","from_a_newer_release":{"a":[1]}"#),
                _ => event(sequence, ""),
            });
        }
        check(&values, &sequences, &unreadable);
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
